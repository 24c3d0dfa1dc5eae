"""The observation model: symbols of the confidence, and a kernel density over them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples
from scipy.special import ndtri

from automix_eval.meta_verifiers.pomdp.density import (
    _transition,
    bandwidth,
    density,
    local_sums,
    make_axis,
)

VALUES = st.lists(
    st.one_of(st.floats(0, 1), st.sampled_from([0.0, 0.125, 0.5, 1.0, float("nan")])),
    min_size=1,
    max_size=60,
)
quick = settings(max_examples=examples(60))


@quick
@given(VALUES, st.integers(2, 12))
def test_every_value_has_one_symbol(values, bins):
    """Bins are ordered, equal values share one, NaN has the last, and the shares are counted."""
    data = np.array(values)
    axis = make_axis(data, bins)
    found = axis.symbols(data)
    assert len(axis.edges) <= bins - 1
    assert np.bincount(found, minlength=len(axis)) / len(data) == pytest.approx(axis.shares)
    assert ((found == len(axis) - 1) == np.isnan(data)).all()
    known = np.flatnonzero(~np.isnan(data))
    order = known[np.argsort(data[known], kind="stable")]
    assert (np.diff(found[order]) >= 0).all()
    assert (np.diff(axis.centres[:-1]) > 0).all()


def test_the_nine_shares_of_eight_samples_have_bins_of_their_own():
    """As many bins as values: none is shared, none is empty."""
    data = np.repeat(np.arange(9) / 8, [1, 2, 1, 3, 1, 1, 2, 4, 20])
    axis = make_axis(data, 64)
    assert axis.symbols(np.arange(9) / 8).tolist() == list(range(9))
    assert (axis.shares[:-1] > 0).all()


def test_neighbouring_floats_are_kept_apart():
    """Where no number lies between two values the edge is the upper one."""
    data = np.array([np.nextafter(1.0, 0.0), 1.0])
    assert make_axis(data, 8).symbols(data).tolist() == [0, 1]


def test_bins_stand_at_mean_normal_scores():
    """A thousand ranks in two halves stand at -/+ the mean of a half normal."""
    axis = make_axis(np.arange(1000.0) / 1000, 2)
    ranks = ndtri((np.arange(1_000_000) + 0.5) / 1_000_000)
    assert axis.centres[:-1] == pytest.approx(
        [ranks[:500_000].mean(), ranks[500_000:].mean()], 1e-4
    )


def test_stretching_the_scale_changes_nothing():
    """Any rising function of the confidence has the same shares and centres."""
    data = np.random.default_rng(1).random(200)
    plain, bent = make_axis(data, 16), make_axis(data**5, 16)
    assert (plain.shares == bent.shares).all()
    assert (plain.centres == bent.centres).all()


@pytest.mark.parametrize("data", [[0.5] * 4, [float("nan")] * 4, [0.5, float("nan")]])
def test_constant_or_no_confidences_make_one_bin(data):
    """The fallback: a single bin, so that nothing can be told apart."""
    assert len(make_axis(np.array(data), 8).edges) == 0


def test_bandwidth_rules():
    """Scott and Silverman as stated, and a number as given."""
    assert bandwidth("scott", 100, 3) == pytest.approx(100 ** (-1 / 7))
    assert bandwidth("silverman", 100, 3) == pytest.approx(125 ** (-1 / 7))
    assert bandwidth(0.3, 100, 3) == 0.3


def cube(seed=0, number=300):
    """Two dependent tiers with undefined values, their axes and the table of counts."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=number)
    data = [1 / (1 + np.exp(-common - rng.normal(size=number))) for _ in range(2)]
    data[1][rng.random(number) < 0.1] = np.nan
    axes = [make_axis(x, 8) for x in data]
    counts = np.zeros((len(axes[0]), len(axes[1])))
    np.add.at(counts, tuple(a.symbols(x) for a, x in zip(axes, data, strict=True)), 1)
    return axes, counts


def test_the_density_keeps_margins_and_dependence():
    """It sums to 1, each tier's shares are exact, and smoothing leaves most of the correlation."""
    axes, counts = cube()
    table = density(counts, axes, 0.3)
    assert table.sum() == pytest.approx(1.0)
    for i, axis in enumerate(axes):
        assert table.sum(axis=1 - i) == pytest.approx(axis.shares, abs=1e-3)

    def correlation(weights):
        w = weights[:-1, :-1] / weights[:-1, :-1].sum()
        x, y = axes[0].centres[:-1, None], axes[1].centres[None, :-1]
        x, y = x - (w * x).sum(), y - (w * y).sum()
        return (w * x * y).sum() / np.sqrt((w * x * x).sum() * (w * y * y).sum())

    assert 0.3 < correlation(table) <= correlation(counts)
    assert correlation(table) > 0.8 * correlation(counts)


@pytest.mark.parametrize("width", [0.3, 1.0])
def test_smoothing_leaves_the_spread_as_it_is(width):
    """A kernel's centre is drawn to the mean, so that all kernels together are the normal again."""
    axis = make_axis(np.arange(2000.0) / 2000, 100)
    spread = axis.shares @ _transition(axis, width)
    assert spread @ axis.centres**2 == pytest.approx(1.0, abs=0.02)
    one = _transition(axis, width)[80] @ axis.centres
    assert one == pytest.approx(axis.centres[80] / np.sqrt(1 + width**2), abs=0.02)


def test_one_tier_needs_no_smoothing():
    """With a single observed tier the density is the share of each symbol."""
    axis = make_axis(np.array([0.0, 0.0, 0.5, 1.0]), 8)
    counts = axis.shares * 4
    assert (density(counts, [axis], 0.5) == axis.shares).all()


def test_local_sums_weigh_by_distance():
    """A question counts 1 in its own cell, exp(-d^2 / 2 h^2) in others, 0 for undefined ones."""
    axis = make_axis(np.array([0.0, 0.3, 0.9, np.nan]), 8)
    table = np.array([0.0, 1.0, 0.0, 0.0])
    apart = axis.centres - axis.centres[1]
    expected = np.exp(-0.5 * (apart / 0.7) ** 2)
    expected[-1] = 0.0
    assert local_sums(table, [axis], 0.7) == pytest.approx(expected)
