"""Fixtures that all tests share."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import frozen
import harness_yaml
import hydra_once
import pytest
from hypothesis import settings
from laws import DEEP, SUITE
from tiny_models import save_tiny_encoder

from automix_eval.report.pictures import style

if not os.access(os.environ.get("HOME", ""), os.W_OK):
    # caches of a user without a home; nothing that asks where it is was imported yet
    _HOME = Path(__file__).parents[1] / ".pytest_cache" / "home"
    _HOME.mkdir(parents=True, exist_ok=True)
    os.environ["HOME"] = str(_HOME)

# Examples of a law whose test names no number: the same in every run, those of "deep" at random. A
# disk, or a first import, may be slow.
settings.register_profile("suite", max_examples=SUITE, deadline=None, derandomize=True)
settings.register_profile("deep", max_examples=DEEP, deadline=None, derandomize=False)
settings.load_profile("suite")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first: processes that share the tests then end together."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_collection_finish() -> None:
    """All that the imports made is there."""
    frozen.freeze()


@pytest.fixture(scope="session", autouse=True)
def quicker(pytestconfig: pytest.Config) -> Iterator[None]:
    """Files are read once, see harness_yaml.py and hydra_once.py; pictures have fewer dots."""
    folder = pytestconfig.rootpath / ".pytest_cache"
    folder.mkdir(exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(harness_yaml.KEPT, str(folder / "harness_yaml"))
        harness_yaml.install()
        hydra_once.install()
        # commands in forks draw at the full resolution
        patch.setitem(style._RC, "savefig.dpi", 60)
        yield


@pytest.fixture(scope="session")
def caches(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Names of folders that are not there yet: most tests have no use for one."""
    base = tmp_path_factory.mktemp("caches")
    return map(str, map(base.joinpath, map(str, itertools.count())))


@pytest.fixture(autouse=True)
def isolated(
    request: pytest.FixtureRequest, caches: Iterator[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every test has a cache folder, scripts and a call list of its own, and no network."""
    own = "tmp_path" in request.fixturenames
    cache = request.getfixturevalue("tmp_path") / "cache" if own else next(caches)
    monkeypatch.setenv("AUTOMIX_CACHE_DIR", str(cache))
    monkeypatch.delenv("AUTOMIX_DATA_DIR", raising=False)
    if scripted := sys.modules.get("scripted"):  # it imports the harness, which takes seconds
        scripted.SCRIPTS.clear()
        scripted.CALLS.clear()


@pytest.fixture(autouse=True)
def few_folds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operating points come of three folds, which are six fits of the POMDP a report and not 15."""
    rooms = ("analysis", "backends", "commands", "harness", "report", "safety", "tests")
    reports = request.path.parent.name in rooms
    if reports and request.node.get_closest_marker("all_folds") is None:
        monkeypatch.setattr("automix_eval.analysis.operating_points.FOLDS", 3)


@pytest.fixture(scope="session")
def fast_routers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Hyper-parameters that make a meta-verifier quick to fit, by its option."""
    encoder = save_tiny_encoder(tmp_path_factory.mktemp("encoder"))
    weights = tmp_path_factory.mktemp("weights")
    tiny = {"encoder": str(encoder), "epochs": 1, "max_length": 64, "folder": str(weights)}
    quick = {"encoder": str(encoder), "max_length": 64}
    return {"frugal_gpt": tiny, "hybrid_llm": tiny, "knn_query": quick}
