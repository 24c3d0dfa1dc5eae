"""What was aimed at, what was reached, and whether the aim was missed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from report_builder import PAPER, ROWS, Row, build, build_run, only, reason

from automix_eval.analysis.figures import Aim
from automix_eval.records import policies
from automix_eval.report.aim_lines import aim_words
from automix_eval.report.json_report import render_json, render_schema
from automix_eval.report.page.run_parts import run_part

# Of 40 questions the SLM gets 10 right and the LLM 30; half of what can be gained is gained.
HALF: list[Row] = [(*row[:3], row[3] and i % 2 == 0) for i, row in enumerate(ROWS)]


def aim(folder: Path, rows: list[Row] = ROWS, full: bool = True, **settings: Any) -> Aim:
    """The aim of a run with these settings of its router."""
    build_run(folder, rows=rows, full=full, config={"meta_verifier": {"name": "pomdp", **settings}})
    found = only(folder).aim
    assert found is not None
    return found


def words(found: Aim) -> str:
    """The line of the page."""
    return aim_words(found, lambda undefined: undefined.reason)


@pytest.mark.parametrize("objective", ["target", "assured"])
def test_a_share_of_the_llm_is_missed_or_met(tmp_path: Path, objective: str) -> None:
    """The aimed share of the LLM's quality is held against the quality that was reached."""
    missed = aim(tmp_path / "a", HALF, objective=objective, target=0.9, confidence=0.8)
    assert (missed.aimed.value, missed.reached.value) == pytest.approx((0.9 * 0.75, 0.5))
    assert missed.share.value == pytest.approx(2 / 3)
    assert missed.missed is True
    assert words(missed).endswith("(0.675); reached 66.7% (0.500): missed.")
    assert ("with 80% confidence" in words(missed)) == (objective == "assured")
    assert aim(tmp_path / "b", objective=objective, target=1.0).missed is False


@pytest.mark.parametrize(("budget", "missed"), [(26.9, True), (27, False), (0, True)])
def test_a_budget_is_missed_or_met(tmp_path: Path, budget: float, missed: bool) -> None:
    """The mean cost, verification included, may not exceed the budget."""
    found = aim(tmp_path, objective="budget", budget=budget, target=None)
    assert (found.of, found.reached.value, found.missed) == ("cost", 27, missed)
    assert f"at most {budget:.4g}; reached 27" in words(found)
    assert words(found).endswith(": missed." if missed else ": met.")


@pytest.mark.parametrize("objective", ["ibc", "gain", "loss"])
def test_an_objective_without_a_number_is_named(tmp_path: Path, objective: str) -> None:
    """What sets no number cannot be missed, and the line says so."""
    found = aim(tmp_path, objective=objective, target=None, error_price=3.0)
    assert found.missed is None
    assert f"objective={objective}, which sets no quality and no cost" in words(found)


def test_a_router_without_an_objective_has_no_aim(tmp_path: Path) -> None:
    """Always asking one tier aims at nothing."""
    build_run(tmp_path, full=True)
    assert only(tmp_path).aim is None


def test_where_the_llm_was_not_recorded_nothing_is_judged(tmp_path: Path) -> None:
    """The reason says what is missing and how to get it; a budget needs no LLM."""
    found = aim(tmp_path / "a", full=False, objective="target", target=0.9)
    assert found.missed is None
    assert "record=full" in reason(found.aimed.value)
    assert "reached 0.750; whether that misses it cannot be told" in words(found)
    assert aim(tmp_path / "b", full=False, objective="budget", budget=3).missed is True


def test_an_llm_that_scores_nothing_has_no_share(tmp_path: Path) -> None:
    """A share of 0 is no aim that could be met."""
    rows: list[Row] = [(0.0, 0.0, 0.5, False)] * 12
    found = aim(tmp_path, rows, objective="target", target=0.9)
    assert found.missed is None
    assert "the LLM's quality is 0" in reason(found.aimed.value)


def test_the_policy_is_asked_first_and_a_budget_holds_at_its_own_prices(tmp_path: Path) -> None:
    """A policy from elsewhere has the aim; at other prices a budget is another one."""
    for name, prices in (("a", PAPER), ("b", PAPER | {"verifier": 2})):
        settings = {"objective": "budget", "budget": 30.0}
        policy = policies.make("pomdp", settings, {}, {"cost": prices})
        path = build_run(tmp_path / name, full=True, policies={"coqa": "automix_policy_coqa.json"})
        policies.save(path.with_name("automix_policy_coqa.json"), policy)
    same, other = (only(tmp_path / name).aim for name in "ab")
    assert same
    assert other
    assert same.missed is False
    assert other.missed is None
    assert "other prices" in reason(other.aimed.value)


def test_a_damaged_setting_is_no_aim(tmp_path: Path) -> None:
    """What a file says in the place of a number is not believed."""
    assert aim(tmp_path / "a", objective="target", target="nine").of is None
    assert aim(tmp_path / "b", objective="budget", budget=True).of is None


def test_every_format_says_it(tmp_path: Path) -> None:
    """The page and the JSON hold the aim, and the schema knows it."""
    aim(tmp_path, HALF, objective="target", target=0.9)
    report = build([tmp_path])
    assert json.loads(render_json(report))["tasks"][0]["aim"]["missed"] is True
    assert "missed" in json.loads(render_schema())["$defs"]["Aim"]["properties"]
    assert run_part(report.tasks[0], many_runs=False).promises[0].endswith("(0.500): missed.")
