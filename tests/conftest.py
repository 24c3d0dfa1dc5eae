"""Fixtures that all tests share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from tiny_models import save_tiny_encoder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow ones first: processes that share the tests then end together."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def isolated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test has a cache folder, scripts and a call list of its own, and no network."""
    monkeypatch.setenv("AUTOMIX_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("AUTOMIX_DATA_DIR", raising=False)
    if scripted := sys.modules.get("scripted"):  # it imports the harness, which takes seconds
        scripted.SCRIPTS.clear()
        scripted.CALLS.clear()


@pytest.fixture(scope="session")
def fast_routers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Hyper-parameters that make a meta-verifier quick to fit, by its option."""
    encoder = save_tiny_encoder(tmp_path_factory.mktemp("encoder"))
    weights = tmp_path_factory.mktemp("weights")
    tiny = {"encoder": str(encoder), "epochs": 1, "max_length": 64, "folder": str(weights)}
    quick = {"encoder": str(encoder), "max_length": 64}
    return {"frugal_gpt": tiny, "hybrid_llm": tiny, "knn_query": quick}
