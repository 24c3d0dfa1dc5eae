"""Where tasks, configuration and cache are found."""

from __future__ import annotations

import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

from automix_eval import paths

ROOT = Path(__file__).resolve().parent.parent
OURS = '[project]\nname = "automix-eval"\n'


def load_copy(folder: Path) -> ModuleType:
    """Load a copy of paths.py as if the package lay in this folder."""
    (folder / "automix_eval").mkdir(parents=True, exist_ok=True)
    file = shutil.copy(ROOT / "automix_eval/paths.py", folder / "automix_eval/paths.py")
    spec = importlib.util.spec_from_file_location("paths_copy", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_this_checkout() -> None:
    """The tasks of the checkout are found as an absolute folder."""
    assert paths.tasks_dir() == ROOT / "tasks"


@pytest.mark.parametrize("name", ["tasks", "hydra_conf"])
def test_a_wheel_holds_both_inside_the_package(tmp_path: Path, name: str) -> None:
    """Installed from a wheel, the folders are found inside the package."""
    (tmp_path / "automix_eval" / name).mkdir(parents=True)
    assert getattr(load_copy(tmp_path), f"{name}_dir")() == tmp_path / "automix_eval" / name


def test_the_checkout_wins_over_a_stale_copy(tmp_path: Path) -> None:
    """A copy inside the package does not hide the folder that is being edited."""
    (tmp_path / "pyproject.toml").write_text(OURS, encoding="utf-8")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "automix_eval/tasks").mkdir(parents=True)
    assert load_copy(tmp_path).tasks_dir() == tmp_path / "tasks"


@pytest.mark.parametrize("project", [None, '[project]\nname = "other"\n'])
def test_a_foreign_folder_beside_the_package_is_ignored(
    tmp_path: Path, project: str | None
) -> None:
    """In site-packages another distribution's `tasks` or pyproject.toml is not taken for ours."""
    if project is not None:
        (tmp_path / "pyproject.toml").write_text(project, encoding="utf-8")
    (tmp_path / "tasks").mkdir()
    (tmp_path / "automix_eval/tasks").mkdir(parents=True)
    assert load_copy(tmp_path).tasks_dir() == tmp_path / "automix_eval/tasks"


def test_missing_folders_name_the_places_and_the_remedy(tmp_path: Path) -> None:
    """An incomplete installation says where it looked and how to repair it."""
    with pytest.raises(FileNotFoundError, match="hydra_conf") as caught:
        load_copy(tmp_path).hydra_conf_dir()
    assert str(tmp_path / "automix_eval/hydra_conf") in str(caught.value)
    assert "pip install" in str(caught.value)


@pytest.mark.parametrize(
    ("own", "xdg", "expected"),
    [
        ("own", "xdg", "own"),
        (None, "xdg", "xdg/automix-eval"),
        ("", "xdg", "xdg/automix-eval"),
        (None, None, "home/.cache/automix-eval"),
    ],
)
def test_cache_order(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own: str | None,
    xdg: str | None,
    expected: str,
) -> None:
    """Our variable comes before the XDG one, and that before the home folder; all are created."""
    for name, value in {"AUTOMIX_CACHE_DIR": own, "XDG_CACHE_HOME": xdg, "HOME": "home"}.items():
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, str(tmp_path / value) if value else "")
    assert paths.cache_dir() == tmp_path / expected
    assert (tmp_path / expected).is_dir()


def test_a_relative_xdg_folder_is_ignored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A relative XDG_CACHE_HOME is invalid by its specification; ours may be relative."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.delenv("AUTOMIX_CACHE_DIR", raising=False)
    assert paths.cache_dir() == tmp_path / ".cache/automix-eval"
    monkeypatch.setenv("AUTOMIX_CACHE_DIR", "relative")
    assert paths.cache_dir() == tmp_path / "relative"


def test_a_cache_that_cannot_be_made_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file in the way gives an error with the path and the variable to set."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("AUTOMIX_CACHE_DIR", str(tmp_path / "file/cache"))
    with pytest.raises(OSError, match=r"file/cache cannot be created .*AUTOMIX_CACHE_DIR"):
        paths.cache_dir()


def test_no_home_folder_names_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any folder to fall back on the error names the variable to set."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("AUTOMIX_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(OSError, match="AUTOMIX_CACHE_DIR"):
        paths.cache_dir()
