"""The price of greedy routing: policies played on predicted scores, pure functions of numbers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix_eval.meta_verifiers.baselines.common import SWEEP, thinned
from automix_eval.meta_verifiers.objectives import Chosen, Ends, Selection, select
from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes


def asking_costs(rows: Outcomes) -> FloatArray:
    """(N,) mean cost of asking each tier; all but the last are verified."""
    costs = rows.answer_costs.mean(axis=0)
    costs[:-1] += rows.verification_costs.mean(axis=0)[:-1]
    return np.asarray(costs)


def best(predicted: FloatArray, costs: FloatArray, price: float) -> IntArray:
    """(n,) steps to the tier with the best predicted score - price * cost, the first of equals.

    Args:
        predicted: (n, m) scores of the answer at hand and of each later tier.
        costs: (m,) cost of asking each; that of the answer at hand is spent, and not counted.
        price: Score that one unit of cost must buy.
    """
    bill = price * costs
    bill[0] = 0.0
    return np.asarray((predicted - bill).argmax(axis=1))


def single_points(chosen: Sequence[IntArray], rows: Outcomes) -> FloatArray:
    """(3, m) mean score, mean cost and share above the first tier, of m policies of single tiers.

    Args:
        chosen: Of each policy, (n,) the one tier that is asked.
        rows: What really happened.
    """
    every = np.arange(len(rows))
    tables = (rows.scores, rows.answer_costs)
    means = [[table[every, to].mean() for to in chosen] for table in tables]
    return np.array([*means, [(to > 0).mean() for to in chosen]])


def play(
    predicted: Sequence[FloatArray], costs: FloatArray, price: float, rows: Outcomes
) -> tuple[IntArray, FloatArray]:
    """(n,) final tiers and (n,) costs of greedy routing.

    Args:
        predicted: For each tier but the last, (ways, n, N - tier) predictions; see
            :func:`automix_eval.meta_verifiers.baselines.features.visits` for the ways.
        costs: (N,) mean cost of asking each tier.
        price: Score that one unit of cost must buy.
        rows: What really happened.
    """
    last = rows.num_tiers - 1
    step = rows.asking_costs
    at, way = np.zeros(len(rows), dtype=np.intp), np.zeros(len(rows), dtype=np.intp)
    cost = step[:, 0].copy()
    for tier in range(last):
        here = np.flatnonzero(at == tier)
        to = tier + best(predicted[tier][way[here], here], costs[tier:], price)
        gone = here[to > tier]
        at[gone] = to[to > tier]
        cost[gone] += step[gone, at[gone]]
        if tier:
            way[gone] |= 1 << (tier - 1)
    return at, cost


def choose_price(
    predicted: Sequence[FloatArray], costs: FloatArray, rows: Outcomes, asked: Selection
) -> tuple[FloatArray, int, Chosen]:
    """Candidate prices from cheap policies to dear ones, and which of them the objective takes."""
    prices = _candidates(predicted, costs)
    index = np.arange(len(rows))
    played = [play(predicted, costs, price, rows) for price in prices.tolist()]
    score = np.array([rows.scores[index, at].mean() for at, _ in played])
    cost = np.array([paid.mean() for _, paid in played])
    escalation = np.array([(at > 0).mean() for at, _ in played])
    if asked.objective != "ibc":
        cost[0] = rows.answer_costs[:, 0].mean()  # all are kept, and nothing is verified
    # a cheaper price may skip a tier and so cost less, in chains of three tiers or more
    order = np.argsort(cost, kind="stable")
    chosen = select(score[order], cost[order], escalation[order], Ends.of(rows), asked)
    # no index: the objective exists for no candidate, and the first keeps every answer
    return prices[order], chosen.index or 0, chosen


def _candidates(predicted: Sequence[FloatArray], costs: FloatArray) -> FloatArray:
    """Falling prices between those at which predicted choices change, one beyond either end.

    Negative prices are among them where a later tier is predicted to be worse: they complete the
    family up to the policy that always asks the last tier.
    """
    worth = [np.zeros(1)]
    for tier, table in enumerate(predicted):
        for step in range(1, table.shape[-1]):
            if costs[tier + step] > 0:
                gain = table[-1, :, step] - table[-1, :, 0]
                worth.append(gain / costs[tier + step])
    found = np.concatenate(worth)
    unit = float(np.abs(found).max()) or 1.0
    # predictions that differ by rounding change together: no price may lie between them
    values = np.unique(np.round(found / unit, 9)) * unit
    between = thinned((values[:-1] + values[1:]) / 2, SWEEP - 2)
    # far enough that models fitted on all rows, which predict a little otherwise, agree
    return np.concatenate([[values[-1] + unit], between[::-1], [values[0] - unit]])
