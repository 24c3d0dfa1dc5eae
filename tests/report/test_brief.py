"""The report on one screen."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_builder import build_run, harness, llm_scores

from automix_eval.commands.main import main

Capture = pytest.CaptureFixture[str]


def said(capsys: Capture, *arguments: object) -> list[str]:
    """The lines that the sub-command prints."""
    assert main(["report", *map(str, arguments), "--resamples", "50"]) == 0
    return capsys.readouterr().out.splitlines()


def test_a_task_fits_on_a_screen(tmp_path: Path, capsys: Capture) -> None:
    """The verdict in a sentence or two, at most six operating points, and where the rest is."""
    build_run(tmp_path, full=True)
    lines = said(capsys, tmp_path)
    assert len(lines) <= 40
    assert max(map(len, lines)) <= 100
    (rule,) = [n for n, line in enumerate(lines) if line.startswith("---") and " " not in line[9:]
               and lines[n - 1].split()[:2] == ["Quality", "Cost"]]  # fmt: skip
    points = lines[rule + 1 : lines.index("", rule)]
    assert 3 <= len(points) <= 6
    assert points[0].startswith("SLM  ")
    assert points[-1].startswith("LLM  ")
    text = " ".join(lines)
    assert "pays: 100% of the LLM's quality at 54% of its cost" in text
    assert "--full" in text
    assert "Leaderboard" not in text


def test_full_begins_with_the_same_and_has_every_table(tmp_path: Path, capsys: Capture) -> None:
    """Nothing of the brief report is missing in the full one but the way to it."""
    build_run(tmp_path, full=True)
    brief, full = said(capsys, tmp_path), said(capsys, tmp_path, "--full")
    assert {line for line in brief if line} - set(full) <= set(brief[-2:])
    assert any(line.startswith("Leaderboard") for line in full)


def test_models_alone_are_shown_whole(tmp_path: Path, capsys: Capture) -> None:
    """Where no cascade ran there is nothing to choose between: the tables are all there is."""
    harness(tmp_path, llm_scores())
    assert any(line.startswith("Leaderboard") for line in said(capsys, tmp_path))


def test_warnings_are_said_once_and_clipped(tmp_path: Path, capsys: Capture) -> None:
    """A long warning is one or two lines on the screen and whole in the full report."""
    warnings = [{"task": "coqa", "text": f"remedy {'x' * 300} end"}] * 2
    build_run(tmp_path, full=True, warnings=warnings)
    brief = "\n".join(said(capsys, tmp_path))
    assert brief.count("! remedy") == 1
    assert " end" not in brief
    assert " end" in "\n".join(said(capsys, tmp_path, "--full"))
