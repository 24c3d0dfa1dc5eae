"""Runs that are interrupted, or whose disk fills up, end cleanly and keep what they have."""

from __future__ import annotations

import errno
import re
import time
from pathlib import Path
from typing import Any

import pytest
from interrupted import QUESTIONS, arguments, run
from scripted import CALLS, SCRIPTS, read_run, run_harness

from automix_eval.commands.main import main
from automix_eval.safety import files
from automix_eval.safety.errors import AutoMixError


def test_an_interrupt_stops_cleanly_and_says_how_to_resume(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Finished blocks are readable, the same command repeats no finished call."""
    args = arguments(tmp_path)
    honest = SCRIPTS["small"]
    left = [3 * (6 + QUESTIONS) - 2]

    def interrupted(prompt: str, generation: dict[str, Any]) -> str:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return honest(prompt, generation)

    SCRIPTS["small"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        run_harness(["coqa_demo"], args, tmp_path / "out", limit=QUESTIONS, log_samples=True)
    assert "the same command resumes" in caplog.text
    manifest, rows = read_run(tmp_path / "out")
    finished = len([r for r in rows if r.phase == "evaluation"])
    assert 0 < finished < QUESTIONS
    assert manifest["unfinished"] == {"coqa_demo": {"questions": finished, "of": QUESTIONS}}
    before = list(CALLS)
    SCRIPTS["small"] = honest
    run(tmp_path)
    asked = [c for c in CALLS[len(before) :] if c[0] == "small"]
    in_flight = 1
    whole = 3 * (6 + QUESTIONS)
    assert len(asked) == whole - len([c for c in before if c[0] == "small"]) + in_flight


@pytest.mark.parametrize("calls", [-10, 2])
def test_an_interrupt_before_the_first_question_names_no_file_that_is_not_there(
    calls: int,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And a report of it says what to do, and nothing else."""
    args = arguments(tmp_path)
    honest, left = SCRIPTS["small"], [3 * 6 + calls]

    def interrupted(prompt: str, generation: dict[str, Any]) -> str:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return honest(prompt, generation)

    SCRIPTS["small"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        run_harness(["coqa_demo"], args, tmp_path / "out", limit=QUESTIONS, log_samples=True)
    assert "the same command resumes" in caplog.text
    named = re.findall(r"automix_records\S+\.jsonl", caplog.text)
    there = {path.name for path in tmp_path.rglob("*.jsonl")}
    assert there.issuperset(named), named
    assert main(["report", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert ("The same command resumes" if calls > 0 else "the same command resumes it") in said
    assert "rounding" not in said


@pytest.mark.parametrize("place", ["manifest", "records", "policy"])
def test_a_full_disk_ends_a_run_with_a_remedy(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever file is refused, the error names a remedy and the run resumes afterwards."""

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        if place == "records":
            patch.setattr("automix_eval.records.append.os.fsync", full)
        else:
            module = "records.policies" if place == "policy" else "safety.files"
            patch.setattr(f"automix_eval.{module}.write_json", full)
        with pytest.raises(AutoMixError, match=r"No space left.*free the disk.*resumes"):
            run(tmp_path)
    made = len(CALLS)
    run(tmp_path)
    again = CALLS[made:]
    assert made > 0
    assert not {c for c in again if c[0] == "large"} & set(CALLS[:made])


def test_a_file_where_the_records_folder_should_be_is_named(tmp_path: Path) -> None:
    """The folder cannot be made: one line with the remedy."""
    (tmp_path / "file").write_text("")
    with pytest.raises(AutoMixError, match="records_dir"):
        run(tmp_path, records_dir=str(tmp_path / "file" / "inside"))


def test_an_old_report_is_whole_after_a_full_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A report's file is the old one or the new one."""
    path = files.write_file(tmp_path / "report.txt", "old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("automix_eval.safety.files.os.fsync", full)
    with pytest.raises(AutoMixError, match="No space left"):
        files.write_file(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.txt"]


def test_a_clock_that_goes_back_gives_no_negative_duration(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Seconds of calls do not come from the wall clock."""
    now = [1.7e9]

    def back() -> float:
        now[0] -= 1000.0
        return now[0]

    with monkeypatch.context() as patch:
        patch.setattr(time, "time", back)
        run(tmp_path)
    _, rows = read_run(tmp_path / "out")
    seconds = [c.seconds for r in rows for t in r.tiers for c in t.answer.calls]
    assert len(rows) == 6 + QUESTIONS
    assert all(s is None or s >= 0 for s in seconds)
