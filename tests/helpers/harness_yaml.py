"""The harness's own task files, which take a processor 15 seconds to parse, once a release.

``TaskManager`` works as always: it finds the files, merges and warns. Where the environment names a
file for it, what PyYAML makes of each of them is kept there, for all processes of the tests that
have this folder on their path; `make clean` forgets it.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import os
import pickle
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

KEPT = "AUTOMIX_TEST_HARNESS_YAML"
MODULE = "lm_eval.tasks._index"


class Finder(importlib.abc.MetaPathFinder):
    """Finds the harness's index as everybody does, and changes it when it has been executed."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The spec of the one module, with a loader that changes it."""
        if name != MODULE:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            change(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def install() -> None:
    """Have the harness's index read kept files, now or when it is imported."""
    if KEPT not in os.environ:
        return
    if module := sys.modules.get(MODULE):
        change(module)
    else:
        sys.meta_path.insert(0, Finder())


def change(module: ModuleType) -> None:
    """Let the index take the harness's own files from where they are kept."""
    parse, walk = module.load_yaml, module.TaskIndex._iter_yaml_files
    theirs = Path(str(module.__file__)).parent
    within = f"{theirs}{os.sep}"
    held: dict[str, bytes] = {}
    paths: list[Path] = []

    def hold() -> None:
        if not held:
            release = f"{version('lm_eval')}-{theirs.stat().st_mtime_ns}"
            file = Path(f"{os.environ[KEPT]}-{release}.names.pickle")
            whole = kept(file, walk(theirs), parse, len(within))
            held.update((within + name, made) for name, made in whole.items())
            paths.extend(map(Path, held))

    def load_yaml(path: Path, **options: Any) -> Any:
        indexed = options == {"resolve_func": False, "recursive": True}
        if not indexed or not str(path).startswith(within):
            return parse(path, **options)
        hold()
        # each index has objects of its own, as if it had parsed them
        found = pickle.loads(held[str(path)])
        if isinstance(found, Exception):
            raise found
        return found

    def files(root: Path) -> Iterable[Path]:
        if root != theirs:
            return walk(root)
        hold()
        return paths  # in the order in which they were found

    module.TaskIndex._iter_yaml_files = staticmethod(files)  # type: ignore[attr-defined]
    module.load_yaml = load_yaml  # type: ignore[attr-defined]


def kept(file: Path, files: Iterable[Path], parse: Any, folder: int) -> dict[str, bytes]:
    """What the harness makes of each of its files, made by the first process that asks.

    By their names without so many letters of the folder.
    """
    from filelock import FileLock

    with FileLock(f"{file}.lock"):
        if not file.exists():
            found = {}
            for path in files:
                try:
                    made = parse(path, resolve_func=False, recursive=True)
                except Exception as err:  # noqa: BLE001 - the index skips what it cannot parse
                    made = ValueError(str(err))
                found[str(path)[folder:]] = pickle.dumps(made)
            part = file.with_suffix(".part")
            part.write_bytes(pickle.dumps(found))
            part.replace(file)
        whole: dict[str, bytes] = pickle.loads(file.read_bytes())
    return whole
