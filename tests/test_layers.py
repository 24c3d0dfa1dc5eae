"""The rooms of the package: every file is in one, imports go downward, nobody in circles."""

from __future__ import annotations

import ast
import graphlib
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import automix_eval

PACKAGE = Path(automix_eval.__file__).parent
# Ground first: a room imports from itself and from those before it.
ROOMS = (
    "paths",
    "safety",
    "metrics",
    "types",
    "costs",
    "backends",
    "verifiers",
    "records",
    "meta_verifiers",
    "cascade",
    "config",
    "harness",
    "analysis",
    "report",
    "commands",
)
DOORS = ("__init__", "__main__")  # the package's own two files, above all rooms
HYDRA_DOORS = {"config.compose", "config.parts", "config.command_line"}
MOST_LINES = 450
# A name that two modules or two public classes may share, and why.
SHARED_STEMS = {
    "logistic": "a router and a calibrator by the same regression, each an option of its group",
    **dict.fromkeys(
        ("compare", "experiment", "fit", "outcomes", "policy", "replay", "run"),
        "a module of commands/ has the name that users type, of what it stands in front of",
    ),
}
SHARED_CLASSES = {
    "Logistic": "a router and a calibrator, each named in hydra_conf",
    **dict.fromkeys(
        ("DoubleThreshold", "SelfConsistency", "Threshold"),
        "the drop-in has the names of the package that it stands for",
    ),
}
NO_HARNESS = ("cascade", "records", "meta_verifiers", "verifiers", "costs", "metrics")


def dotted(path: Path) -> str:
    """A module's name below the package; a package's own file has the name of its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)


@cache
def modules() -> dict[str, Path]:
    """Every module of the package (a wheel also carries tasks and configuration)."""
    return {
        dotted(path): path
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] not in ("tasks", "hydra_conf")
    }


@cache
def tree(path: Path) -> ast.Module:
    """The parsed file."""
    return ast.parse(path.read_text(encoding="utf-8"))


def names_imported(path: Path) -> Iterator[str]:
    """Dotted names that a file imports, at any depth of its code, each once for each name taken."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def ours(path: Path) -> Iterator[str]:
    """Modules of the package that a file imports."""
    for name in names_imported(path):
        if name.split(".")[0] != "automix_eval":
            continue
        inner = name.removeprefix("automix_eval").removeprefix(".")
        while inner and inner not in modules():
            inner = inner.rpartition(".")[0]
        if inner:
            yield inner


def room(name: str) -> str:
    """First name below the package."""
    return name.split(".")[0]


def test_every_file_is_in_a_room() -> None:
    """The root holds the rooms, the package's two files and the mark of a typed package."""
    there = {
        path.stem if path.suffix == ".py" else path.name
        for path in PACKAGE.iterdir()
        if path.name not in ("__pycache__", "tasks", "hydra_conf")
    }
    assert there - {"py.typed"} == {*ROOMS, *DOORS}


def test_imports_go_downward_only() -> None:
    """A file imports from its own room or from one before it, late imports included."""
    order = {name: place for place, name in enumerate(ROOMS)}
    upward = [
        f"{name} imports {other}"
        for name, path in modules().items()
        if name not in DOORS
        for other in ours(path)
        if other in DOORS or order[room(other)] > order[room(name)]
    ]
    # The version stands in the package's own file.
    assert [line for line in upward if not line.endswith("imports __init__")] == []


def test_no_circle() -> None:
    """No file imports itself through others, within a room neither."""
    graph = {
        name: {other for other in ours(path) if other != name} for name, path in modules().items()
    }
    list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("home", ["records", "report"])
def test_no_configuration_where_results_are_read(home: str) -> None:
    """A results folder names no code: reading one never composes a configuration."""
    users = [
        f"{name} imports {other}"
        for name, path in modules().items()
        if room(name) == home
        for other in ours(path)
        if room(other) == "config"
    ]
    assert users == []


def test_hydra_has_two_doors() -> None:
    """Hydra is imported where configurations are composed, parts made, and command lines read."""
    users = {
        name
        for name, path in modules().items()
        for imported in names_imported(path)
        if imported.split(".")[0] == "hydra"
    }
    assert users <= HYDRA_DOORS


def test_the_harness_stays_in_its_room() -> None:
    """The method, its records and its routers know nothing of lm-evaluation-harness."""
    users = [
        f"{name} imports {imported}"
        for name, path in modules().items()
        if room(name) in NO_HARNESS
        for imported in names_imported(path)
        if imported.split(".")[0] == "lm_eval"
    ]
    assert users == []


def test_results_are_read_without_hydra() -> None:
    """Reading runs loads no configuration framework."""
    code = "import automix_eval.records.runs, sys; assert 'hydra' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_package_is_imported_without_torch() -> None:
    """Torch, numpy and the harness: what is heavy waits until it is used."""
    code = "import automix_eval, sys; assert not {'torch', 'lm_eval', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_harness_and_analysis_do_not_meet() -> None:
    """What runs live and what looks at results afterwards meet in the commands only."""
    for one, other in (("harness", "analysis"), ("analysis", "harness")):
        met = [
            f"{name} imports {imported}"
            for name, path in modules().items()
            if room(name) == one
            for imported in ours(path)
            if room(imported) == other
        ]
        assert met == []


def test_no_module_is_long() -> None:
    """A file fits into a reader's head."""
    long = {
        name
        for name, path in modules().items()
        if len(path.read_text(encoding="utf-8").splitlines()) > MOST_LINES
    }
    assert long == set()


def test_a_name_once() -> None:
    """Who searches for a module or a class by its name finds one."""
    stems = Counter(path.stem for path in modules().values() if path.stem not in DOORS)
    classes = Counter(
        node.name
        for path in modules().values()
        for node in tree(path).body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    for found, shared in ((stems, SHARED_STEMS), (classes, SHARED_CLASSES)):
        twice = {name for name, number in found.items() if number > 1}
        assert twice == set(shared)


def test_what_is_private_stays_at_home() -> None:
    """A name with an underscore is of its own module alone."""
    taken = {
        (name, imported)
        for name, path in modules().items()
        for imported in names_imported(path)
        if imported.startswith("automix_eval.") and imported.rpartition(".")[2].startswith("_")
    }
    assert {t for t in taken if not t[1].endswith("__")} == set()


def test_every_module_says_what_it_is() -> None:
    """No two modules begin with the same line, as after a file was cut in two."""
    said = Counter((ast.get_docstring(tree(p)) or "").split("\n")[0] for p in modules().values())
    assert [line for line, number in said.items() if number > 1 or not line] == []
