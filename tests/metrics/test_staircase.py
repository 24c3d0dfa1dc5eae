"""The staircase of policies and its area; rows of a kind."""

from __future__ import annotations

import csv
import itertools
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.metrics.bootstrap import distinct_rows, first_of_kind
from automix_eval.metrics.curves import staircase, step_area
from automix_eval.metrics.ibc import Undefined

numbers = st.floats(0, 100, allow_nan=False)
points = st.lists(st.tuples(numbers, st.floats(0, 1)), min_size=1, max_size=12)


def test_area_of_one_step_is_the_mean_height() -> None:
    """A policy that becomes affordable half way counts for half the range."""
    assert step_area([(1, 0.4), (6, 0.8)], 1, 11) == pytest.approx(0.6)
    assert step_area([(1, 0.4)], 1, 11) == pytest.approx(0.4)


def test_points_dearer_than_the_range_and_worse_points_add_nothing() -> None:
    """Neither a policy dearer than every tier nor one that is dominated moves the area."""
    base = [(1.0, 0.4), (6.0, 0.8)]
    assert step_area([*base, (12.0, 1.0), (7.0, 0.5)], 1, 11) == step_area(base, 1, 11)


def test_area_without_a_range_is_undefined() -> None:
    """Equal costs, or no point at the low end, give a reason and no number."""
    assert isinstance(step_area([(1, 0.4)], 1, 1), Undefined)
    assert isinstance(step_area([(2, 0.4)], 1, 3), Undefined)


@given(points, points)
def test_more_policies_never_lower_the_area(few: list[tuple[float, float]], more: list) -> None:
    """The area is monotone in the set of policies, and lies between the heights."""
    base = [(0.0, 0.0), *few]
    one, two = step_area(base, 0, 100), step_area([*base, *more], 0, 100)
    assert not isinstance(one, Undefined)
    assert not isinstance(two, Undefined)
    assert 0 <= one <= two + 1e-9 <= 1 + 2e-9


@given(points)
def test_staircase_ascends_and_ignores_order(some: list[tuple[float, float]]) -> None:
    """Each step is dearer and better than the one before, whatever the order of the points."""
    steps = staircase(some)
    assert steps == staircase(some[::-1])
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in itertools.pairwise(steps))


@given(st.lists(st.tuples(st.sampled_from([0.0, 1.0, float("nan")]), numbers), min_size=1))
def test_rows_of_a_kind_are_equal_rows(some: list[tuple[float, float]]) -> None:
    """Two rows have one number if and only if their values are equal, NaN equal to NaN."""
    columns = [np.array([r[i] for r in some]) for i in (0, 1)]
    kind = distinct_rows(columns, len(some))
    assert kind is not None
    names = [tuple(map(repr, (c[i] + 0.0 for c in columns))) for i in range(len(some))]
    assert len(set(zip(names, kind.tolist(), strict=True))) == len(set(names)) == kind.max() + 1
    assert (kind[first_of_kind(kind)] == np.arange(kind.max() + 1)).all()


def test_more_kinds_than_asked_for_are_not_counted() -> None:
    """Columns of different values are left apart."""
    assert distinct_rows([np.arange(10.0)], 9) is None


# Read here: no test sees the variable.
DATA = os.environ.get("AUTOMIX_DATA_DIR")
KNOWN = {
    "triviaqa_llama": 0.9159,
    "triviaqa_qwen_oai": 0.9432,
    "mmlu_llama": 0.7935,
    "mmlu_qwen_oai": 0.8073,
}


@pytest.mark.parametrize("name", KNOWN)
def test_known_areas_of_pairs_and_thresholds(name: str) -> None:
    """Known areas of the best pair and threshold of each price are met within their grid's width.

    The best of all pairs and of 36 quantiles of the training confidences is chosen on train for 30
    prices of a unit of cost; which grid the known figures used is not known.
    """
    path = Path(DATA or ".") / "cascades" / f"{name}_chain.csv"
    if not DATA or not path.exists():
        pytest.skip("AUTOMIX_DATA_DIR does not hold the chains")
    with path.open(encoding="utf-8") as lines:
        table = list(csv.DictReader(lines))
    names = [c.removesuffix(":correct") for c in table[0] if c.endswith(":correct")]
    data = {
        split: {
            key: np.array([[float(r[f"{m}:{key}"]) for m in names] for r in part])
            for key in ("correct", "confidence", "cost_usd")
        }
        for split in ("train", "test")
        if (part := [r for r in table if r["split"] == split])
    }
    candidates = []
    for i in range(len(names)):
        cuts = np.quantile(data["train"]["confidence"][:, i], np.linspace(0, 1, 36))
        for j in range(i + 1, len(names)):
            for t in (-1.0, *cuts, 2.0):
                ends = []
                for d in data.values():
                    up = d["confidence"][:, i] <= t
                    ends += [
                        float((d["cost_usd"][:, i] + up * d["cost_usd"][:, j]).mean()),
                        float(np.where(up, d["correct"][:, j], d["correct"][:, i]).mean()),
                    ]
                candidates.append(ends)
    every = np.array(candidates)
    chosen = {int(np.argmax(every[:, 1] - price * every[:, 0])) for price in np.logspace(0, 6, 30)}
    single = data["test"]["cost_usd"].mean(axis=0)
    cheapest = (float(single.min()), float(data["test"]["correct"][:, single.argmin()].mean()))
    curve = [(float(every[c, 2]), float(every[c, 3])) for c in sorted(chosen)]
    area = step_area([*curve, cheapest], float(single.min()), float(single.max()))
    assert area == pytest.approx(KNOWN[name], abs=5e-4)
