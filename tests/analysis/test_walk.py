"""The way from a folder to its table: read, select, compute, show, each once."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest

import automix_eval
from automix_eval.commands.main import main
from automix_eval.records import runs as found_runs

PACKAGE = Path(automix_eval.__file__).parent
REFERENCE = PACKAGE.parent / "results" / "reference_demo"
# Tools of every room, and how a router is made and decides, which is a walk of its own.
TOOLS = {"paths.py", "types.py", "safety", "metrics", "costs", "config", "meta_verifiers"}
REPORT = ["report", str(REFERENCE), "--resamples", "50"]


def files_in_order(work: Callable[[], object]) -> list[str]:
    """Files of the functions that others may call, in the order in which each first ran."""
    seen: set[CodeType] = set()
    order: list[str] = []

    def note(frame: FrameType, event: str, _: Any) -> None:
        code = frame.f_code
        if event != "call" or code in seen:
            return
        seen.add(code)
        path = Path(code.co_filename)
        if not path.is_relative_to(PACKAGE):
            return
        inner = path.relative_to(PACKAGE)
        public = "." not in code.co_qualname and not code.co_name.startswith(("_", "<"))
        # a class's body runs where its module is imported, once for all
        if public and code.co_flags & 0x2 and inner.parts[0] not in TOOLS:
            order.append(str(inner))

    sys.setprofile(note)
    try:
        work()
    finally:
        sys.setprofile(None)
    return order


def returns(order: list[str]) -> list[str]:
    """Files that were entered again after they had been left."""
    left: set[str] = set()
    again = []
    for before, now in zip(["", *order], order, strict=False):
        if now != before and now in left:
            again.append(now)
        left.add(now)
    return again


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the wheel has no results")
def test_a_report_goes_one_way() -> None:
    """From the command to the table a reader comes back to a file at most eight times."""
    order = files_in_order(lambda: main(REPORT))
    stages = ["commands/report.py", "records/runs.py", "analysis/selection.py",
              "analysis/llm_point.py", "analysis/leaderboard.py", "report/output.py"]  # fmt: skip
    assert [f for f in dict.fromkeys(order) if f in stages] == stages
    assert len(again := returns(order)) <= 8, again


@pytest.mark.skipif(not REFERENCE.is_dir(), reason="the wheel has no results")
def test_a_report_reads_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """No file of the folder is opened once everything was read."""
    opened: list[str] = []
    read = found_runs.read_all
    done: list[int] = []

    def reading(*args: Any, **kwargs: Any) -> found_runs.FoundRuns:
        found = read(*args, **kwargs)
        done.append(len(opened))
        return found

    def note(event: str, args: tuple[Any, ...]) -> None:
        if active and event == "open" and str(REFERENCE) in str(args[0]):
            opened.append(str(args[0]))

    active = True
    sys.addaudithook(note)
    monkeypatch.setattr("automix_eval.analysis.gather.read_all", reading)
    main(REPORT)
    active = False
    assert done == [len(opened)]
    assert len(opened) == len(set(opened)) >= 3
