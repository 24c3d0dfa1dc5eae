"""Curves along policies that were chosen on the fitting questions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_operating_points import world

from automix_eval.analysis.curve_figures import Curve, FittedCurve
from automix_eval.analysis.figures import MethodFigures
from automix_eval.analysis.fitted_path import fitted_path
from automix_eval.analysis.method import MethodScore
from automix_eval.meta_verifiers.cross_fitted import CrossFitted
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.metrics.curves import path_cost_values
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import Outcomes


def observed() -> Threshold:
    """A threshold at any confidence seen."""
    return Threshold(candidates="observed")


def figures(fitting: Outcomes | None, test: Outcomes) -> MethodFigures:
    """The row of a threshold, fitted apart or in folds."""
    router = CrossFitted(observed).fit(test) if fitting is None else observed().fit(fitting)
    return MethodScore.of_routers([router], test, 0, 20, fitting=[fitting]).figures()


def number(figure: object) -> float:
    """The value of a defined figure."""
    value = getattr(figure, "value", None)
    assert isinstance(value, float), value
    return value


@pytest.mark.parametrize("folds", [False, True])
def test_a_useless_verifier_has_the_area_of_the_line(folds: bool) -> None:
    """Over many runs no luck is left: APGR is a half, and the area that of the two models."""
    apgr, above = [], []
    for seed in range(30):
        test = world(60, 2 * seed, useful=False)
        row = figures(None if folds else world(60, 2 * seed + 1, useful=False), test)
        apgr.append(number(row.apgr))
        above.append(number(row.area) - test.scores.mean())
    assert np.mean(apgr) == pytest.approx(0.5, abs=3 * np.std(apgr) / np.sqrt(30))
    assert np.mean(above) == pytest.approx(0.0, abs=3 * np.std(above) / np.sqrt(30))


def test_a_useful_verifier_recovers_more_with_fewer_calls() -> None:
    """APGR is above a half, and half of the gap takes less than half of the calls."""
    row = figures(world(300), world(300, 1))
    assert number(row.apgr) > 0.6
    half, most = (number(calls) for _, calls in row.cpt)
    assert half < 0.4
    assert half < most
    costs = [number(cost) for _, cost in row.cost_at]
    assert costs == sorted(costs)
    assert costs[-1] <= 50


def test_a_quality_below_0_has_no_share_but_the_whole() -> None:
    """95 % of -1 is more than -1: that it is not reached would say nothing."""
    below = [replace(w, scores=w.scores - 2) for w in (world(100), world(100, 1))]
    small, large, whole = (cost.value for _, cost in figures(*below).cost_at)
    assert all("of which there is no share" in v.reason for v in (small, large))  # type: ignore[union-attr]
    assert isinstance(whole, float)


def test_the_scored_questions_choose_nothing() -> None:
    """The steps cost the same whatever the scores of the questions that are followed."""
    fitting, test = world(80), world(50, 1)
    router = observed().fit(fitting)
    turned = replace(test, scores=1 - test.scores)
    for one, other in zip(
        fitted_path(router, test, fitting), fitted_path(router, turned, fitting), strict=True
    ):
        assert np.array_equal(one.columns["cost"], other.columns["cost"])
        assert np.array_equal(one.columns["calls"], other.columns["calls"])


@pytest.mark.parametrize(("lead", "kept"), [(0.5, True), (0.0, False)])
def test_the_way_ends_at_the_llm_unless_a_policy_is_shown_to_be_better(
    lead: float, kept: bool
) -> None:
    """Of many policies the best seems better than the LLM by luck."""
    data = world(80)
    sure = data.confidences[:, 0] > 0.5
    slm = np.where(sure, 1.0, 0.0)
    # where the SLM is sure the LLM is wrong in a share of the questions, else in one alone
    wrong = sure & (np.arange(80) % 2 < 2 * lead)
    wrong[np.flatnonzero(sure)[0]] = True
    fitting = replace(data, scores=np.stack([slm, np.where(wrong, 0.0, 1.0)], axis=1))
    last = fitted_path(observed().fit(fitting), fitting, fitting)[-1]
    found = last.columns["quality"].mean()
    assert found == pytest.approx(1.0 if kept else fitting.scores[:, 1].mean())
    assert last.columns["cost"].mean() == 50


def test_what_a_quality_costs_is_not_too_cheap_on_average() -> None:
    """The cost at a share is a quotient: its mean over samples is the truth once corrected."""
    rng = np.random.default_rng(0)
    plain, shown = [], []
    for _ in range(400):
        low, high = rng.normal(0.45, 0.04), rng.normal(0.75, 0.04)
        draws = rng.normal([low, high], 0.04, (200, 2))
        qualities = np.vstack([[low, high], draws])
        along = np.tile([0.0, 50.0], (201, 1))
        curve = FittedCurve(along, qualities, along / 50)
        shown.append(curve.cost_of_share(0.95)[0])  # type: ignore[index]
        goal = 0.95 * qualities[:1, 1]
        plain.append(path_cost_values(along[:1], qualities[:1], goal)[0])
    true = 50 * (0.95 * 0.75 - 0.45) / 0.3
    assert np.mean(plain) < true - 0.1
    assert abs(np.mean(shown) - true) < 0.5 * abs(np.mean(plain) - true)


def test_a_curve_between_equal_costs_has_no_area() -> None:
    """There is no range of costs to average over, and the reason says so."""
    area = Curve(np.array([[5.0, 5.0]]), np.array([[0.2, 0.9]])).area()
    assert isinstance(area, Undefined)
    assert "the LLM (5) does not cost more than the SLM (5)" in area.reason


def test_without_a_range_there_is_no_path() -> None:
    """A router whose fitting questions are unknown has none either."""
    test = world(40)
    assert fitted_path(observed().fit(world(40, 1)), test, None) == ()
