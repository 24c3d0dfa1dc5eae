"""Intervals of the report hold the truth as often as they say, also with few documents."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "bench_coverage.py"


@pytest.fixture(scope="module")
def simulation() -> ModuleType:
    """The benchmark's simulation."""
    spec = importlib.util.spec_from_file_location(BENCHMARK.stem, BENCHMARK)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("signal", [0.0, 0.7])
def test_few_documents_cover(simulation: ModuleType, signal: float) -> None:
    """With ten documents, where plain percentiles cover .88 to .91."""
    found = simulation.cell(200, 10, signal, 400, 1)
    assert 0.93 <= found.coverage <= 0.97
    assert found.none < 0.05
    assert 0.93 <= found.difference <= 0.97
    if not signal:
        assert found.pays <= 0.05


def test_the_truth_is_that_of_many_questions(simulation: ModuleType) -> None:
    """The figures of the distributions are the means of a large sample."""
    for signal in simulation.SIGNALS:
        run = simulation.simulate(np.random.default_rng(3), 400_000, 400_000, signal)
        q, c, ps, cs, pl, cl = (float(v.mean()) for v in run.columns)
        true = simulation.truth(signal)
        delta = (q - ps) / (c - cs) / ((pl - ps) / (cl - cs)) - 1
        assert delta == pytest.approx(true.delta_ibc, abs=0.02)
        assert q - pl == pytest.approx(true.difference, abs=0.005)
