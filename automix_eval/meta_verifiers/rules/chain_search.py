"""One rule a tier, chosen jointly: what a policy of a whole chain is worth, and the best of them.

Up to :data:`EXACT` policies every combination of the tiers' candidates is compared. Beyond, the
search is coordinate ascent: from several starts one tier's rule at a time takes its best candidate
while the others stand, until none changes; first for a range of prices of quality, which gives the
policies from cheap to dear, then for the objective itself. That is a local optimum of the
chain and not always the best combination.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from automix_eval.meta_verifiers.objectives import Ends, Selection, select
from automix_eval.meta_verifiers.rules.cells import RuleCells
from automix_eval.metrics.ibc import TOLERANCE
from automix_eval.records.outcomes import BoolArray, FloatArray, IntArray

EXACT = 20_000
PRICES = 17
ROUNDS = 20


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Policies and what they are worth on the fitting data, means of a question.

    Attributes:
        rules: (m, N - 1) candidate of each tier.
        score: (m,) mean score.
        cost: (m,) mean cost, verification included.
        escalation: (m,) share of questions answered above the first tier.
        doubt: (m,) what chance may have added to the gain; see :func:`.cells.doubts`.
    """

    rules: IntArray
    score: FloatArray
    cost: FloatArray
    escalation: FloatArray
    doubt: FloatArray

    @classmethod
    def of_one(cls, score: float, cost: float, escalation: float) -> Points:
        """A policy without a rule."""
        numbers = (np.array([x]) for x in (score, cost, escalation, 0.0))
        return cls(np.empty((1, 0), dtype=np.intp), *numbers)

    def take(self, rows: IntArray) -> Points:
        """Some of the policies, in that order."""
        return Points(*(getattr(self, name)[rows] for name in self.__slots__))


Best = Callable[[Points], int]


def search(
    cells: RuleCells,
    masks: Sequence[BoolArray],
    doubts: Sequence[FloatArray],
    ends: Ends,
    asked: Selection,
) -> Points:
    """Every policy looked at, the one that keeps every answer first.

    Args:
        cells: The fitting data of the tiers that are asked.
        masks: For each tier but the last (m_t, K_t): whether a candidate escalates a bin.
        doubts: For each tier but the last (m_t,): see :func:`.cells.doubts`.
        ends: Those of the whole chain.
        asked: What is asked for.
    """

    def doubted(points: Points) -> Points:
        columns = zip(doubts, points.rules.T, strict=True)
        return replace(points, doubt=np.sum([d[rule] for d, rule in columns], axis=0))

    def by_objective(points: Points) -> int:
        points = doubted(points)
        chosen = select(points.score, points.cost, points.escalation, ends, asked, points.doubt)
        return chosen.index or 0

    weights = [np.asarray(m, dtype=np.float64) for m in masks]
    number = math.prod(len(m) for m in masks)
    return doubted(
        _every(cells, weights) if number <= EXACT else _ascend(cells, weights, by_objective)
    )


def front(score: FloatArray, cost: FloatArray, escalation: FloatArray) -> IntArray:
    """The policies to which no other is better at the same cost or less, cheap to dear."""
    order = np.lexsort((escalation, -score, cost))
    best = np.concatenate([[-np.inf], np.maximum.accumulate(score[order])[:-1]])
    return np.asarray(order[score[order] > best + TOLERANCE])


def along(cells: RuleCells, masks: Sequence[FloatArray], rules: Sequence[int], tier: int) -> Points:
    """The policies in which one tier's rule runs over its candidates and the others stand."""
    reach = np.ones(len(cells.counts))
    score, cost = cells.scores[:, 0].sum(), cells.costs[:, 0].sum()
    for t, (gain, paid) in enumerate(cells.steps[:tier]):
        reach = reach * masks[t][rules[t]][cells.bins[:, t]]
        score, cost = score + reach @ gain, cost + reach @ paid
    share = (masks[0][rules[0]][cells.bins[:, 0]] @ cells.counts) if tier else 0.0
    more_score, more_cost = np.zeros(len(reach)), np.zeros(len(reach))
    ahead = reach
    for t, (gain, paid) in enumerate(cells.steps[tier:], tier):
        if t > tier:
            ahead = ahead * masks[t][rules[t]][cells.bins[:, t]]
        more_score, more_cost = more_score + ahead * gain, more_cost + ahead * paid
    n, own = cells.counts.sum(), masks[tier]

    def total(weights: FloatArray) -> FloatArray:
        column = np.bincount(cells.bins[:, tier], weights=weights, minlength=own.shape[1])
        return np.asarray(own @ column)

    table = np.tile(rules, (len(own), 1))
    table[:, tier] = np.arange(len(own))
    escalated = total(cells.counts) if tier == 0 else np.full(len(own), share)
    return Points(
        table, (score + total(more_score)) / n, (cost + total(more_cost)) / n, escalated / n,
        np.zeros(len(own)),
    )  # fmt: skip


def _every(cells: RuleCells, masks: Sequence[FloatArray]) -> Points:
    last = len(masks) - 1
    before = itertools.product(*(range(len(m)) for m in masks[:-1]))
    return _concatenate([along(cells, masks, [*rules, 0], last) for rules in before])


def _ascend(cells: RuleCells, masks: Sequence[FloatArray], by_objective: Best) -> Points:
    # climbs at neighbouring prices meet the same policies; in the order in which they are met
    visited: dict[tuple[int, ...], Points] = {}
    starts = [[int(share * (len(m) - 1)) for m in masks] for share in (0.0, 0.25, 0.5, 0.75, 1.0)]

    def climb(start: Sequence[int], best: Best) -> None:
        rules = list(start)
        for _ in range(ROUNDS):
            before = list(rules)
            for tier in reversed(range(len(masks))):
                others = (tier, *rules[:tier], *rules[tier + 1 :])
                if others not in visited:
                    visited[others] = along(cells, masks, rules, tier)
                rules[tier] = best(visited[others])
            if rules == before:
                return

    score, cost = (table.sum(axis=0) / cells.counts.sum() for table in (cells.scores, cells.costs))
    for price in prices_of_quality(score, cost):
        # from the ends: whoever asks no later tier cannot see what its rules are worth
        for start in (starts[0], starts[-1]):
            climb(start, lambda p, price=price: int(np.argmax(p.score - price * p.cost)))  # type: ignore[misc]

    for start in [*starts, _best_of(visited.values(), by_objective)]:
        climb(start, by_objective)
    points = _concatenate(visited.values())
    _, first = np.unique(points.rules, axis=0, return_index=True)
    return points.take(first)


def _best_of(visited: Iterable[Points], best: Best) -> list[int]:
    points = _concatenate(visited)
    return [int(rule) for rule in points.rules[best(points)]]


def prices_of_quality(score: FloatArray, cost: FloatArray) -> FloatArray:
    """Prices of quality, around what tiers of these mean scores and costs ask for it."""
    scale = np.ptp(score) / np.ptp(cost) if np.ptp(score) > 0 and np.ptp(cost) > 0 else 1.0
    return np.asarray(scale * np.geomspace(1 / 64, 64, PRICES))


def _concatenate(parts: Iterable[Points]) -> Points:
    every = list(parts)
    return Points(*(np.concatenate([getattr(p, name) for p in every]) for name in Points.__slots__))
