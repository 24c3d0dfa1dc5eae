"""The layers of the package: imports go downward only."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import automix_eval

PACKAGE = Path(automix_eval.__file__).parent
LAYERS = {
    0: {
        "types",
        "paths",
        "nearest",
        "outcomes",
        "overrides",
        "plain",
        "uncaught",
        "redaction",
        "logguard",
        "untrusted",
        "writtenout",
        "yamlreader",
    },
    1: {
        "budget",
        "prompts",
        "verifiers",
        "calibrators",
        "meta_verifiers",
        "baselines",
        "costs",
        "metrics",
        "backends",
        "taskdata",
        "taskhub",
        "taskrows",
        "taskscore",
    },
    2: {
        "store",
        "calls",
        "callcounts",
        "failures",
        "cascade",
        "replay",
        "config",
        "hydra_app",
        "records",
        "policy",
        "harness",
        "runlog",
        "losses",
        "recordfile",
        "grouping",
        "ranks",
        "dropin",
        "evaluation",
        "jobs",
        "pool",
        "runsettings",
    },
    3: {"model", "report", "doctor", "doctor_tiers", "plan", "commands", "fitting", "experiments"},
    4: {"cli", "__main__", "pytest_plugin"},
}
LAYER = {name: layer for layer, names in LAYERS.items() for name in names}


def modules() -> Iterator[tuple[str, Path]]:
    """First name below the package, and the file, of every module."""
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        if parts[0] not in ("__init__", "tasks", "hydra_conf"):
            yield parts[0], path


def imported(path: Path) -> Iterator[str]:
    """First names below the package that a module imports, at any depth of its code."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            parts = node.module.split(".")
            if parts == ["automix_eval"]:
                yield from (alias.name for alias in node.names if alias.name != "__version__")
            elif parts[0] == "automix_eval":
                yield parts[1]
        elif isinstance(node, ast.Import):
            for alias in node.names:
                parts = alias.name.split(".")
                if parts[0] == "automix_eval" and len(parts) > 1:
                    yield parts[1]


def test_every_module_has_a_layer() -> None:
    """A new module must be placed before it can be imported by anything."""
    assert {name for name, _ in modules()} <= set(LAYER)


def test_imports_go_downward_only() -> None:
    """A module imports from its own layer or from below."""
    upward = [
        f"{path.relative_to(PACKAGE)} (layer {LAYER[name]}) imports {other} (layer {LAYER[other]})"
        for name, path in modules()
        for other in imported(path)
        if LAYER[other] > LAYER[name]
    ]
    assert upward == []


def test_only_config_imports_hydra() -> None:
    """Hydra stays at two doors: one composes, the other is an application of its own."""
    users = {
        name
        for name, path in modules()
        if re.search(r"^\s*(import|from) hydra\b", path.read_text(), re.MULTILINE)
    }
    assert users == {"config", "hydra_app"}


def test_only_the_model_is_a_model_of_the_harness() -> None:
    """The cascade itself knows nothing of the harness."""
    for name in ("cascade", "calls", "store", "records", "prompts"):
        assert "lm_eval" not in (PACKAGE / f"{name}.py").read_text()
