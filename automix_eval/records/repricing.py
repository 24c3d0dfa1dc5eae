"""Prices of recorded calls: what each question cost at each tier, by any cost model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce

import numpy as np

from automix_eval.costs.metered import MeteredCost
from automix_eval.costs.seconds import SecondsCost
from automix_eval.metrics.bootstrap import distinct_rows, first_of_kind
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.record_columns import Calls, FloatArray, RecordColumns
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable
from automix_eval.types import Answer, Call, CostModel, Role, Verification

Prices = FloatArray | Undefined
"""(n,) cost of each question, 0 where there was nothing to pay; or why it is not known."""


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """What every tier costs on every question, one entry a tier."""

    answers: tuple[Prices, ...]
    verifications: tuple[Prices, ...]


def price(rows: RecordColumns, cost: CostModel) -> Priced:
    """Price the recorded calls of some rows."""
    tiers = range(rows.num_tiers)
    timed = isinstance(cost, SecondsCost)

    beside = rows.beside if isinstance(cost, MeteredCost) else {}
    own = reduce(Calls.without, beside.values(), rows.verifications)

    def verification(call: Call) -> float:
        return cost.verification_cost(Verification(call.tier, None, calls=(call,)))

    def judging(tier: int) -> Prices:
        costs = _column(own, tier, "verify", verification, timed=timed)
        for number, calls in beside.items():
            more = _column(calls, tier, "verify", verification, number, timed=timed)
            if isinstance(costs, Undefined) or isinstance(more, Undefined):
                return costs if isinstance(costs, Undefined) else more
            costs = costs + more
        return costs

    return Priced(
        tuple(_column(rows.answers, t, "answer", answer_price(cost), timed=timed) for t in tiers),
        tuple(map(judging, tiers)),
    )


def price_answers(rows: RecordColumns, tier: int, cost: CostModel, priced_as: int) -> Prices:
    """Cost of one tier's answers at the price of another tier."""
    timed = isinstance(cost, SecondsCost)
    return _column(rows.answers, tier, "answer", answer_price(cost), priced_as, timed=timed)


def answer_price(cost: CostModel) -> Callable[[Call], float]:
    """The price of an answer whose calls are summed up in one."""
    return lambda call: cost.answer_cost(Answer(call.tier, "", (call,)))


def _column(
    calls: Calls,
    tier: int,
    role: Role,
    of: Callable[[Call], float],
    priced_as: int | None = None,
    timed: bool = False,
) -> Prices:
    """Cost per question of one tier and role; equal consumption is priced once."""
    number = calls.number[:, tier]
    paid = number > 0
    used = [calls.prompt_tokens, calls.cached_tokens, calls.generated_tokens]
    used += [calls.seconds] if timed else []
    columns = [column[paid, tier] for column in used]
    costs = np.zeros(len(number))
    kind = distinct_rows(columns, len(costs))
    assert kind is not None  # no more kinds than rows
    kinds = first_of_kind(kind)
    try:
        values = [
            of(
                Call(
                    tier if priced_as is None else priced_as,
                    role,
                    _count(prompt),
                    _count(generated),
                    None if not seconds or np.isnan(seconds[0]) else seconds[0],
                    _count(cached),
                )
            )
            for prompt, cached, generated, *seconds in zip(
                *(column[kinds].tolist() for column in columns), strict=True
            )
        ]
    except AutoMixError as err:
        return Undefined(printable(err))
    costs[paid] = np.array(values, dtype=float)[kind] if values else 0.0
    return costs


def _count(value: float) -> int | None:
    return None if np.isnan(value) else int(value)
