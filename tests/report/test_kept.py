"""Which share of the LLM's quality a report says is kept, and where it cannot say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_builder import ROWS, Row, build, build_run, only, reason, record

from automix_eval.report.fixed_width import render_text
from automix_eval.report.json_report import render_json
from automix_eval.report.page.run_parts import run_part
from automix_eval.report.task_blocks import report_blocks

# The LLM is never better than the run, and 400 questions may show it.
MANY: list[Row] = ROWS * 10


def text(folder: Path) -> str:
    """The report in words, in one line."""
    return " ".join(render_text(report_blocks(build([folder]))).split())


def test_every_format_says_which_share_is_kept(tmp_path: Path) -> None:
    """One share in the text, the page and the JSON, below the 100 % of the data."""
    build_run(tmp_path, rows=MANY, full=True)
    report = build([tmp_path])
    (task,) = report.tasks
    assert task.kept.value == pytest.approx(0.98, abs=0.015)
    line = f"The live policy keeps at least {task.kept.value:.0%} of the LLM's quality"
    line += " (95% one-sided)."
    assert line in text(tmp_path)
    assert line in run_part(task, many_runs=False).promises
    assert json.loads(render_json(report))["tasks"][0]["kept"]["value"] == task.kept.value


def test_fewer_documents_show_less(tmp_path: Path) -> None:
    """Questions about one document count together, and few documents show nothing."""
    shares = []
    for name, per_document in (("a", 1), ("b", 10), ("c", 50)):
        rows = [
            record(i, row, full=True, document=f"d{i // per_document}")
            for i, row in enumerate(MANY)
        ]
        build_run(tmp_path / name, records=rows)
        shares.append(only(tmp_path / name).kept.value)
    assert isinstance(shares[0], float)
    assert isinstance(shares[1], float)
    assert shares[1] < shares[0]
    assert "at least 10 documents, there are 8" in reason(shares[2])


def test_what_is_undefined_is_not_shown(tmp_path: Path) -> None:
    """An LLM that was not recorded, and one that scores nothing, have their reasons."""
    build_run(tmp_path / "a")
    assert "record=full" in reason(only(tmp_path / "a").kept.value)
    assert "is shown to be kept: the LLM was not asked" in text(tmp_path / "a")
    build_run(tmp_path / "b", rows=[(1.0, 0.0, 0.5, False)] * 20, full=True)
    assert "the LLM's quality is 0" in reason(only(tmp_path / "b").kept.value)
    assert "LLM's quality is 0" in run_part(only(tmp_path / "b"), many_runs=False).promises[0]
