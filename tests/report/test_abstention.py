"""What the report says of questions that were left without an answer that counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from report_builder import ROWS, build_run, only, reason, record

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.records.schema import from_line, to_line
from automix_eval.report.aim_lines import abstention_words
from automix_eval.report.json_report import render_json
from automix_eval.types import Decision, Record

PRICES = {"name": "pomdp", "objective": "loss", "error_price": 100.0, "abstain_price": 20.0}


def abstaining() -> list[Record]:
    """A run that does not answer the questions of confidence 0.5, a quarter of all."""
    made = []
    for i, row in enumerate(ROWS):
        one = record(i, row, full=True)
        if row[2] == 0.5:
            first = replace(one.tiers[0], decision=Decision(0, 0, "abstains", abstains=True))
            one = replace(one, tiers=(first, *one.tiers[1:]))
        made.append(one)
    return made


def test_a_record_keeps_it_and_an_old_line_is_what_it_was() -> None:
    """The mark survives the file; a decision without it is written as before there was any."""
    records = abstaining()
    assert [from_line(to_line(r)) for r in records] == records
    assert sum(b"abstains" in to_line(r) for r in records) == 10


def test_the_report_counts_and_prices_them(tmp_path: Path) -> None:
    """Coverage, quality of the answered, and the loss, from the live records."""
    build_run(tmp_path, records=abstaining(), config={"meta_verifier": PRICES})
    found = only(tmp_path).abstention
    assert found is not None
    assert found.abstained == 10
    assert found.coverage.value == pytest.approx(0.75)
    assert found.quality.value == pytest.approx(1.0)
    # half escalated at 52, the others cost 2; no answered question is wrong
    assert found.loss.value == pytest.approx(27 + 0.25 * 20)
    assert "Abstained on 10 questions: answered 75.0% [" in abstention_words(found)
    report = json.loads(render_json(assemble([tmp_path], Settings()).report))
    assert report["tasks"][0]["abstention"]["quality"]["value"] == 1.0


def test_without_prices_the_loss_is_undefined(tmp_path: Path) -> None:
    """Marks without the settings of a price have no loss, and it is said why."""
    build_run(tmp_path, records=abstaining())
    found = only(tmp_path).abstention
    assert found is not None
    assert "prices of an error" in reason(found.loss.value)


def test_a_router_that_never_may_says_nothing(tmp_path: Path) -> None:
    """The line is for those that may abstain."""
    build_run(tmp_path, full=True)
    assert only(tmp_path).abstention is None


def test_nobody_answered_has_no_quality(tmp_path: Path) -> None:
    """Where every question is abstained on there is no answered one to score."""
    records = [
        replace(
            r, final=0, tiers=(replace(r.tiers[0], decision=Decision(0, 0, "", abstains=True)),)
        )
        for r in (record(i, row, policy="pomdp") for i, row in enumerate(ROWS))
    ]
    build_run(tmp_path, records=records, config={"meta_verifier": PRICES})
    found = only(tmp_path).abstention
    assert found is not None
    assert "no question is answered" in reason(found.quality.value)
    assert found.loss.value == pytest.approx(2 + 20)
