"""What a killed run left beside the run that resumed it is named apart and counted once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_builder import ROWS, build_run

from automix_eval.analysis.figures import Report
from automix_eval.analysis.gather import Settings, assemble
from automix_eval.analysis.selection import _equal
from automix_eval.commands.main import main
from automix_eval.records.runs import read_run

STORED = [{"task": "coqa", "phase": "evaluation", "tier": 0, "role": "answer",
           "made": 0, "stored": 40}]  # fmt: skip


TASK = {"metric": "f1", "sample": False, "num_questions": len(ROWS),
        "config_hashes": {"metric_list": "one"}}  # fmt: skip


def report(folder: Path) -> Report:
    """The report on a folder."""
    return assemble([folder], Settings(resamples=200)).report


def partial(folder: Path, name: str, number: int, **fields: Any) -> Path:
    """A run that was killed after some of its questions."""
    unfinished = {"coqa": {"questions": number, "of": len(ROWS)}}
    return build_run(folder, name, ROWS[:number], unfinished=unfinished, **fields)


def test_partial_runs_are_left_out_beside_the_whole_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Figures and leaderboards are those of the whole run alone; each other is named."""
    build_run(tmp_path / "alone", "whole")
    alone = report(tmp_path / "alone")
    folder = tmp_path / "all"
    partial(folder, "first", 10)
    partial(folder, "second", 20)
    partial(folder, "none", 0)
    build_run(folder, "whole")
    found = report(folder)
    assert found.tasks == alone.tasks
    assert found.boards == alone.boards
    left = [n for n in found.warnings if "left out" in n]
    assert len(left) == 3
    assert any(n.startswith("run first is PARTIAL (10 questions of coqa) and left") for n in left)
    assert any(n.startswith("run none is PARTIAL (no question answered)") for n in left)
    assert main(["report", str(folder), "--resamples", "20"]) == 0
    said = capsys.readouterr().out
    assert "run second is PARTIAL" in said
    assert "n=2" not in said


def test_the_longest_of_partial_runs_stays(tmp_path: Path) -> None:
    """Nothing is whole yet: the figures are of the attempt that came farthest, and say so."""
    for name, number in (("a", 10), ("b", 30), ("c", 20)):
        partial(tmp_path, name, number)
    (task,) = report(tmp_path).tasks
    assert task.run_id == "b"
    assert any("PARTIAL: the run answered 30 of 40" in w for w in task.warnings)


@pytest.mark.parametrize(
    "other",
    [
        {"policy": "always_slm"},
        {"config": {"seed": 1}},
        {"labels": ("small", "huge")},
        {"tasks": {"coqa": {**TASK, "config_hashes": {"metric_list": "another"}}}},
    ],
    ids=lambda o: next(iter(o)),
)
def test_a_partial_run_of_something_else_stays(other: dict[str, Any], tmp_path: Path) -> None:
    """Other routers, seeds, models and settings of the task are no attempts of the same run."""
    build_run(tmp_path, "whole", tasks={"coqa": TASK})
    partial(tmp_path, "killed", 10, **other)
    found = report(tmp_path)
    assert {t.run_id for t in found.tasks} == {"whole", "killed"}
    assert not any("left out" in n for n in found.warnings)


def test_a_partial_run_on_more_questions_stays(tmp_path: Path) -> None:
    """A whole run on a few of its questions does not stand for it."""
    build_run(tmp_path, "whole", ROWS[:5])
    partial(tmp_path, "killed", 10)
    assert {t.run_id for t in report(tmp_path).tasks} == {"whole", "killed"}


def test_a_run_repeated_from_the_store_counts_once(tmp_path: Path) -> None:
    """Killed after its last question, a run left all its records; the resumed one has the same."""
    build_run(tmp_path, "killed")
    build_run(tmp_path, "resumed", calls=STORED)
    found = report(tmp_path)
    assert [t.run_id for t in found.tasks] == ["resumed"]
    assert [m.runs for m in found.boards[0].methods if m.kind == "live"] == [("resumed",)]
    assert any(n.startswith("run killed is left out: run resumed repeated") for n in found.warnings)


def test_only_the_very_same_calls_are_a_repetition(tmp_path: Path) -> None:
    """Whatever differs of what was asked, spent or routed makes another run."""
    rows = read_run(build_run(tmp_path)).records["coqa"]

    def other(value: Any) -> Any:
        changed = value.copy()
        changed[3] = ~changed[3] if value.dtype == bool else changed[3] + 1
        return changed

    spent = ("number", "prompt_tokens", "generated_tokens", "seconds")
    for name in ("doc_ids", "prompts", "final", "asked", "on_path", "scores", "confidences"):
        assert not _equal(rows, replace(rows, **{name: other(getattr(rows, name))})), name
    for kind in ("answers", "verifications"):
        calls = getattr(rows, kind)
        for name in spent:
            changed = replace(calls, **{name: other(getattr(calls, name))})
            assert not _equal(rows, replace(rows, **{kind: changed})), (kind, name)
    assert not _equal(rows, rows.where(np.arange(len(rows)) > 0))
    unknown = replace(rows, scores=np.full_like(rows.scores, np.nan))
    assert np.isnan(rows.confidences).any()
    assert _equal(rows, rows)
    assert _equal(unknown, replace(unknown, scores=unknown.scores.copy()))


def test_a_run_that_made_its_own_calls_stays(tmp_path: Path) -> None:
    """Equal answers to new calls are evidence of their own."""
    build_run(tmp_path, "one")
    build_run(tmp_path, "two")
    assert {t.run_id for t in report(tmp_path).tasks} == {"one", "two"}


def test_a_partial_run_that_is_named_itself_is_shown(tmp_path: Path) -> None:
    """Whoever names its manifest sees it."""
    path = partial(tmp_path, "killed", 10)
    build_run(tmp_path, "whole")
    assert [t.run_id for t in report(path).tasks] == ["killed"]
