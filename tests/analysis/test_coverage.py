"""Intervals hold the truth as often as they say; planned runs find what they were planned for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def coverage() -> Iterator[Any]:
    """The simulation, which is no part of the package."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import bench_coverage

        yield bench_coverage


@pytest.mark.slow
@pytest.mark.parametrize("signal", [0.0, 0.7])
def test_few_documents_cover(coverage: Any, signal: float) -> None:
    """With ten documents, where plain percentiles cover .88 to .91."""
    found = coverage.cell(200, 10, signal, 400, 1)
    assert 0.93 <= found.coverage <= 0.97
    assert found.none < 0.05
    assert 0.93 <= found.difference <= 0.97
    if not signal:
        assert found.pays <= 0.05


@pytest.mark.slow
def test_the_luck_of_few_escalations_is_no_gain(coverage: Any) -> None:
    """Six random escalations to an LLM that is mostly right: its interval holds that none gains."""
    shares = (0.1, 0.9, 0.03)
    pays, loses, _ = coverage.few(shares, 40, 1, bare=False)
    assert max(pays, loses) <= 0.05
    assert coverage.few(shares, 40, 1, bare=True)[0] > 0.1


@pytest.mark.slow
def test_planned_runs_find_what_they_were_planned_for(coverage: Any) -> None:
    """In 80 % of them, give or take the simulation's own error."""
    del coverage  # it lies beside
    import bench_power

    found = bench_power.realised(200, 200, 150, 0)
    assert 0.73 <= found.delta_ibc <= 0.87
    assert 0.73 <= found.loss <= 0.87


def test_the_truth_is_that_of_many_questions(coverage: Any) -> None:
    """The figures of the distributions are the means of a large sample."""
    for signal in coverage.SIGNALS:
        run = coverage.simulate(np.random.default_rng(3), 400_000, 400_000, signal)
        q, c, ps, cs, pl, cl = (float(v.mean()) for v in run.columns)
        true = coverage.truth(signal)
        delta = (q - ps) / (c - cs) / ((pl - ps) / (cl - cs)) - 1
        assert delta == pytest.approx(true.delta_ibc, abs=0.02)
        assert q - pl == pytest.approx(true.difference, abs=0.005)
