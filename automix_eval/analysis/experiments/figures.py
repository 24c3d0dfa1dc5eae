"""Figures of one cell: means over seeds, with intervals over test questions and seeds together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.follow import Path
from automix_eval.metrics.bootstrap import (
    delta_ibc_values,
    document_codes,
    percentile_interval,
    resample,
)
from automix_eval.metrics.ibc import Undefined, delta_ibc
from automix_eval.records.outcomes import FloatArray, Outcomes

FIGURES = ("quality", "cost", "escalated", "delta_ibc")


@dataclass(frozen=True, slots=True, eq=False)
class Figure:
    """One figure of a cell.

    Attributes:
        value: Mean over the seeds for which it exists; None where it exists for none.
        interval: 95 % interval of that mean; None where there is none.
        std: Standard deviation over the seeds (ddof 0).
        low: Least over the seeds.
        high: Greatest.
        each: Value of every seed, None where undefined.
        reason: Why it is undefined for some seed, or has no interval.
        draws: (B,) the bootstrap values behind the interval, NaN where undefined.
    """

    value: float | None
    interval: tuple[float, float] | None
    std: float | None
    low: float | None
    high: float | None
    each: tuple[float | None, ...]
    reason: str | None = None
    draws: FloatArray = field(default_factory=lambda: np.empty(0))

    def as_json(self) -> dict[str, Any]:
        """Without the draws."""
        names = ("value", "interval", "std", "low", "high", "each", "reason")
        return {n: list(v) if isinstance(v := getattr(self, n), tuple) else v for n in names}


def figures(
    paths: Sequence[Path], test: Outcomes, grouped: bool, seed: int, resamples: int
) -> dict[str, Figure]:
    """The figures of :data:`FIGURES` of a router fitted with several seeds.

    The interval is a percentile bootstrap on two levels: each resample draws test questions (whole
    documents if ``grouped``) and as many of the seeds as there are, both with replacement, and
    takes the mean over the seeds. So it holds what another test set and other training samples
    would change; with one seed, the test set alone.

    Args:
        paths: Where the router of each seed led the test questions.
        test: Their outcomes.
        grouped: Whether rows of one document are drawn together.
        seed: Of the draws; cells on the same questions share them, so that they can be compared
            in pairs.
        resamples: B.
    """
    ends = [
        test.scores[:, 0],
        test.answer_costs[:, 0],
        test.scores[:, -1],
        test.answer_costs[:, -1],
    ]
    columns = [c for p in paths for c in (p.score, p.cost, (p.final > 0).astype(np.float64))]
    table = np.stack([*columns, *ends], axis=1)
    documents = test.documents if grouped and test.documents is not None else range(len(test))
    totals = resample(document_codes(documents), lambda rows: table[rows], resamples, seed)
    points = totals.point / totals.number
    draws = None if totals.draws is None else totals.draws / totals.weights[:, None]  # type: ignore[index]
    number = len(paths)
    picks = np.random.default_rng([seed, 1]).integers(number, size=(resamples, number))
    found = {
        name: _mean(
            [float(points[3 * s + i]) for s in range(number)], _column(draws, i, number), picks
        )
        for i, name in enumerate(FIGURES[:3])
    }
    return found | {"delta_ibc": _lift(points, draws, number, picks)}


def difference(one: Figure, other: Figure) -> Figure:
    """How much greater the first is, seed by seed and draw by draw."""
    pairs = [
        None if a is None or b is None else a - b for a, b in zip(one.each, other.each, strict=True)
    ]
    return _made(pairs, one.draws - other.draws if len(one.draws) == len(other.draws) else None)


def _column(draws: FloatArray | None, index: int, number: int) -> FloatArray | None:
    return None if draws is None else draws[:, index : 3 * number : 3]


def _lift(points: FloatArray, draws: FloatArray | None, number: int, picks: Any) -> Figure:
    ends = points[3 * number :]
    lifts = [delta_ibc(*map(float, [*points[3 * s : 3 * s + 2], *ends])) for s in range(number)]
    reason = next((v.reason for v in lifts if isinstance(v, Undefined)), None)
    values = [None if isinstance(v, Undefined) else v for v in lifts]
    drawn = None
    if draws is not None:
        last = [draws[:, 3 * number + i] for i in range(4)]
        drawn = np.stack(
            [delta_ibc_values(draws[:, 3 * s], draws[:, 3 * s + 1], *last) for s in range(number)],
            axis=1,
        )
    return _mean(values, drawn, picks, reason)


def _mean(
    values: list[Any], draws: FloatArray | None, picks: Any, reason: str | None = None
) -> Figure:
    drawn = None if draws is None else np.take_along_axis(draws, picks, axis=1).mean(axis=1)
    return _made(values, drawn, reason)


def _made(values: list[Any], draws: FloatArray | None, reason: str | None = None) -> Figure:
    known = np.array([v for v in values if v is not None], dtype=np.float64)
    if not len(known):
        return Figure(None, None, None, None, None, tuple(values), reason)
    interval: Any = None
    if draws is None:
        reason = reason or "no interval: all questions are about one document"
    elif len(known) < len(values):
        reason = f"{len(known)} of {len(values)} seeds have a value. {reason}"
    else:
        interval = percentile_interval(draws)
    if isinstance(interval, Undefined):
        interval, reason = None, interval.reason
    return Figure(
        float(known.mean()), interval, float(known.std()), float(known.min()), float(known.max()),
        tuple(values), reason, np.empty(0) if draws is None else draws,
    )  # fmt: skip


def verdict(lift: Figure) -> str:
    """``pays``, ``loses``, ``open`` (the interval of delta IBC holds 0), or why there is none."""
    if lift.value is None:
        return "undefined"
    if lift.interval is None:
        return "no interval"
    if lift.interval[0] > 0:
        return "pays"
    return "loses" if lift.interval[1] < 0 else "open"
