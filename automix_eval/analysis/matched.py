"""The random router and the oracle at the cost of a method."""

from __future__ import annotations

import numpy as np

from automix_eval.analysis.bootstrap_table import Vector, figure, first_undefined
from automix_eval.analysis.curves import EndPoints, Estimate, benefit, lift, random_quality
from automix_eval.analysis.figures import NO_SINGLE_RATE, MethodFigures
from automix_eval.analysis.method import MethodScore
from automix_eval.metrics.ibc import Undefined


def matched(row: MethodScore) -> tuple[MethodFigures, MethodFigures]:
    """The random router and the oracle at the cost of a method, as rows of their own."""
    four, cost = row.four(), row.mean("cost")
    lots = random_quality(cost, four)
    # lots cannot be made to cost more than the LLM
    spent = cost if isinstance(cost, Undefined) or isinstance(four[3], Undefined) else np.minimum(
        cost, four[3]
    )  # fmt: skip
    share = _line_share(spent, four)
    label, name = row.method.label, row.method.name
    return (
        _simple(row, f"random@{name}", f"random at the cost of {label}", lots, spent, share),
        _simple(
            row, f"oracle@{name}", f"oracle at the cost of {label}", row.oracle_quality(), cost,
            NO_SINGLE_RATE,
        ),
    )  # fmt: skip


def _line_share(cost: Vector, four: EndPoints) -> Vector:
    if reason := first_undefined(cost, *four):
        return reason
    slm, llm = np.asarray(four[1]), np.asarray(four[3])
    dearer = llm > slm
    if not dearer[0]:
        return Undefined("the LLM does not cost more than the SLM: there is no line")
    share = (np.asarray(cost) - slm) / np.where(dearer, llm - slm, 1)
    return np.where(dearer, np.clip(share, 0, 1), np.nan)


def _simple(
    row: MethodScore, name: str, label: str, quality: Estimate, cost: Vector, escalation: Vector
) -> MethodFigures:
    """A row that is known by its quality and cost alone."""
    four, (values, reason) = row.four(), quality
    known: Vector = reason or values
    return MethodFigures(
        name=name,
        kind="replay",
        label=label,
        verifier="",
        runs=tuple(p.run_id for p in row.method.parts),
        seeds=tuple(p.seed for p in row.method.parts),
        quality=figure(known),
        cost=figure(cost),
        escalation_rate=figure(escalation),
        ibc=figure(*benefit(known, cost, four[0], four[1])),
        delta_ibc=figure(*lift(known, cost, four)),
        random_quality=figure(*random_quality(cost, four)),
        oracle_quality=figure(*row.oracle_quality()),
        calls_saved=figure(escalation if isinstance(escalation, Undefined) else 1 - escalation),
    )
