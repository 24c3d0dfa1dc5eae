"""Figures of one cell: means over seeds, with intervals over test questions and seeds together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from automix_eval.analysis.bootstrap_table import Vector, figure, pooled
from automix_eval.analysis.comparisons import difference as paired
from automix_eval.analysis.curve_figures import spread_of
from automix_eval.analysis.method import MethodScore
from automix_eval.metrics.ibc import Undefined

FIGURES = {
    "quality": "quality", "cost": "cost", "escalated": "escalation_rate", "delta_ibc": "delta_ibc",
}  # fmt: skip
"""Column of an experiment -> figure of a method."""


@dataclass(frozen=True, slots=True, eq=False)
class CellFigure:
    """One figure of a cell.

    Attributes:
        value: Mean over the seeds for which it exists; None where it exists for none.
        interval: 95 % interval of that mean; None where there is none.
        std: Standard deviation over the seeds (ddof 0).
        low: Least over the seeds.
        high: Greatest.
        each: Value of every seed, None where undefined.
        reason: Why it is undefined for some seed, or has no interval.
        vector: (1 + B,) the mean over the seeds, on the data and on each resample.
        documents: Number of documents that were drawn from.
    """

    value: float | None
    interval: tuple[float, float] | None
    std: float | None
    low: float | None
    high: float | None
    each: tuple[float | None, ...]
    reason: str | None
    vector: Vector
    documents: int

    @classmethod
    def of(cls, each: Sequence[float | None], vector: Vector, documents: int) -> CellFigure:
        """A figure from its value for every seed, and the mean of them as a vector."""
        known = np.array([v for v in each if v is not None])
        found = figure(vector, documents)
        reason = found.undefined
        mean, std, low, high = spread_of(known) if len(known) else (None,) * 4
        words = reason.reason if reason else None
        return cls(mean, found.ends, std, low, high, tuple(each), words, vector, documents)

    def as_json(self) -> dict[str, Any]:
        """Without the vector."""
        names = ("value", "interval", "std", "low", "high", "each", "reason")
        return {n: list(v) if isinstance(v := getattr(self, n), tuple) else v for n in names}


def cell_figures(score: MethodScore) -> dict[str, CellFigure]:
    """The figures of :data:`FIGURES` of a router fitted with several seeds.

    The interval is an expanded percentile bootstrap on two levels: each resample draws test
    questions (whole documents where they are known) and as many of the seeds as there are, both
    with replacement, and takes the mean over the seeds. So it holds what another test set and other
    training samples would change; with one seed, the test set alone. Cells on the same questions
    share the draws, so that they can be compared in pairs.
    """
    return {column: _over_seeds(score, name) for column, name in FIGURES.items()}


def _over_seeds(score: MethodScore, name: str) -> CellFigure:
    found = score.each(name)
    each = [None if isinstance(v, Undefined) else float(v[0]) for v in found]
    vector = pooled(found, score.weights)
    known = sum(v is not None for v in each)
    if isinstance(vector, Undefined) and known:
        vector = Undefined(f"{known} of {len(each)} seeds have a value. {vector.reason}")
    return CellFigure.of(each, vector, score.table.number)


def difference(one: CellFigure, other: CellFigure) -> CellFigure:
    """How much greater the first is, seed by seed and draw by draw."""
    # a router that draws nothing is the same for each seed of the other
    number = max(len(one.each), len(other.each))
    first, second = (f.each * (number // len(f.each)) for f in (one, other))
    each = [None if a is None or b is None else a - b for a, b in zip(first, second, strict=True)]
    return CellFigure.of(each, paired(one.vector, other.vector), one.documents)


def verdict(lift: CellFigure) -> str:
    """``pays``, ``loses``, ``open`` (the interval of delta IBC holds 0), or why there is none."""
    if lift.value is None:
        return "undefined"
    if lift.interval is None:
        return "no interval"
    if lift.interval[0] > 0:
        return "pays"
    return "loses" if lift.interval[1] < 0 else "open"
