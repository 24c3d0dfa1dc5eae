"""The observation model: bins of the confidence and a kernel density summed into them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automix_eval.meta_verifiers import density
from automix_eval.types import AutoMixError

EDGES = density.bin_edges(17)


@pytest.mark.parametrize("bins", [8, 9, 10, 12, 16, 17, 20, 24, 32])
def test_every_edge_and_middle_falls_into_its_own_bin(bins):
    """No bin count misplaces a value, the last edge belongs to the last bin."""
    edges = density.bin_edges(bins)
    middles = (edges[:-1] + edges[1:]) / 2
    assert density.bin_index(middles, edges).tolist() == list(range(bins))
    assert density.bin_index(edges, edges).tolist() == [*range(bins), bins - 1]
    assert density.bin_index([-1e-9, 1 + 1e-9], edges).tolist() == [0, bins - 1]


def test_the_nine_shares_of_eight_samples_have_bins_of_their_own():
    """The default number of bins keeps k/8 apart."""
    assert len(set(density.bin_index([k / 8 for k in range(9)], EDGES).tolist())) == 9


def test_nan_lies_in_no_bin():
    """The binning refuses NaN where numpy would put it last."""
    with pytest.raises(AutoMixError, match="NaN"):
        density.bin_index([float("nan")], EDGES)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(
    st.lists(st.floats(0, 1), min_size=0, max_size=20),
    st.sampled_from(["scott", "silverman", 0.01, 5.0]),
)
def test_the_observation_model_is_a_distribution(data, rule):
    """Positive in every bin and summing to 1, for empty, single and constant data too."""
    pooled = np.array([0.0, 1.0, *data])
    p = density.bin_probabilities(np.array(data), pooled, rule, EDGES)
    assert (p > 0).all()
    assert p.sum() == pytest.approx(1.0, abs=1e-12)


def test_the_kernel_density_by_quadrature():
    """Each bin holds the integral of the truncated kernels, computed the slow way."""
    data, width = np.array([0.0, 0.3, 0.35, 1.0]), 0.1
    fine = (np.arange(17_000) + 0.5) / 17_000
    kernels = np.exp(-0.5 * ((fine[None, :] - data[:, None]) / width) ** 2)
    kernels /= kernels.sum(axis=1, keepdims=True)
    expected = kernels.mean(axis=0).reshape(17, 1000).sum(axis=1)
    assert density.bin_probabilities(data, data, width, EDGES) == pytest.approx(expected, abs=1e-5)


def test_bandwidth_rules():
    """Scott and Silverman as stated, never below half a bin."""
    data = np.array([0.1, 0.4, 0.5, 0.9])
    spread = data.std(ddof=1)
    assert density.bandwidth(data, data, "scott", 17) == pytest.approx(spread * 4**-0.2)
    assert density.bandwidth(data, data, "silverman", 17) == pytest.approx(spread * 3**-0.2)
    assert density.bandwidth(data, data, 0.001, 17) == pytest.approx(0.5 / 17)


def test_fallbacks_of_the_density():
    """Constant data take the spread of all; fewer than two take the density of all."""
    pooled = np.array([0.0, 0.2, 0.9, 1.0])
    constant = np.full(5, 0.9)
    expected = pooled.std(ddof=1) * 5**-0.2
    assert density.bandwidth(constant, pooled, "scott", 17) == pytest.approx(expected)
    whole = density.bin_probabilities(pooled, pooled, "scott", EDGES)
    for few in ([], [0.5]):
        assert (density.bin_probabilities(np.array(few), pooled, "scott", EDGES) == whole).all()
    flat = density.bin_probabilities(constant, constant, "scott", EDGES)
    assert flat.argmax() == density.bin_index([0.9], EDGES)[0]
