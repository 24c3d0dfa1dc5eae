"""The cost-quality curve: envelope, cost of a quality, area; one curve and many at once."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.metrics.curves import (
    area_values,
    cost_at_values,
    envelope,
    path_area_values,
    path_cost_values,
    quality_at,
    quality_at_values,
)
from automix_eval.metrics.ibc import Undefined, exceeds

POINT = st.tuples(
    st.sampled_from([1.0, 2.0, 3.5, 10.0, 27.0, 50.0, 52.0]),
    st.sampled_from([0.0, 0.125, 0.3, 0.5, 0.55, 0.9, 1.0]),
)


def cost_at(points: list[tuple[float, float]], target: float) -> float:
    """By definition: where the envelope of one curve reaches a quality; NaN where it does not."""
    costs, qualities = zip(*envelope(points), strict=True)
    if exceeds(target, qualities[-1]):
        return math.nan
    return float(np.interp(target, qualities, costs))


def area(points: list[tuple[float, float]]) -> float:
    """By definition: the mean height of the envelope between the first cost and the last."""
    (low, _), (high, _) = points[0], points[-1]
    costs, qualities = (np.array(p) for p in zip(*envelope(points), strict=True))
    grid = np.array([low, *costs[(costs > low) & (costs < high)], high])
    return float(np.trapezoid(np.interp(grid, costs, qualities), grid) / (high - low))


CURVE = st.lists(POINT, min_size=1, max_size=6).map(lambda p: [(1.0, 0.25), *p, (50.0, 0.75)])


@given(CURVE)
def test_envelope_is_concave_and_above_all_points(points: list[tuple[float, float]]) -> None:
    """Its corners rise with falling slope, and no operating point lies above it."""
    hull = envelope(points)
    slopes = [(b[1] - a[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(hull)]
    assert all(s > 0 for s in slopes)
    assert all(a > b for a, b in itertools.pairwise(slopes))
    for cost, quality in points:
        reached = quality_at(points, cost)
        assert not isinstance(reached, Undefined)
        assert reached >= quality - 1e-12


def test_random_router_has_the_area_of_the_line() -> None:
    """Without a router the area is the mean of the two models, and half the gap costs half."""
    costs, qualities = np.array([[1.0, 50.0]]), np.array([[0.25, 0.75]])
    assert area_values(costs, qualities) == pytest.approx([0.5])
    assert cost_at_values(costs, qualities, np.array([0.5])) == pytest.approx([25.5])
    assert cost_at_values(costs, qualities, np.array([0.75])) == [50]


def test_what_is_hardly_missed_is_missed() -> None:
    """Half a per cent above the best quality, or below the cheapest cost, is out of reach."""
    points = [(2.0, 0.25), (50.0, 0.75)]
    assert isinstance(quality_at(points, 1.99), Undefined)
    costs, qualities = (np.array([[p[i] for p in points]]) for i in (0, 1))
    assert np.isnan(cost_at_values(costs, qualities, np.array([0.75 * 1.005])))
    assert np.isnan(quality_at_values(costs, qualities, np.array([1.99])))


def test_worse_router_changes_nothing() -> None:
    """A point below the line between the models is not used by anybody."""
    costs, qualities = np.array([[1.0, 30.0, 50.0]]), np.array([[0.25, 0.3, 0.75]])
    assert area_values(costs, qualities) == area_values(costs[:, ::2], qualities[:, ::2])


def test_perfect_router_by_hand() -> None:
    """LLM quality at cost 11: the curve rises to it and stays."""
    costs, qualities = np.array([[1.0, 11.0, 50.0]]), np.array([[0.25, 0.75, 0.75]])
    assert cost_at_values(costs, qualities, np.array([0.75])) == [11]
    assert area_values(costs, qualities) == pytest.approx([(10 * 0.5 + 39 * 0.75) / 49])


def test_undefined_cases_have_reasons() -> None:
    """No policy as cheap is a sentence."""
    assert "as cheap" in quality_at([(2.0, 0.5)], 1.0).reason  # type: ignore[union-attr]


@given(CURVE, st.sampled_from([0.5, 1.0, 2.0, 20.0, 60.0]), st.sampled_from([0.5, 0.95, 1.0, 1.4]))
def test_many_curves_agree_with_one(
    points: list[tuple[float, float]], cost: float, share: float
) -> None:
    """The vectorised forms are the definitions of one curve, NaN where those are undefined."""
    costs, qualities = (np.array([[p[i] for p in points]]) for i in (0, 1))
    pairs = (
        (quality_at(points, cost), quality_at_values(costs, qualities, np.array([cost]))),
        (cost_at(points, 0.75 * share), cost_at_values(costs, qualities, np.array([0.75 * share]))),
        (area(points), area_values(costs, qualities)),
    )
    for plain, vector in pairs:
        wanted = math.nan if isinstance(plain, Undefined) else plain
        assert vector[0] == pytest.approx(wanted, abs=1e-9, nan_ok=True)


@pytest.mark.parametrize("unit", [1e-8, 1.0, 1e8])
def test_the_unit_of_cost_changes_no_area(unit: float) -> None:
    """Costs that differ by rounding alone have no range between them, in any currency."""
    ends = [(0.0, 4.0), (1.0, 4.0), (1.0, 1 + 1e-6), (1.0, 1 + 1e-12), (1.0, 1.0), (2.0, 1.0)]
    costs = unit * np.array([(low, (low + high) / 2, high) for low, high in ends])
    qualities = np.tile([0.2, 0.4, 0.8], (len(ends), 1))
    for area_of, expected in ((area_values, 0.5), (path_area_values, 0.45)):
        found = area_of(costs, qualities)
        assert found[:3] == pytest.approx([expected] * 3)
        assert np.isnan(found[3:]).all()


def test_a_way_is_not_bent_upwards() -> None:
    """Points of a given order count as they are; a hull would leave out what lies below."""
    along, quality = np.array([[1.0, 25.5, 50.0]]), np.array([[0.4, 0.5, 0.8]])
    assert path_area_values(along, quality)[0] == pytest.approx((0.45 + 0.65) / 2)
    assert area_values(along, quality)[0] == pytest.approx(0.6)


def test_a_share_holds_down_from_the_dear_end() -> None:
    """What is lucky below a point that misses the quality does not count."""
    along = np.array([[0.0, 1.0, 2.0, 3.0]])
    quality = np.array([[0.1, 0.9, 0.5, 1.0]])
    assert path_cost_values(along, quality, np.array([0.75]))[0] == pytest.approx(2.5)
    assert path_cost_values(along, quality, np.array([0.05]))[0] == 0
    assert path_cost_values(along, quality, np.array([1.0]))[0] == pytest.approx(3.0)
    assert np.isnan(path_cost_values(along, quality, np.array([1.1]))[0])
