"""Fits a router on outcomes and scores it, its whole range and its rivals on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.meta_verifiers.follow import Path, follow
from automix_eval.metrics.bootstrap import (
    DELTA_IBC_COLUMNS,
    Interval,
    delta_ibc_values,
    distinct_rows,
    first_of_kind,
    multinomial_means,
    paired_intervals,
    percentile_interval,
)
from automix_eval.metrics.curves import STEP_AREA, Point, least_cost, step_area
from automix_eval.metrics.ibc import Undefined, delta_ibc
from automix_eval.records.outcomes import FloatArray, Outcomes

QUALITY_SHARES = ("0.95", "0.99", "1.0")
# Above this many different rows, drawing their counts is no faster than drawing rows.
_FEW_KINDS = 10_000

CurvePoint = tuple[float, float, float | None]
"""(mean cost, mean performance, parameter)"""


@dataclass(frozen=True, slots=True)
class Reference:
    """A rival's mean performance and cost on the test questions, nobody verifying."""

    name: str
    performance: float
    cost: float


@dataclass(frozen=True, slots=True)
class Score:
    """What a fitted router does on test questions.

    Attributes:
        performance: Mean score of the final answers.
        cost: Mean cost of a question, verifications included.
        escalation: Share of the questions that end at each tier.
        delta_ibc: Lift over the line from the first tier to the last (arXiv 2310.12963).
        intervals: 95 % bootstrap intervals of ``performance``, ``cost`` and ``delta_ibc``, paired.
        curve: Every policy of the router's range, ascending in cost.
        cost_at: Least cost on the curve that reaches a share of the last tier's performance.
        area: :func:`~automix_eval.metrics.curves.step_area` between the single tiers' costs.
        tiers: Each tier alone.
        random: Lots drawn between the first and the last tier, at the router's mean cost.
        oracle: The best tier of each question, the cheapest of equals.
    """

    performance: float
    cost: float
    escalation: tuple[float, ...]
    delta_ibc: float | Undefined
    intervals: Mapping[str, Interval]
    curve: tuple[CurvePoint, ...]
    cost_at: Mapping[str, float | None]
    area: float | Undefined
    tiers: tuple[Reference, ...]
    random: Reference | Undefined
    oracle: Reference


def score(router: MetaVerifier, test: Outcomes, grouped: bool, seed: int, resamples: int) -> Score:
    """Score a fitted router; no model is called.

    Args:
        router: Fitted, or of a kind that learns nothing.
        test: Outcomes of every tier.
        grouped: Whether ``test.documents`` names documents, to be resampled as a whole.
        seed: Of the bootstrap.
        resamples: Number of bootstrap resamples.
    """
    path = follow(router, test)
    tiers = tuple(
        Reference(name, float(test.scores[:, t].mean()), float(test.answer_costs[:, t].mean()))
        for t, name in enumerate(test.names)
    )
    slm, llm = tiers[0], tiers[-1]
    performance, cost = float(path.score.mean()), float(path.cost.mean())
    lift = delta_ibc(performance, cost, slm.performance, slm.cost, llm.performance, llm.cost)
    points = curve(router, test)
    ends = sorted(tiers, key=lambda t: t.cost)
    attained: list[Point] = [(c, p) for c, p, _ in points]
    return Score(
        performance,
        cost,
        tuple((np.bincount(path.final, minlength=test.num_tiers) / len(test)).tolist()),
        lift,
        _intervals(path, test, grouped, seed, resamples, lift),
        points,
        {s: least_cost(attained, float(s) * llm.performance) for s in QUALITY_SHARES},
        step_area([*attained, (ends[0].cost, ends[0].performance)], ends[0].cost, ends[-1].cost),
        tiers,
        _random(cost, slm, llm),
        _oracle(test),
    )


def curve(router: MetaVerifier, test: Outcomes) -> tuple[CurvePoint, ...]:
    """(mean cost, mean score, parameter) of every policy of a router's range, ascending."""
    policies = router.sweep()
    rows, count = test, np.ones(len(test))
    if len(policies) > 1 and not (router.needs_texts or router.needs_hindsight):
        rows, count = joined(test)
    points: list[CurvePoint] = []
    for parameter, one in policies:
        path = follow(one, rows)
        cost, performance = (float((v * count).sum() / len(test)) for v in (path.cost, path.score))
        points.append((cost, performance, parameter))
    return tuple(sorted(points, key=lambda p: (p[0], p[1], p[2] is not None, p[2] or 0.0)))


def joined(test: Outcomes) -> tuple[Outcomes, FloatArray]:
    """Rows whose confidences and signals are equal as one row of means, and how many they are.

    A router that reads nothing else treats them alike, so every mean over questions is kept.
    """
    tables = [test.confidences, *test.signals.values()]
    columns = [t[:, i] for t in tables for i in range(test.num_tiers)]
    cell = distinct_rows(columns, len(test) // 4)
    if cell is None:
        return test, np.ones(len(test))
    count = np.bincount(cell)

    def means(table: FloatArray) -> FloatArray:
        sums = [np.bincount(cell, table[:, t], minlength=len(count)) for t in range(test.num_tiers)]
        return np.stack(sums, axis=1) / count[:, None]

    return (
        replace(
            test.take(first_of_kind(cell)),
            scores=means(test.scores),
            answer_costs=means(test.answer_costs),
            verification_costs=means(test.verification_costs),
        ),
        count.astype(np.float64),
    )


def _intervals(
    path: Path,
    test: Outcomes,
    grouped: bool,
    seed: int,
    resamples: int,
    lift: float | Undefined,
) -> dict[str, Interval]:
    scores, costs = test.scores, test.answer_costs
    values = (path.score, path.cost, scores[:, 0], costs[:, 0], scores[:, -1], costs[:, -1])
    columns = dict(zip(DELTA_IBC_COLUMNS, values, strict=True))
    found = _resampled(columns, test, grouped, seed, resamples)
    # an interval of a figure that does not exist would be one of something else
    return {
        "performance": found["quality"],
        "cost": found["cost"],
        "delta_ibc": lift if isinstance(lift, Undefined) else found["delta_ibc"],
    }


def _resampled(
    columns: Mapping[str, FloatArray], test: Outcomes, grouped: bool, seed: int, resamples: int
) -> dict[str, Interval]:
    if grouped and test.documents is not None:
        return paired_intervals(columns, test.documents, seed=seed, resamples=resamples)
    kind = distinct_rows(list(columns.values()), min(_FEW_KINDS, len(test) // 4))
    if kind is None:
        return paired_intervals(columns, range(len(test)), seed=seed, resamples=resamples)
    means = multinomial_means(list(columns.values()), kind, resamples, seed)
    found = {name: percentile_interval(means[:, i]) for i, name in enumerate(columns)}
    lift = delta_ibc_values(*(means[:, list(columns).index(n)] for n in DELTA_IBC_COLUMNS))
    return {**found, "delta_ibc": percentile_interval(lift)}


def _random(cost: float, slm: Reference, llm: Reference) -> Reference | Undefined:
    if llm.cost <= slm.cost or cost < slm.cost:
        return Undefined("no lots between the first tier and the last cost as much")
    share = min(1.0, (cost - slm.cost) / (llm.cost - slm.cost))
    return Reference(
        "random at the same cost",
        slm.performance + share * (llm.performance - slm.performance),
        slm.cost + share * (llm.cost - slm.cost),
    )


def _oracle(test: Outcomes) -> Reference:
    best = test.scores.max(axis=1, keepdims=True)
    price = np.where(test.scores == best, test.answer_costs, np.inf)
    return Reference("oracle", float(best.mean()), float(price.min(axis=1).mean()))


def as_json(found: Score) -> dict[str, Any]:
    """The figures as JSON; a figure that does not exist is null, beside the reason."""
    undefined = {
        "delta_ibc": found.delta_ibc,
        "auc": found.area,
        "random": found.random,
        **{f"{name}_interval": value for name, value in found.intervals.items()},
    }
    return {
        "performance": found.performance,
        "cost": found.cost,
        "escalation": list(found.escalation),
        "delta_ibc": _value(found.delta_ibc),
        "undefined_reason": _reason(found.delta_ibc),
        "intervals": {name: _value(value) for name, value in found.intervals.items()},
        "curve": [list(point) for point in found.curve],
        "cost_at": dict(found.cost_at),
        "auc": _value(found.area),
        "auc_definition": STEP_AREA,
        "references": {
            "tiers": [_reference(t) for t in found.tiers],
            "random": None if isinstance(found.random, Undefined) else _reference(found.random),
            "oracle": _reference(found.oracle),
        },
        "undefined": {k: v.reason for k, v in undefined.items() if isinstance(v, Undefined)},
    }


def _reference(one: Reference) -> dict[str, Any]:
    return {"name": one.name, "performance": one.performance, "cost": one.cost}


def _value(value: Any) -> Any:
    if isinstance(value, Undefined):
        return None
    return list(value) if isinstance(value, tuple) else value


def _reason(value: Any) -> str | None:
    return value.reason if isinstance(value, Undefined) else None
