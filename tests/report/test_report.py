"""The report's figures: what it reads, what it computes, what it refuses to believe."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_builder import PAPER, ROWS, Row, build, build_run, finals, only, reason, record

from automix_eval.commands.main import main
from automix_eval.costs.paper import PaperCost
from automix_eval.costs.tokens import TokenCost
from automix_eval.metrics.benefit import benefit_auroc, benefit_correlation
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import Outcomes
from automix_eval.records.repricing import price
from automix_eval.records.runs import cost_from, find_runs
from automix_eval.report.fixed_width import render_text
from automix_eval.report.task_blocks import report_blocks
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Call

PRICE = {"prompt": 2.0, "cached": 0.5, "generated": 8.0}

# --------------------------------------------------------------------------- figures


def test_figures_of_a_full_run(tmp_path: Path) -> None:
    """Quality, cost, escalation rate, IBC and delta IBC are those counted by hand."""
    build_run(tmp_path, full=True)
    figures = only(tmp_path).figures
    # Of four questions the SLM gets one right, the LLM three, and the two escalated are gains.
    assert [s.quality.value for s in (figures.slm, figures.llm, figures.method)] == [
        0.25,
        0.75,
        0.75,
    ]
    assert [s.cost.value for s in (figures.slm, figures.llm, figures.method)] == [1, 50, 27]
    assert figures.method.escalation_rate.value == 0.5
    assert figures.method.ibc == pytest.approx(0.5 / 26)
    assert figures.llm.ibc == pytest.approx(0.5 / 49)
    assert figures.delta_ibc.value == pytest.approx(49 / 26 - 1)
    assert isinstance(figures.delta_ibc.interval, tuple)
    assert figures.final_tiers == (20, 20)
    assert only(tmp_path).llm_source == "this run"


def test_off_path_calls_cost_nothing(tmp_path: Path) -> None:
    """Answers recorded only for completeness are in nobody's cost."""
    build_run(tmp_path / "full", full=True)
    build_run(tmp_path / "path")
    costs = {only(tmp_path / p).figures.method.cost.value for p in ("full", "path")}
    assert costs == {27}


def test_documents_make_intervals_wider(tmp_path: Path) -> None:
    """Questions about one document are drawn together, so fewer documents tell less."""
    # Like questions share a document: the worst case for who ignores documents.
    like = sorted(range(40), key=lambda i: i % 4)
    for name, size in (("few", 6), ("many", 1)):
        records = [
            record(i, ROWS[i], full=True, document=f"d{place // size}")
            for place, i in enumerate(like)
        ]
        build_run(tmp_path / name, records=records)
    few, many = (only(tmp_path / n).figures for n in ("few", "many"))
    assert (few.num_documents, many.num_documents) == (7, 40)
    widths = []
    for figures in (few, many):
        interval = figures.slm.quality.interval
        assert isinstance(interval, tuple)
        widths.append(interval[1] - interval[0])
    assert widths[0] > 1.5 * widths[1]


def test_calibration_records_do_not_count(tmp_path: Path) -> None:
    """Questions of the calibration are in no figure, even with the same doc_id."""
    records = [record(i, row, full=True) for i, row in enumerate(ROWS)]
    calibration = [replace(r, phase="calibration") for r in records[:2]]
    build_run(tmp_path, records=[*calibration, *records])
    figures = only(tmp_path).figures
    assert (figures.num_questions, figures.slm.quality.value) == (40, 0.25)


def test_verifier_figures(tmp_path: Path) -> None:
    """AUROC, distribution and outcomes are those of the confidences that exist."""
    rows: list[Row] = [*ROWS[:8], (0.0, 1.0, None, True)]
    build_run(tmp_path, rows=rows)
    (verifier,) = only(tmp_path).figures.verifiers
    assert verifier.auroc.value == 1.0
    assert verifier.five_numbers == (0.125, 0.21875, 0.375, 0.59375, 0.875)
    assert verifier.outcomes == {"ok": 8, "unparsable": 1}
    assert (verifier.num_unparsable, verifier.num_samples, verifier.distinct) == (8, 72, 4)


def test_where_the_llm_helps_is_asked_of_the_confidence_too(tmp_path: Path) -> None:
    """Benefit is shown where the LLM was asked everything, and undefined where a router chose."""
    build_run(tmp_path / "routed")
    (routed,) = only(tmp_path / "routed").figures.verifiers
    assert isinstance(routed.benefit_auroc.value, Undefined)
    build_run(tmp_path / "full", full=True)
    (verifier,) = only(tmp_path / "full").figures.verifiers
    scores = np.array([row[:2] for row in ROWS], dtype=float)
    confidence = np.array([np.nan if row[2] is None else row[2] for row in ROWS], dtype=float)
    known = ~np.isnan(confidence)
    benefit = (scores[:, 1] - scores[:, 0])[known]
    assert verifier.benefit_auroc.value == benefit_auroc(confidence[known], benefit)
    assert verifier.benefit_correlation.value == benefit_correlation(confidence[known], benefit)


@pytest.mark.parametrize("scaled", [lambda s: 100 * s, lambda s: s - 1])
def test_what_is_right_is_asked_on_the_scale_of_the_scores(
    tmp_path: Path, scaled: Callable[[float], float]
) -> None:
    """Per cent, and errors counted below 0, have the verifier's figures of the same shares."""
    rows: list[Row] = [*ROWS, (0.4, 0.45, 0.375, True), (0.6, 0.9, 0.75, False)]
    other: list[Row] = [(scaled(slm), scaled(llm), held, up) for slm, llm, held, up in rows]
    found = []
    for name, some in (("shares", rows), ("other", other)):
        build_run(tmp_path / name, rows=some, full=True)
        found.append(only(tmp_path / name).figures.verifiers[0])
    assert found[1] == replace(
        found[0],
        right_above=scaled(0.5),
        helps_above=pytest.approx(0.1 * (scaled(1) - scaled(0))),
    )


def test_samples_saved_by_stopping_early(tmp_path: Path) -> None:
    """Samples that were not drawn are summed by tier and said; without any nothing is said."""
    records = [record(i, row) for i, row in enumerate(ROWS)]
    (tier, *more) = records[0].tiers
    assert tier.verification is not None
    stopped = replace(tier.verification, samples=("yes",) * 3, saved_samples=5)
    first = replace(records[0], tiers=(replace(tier, verification=stopped), *more))
    build_run(tmp_path / "early", records=[first, *records[1:]])
    build_run(tmp_path / "whole", records=records)
    (verifier,) = only(tmp_path / "early").figures.verifiers
    assert (verifier.num_saved, verifier.num_samples) == (5, 8 * len(ROWS) - 5)
    (whole,) = only(tmp_path / "whole").figures.verifiers
    assert whole.num_saved == 0
    said = f"Stopped early: 5 of {8 * len(ROWS)} samples saved."
    texts = [
        " ".join(render_text(report_blocks(build([tmp_path / n]))).split())
        for n in ("early", "whole")
    ]
    assert said in texts[0]
    assert "Stopped early" not in texts[1]


@pytest.mark.parametrize("full", [False, True])
def test_calls_by_tier_and_role(tmp_path: Path, full: bool) -> None:
    """Calls on the path come from the records, calls made and stored from the manifest."""
    build_run(tmp_path, full=full)
    rows = {(c.tier, c.role): c for c in only(tmp_path).figures.calls}
    assert {k: c.on_path for k, c in rows.items()} == {
        (0, "answer"): 40,
        (0, "verify"): 320,
        (1, "answer"): 20,
    }
    verify = rows[0, "verify"]
    assert (verify.made, verify.stored, verify.calibration_made) == (311, 9, 311)


@pytest.mark.parametrize("policy", ["always_slm", "always_llm"])
def test_constant_policies_alone(tmp_path: Path, policy: str) -> None:
    """A run that only asked one tier prints its own row, the rest is undefined with a reason."""
    build_run(tmp_path, policy=policy)
    figures = only(tmp_path).figures
    own, cost = (0.25, 1) if policy == "always_slm" else (0.75, 50)
    assert (figures.method.quality.value, figures.method.cost.value) == (own, cost)
    assert "was not asked" in reason(figures.delta_ibc.value)
    other = figures.llm if policy == "always_slm" else figures.slm
    assert "was not asked 40 of 40" in reason(other.quality.value)


@pytest.mark.parametrize(
    ("rows", "policy", "words"),
    [
        ([(1.0, 0.0, 0.5, True), (0.0, 0.0, 0.5, False)] * 5, "pomdp", "not better than the SLM"),
        ([(0.0, 1.0, 0.5, True)] * 5, "always_slm", "not above that of the SLM"),
    ],
)
def test_undefined_delta_ibc(tmp_path: Path, rows: list[Row], policy: str, words: str) -> None:
    """A sign that would turn round and a vanishing cost are reasons, not numbers."""
    build_run(tmp_path, rows=rows, policy=policy, full=True)
    figures = only(tmp_path).figures
    assert words in reason(figures.delta_ibc.value)
    assert figures.delta_ibc.interval is None


# --------------------------------------------------------------------------- samples


def test_agreeing_samples_raise_no_warning(tmp_path: Path) -> None:
    """Records and samples that agree need no word."""
    build_run(tmp_path, samples=finals())
    assert only(tmp_path).warnings == ()


def test_disagreements_are_named(tmp_path: Path) -> None:
    """A differing score and rows missing on either side are named with their doc_id."""
    scores = {**finals(), 2: 0.25, 99: 1.0}
    del scores[5]
    build_run(tmp_path, samples=scores)
    warnings = only(tmp_path).warnings
    expected = (
        "doc_id 2 (1 and 0.25)",
        "1 documents of samples_coqa_t-r1.jsonl have no record: doc_id 99",
        "1 records have no row in samples_coqa_t-r1.jsonl: doc_id 5",
    )
    assert len(warnings) == 3
    assert all(any(e in w for w in warnings) for e in expected)


def test_any_filter_may_agree(tmp_path: Path) -> None:
    """A task with several filters has several rows a document; one of them must agree."""
    build_run(tmp_path, samples=finals())
    path = tmp_path / "samples_coqa_t-r1.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows += [{**r, "filter": "strict", "f1": 0.5} for r in rows]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert only(tmp_path).warnings == ()


def test_other_number_of_questions_is_a_warning(tmp_path: Path) -> None:
    """Records that are fewer than the manifest counts are not taken for the whole."""
    task = {"metric": "f1", "sample": False, "num_questions": 41}
    build_run(tmp_path, tasks={"coqa": task})
    assert any("41 questions, the records hold 40" in w for w in only(tmp_path).warnings)


# --------------------------------------------------------------------------- prices


def test_cost_from_builds_what_is_named() -> None:
    """The cost models are built by name, and a _target_ is left alone."""
    paper = cost_from({**PAPER, "_target_": "os.system"})
    assert isinstance(paper, PaperCost)
    assert (paper.tiers, paper.verifier) == ([1, 50], 1)
    assert isinstance(cost_from({"name": "tokens", "prices": [None]}), TokenCost)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"name": "dollars"}, "paper, tokens"),
        ({"_target_": "os.system"}, "paper, tokens"),
        ({"name": ["paper"]}, "unknown"),
        ({"name": "paper", "tier": [1]}, "'tier'"),
        ({"name": "paper", "tiers": 5}, "cannot be built"),
        ({"name": "paper", "tiers": ["x"]}, "numbers"),
        ({"name": "tokens", "prices": [3]}, "a list with the prices of each tier"),
        ({"name": "tokens"}, "cannot be built"),
    ],
)
def test_cost_from_refuses(config: dict[str, Any], words: str) -> None:
    """Unknown names and parameters and prices that are none raise AutoMixError."""
    with pytest.raises(AutoMixError, match=words):
        cost_from(config)


@pytest.mark.parametrize(
    "config",
    [
        {"name": "paper", "tiers": [1, 50], "verifier": 1},
        {"name": "tokens", "prices": [PRICE, PRICE, {"prompt": 9.0, "generated": 7.0}, PRICE]},
        {"name": "flops", "parameters": [1e8, 1e9, 5e8, 3e7]},
        {"name": "seconds"},
        {"name": "seconds", "prices": [2.0, 30.0, 7.0, 0.5]},
    ],
    ids=lambda c: "-".join(map(str, c)) + c["name"],
)
def test_the_report_prices_calls_as_the_run_does(tmp_path: Path, config: dict[str, Any]) -> None:
    """Cached tokens, seconds and models beside the tiers count as for the fitted policy."""
    beside = (
        Call(2, "verify", 11, 3, 0.7),
        Call(3, "verify", 5, 2, 0.1),
        Call(2, "verify", 9, 1, 0.2),
    )
    rows = [
        replace(
            r,
            tiers=tuple(
                replace(
                    t,
                    answer=replace(
                        t.answer,
                        calls=(replace(t.answer.calls[0], seconds=0.1 + i, cached_tokens=7 * i),),
                    ),
                    verification=t.verification
                    and replace(
                        t.verification,
                        # its own calls, those of one or two others, both
                        calls=(*t.verification.calls * (i % 3 != 1), *beside[: i % 4]),
                    ),
                )
                for t in r.tiers
            ),
        )
        for i, r in enumerate(record(i, row, full=True) for i, row in enumerate(ROWS[:8]))
    ]
    build_run(tmp_path, records=rows, full=True, config={"cost": config})
    (run,) = find_runs([tmp_path])
    priced = price(run.records["coqa"], run.cost)
    outcomes = Outcomes.from_records(rows, run.cost)
    for tier in range(2):
        assert np.allclose(priced.answers[tier], outcomes.answer_costs[:, tier], rtol=1e-12)
        assert np.allclose(priced.verifications[tier], outcomes.verification_costs[:, tier])
    assert len(set(outcomes.answer_costs[:, 0])) == (1 if config["name"] == "paper" else 8)
    assert main(["report", str(tmp_path)]) == 0


def test_needs_neither_torch_nor_the_harness(tmp_path: Path) -> None:
    """The sub-command imports no model library, nor the harness."""
    build_run(tmp_path, full=True)
    code = (
        "import sys; from automix_eval.commands.main import main; "
        f"assert main(['report', {str(tmp_path)!r}, '--full']) == 0; "
        "heavy = {'torch', 'transformers', 'lm_eval', 'datasets'} & set(sys.modules); "
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "AUROC" in done.stdout
