"""Latency: what a question waits for, from records and from servers whose time is known."""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from loopback import cascade_of, serving
from report_builder import ROWS, build_run, only, reason, record
from scripted import read_run, run_harness

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.records.schema import from_line, to_line
from automix_eval.report.gate import GatedRuns, GateError
from automix_eval.report.output import render
from automix_eval.types import Record


def timed(row: Record, seconds: float) -> Record:
    """A record whose calls were timed one by one: the answer, two of verification, the LLM."""
    tiers = []
    for tier in row.tiers:
        calls = tuple(replace(c, latency=seconds * (1 + 9 * tier.tier)) for c in tier.answer.calls)
        judged = tier.verification
        if judged is not None:
            waits = (seconds / 2, seconds / 4) * 4
            both = zip(judged.calls, waits, strict=True)
            judged = replace(judged, calls=tuple(replace(c, latency=w) for c, w in both))
        answer = replace(tier.answer, calls=calls)
        tiers.append(replace(tier, answer=answer, verification=judged))
    return replace(row, tiers=tuple(tiers))


def gated(folder: Path) -> GatedRuns:
    """The runs of a folder, for gates."""
    return GatedRuns.of(assemble([folder], Settings(resamples=100)))


def test_a_path_waits_for_one_part_after_the_other(tmp_path: Path) -> None:
    """The longest call of an answer or verification counts, and a path is the sum of its parts."""
    rows = [timed(record(i, row), 0.1) for i, row in enumerate(ROWS)]
    build_run(tmp_path, records=rows)
    run = gated(tmp_path)[0]
    assert run.latency("coqa", p=50, part="slm").value == pytest.approx(0.1)
    assert run.latency("coqa", p=99, part="verification").value == pytest.approx(0.05)
    assert run.latency("coqa", p=50, part="llm").value == pytest.approx(1.0)
    assert run.latency("coqa").value == pytest.approx(1.15)  # half of the questions are escalated
    assert run.latency("coqa", p=50).value == pytest.approx(0.15)
    assert run.latency("coqa", p=50, part="slm").low == pytest.approx(0.1)
    assert run.waits_for_two("coqa").value == 0.5
    with pytest.raises(GateError, match="at least 72 documents"):
        _ = run.latency("coqa", p=95).low
    with pytest.raises(GateError, match="latency knows p of 50, 95, 99"):
        run.latency("coqa", p=90)
    for form in ("text", "html"):
        assert "Latency, seconds" in render(assemble([tmp_path], Settings(resamples=50)), form)


def test_calls_of_a_batch_have_no_latency(tmp_path: Path) -> None:
    """Undefined with the reason, in the report and in a gate; the share of two models is known."""
    build_run(tmp_path)
    task = only(tmp_path)
    assert "batched" in reason(task.latency["path"]["p95"].value)
    assert task.waits_for_two.value == 0.5
    with pytest.raises(GateError, match="batched"):
        _ = gated(tmp_path)[0].latency("coqa", p=95).value
    text = render(assemble([tmp_path], Settings(resamples=50)), "text")
    assert "Latency: undefined: batched" in text


def test_a_record_without_latency_is_written_as_before() -> None:
    """The field is there where it was measured, and comes back."""
    row = record(0, ROWS[0])
    assert b"latency" not in to_line(row)
    assert from_line(to_line(timed(row, 0.25))) == timed(row, 0.25)


@pytest.mark.slow
def test_servers_of_known_time(tmp_path: Path) -> None:
    """A call is given the time its server took, of 50 ms and of 500, and hardly more."""
    number = count()

    def script(*_: object) -> str:
        return f"yes {next(number)}"

    with serving(script, script) as server:
        server.waits = {"small": 0.05, "large": 0.5}
        args = cascade_of(server) | {"record": "full", "calibration.num_docs": 4}
        run_harness(["qasper_demo"], args, tmp_path, limit=12)
    _, records = read_run(tmp_path)
    for tier, least in ((0, 0.05), (1, 0.5)):
        answers = [t.answer for r in records for t in r.tiers if t.tier == tier]
        assert min(server.took[a.text.strip()] for a in answers) >= least
        more = [(c.latency or 0) - server.took[a.text.strip()] for a in answers for c in a.calls]
        # a busy machine adds to any wait; what it adds to the shortest is what measuring costs
        assert 0 <= min(more) < 0.02
