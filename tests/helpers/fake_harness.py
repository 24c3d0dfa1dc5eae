"""A fake lm_eval for the tests of the bridge: the few names it touches, standard library only."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
TASKS = ROOT / "tasks"
TARGET = "automix_eval.harness.model:AutoMixLM"

REGISTRY = """
class Registry(dict):
    def register(self, alias, target=None):
        if alias in self: raise ValueError(alias)
        self[alias] = target
model_registry = Registry()
"""
MODELS = """
from lm_eval.api.registry import model_registry
model_registry.register("hf", target="builtin")
"""
MANAGER = """
class TaskManager:
    def __init__(self, verbosity=None, include_path=None, include_defaults=True, metadata=None):
        self.include_path, self.metadata = include_path, metadata
        self.scanned = (["builtin"] if include_defaults else []) + [
            str(p) for p in (include_path if isinstance(include_path, (list, tuple))
                             else [include_path] if include_path else [])]
"""
LOADS_PLUGINS = "\ndef load_plugins(group, registry): return []\n"
DISCOVERS_TASKS = "\ndef discover_plugin_task_paths(): return []\n"


def write_harness(
    folder: Path, registry: str = REGISTRY, models: str = MODELS, manager: str = MANAGER
) -> Path:
    """Write a fake lm_eval package and return the folder to put on the path."""
    for name, text in {
        "lm_eval/__init__.py": "",
        "lm_eval/api/__init__.py": "",
        "lm_eval/api/registry.py": registry,
        "lm_eval/models/__init__.py": models,
        "lm_eval/tasks/__init__.py": "",
        "lm_eval/tasks/manager.py": manager,
    }.items():
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8")
    return folder


def run(
    script: str, *paths: Path, python: Path | str = sys.executable, flags: tuple[str, ...] = ("-S",)
) -> subprocess.CompletedProcess[str]:
    """Run a script after putting folders on the path and importing the bridge."""
    head = f"import sys; sys.path[:0] = {[str(p) for p in paths]!r}; import _automix_bridge\n"
    return subprocess.run(
        [python, *flags, "-c", head + script], capture_output=True, text=True, check=False
    )


def answer(done: subprocess.CompletedProcess[str]) -> Any:
    """Return the JSON a script printed, after checking that it ran in silence."""
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)
