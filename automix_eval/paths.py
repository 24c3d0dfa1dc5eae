"""Where the tasks, the Hydra configuration and the cache lie, in a checkout or an installed wheel.

In a checkout ``tasks/`` and ``hydra_conf/`` stand beside the package; the wheel carries both inside
it. This file imports the standard library only: ``_automix_bridge.py`` loads it by its path, so
that the rule is written once.
"""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["cache_dir", "hydra_conf_dir", "tasks_dir"]


def tasks_dir() -> Path:
    """Return the absolute folder that holds one folder a task.

    Raises:
        FileNotFoundError: It is in neither place, so the installation is incomplete.
    """
    return _data_dir("tasks")


def hydra_conf_dir() -> Path:
    """Return the absolute folder of the Hydra configuration.

    Raises:
        FileNotFoundError: It is in neither place, so the installation is incomplete.
    """
    return _data_dir("hydra_conf")


def cache_dir() -> Path:
    """Return the absolute cache folder, created if it is missing.

    The first of ``$AUTOMIX_CACHE_DIR``, ``$XDG_CACHE_HOME/automix-eval`` and
    ``~/.cache/automix-eval``. Empty variables count as unset, and so does a relative
    ``XDG_CACHE_HOME``, as the XDG Base Directory Specification asks.

    Raises:
        OSError: The folder cannot be created, or there is no home folder to fall back on.
    """
    own = os.environ.get("AUTOMIX_CACHE_DIR", "")
    xdg = os.environ.get("XDG_CACHE_HOME", "")
    remedy = "set AUTOMIX_CACHE_DIR to a folder that can be written"
    try:
        if own:
            folder = Path(own).expanduser().absolute()
        elif xdg and Path(xdg).is_absolute():
            folder = Path(xdg) / "automix-eval"
        else:
            folder = Path.home() / ".cache" / "automix-eval"
    except RuntimeError as error:  # pathlib's answer to "no home folder"
        raise OSError(f"There is no home folder for the cache ({error}); {remedy}.") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(
            f"The cache folder {folder} cannot be created ({error.strerror}); {remedy}."
        ) from error
    return folder


def _data_dir(name: str) -> Path:
    package = Path(__file__).resolve().parent
    checkout = package.parent
    # The checkout comes first: a copy that an older editable install or a build left inside the
    # package would hide what is being edited. The project file must be ours, since some
    # distributions drop a stray pyproject.toml or a folder `tasks` into site-packages.
    candidates = [package / name]
    if _is_checkout(checkout):
        candidates.insert(0, checkout / name)
    for folder in candidates:
        if folder.is_dir():
            return folder
    raise FileNotFoundError(
        f"automix-eval's folder {name!r} is missing; looked in "
        f"{', '.join(str(folder) for folder in candidates)}. The installation is incomplete: "
        "reinstall it with `pip install --force-reinstall --no-deps automix-eval`, "
        "or `pip install -e .` in a checkout."
    )


def _is_checkout(folder: Path) -> bool:
    try:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False
    return 'name = "automix-eval"' in text
