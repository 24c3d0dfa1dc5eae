"""Quantiles: the point, the interval that covers, and what is too few for one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.quantiles import least_number, quantile, quantile_intervals


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=20), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_quantile_is_one_of_the_values(values: list[float], share: float) -> None:
    """The least value with at least that share at or below it."""
    found = quantile(np.array(values), share)
    assert found in values
    assert np.mean(np.array(values) <= found) >= share - 1e-12
    below = [v for v in values if v < found]
    assert len(below) < share * len(values) + 1e-9


def test_intervals_cover_the_quantile_of_the_population() -> None:
    """Of 200 samples of an exponential the 95 % interval of the median misses about one in 20."""
    rng, missed = np.random.default_rng(5), 0
    for seed in range(200):
        sample = rng.exponential(size=80)
        ((ends, error),) = quantile_intervals(sample, np.arange(80), (0.5,), 200, seed)
        assert not isinstance(ends, Undefined)
        assert error is not None
        missed += not ends[0] <= np.log(2) <= ends[1]
    assert missed <= 20


def test_resamples_in_parts_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is held at a time, also where the last part is a smaller one."""
    values, documents = np.random.default_rng(1).normal(size=80), np.arange(80) // 2
    whole = quantile_intervals(values, documents, (0.5,), 70, 3)
    monkeypatch.setattr("automix_eval.metrics.quantiles._CHUNK", 80 * 30)
    assert quantile_intervals(values, documents, (0.5,), 70, 3) == whole


def test_documents_are_drawn_whole() -> None:
    """Ten equal questions a document give the interval of the documents alone."""
    values = np.random.default_rng(0).normal(size=40)
    alone = quantile_intervals(values, np.arange(40), (0.5,), 300, 1)
    tenfold = quantile_intervals(
        np.repeat(values, 10), np.repeat(np.arange(40), 10), (0.5,), 300, 1
    )
    assert alone == tenfold


@pytest.mark.parametrize(("share", "least"), [(0.5, 6), (0.95, 72), (0.99, 368)])
def test_an_interval_needs_documents_beyond_the_quantile(share: float, least: int) -> None:
    """With one document fewer, or no resamples, there is a reason in its place."""
    assert least_number(share) == least
    reason = f"an interval of p{share * 100:g} needs at least {least} documents"
    for number, resamples, why in (
        (least, 500, None), (least, 0, "no resamples were asked for"), (least - 1, 500, reason),
    ):  # fmt: skip
        ((ends, error),) = quantile_intervals(
            np.arange(float(number)), np.arange(number), (share,), resamples, 0
        )
        if why is None:
            assert not isinstance(ends, Undefined)
        else:
            assert (ends, error) == (Undefined(why), None)
