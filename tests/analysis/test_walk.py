"""The way from a folder to its table: read, select, compute, show, each once."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import pytest
from scripted import SCRIPTS, gold_answers, knows, run_harness, scripted_args

import automix_eval
from automix_eval.commands.main import main
from automix_eval.records import runs

pytestmark = pytest.mark.all_folds

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
    for before, now in pairwise(["", *order]):
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
def test_a_report_reads_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once everything was read the folder may vanish: the report is the same."""
    assert main(REPORT) == 0
    expected = capsys.readouterr().out
    folder = shutil.copytree(REFERENCE, tmp_path / "copy")

    def reading(*args: Any, **kwargs: Any) -> runs.FoundRuns:
        found = read_all(*args, **kwargs)
        shutil.rmtree(folder)
        return found

    read_all = runs.read_all
    monkeypatch.setattr("automix_eval.analysis.gather.read_all", reading)
    assert main(["report", str(folder), *REPORT[2:]]) == 0
    assert capsys.readouterr().out == expected
    assert not folder.exists()


def test_a_question_climbs_once(tmp_path: Path) -> None:
    """Down from the harness to the models, up once to be scored, and down to its record."""
    answers = gold_answers("coqa_demo")
    SCRIPTS["small"], SCRIPTS["large"] = knows(answers, 0.5), knows(answers, 0.9)
    given = scripted_args(meta_verifier="self_consistency")
    given["store.path"] = str(tmp_path / "calls.sqlite")
    order = files_in_order(lambda: run_harness(["coqa_demo"], given, tmp_path / "out", limit=4))
    rooms = [Path(file).parts[0] for file in order[order.index("cascade/route.py") :]]
    assert {"cascade", "backends", "verifiers", "harness", "records"} <= set(rooms)
    # a call's key and value are written by the record's schema too: the record follows the scoring
    written = rooms.index("records", rooms.index("harness"))
    up = [now for before, now in pairwise(rooms[:written]) if now == "harness" != before]
    assert len(up) == 1
