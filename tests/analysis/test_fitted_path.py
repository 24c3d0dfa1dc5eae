"""Curves along policies that were chosen on the fitting questions."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from test_operating_points import world

from automix_eval.analysis.figures import MethodFigures
from automix_eval.analysis.fitted_path import fitted_path
from automix_eval.analysis.method import MethodScore
from automix_eval.meta_verifiers.cross_fitted import CrossFitted
from automix_eval.meta_verifiers.threshold import Threshold
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


def test_without_a_range_there_is_no_path() -> None:
    """A router whose fitting questions are unknown has none either."""
    test = world(40)
    assert fitted_path(observed().fit(world(40, 1)), test, None) == ()
