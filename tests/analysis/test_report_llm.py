"""Where the LLM-only figures come from, in which order, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from report_builder import PAPER, ROWS, build_run, harness, llm_scores, only, reason

from automix_eval.metrics.ibc import Undefined


def test_llm_from_an_always_llm_run(tmp_path: Path) -> None:
    """A run with always_llm on the same questions gives the LLM's point, priced here."""
    build_run(tmp_path)
    build_run(
        tmp_path / "b", "r22", policy="always_llm", config={"cost": {**PAPER, "tiers": [1, 9]}}
    )
    task = only(tmp_path)
    assert task.llm_source == "run r22 (always_llm)"
    assert (task.figures.llm.quality.value, task.figures.llm.cost.value) == (0.75, 50)


def test_llm_from_a_plain_run(tmp_path: Path) -> None:
    """A plain run of the LLM with samples gives its point; the prices are this run's."""
    build_run(tmp_path / "run")
    path = harness(tmp_path / "plain", llm_scores())
    task = only(tmp_path)
    assert task.llm_source == f"plain run plain/{path.name}"
    assert (task.figures.llm.quality.value, task.figures.llm.cost.value) == (0.75, 50)
    assert not isinstance(task.figures.delta_ibc.value, Undefined)
    assert task.warnings == ()


def test_plain_run_has_no_price_by_tokens(tmp_path: Path) -> None:
    """Without token counts a plain run's cost is undefined, its quality is not."""
    price = {"prompt": 1.0, "generated": 2.0}
    build_run(tmp_path, config={"cost": {"name": "tokens", "prices": [price, price]}})
    harness(tmp_path / "plain", llm_scores())
    figures = only(tmp_path).figures
    assert figures.llm.quality.value == 0.75
    assert "no token counts" in reason(figures.llm.cost.value)
    assert figures.slm.cost.value == pytest.approx(120 / 1e6)


def test_uncounted_tokens_leave_costs_undefined(tmp_path: Path) -> None:
    """A backend that counts no tokens makes costs undefined with the remedy, no failure."""
    price = {"prompt": 1.0, "generated": 2.0}
    cost = {"name": "tokens", "prices": [price, price]}
    build_run(tmp_path, config={"cost": cost}, full=True, counted=False)
    assert "tokenizer" in reason(only(tmp_path).figures.method.cost.value)


@pytest.mark.slow
def test_sources_have_an_order(tmp_path: Path) -> None:
    """--llm comes first, then this run, then always_llm, then a plain run."""
    harness(tmp_path / "plain", llm_scores())
    build_run(tmp_path / "a", full=True)
    build_run(tmp_path / "c", "r333")
    assert only(tmp_path, "r333").llm_source.startswith("plain run")
    build_run(tmp_path / "b", "r22", policy="always_llm")
    assert only(tmp_path, "r333").llm_source == "run r22 (always_llm)"
    assert only(tmp_path).llm_source == "this run"
    assert only(tmp_path, llm=tmp_path / "plain").llm_source.startswith("plain run")


def test_no_source_names_three_ways(tmp_path: Path) -> None:
    """Without LLM answers the reason says how to get them."""
    build_run(tmp_path)
    text = reason(only(tmp_path).figures.llm.quality.value)
    assert all(way in text for way in ("record=full", "always_llm", "--log_samples", "--llm"))


def test_several_plain_runs_need_a_name(tmp_path: Path) -> None:
    """Plain runs that differ are refused until --llm names one; equal ones are one."""
    build_run(tmp_path)
    harness(tmp_path / "one", llm_scores())
    harness(tmp_path / "again", llm_scores())
    assert only(tmp_path).figures.llm.quality.value == 0.75
    harness(tmp_path / "two", dict.fromkeys(range(40), 1.0))
    assert "--llm" in reason(only(tmp_path).figures.llm.quality.value)
    assert only(tmp_path, llm=tmp_path / "two").figures.llm.quality.value == 1.0


@pytest.mark.parametrize(
    ("pretrained", "words"),
    [("org/small", "a run of the SLM"), ("org/other", "not named like the LLM")],
)
def test_other_models_do_not_stand_for_the_llm(tmp_path: Path, pretrained: str, words: str) -> None:
    """A plain run of the SLM or of a stranger is refused by name, unless --llm names it."""
    build_run(tmp_path)
    harness(tmp_path / "plain", llm_scores(), pretrained=pretrained)
    assert words in reason(only(tmp_path).figures.llm.quality.value)
    assert only(tmp_path, llm=tmp_path / "plain").figures.llm.quality.value == 0.75


def test_incomplete_llm_folder_is_reported(tmp_path: Path) -> None:
    """A --llm folder that lacks questions is not used, and that is said."""
    build_run(tmp_path, full=True)
    scores = llm_scores()
    del scores[3]
    harness(tmp_path / "plain", scores)
    task = only(tmp_path, llm=tmp_path / "plain")
    assert task.llm_source == "this run"
    assert any("lacks f1 for 1 of the questions" in w for w in task.warnings)


def test_other_prompts_are_a_warning(tmp_path: Path) -> None:
    """A plain run with other prompts is used and the difference is said."""
    build_run(tmp_path)
    harness(tmp_path / "plain", llm_scores(), prompt="other")
    task = only(tmp_path)
    assert task.figures.llm.quality.value == 0.75
    assert any("40 of 40 questions with another prompt" in w for w in task.warnings)


def test_documents_under_other_numbers_are_refused(tmp_path: Path) -> None:
    """A plain run that holds this run's prompts under other numbers is no pair of it."""
    build_run(tmp_path)
    path = harness(tmp_path / "plain", llm_scores())
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    for line, other in zip(lines, [*lines[1:], lines[0]], strict=True):
        line["moved"] = other["prompt_hash"]
    for line in lines:
        line["prompt_hash"] = line.pop("moved")
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    said = reason(only(tmp_path).figures.llm.quality.value)
    assert "40 of this run's prompts stand there under another doc_id" in said


def test_always_llm_on_other_questions_is_refused(tmp_path: Path) -> None:
    """An always_llm run of other questions or of another LLM does not count."""
    build_run(tmp_path)
    build_run(tmp_path / "b", "r22", ROWS[:5], policy="always_llm")
    build_run(tmp_path / "c", "r333", policy="always_llm", labels=("small", "huge"))
    text = reason(only(tmp_path).figures.llm.quality.value)
    assert "run r22: it did not answer the same questions" in text
    assert "run r333 has another LLM" in text
