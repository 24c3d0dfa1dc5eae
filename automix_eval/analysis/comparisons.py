"""Paired comparisons of methods on the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from automix_eval.analysis.bootstrap_table import Array, Vector, figure, first_undefined
from automix_eval.analysis.curve_figures import Estimate
from automix_eval.analysis.figures import Comparison, Figure
from automix_eval.analysis.method import MethodScore
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.significance import SIGNIFICANT, bootstrap_p, holm, paired_test
from automix_eval.records.record_columns import IntArray


def compare_all(
    rows: Sequence[MethodScore], documents: IntArray, seed: int
) -> tuple[Comparison, ...]:
    """Every pair of methods, p-values corrected over the pairs (Holm).

    Args:
        rows: Methods of one board.
        documents: (n,) document of each question.
        seed: Seed of the permutations.
    """
    known = [r for r in rows if not isinstance(r.mean("quality"), Undefined)]
    sums = {id(r): by_document(r, documents) for r in known}
    pairs = list(combinations(known, 2))
    quality_p = [paired_test(sums[id(a)] - sums[id(b)], seed) for a, b in pairs]
    lifts = {id(r): r.delta_ibc() for r in known}
    delta = [_difference_of_lifts(lifts[id(a)], lifts[id(b)]) for a, b in pairs]
    delta_p = [d if isinstance(d, Undefined) else bootstrap_p(d[1:]) for d in delta]
    found = []
    for (a, b), d, p, p_holm, dp, dp_holm in zip(
        pairs, delta, quality_p, holm(quality_p), delta_p, holm(delta_p), strict=True
    ):
        quality, cost = (difference(a.mean(n), b.mean(n)) for n in ("quality", "cost"))
        found.append(
            Comparison(
                first=a.method.name,
                second=b.method.name,
                quality=figure(quality),
                cost=figure(cost),
                delta_ibc=figure(d),
                quality_p=Figure(p),
                quality_holm=Figure(p_holm),
                delta_ibc_p=Figure(dp),
                delta_ibc_holm=Figure(dp_holm),
                words=verdict(a.method.label, b.method.label, figure(quality), p_holm),
            )
        )
    return tuple(found)


def by_document(row: MethodScore, documents: IntArray) -> Array:
    """(D,) summed score of a method on each document, the mean over its seeds."""
    every = np.arange(len(documents))
    scores = [part.routing.values("quality", every) for part in row.method.parts]
    return np.asarray(np.bincount(documents, np.mean(scores, axis=0)), dtype=float)


def difference(first: Vector, second: Vector) -> Vector:
    """First minus second, paired."""
    if reason := first_undefined(first, second):
        return reason
    gap: Array = np.asarray(first) - np.asarray(second)
    return gap


def _difference_of_lifts(first: Estimate, second: Estimate) -> Vector:
    reason = first[1] or second[1]
    return difference(first[0], second[0]) if reason is None else reason


def verdict(first: str, second: str, quality: Figure, p: float | Undefined) -> str:
    """What a test says, in words."""
    if isinstance(p, Undefined) or isinstance(quality.value, Undefined):
        return f"{first} and {second}: cannot be tested"
    if p >= SIGNIFICANT:
        return f"{first} and {second} are not distinguishable in quality"
    better, worse = (first, second) if quality.value > 0 else (second, first)
    return f"{better} has the higher quality, {worse} the lower"
