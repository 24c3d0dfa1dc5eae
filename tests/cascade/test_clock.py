"""The wall clock names and dates files, and decides nothing: it may jump."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interrupted import QUESTIONS, arguments, run
from kill_series import same_text
from scripted import CALLS, SCRIPTS, read_run, run_harness

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.records.schema import to_json
from automix_eval.report import output

YEAR = 365 * 86400.0


def set_clock(patch: pytest.MonkeyPatch, now: Callable[[], float]) -> None:
    """Let every reading of the wall clock come from a function."""
    strftime = time.strftime
    patch.setattr(time, "time", now)
    patch.setattr(time, "time_ns", lambda: int(now() * 1e9))
    patch.setattr(
        time, "strftime", lambda form, at=None: strftime(form, at or time.localtime(now()))
    )


def report(folder: Path) -> tuple[str, str]:
    """The report on a folder without what differs by nature, and its warnings."""
    found = assemble([folder], Settings(resamples=50))
    head, _, warnings = same_text(output.render(found, "text")).partition("\nWarnings\n")
    return head, " ".join(warnings.split())


def routed(folder: Path) -> list[dict[str, Any]]:
    """The records of the only run in a folder, without what calls took."""

    def timeless(value: Any) -> Any:
        if isinstance(value, dict):
            taken = ("seconds", "latency")
            return {k: timeless(v) for k, v in value.items() if k not in taken}
        return [timeless(v) for v in value] if isinstance(value, (list, tuple)) else value

    return [timeless(to_json(row)) for row in read_run(folder)[1]]


def test_a_clock_that_jumps_during_a_run_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Records and report are those of a steady clock, with each reading a year off."""
    for name in ("steady", "jumping"):
        (tmp_path / name).mkdir()
    run(tmp_path / "steady")
    steady, draw = time.time(), random.Random(3)
    with monkeypatch.context() as patch:
        set_clock(patch, lambda: steady + draw.uniform(-YEAR, YEAR))
        run(tmp_path / "jumping")
    half = len(CALLS) // 2
    assert CALLS[:half] == CALLS[half:]
    assert routed(tmp_path / "jumping" / "out") == routed(tmp_path / "steady" / "out")
    reports = [report(tmp_path / n / "out") for n in ("steady", "jumping")]
    assert reports[0] == reports[1]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, int]:
    """The report on a run that nothing disturbed, and how many calls it made."""
    folder = tmp_path_factory.mktemp("whole")
    CALLS.clear()
    run(folder)
    return report(folder / "out")[0], len(CALLS)


@pytest.mark.slow
@pytest.mark.parametrize("jump", [-YEAR, -1.0, YEAR])
@pytest.mark.parametrize("finished", [False, True])
def test_a_clock_that_jumped_between_runs_changes_no_resume(
    jump: float,
    finished: bool,
    whole: tuple[str, int],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The resumed run asks for what is missing alone, and counts, although it may seem the older.

    What it resumes was interrupted in its last block, or had answered everything.
    """
    undisturbed, once = whole
    args = arguments(tmp_path)
    honest, left = SCRIPTS["small"], [10**6 if finished else 3 * (6 + QUESTIONS) - 2]

    def interrupted(prompt: str, generation: dict[str, Any]) -> str:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return honest(prompt, generation)

    SCRIPTS["small"] = interrupted
    try:
        run_harness(["coqa_demo"], args, tmp_path / "out", limit=QUESTIONS, log_samples=True)
    except KeyboardInterrupt:
        assert not finished
    SCRIPTS["small"] = honest
    there = time.time() + jump
    with monkeypatch.context() as patch:
        set_clock(patch, lambda: there)
        run_harness(["coqa_demo"], args, tmp_path / "out", limit=QUESTIONS, log_samples=True)
    in_flight = 0 if finished else 1
    assert len(CALLS) == once + in_flight
    head, warnings = report(tmp_path / "out")
    assert head == undisturbed
    assert warnings.count("left out") == 1
