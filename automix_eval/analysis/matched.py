"""The random router and the oracle at the cost of a method."""

from __future__ import annotations

import numpy as np

from automix_eval.analysis.bootstrap_table import Vector, first_undefined
from automix_eval.analysis.curve_figures import (
    NO_LINE,
    EndPoints,
    benefit,
    lift,
    random_cost,
    random_quality,
)
from automix_eval.analysis.figures import NO_SINGLE_RATE, MethodFigures
from automix_eval.analysis.method import MethodScore
from automix_eval.metrics.ibc import Undefined


def matched(row: MethodScore) -> tuple[MethodFigures, MethodFigures]:
    """The random router and the oracle at the cost of a method, as rows of their own."""
    ends, cost = row.ends(), row.mean("cost")
    chance, spent = random_quality(cost, ends), random_cost(cost, ends)
    share = _line_share(spent, ends)
    label, name = row.method.label, row.method.name
    return (
        _simple(row, f"random@{name}", f"random at the cost of {label}", chance, spent, share),
        _simple(
            row, f"oracle@{name}", f"oracle at the cost of {label}", row.oracle_quality(), cost,
            NO_SINGLE_RATE,
        ),
    )  # fmt: skip


def _line_share(cost: Vector, ends: EndPoints) -> Vector:
    if reason := first_undefined(cost, *ends):
        return reason
    slm, llm = np.asarray(ends.slm_cost), np.asarray(ends.llm_cost)
    dearer = llm > slm
    if not dearer[0]:
        return NO_LINE
    share = (np.asarray(cost) - slm) / np.where(dearer, llm - slm, 1)
    return np.where(dearer, np.clip(share, 0, 1), np.nan)


def _simple(
    row: MethodScore, name: str, label: str, quality: Vector, cost: Vector, escalation: Vector
) -> MethodFigures:
    """A row that is known by its quality and cost alone."""
    figure, ends = row.table.figure, row.ends()
    return MethodFigures(
        name=name,
        kind="replay",
        label=label,
        verifier="",
        runs=tuple(p.run_id for p in row.method.runs),
        seeds=tuple(p.seed for p in row.method.runs),
        quality=figure(quality),
        cost=figure(cost),
        escalation_rate=figure(escalation),
        ibc=figure(benefit(quality, cost, ends.slm_quality, ends.slm_cost)),
        delta_ibc=figure(lift(quality, cost, ends)),
        random_quality=figure(random_quality(cost, ends)),
        oracle_quality=figure(row.oracle_quality()),
        calls_saved=figure(escalation if isinstance(escalation, Undefined) else 1 - escalation),
    )
