"""IBC and delta IBC: the paper's numbers, the laws they obey, and where they do not exist."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.metrics.ibc import Undefined, delta_ibc, ibc

# arXiv 2310.12963v1, LLaMA2-13B to 70B, prices 1:1:50; rows are (delta IBC, its standard deviation
# over ten seeds, cost, performance). Self-consistency has no parameter to fit, hence no deviation.
PUBLISHED = {
    "coqa": (0.4813, 0.6143, [(0.4368, 0.2007, 6.93, 0.5054), (0.4316, 0.2787, 7.23, 0.5073)]),
    "cnli": (0.4012, 0.5554, [(0.8872, 0.3185, 6.66, 0.4352), (-0.0355, 0.0057, 51.90, 0.5557)]),
    "narrativeqa": (
        0.2028,
        0.2645,
        [(0.0644, 0.1171, 9.95, 0.2143), (0.1215, 0.0753, 16.57, 0.2238)],
    ),
    "quality": (
        0.4748,
        0.6710,
        [(-0.1184, 0.0902, 15.80, 0.5288), (-0.0435, 0.0124, 37.75, 0.6160)],
    ),
    "qasper": (0.1400, 0.2810, [(0.0693, 0.0103, 45.19, 0.2760), (0.0367, 0.0369, 47.18, 0.2775)]),
}
SELF_CONSISTENCY = {
    "coqa": (0.5545, 16.57, 0.5470),
    "cnli": (-0.1696, 47.47, 0.5227),
    "narrativeqa": (0.0920, 23.01, 0.2331),
    "quality": (-0.0697, 15.17, 0.5276),
    "qasper": (0.0230, 44.33, 0.2676),
}
QUALITIES = st.floats(0, 1)
PRICES = st.floats(0.01, 1000)
GAPS = st.floats(0.01, 100)  # differences close to rounding are another subject


def defined(value: float | Undefined) -> float:
    """The value of a figure that must be defined."""
    assert not isinstance(value, Undefined), value.reason
    return value


@pytest.mark.parametrize("task", SELF_CONSISTENCY)
def test_published_self_consistency(task: str) -> None:
    """A fixed policy's published performance and cost give its published delta IBC."""
    lift, cost, performance = SELF_CONSISTENCY[task]
    slm, llm, _ = PUBLISHED[task]
    # All inputs are rounded to 4 or 2 decimals: the corners of what they may have been.
    corners = [
        defined(delta_ibc(performance + a, cost + b, slm + c, 1, llm + d, 50))
        for a in (-5e-5, 5e-5)
        for b in (-5e-3, 5e-3)
        for c in (-5e-5, 5e-5)
        for d in (-5e-5, 5e-5)
    ]
    assert min(corners) - 5e-5 <= lift <= max(corners) + 5e-5


@pytest.mark.parametrize("task", PUBLISHED)
def test_published_means_over_seeds(task: str) -> None:
    """A mean over seeds of ratios lies within one deviation of the ratio of the means."""
    slm, llm, rows = PUBLISHED[task]
    for lift, deviation, cost, performance in rows:
        ours = defined(delta_ibc(performance, cost, slm, 1, llm, 50))
        assert abs(ours - lift) <= deviation


def test_route_everything_pays_for_the_verifier() -> None:
    """Sending everything to the LLM costs 52, so its lift is -2/51."""
    assert defined(delta_ibc(0.6, 52, 0.4, 1, 0.6, 50)) == pytest.approx(-2 / 51, abs=1e-12)


def test_route_nothing_loses_all() -> None:
    """Verifying everything and sending nothing has a lift of -1."""
    assert defined(delta_ibc(0.4, 2, 0.4, 1, 0.6, 50)) == pytest.approx(-1, abs=1e-12)


def test_ibc_is_gain_per_cost() -> None:
    """IBC is the difference of performances over the difference of costs."""
    assert defined(ibc(0.5, 11, 0.3, 1)) == pytest.approx(0.02)


@given(QUALITIES, PRICES, QUALITIES, PRICES, GAPS, GAPS, st.floats(1e-3, 1e3))
def test_scaling_costs_leaves_the_lift(
    p: float, extra: float, ps: float, cs: float, gain: float, price: float, unit: float
) -> None:
    """The lift does not depend on the unit in which costs are counted."""
    c, pl, cl = cs * (1 + extra), ps + gain, cs * (1 + price)
    one = delta_ibc(p, c, ps, cs, pl, cl)
    other = delta_ibc(p, c * unit, ps, cs * unit, pl, cl * unit)
    assert defined(one) == pytest.approx(defined(other), rel=1e-6, abs=1e-6)


@given(QUALITIES, PRICES, GAPS, GAPS, st.floats(0.01, 1))
def test_random_mixtures_have_no_lift(
    ps: float, cs: float, gain: float, price: float, share: float
) -> None:
    """Asking the LLM a random share of questions, verification free, has a lift of 0."""
    p, c = ps + share * gain, cs * (1 + share * price)
    lift = delta_ibc(p, c, ps, cs, ps + gain, cs * (1 + price))
    assert defined(lift) == pytest.approx(0, abs=1e-6)


@given(*[st.floats(allow_nan=False, allow_infinity=False)] * 6)
def test_never_infinite(p: float, c: float, ps: float, cs: float, pl: float, cl: float) -> None:
    """Whatever the finite inputs, a figure is finite or undefined."""
    for value in (delta_ibc(p, c, ps, cs, pl, cl), ibc(p, c, ps, cs)):
        assert isinstance(value, Undefined) or math.isfinite(value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((0.5, 1, 0.4, 1, 0.6, 50), "not above that of the SLM"),
        ((0.5, 1 + 1e-15, 0.4, 1, 0.6, 50), "not above that of the SLM"),
        ((0.5, 0.5, 0.4, 1, 0.6, 50), "not above that of the SLM"),
        ((0.5, 10, 0.4, 1, 0.6, 1), "does not cost more"),
        ((0.51, 10, 0.72, 1, 0.51, 50), "not better than the SLM"),
        ((0.5, 10, 0.4, 1, 0.4, 50), "not better than the SLM"),
    ],
)
def test_undefined_with_its_reason(arguments: tuple[float, ...], words: str) -> None:
    """Where a difference vanishes or changes sign there is a reason instead of a number."""
    value = delta_ibc(*arguments)
    assert isinstance(value, Undefined)
    assert words in value.reason


def test_ibc_undefined_without_extra_cost() -> None:
    """A method as cheap as the SLM has no IBC."""
    assert isinstance(ibc(0.9, 1, 0.4, 1), Undefined)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("position", range(6))
def test_non_finite_inputs_raise(bad: float, position: int) -> None:
    """A NaN or an infinity is a mistake of the caller, not a figure."""
    arguments = [0.5, 10, 0.4, 1, 0.6, 50]
    arguments[position] = bad
    with pytest.raises(ValueError, match="finite"):
        delta_ibc(*arguments)
    if position < 4:
        with pytest.raises(ValueError, match="finite"):
            ibc(*arguments[:4])
