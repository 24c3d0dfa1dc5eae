"""Paired comparisons of methods on the same questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from automix_eval.analysis.bootstrap_table import Array, Vector, first_undefined
from automix_eval.analysis.figures import Comparison, Figure
from automix_eval.analysis.method import MethodScore
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.significance import SIGNIFICANT, PairedTests, bootstrap_p, holm
from automix_eval.records.record_columns import IntArray


def compare_all(rows: Sequence[MethodScore], seed: int) -> tuple[Comparison, ...]:
    """Every pair of methods, p-values corrected over the pairs (Holm).

    Args:
        rows: Methods of one board.
        seed: Seed of the permutations.
    """
    known = [r for r in rows if not isinstance(r.mean("quality"), Undefined)]
    if len(known) < 2:
        return ()
    table = known[0].table
    documents = np.asarray(table.documents)
    tests = PairedTests(
        np.column_stack([by_document(r, documents) for r in known]), np.bincount(documents), seed
    )
    pairs = list(combinations(range(len(known)), 2))
    tested = [tests.difference(*pair) for pair in pairs]
    lifts = [r.delta_ibc() for r in known]
    delta = [difference(lifts[a], lifts[b]) for a, b in pairs]
    delta_p = [d if isinstance(d, Undefined) else bootstrap_p(d[1:], table.number) for d in delta]
    holms = holm([one.p for one in tested]), holm(delta_p)
    found = []
    for pair, test, d, dp, p_holm, dp_holm in zip(
        pairs, tested, delta, delta_p, *holms, strict=True
    ):
        a, b = (known[i] for i in pair)
        quality, cost = (difference(a.mean(n), b.mean(n)) for n in ("quality", "cost"))
        gain = replace(table.figure(quality), interval=test.interval)
        found.append(
            Comparison(
                first=a.method.name,
                second=b.method.name,
                quality=gain,
                cost=table.figure(cost),
                delta_ibc=table.figure(d),
                quality_p=Figure(test.p),
                quality_holm=Figure(p_holm),
                delta_ibc_p=Figure(dp),
                delta_ibc_holm=Figure(dp_holm),
                words=verdict(a.method.label, b.method.label, gain, test.p, p_holm),
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


def verdict(
    first: str, second: str, quality: Figure, p: float | Undefined, corrected: float | Undefined
) -> str:
    """What a test says, in words.

    Args:
        first: Label of a method.
        second: Label of another.
        quality: Difference of their qualities.
        p: Of the pair alone, as its interval.
        corrected: The same after Holm's correction over all pairs.
    """
    if (
        isinstance(p, Undefined)
        or isinstance(corrected, Undefined)
        or isinstance(quality.value, Undefined)
    ):
        return f"{first} and {second}: cannot be tested"
    if corrected >= SIGNIFICANT:
        words = f"{first} and {second} are not distinguishable in quality"
        if p < SIGNIFICANT:
            words += f" among so many pairs (p {p:.2g} as the only one, its interval)"
        return words
    better, worse = (first, second) if quality.value > 0 else (second, first)
    return f"{better} has the higher quality, {worse} the lower"
