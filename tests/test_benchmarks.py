"""``make bench`` runs every benchmark by its defaults, and ends in the first that fails."""

from __future__ import annotations

import ast
import importlib
import sys
from pathlib import Path

import pytest
from lm_eval.models.dummy import DummyLM

FOLDER = Path(__file__).resolve().parents[1] / "benchmarks"


def bound(path: Path) -> set[str]:
    """Names that a module binds."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
            continue
        for part in ast.walk(node):
            if isinstance(part, ast.alias):
                names.add(part.asname or part.name)
            elif isinstance(part, ast.Name):
                names.add(part.id)
    return names


def test_benchmarks_name_what_there_is() -> None:
    """No type checker reads them, and most are run by hand: what they import must exist."""
    for path in sorted(FOLDER.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("automix_eval"):
                place = FOLDER.parent / str(node.module).replace(".", "/")
                file = place.with_suffix(".py") if not place.is_dir() else place / "__init__.py"
                for name in node.names:
                    there = name.name in bound(file) or (place / f"{name.name}.py").is_file()
                    assert there, f"{path.name}: {node.module}.{name.name}"


@pytest.mark.parametrize("name", ["bench_pomdp_chains", "bench_query", "bench_verifiers"])
def test_without_its_data_a_benchmark_measures_nothing_and_says_so(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The data of others are not in the repository."""
    monkeypatch.delenv("AUTOMIX_DATA_DIR", raising=False)
    monkeypatch.syspath_prepend(str(FOLDER))
    monkeypatch.setattr(sys, "argv", [f"{name}.py"])
    assert not importlib.import_module(name).main()
    assert "nothing is measured" in capsys.readouterr().out


def test_a_page_is_measured_without_a_browser(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its size and the time to write it are told, and that it was not opened."""
    pytest.importorskip("playwright")
    monkeypatch.syspath_prepend(str(FOLDER))
    bench_page = importlib.import_module("bench_page")
    monkeypatch.setattr(bench_page.shutil, "which", lambda _: None)
    monkeypatch.setattr(
        bench_page.subprocess, "run", lambda command, **_: Path(command[-1]).write_text("page")
    )
    bench_page.measure("one", FOLDER)
    assert "no chromium: not opened" in capsys.readouterr().out


def test_the_run_that_is_measured_runs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Models that answer at once stand in for those that the harness loads."""
    for name in ("AUTOMIX_DATA_DIR", "AUTOMIX_CACHE_DIR"):  # which it sets
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setattr(DummyLM, "tokenizer", None)
    monkeypatch.syspath_prepend(str(FOLDER))
    found = importlib.import_module("bench_load").cascade(40, "margin")
    assert found["questions"] == 40
    assert found["calls"] > 1
