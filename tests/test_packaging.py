"""What a wheel and an editable install hold, and that an environment with them works.

The distributions are built by hatchling without isolation, so no index is asked.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
IGNORED = ("__pycache__", ".ipynb_checkpoints")


def call(*command: object, cwd: Path) -> str:
    """Run a command and return its output, or fail with what it wrote.

    The helpers on its path spare the harness the parsing of its task files; see harness_yaml.py.
    """
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd, env=os.environ | {"PYTHONPATH": str(ROOT / "tests/helpers")},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def data_files(name: str) -> set[str]:
    """List a data folder's files as the wheel should name them."""
    return {
        f"automix_eval/{file.relative_to(ROOT).as_posix()}"
        for file in (ROOT / name).rglob("*")
        if file.is_file() and not any(part in IGNORED for part in file.parts)
    }


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, so that both are complete."""
    pytest.importorskip("build")
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("dist")
    call(sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], tuple[Path, Path]]:
    """Make environments without pip that see this one's packages, but not its editable installs."""

    def make() -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("environment")
        venv.create(folder, symlinks=True, with_pip=False)
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = folder / "lib" / version / "site-packages"
        # A plain path in a .pth file does not run the .pth files over there.
        parents = dict.fromkeys(sysconfig.get_path(kind) for kind in ("purelib", "platlib"))
        (site / "parent.pth").write_text("\n".join(parents), encoding="utf-8")
        return folder / "bin" / "python", site

    return make


def install(python: Path, *what: object, cwd: Path) -> None:
    """Install into an environment with this one's pip, without asking an index."""
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet")
    call(*pip, "--no-deps", "--no-index", "--no-build-isolation", *what, cwd=cwd)


def test_wheel_content(wheel: Path) -> None:
    """The wheel holds the package, both data folders inside it, and the bridge at its root."""
    names = set(zipfile.ZipFile(wheel).namelist())
    info = f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"
    modules = {
        file.relative_to(ROOT).as_posix()
        for file in (ROOT / "automix_eval").rglob("*")
        if file.is_file() and not any(part in IGNORED for part in file.parts)
    }
    expected = {"_automix_bridge.py", "automix_eval_bridge.pth"} | modules
    expected |= data_files("tasks") | data_files("hydra_conf")
    assert {name for name in names if not name.startswith(f"{info}/")} == expected
    assert any(name.endswith(".jsonl") for name in expected)
    assert any(name.startswith("automix_eval/tasks/coqa/") for name in expected)
    assert "automix_eval/py.typed" in names, "without it type checkers take every name for Any"


def test_source_distribution_has_no_results(wheel: Path) -> None:
    """The source distribution builds the wheel and carries no results and no environment."""
    (archive,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tops = {Path(name).parts[1] for name in tar.getnames() if len(Path(name).parts) > 1}
    assert {"automix_eval", "tasks", "pyproject.toml", "constraints.txt", "tests"} <= tops
    assert tops.isdisjoint({"results", ".venv", "dist"})


def test_wheel_metadata(wheel: Path) -> None:
    """Entry points, the Python range and the floor of lm-eval are what the bridge relies on."""
    info = f"{wheel.name.removesuffix('-py3-none-any.whl')}.dist-info"
    archive = zipfile.ZipFile(wheel)
    entry_points = archive.read(f"{info}/entry_points.txt").decode()
    for line in (
        "[console_scripts]\nautomix-eval = automix_eval.commands.main:main",
        "[lm_eval.models]\nautomix = automix_eval.harness.model:AutoMixLM",
        "[lm_eval.tasks]\nautomix = automix_eval.tasks",
    ):
        assert line in entry_points
    metadata = archive.read(f"{info}/METADATA").decode().splitlines()
    assert "License-Expression: Apache-2.0" in metadata
    assert "Requires-Python: <3.14,>=3.10" in metadata
    assert "Requires-Dist: lm-eval<0.5,>=0.4.13" in metadata
    assert "Requires-Dist: pomdp-py>=1.3.5; python_version < '3.13'" in metadata
    assert "Requires-Dist: pomdp-py>=1.3.5; extra == 'pomdp'" in metadata


def test_the_harness_is_bounded_by_the_version_that_was_tested() -> None:
    """A harness of the next minor version is refused until constraints.txt, and this suite, has it.

    Whoever moves the pin to a newer minor version and sees the suite pass raises the bound with it.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (bound,) = (r for r in map(Requirement, project["dependencies"]) if r.name == "lm-eval")
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    (pin,) = (line.removeprefix("lm-eval==") for line in lines if line.startswith("lm-eval=="))
    major, minor = Version(pin).release[:2]
    assert bound.specifier.contains(pin)
    assert bound.specifier.contains(f"{major}.{minor}.999")
    for later in (f"{major}.{minor + 1}", f"{major}.{minor + 1}.0.dev1"):
        assert not bound.specifier.contains(later, prereleases=True), later
    assert importlib.metadata.version("lm-eval") == pin, "the suite runs on another harness"


@pytest.mark.slow
def test_an_installed_wheel_is_found_by_the_harness(
    wheel: Path, environment: Callable[[], tuple[Path, Path]], tmp_path: Path
) -> None:
    """From another folder, without the checkout, the harness has our model and our tasks."""
    python, site = environment()
    install(python, wheel, cwd=tmp_path)
    script = """
import importlib.util, json, automix_eval, lm_eval.models
from automix_eval.paths import tasks_dir
from lm_eval.api.registry import model_registry
from lm_eval.tasks import TaskManager
tasks = TaskManager()
print(json.dumps([
    automix_eval.__file__, dict(model_registry.items()).get("automix"),
    len(set(lm_eval.models.MODEL_MAPPING) - set(model_registry)), str(tasks_dir()),
    list(importlib.util.find_spec("automix_eval.tasks").submodule_search_locations),
    str(tasks.task_index["automix_coqa"].yaml_path), "hellaswag" in tasks.all_tasks,
]))
"""
    facts = json.loads(call(python, "-c", script, cwd=tmp_path).splitlines()[-1])
    folder = site / "automix_eval"
    assert facts == [
        str(folder / "__init__.py"),
        "automix_eval.harness.model:AutoMixLM",
        0,
        str(folder / "tasks"),
        [str(folder / "tasks")],
        str(folder / "tasks/coqa/automix_coqa.yaml"),
        True,
    ]
    pip = (sys.executable, "-m", "pip", "--python", python)
    call(*pip, "uninstall", "--yes", "--quiet", "automix-eval", cwd=tmp_path)
    assert {file.name for file in site.iterdir()} <= {"parent.pth", "__pycache__"}


def test_an_editable_install_holds_no_copies(
    environment: Callable[[], tuple[Path, Path]], tmp_path: Path
) -> None:
    """Installed with -e, tasks and configuration are read from the checkout, and never go stale."""
    python, site = environment()
    install(python, "-e", ROOT, cwd=tmp_path)
    assert not (site / "automix_eval").exists()
    for name in ("_automix_bridge.py", "automix_eval_bridge.pth"):
        assert (site / name).read_bytes() == (ROOT / name).read_bytes()
    script = """
import importlib.util, json, sys
from automix_eval.paths import tasks_dir
spec = importlib.util.find_spec("automix_eval.tasks")
print(json.dumps([str(tasks_dir()), list(spec.submodule_search_locations),
                  "_automix_bridge" in sys.modules]))
"""
    tasks = str(ROOT / "tasks")
    assert json.loads(call(python, "-c", script, cwd=tmp_path)) == [tasks, [tasks], True]
