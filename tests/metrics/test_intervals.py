"""Bootstrap intervals: pairing, documents, degenerate data."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples
from scipy import stats

from automix_eval.metrics.bootstrap import (
    DELTA_IBC_COLUMNS,
    Interval,
    delta_ibc_values,
    document_codes,
    level_of_tail,
    percentile_interval,
    resample,
    tail_share,
)
from automix_eval.metrics.ibc import Undefined, delta_ibc

RNG = np.random.default_rng(7)


def columns(n: int = 200) -> dict[str, list[float]]:
    """A task with a clear gap between SLM and LLM and a router that does some good."""
    slm = (RNG.random(n) < 0.3).astype(float)
    llm = (RNG.random(n) < 0.8).astype(float)
    up = (slm == 0) & (RNG.random(n) < 0.7)
    data = {
        "quality": np.where(up, llm, slm),
        "cost": 2 + 50.0 * up,
        "slm_quality": slm,
        "slm_cost": np.ones(n),
        "llm_quality": llm,
        "llm_cost": np.full(n, 50.0),
        "escalation_rate": up.astype(float),
    }
    return {k: list(map(float, v)) for k, v in data.items()}


def bootstrap_means(
    columns: Sequence[Sequence[float]], documents: Sequence[Hashable], seed: int = 0
) -> np.ndarray:
    """(B, k) means of columns on the same resampled documents."""
    values = np.array(columns, dtype=float).T
    totals = resample(document_codes(documents), lambda rows: values[rows].T, 2000, seed)
    assert totals.draws is not None
    assert totals.weights is not None
    return totals.draws / totals.weights[:, None]


def paired_intervals(
    data: dict[str, list[float]], documents: Sequence[Hashable], seed: int = 0
) -> dict[str, Interval]:
    """Intervals of the means of columns, and of delta IBC where its six columns are there."""
    means = bootstrap_means(list(data.values()), documents, seed)
    draws = dict(zip(data, means.T, strict=True))
    if set(DELTA_IBC_COLUMNS) <= set(data):
        draws["delta_ibc"] = delta_ibc_values(*(draws[name] for name in DELTA_IBC_COLUMNS))
    number = len(set(documents))
    return {name: percentile_interval(v, number) for name, v in draws.items()}


def width(interval: tuple[float, float] | Undefined) -> float:
    """Width of an interval that must be defined."""
    assert not isinstance(interval, Undefined), interval.reason
    assert all(map(math.isfinite, interval))
    return interval[1] - interval[0]


def test_agrees_with_the_normal_approximation() -> None:
    """For a mean over many questions the width is close to 2 x 1.96 standard errors."""
    values = list(RNG.normal(size=400))
    got = width(paired_intervals({"quality": values}, range(400))["quality"])
    assert got == pytest.approx(2 * 1.96 * np.std(values) / 20, rel=0.1)


def test_every_figure_has_an_interval_around_its_mean() -> None:
    """Each column and delta IBC get an interval that holds the figure of the data."""
    data = columns()
    ends = paired_intervals(data, range(200))
    mean = {k: float(np.mean(v)) for k, v in data.items()}
    mean["delta_ibc"] = float(delta_ibc(*(mean[k] for k in DELTA_IBC_COLUMNS)))  # type: ignore[arg-type]
    assert set(ends) == set(mean)
    for name, interval in ends.items():
        assert width(interval) >= 0
        assert not isinstance(interval, Undefined)
        assert interval[0] - 1e-9 <= mean[name] <= interval[1] + 1e-9


def test_columns_are_resampled_together() -> None:
    """The difference of two columns that differ by a constant does not vary."""
    values = RNG.random(50)
    means = bootstrap_means([list(values), list(values + 0.25)], range(50))
    assert np.allclose(means[:, 1] - means[:, 0], 0.25)


def test_whole_documents_are_drawn() -> None:
    """Copies of a question in one document add no certainty; as documents of their own they do."""
    values = [float(v) for v in RNG.random(20)]
    single = width(paired_intervals({"q": values}, range(20))["q"])
    copies = {"q": values * 25}
    together = width(paired_intervals(copies, list(range(20)) * 25)["q"])
    apart = width(paired_intervals(copies, range(500))["q"])
    assert together == pytest.approx(single, abs=1e-12)
    assert apart < together / 3


def test_documents_weigh_by_their_questions() -> None:
    """A resample's mean is over questions: all three values of two documents can appear."""
    means = bootstrap_means([[0.0, 0.0, 0.0, 1.0]], ["a", "a", "a", "b"])
    assert set(np.round(np.unique(means), 6)) == {0.0, 0.25, 1.0}


def test_seeded() -> None:
    """Equal seeds give equal intervals, others differ."""
    data = columns()
    one, same, other = (paired_intervals(data, range(200), seed=s) for s in (1, 1, 2))
    assert one == same
    assert one != other


def test_chunks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resampling in pieces, as large data need, draws the same resamples."""
    data = columns()
    whole = paired_intervals(data, range(200))
    monkeypatch.setattr("automix_eval.metrics.bootstrap._CHUNK", 1000)
    assert paired_intervals(data, range(200)) == whole


def test_few_documents_have_no_interval() -> None:
    """The range of five documents covers .94 at best."""
    ends = paired_intervals(columns(10), [i % 5 for i in range(10)])
    assert all(isinstance(v, Undefined) and "6 documents" in v.reason for v in ends.values())
    assert "delta_ibc" in ends


@pytest.mark.parametrize("documents", [6, 10, 40, 10_000])
def test_intervals_of_few_documents_are_those_of_student(documents: int) -> None:
    """Of normal resamples: t with G - 1 degrees, times sqrt(G / (G - 1))."""
    draws = np.asarray(stats.norm.ppf((np.arange(20_000) + 0.5) / 20_000))
    expected = stats.t.ppf(0.975, documents - 1) * math.sqrt(documents / (documents - 1))
    ends = percentile_interval(draws, documents)
    assert ends == pytest.approx((-expected, expected), rel=0.02)
    assert level_of_tail(tail_share(documents, 0.9), documents) == pytest.approx(0.9)


def test_too_few_resamples_have_no_interval() -> None:
    """The ends of an interval of six documents lie further out than 100 resamples reach."""
    found = percentile_interval(RNG.normal(size=100), 6)
    assert isinstance(found, Undefined)
    assert "resamples or more" in found.reason
    assert isinstance(percentile_interval(np.zeros(0), 10), Undefined)


def test_too_many_undefined_resamples() -> None:
    """Where the LLM is hardly better than the SLM delta IBC has no interval, the rest has."""
    data = columns()
    data["llm_quality"] = [*data["slm_quality"][:-1], 1.0]
    data["slm_quality"] = [*data["slm_quality"][:-1], 0.0]
    ends = paired_intervals(data, range(200))
    assert isinstance(ends["delta_ibc"], Undefined)
    assert "undefined in 3" in ends["delta_ibc"].reason  # (1 - 1/200)^200 = 37 %
    assert width(ends["quality"]) > 0


def test_few_undefined_resamples_are_left_out() -> None:
    """Up to 2.5 % of undefined resamples are left out, of few documents less; more are a reason."""
    values = np.arange(1000.0)
    values[:24] = np.nan
    assert width(percentile_interval(values, 10_000)) > 900
    assert isinstance(percentile_interval(values, 10), Undefined)
    values[24:26] = np.nan
    assert isinstance(percentile_interval(values, 10_000), Undefined)


def test_constant_data_have_an_interval_of_no_width() -> None:
    """Degenerate data give a point, not NaN."""
    assert paired_intervals({"q": [0.5] * 10}, range(10)) == {"q": (0.5, 0.5)}


@settings(max_examples=examples(200))
@given(st.tuples(*[st.sampled_from([0.0, 0.2, 0.2 + 1e-11, 1e-6, 1.0, 50.0, 50 + 1e-7])] * 6))
def test_arrays_agree_with_the_scalar_formula(row: tuple[float, ...]) -> None:
    """The vectorised delta IBC is the scalar one, NaN where that is undefined."""
    scalar = delta_ibc(*row)
    vector = delta_ibc_values(*(np.array([v]) for v in row))[0]
    if isinstance(scalar, Undefined):
        assert math.isnan(vector)
    else:
        assert vector == pytest.approx(scalar)
