"""Every policy worth having, from the cheapest to the dearest.

The value of the POMDP is the maximum over policies of fixed + x * slope, convex in x. The policies
on it are found exactly, widest gap first: two neighbours tie at one x; either a third is better
there, or the two are neighbours for good and only a mixture lies between them. In a constrained
POMDP a mixture of two deterministic policies is optimal for a budget between theirs (Altman,
Constrained Markov Decision Processes, 1999), so gaps are filled with mixtures.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

import numpy as np

from automix_eval.meta_verifiers.pomdp.policy import follow_tables
from automix_eval.meta_verifiers.pomdp.problem import PomdpCells
from automix_eval.meta_verifiers.pomdp.solve import Actions, Solution, Solver
from automix_eval.records.outcomes import FloatArray, IntArray

# Deterministic policies and mixtures at most, about evenly spaced between cheapest and dearest.
MAX_POLICIES = 60
MAX_MIXTURES = 60
# The least distance between two policies, as a share of the whole range.
RESOLUTION = 1e-3
# A third policy is better where two tie if it gains more than this share of the range.
GAIN = 1e-10


@dataclass(frozen=True, slots=True, eq=False)
class Member:
    """One policy of the family.

    Attributes:
        low: The policy of most questions' or of all, the cheaper of the two.
        high: The policy of the others; the same where there is no mixture.
        share: Share of questions that follow ``high``.
    """

    low: Solution
    high: Solution
    share: float

    @property
    def x(self) -> float:
        """The parameter: where the two tie, if there are two."""
        return self.low.x if self.share == 0.0 else _tie(self.low, self.high)


def family(solver: Solver, largest: float, mixtures: bool) -> list[Member]:
    """The policies of x in [0, largest], in the order of their slopes (falling cost).

    Args:
        solver: The problem.
        largest: An x at which only the slope matters.
        mixtures: Whether to fill gaps with mixtures of neighbours.
    """
    corners = _corners(solver, solver.solve(0.0), solver.solve(largest))
    members = [Member(corners[0], corners[0], 0.0)]
    gaps = _gaps(corners)
    unit = max(gaps.sum() / MAX_MIXTURES, RESOLUTION)
    for (before, after), gap in zip(itertools.pairwise(corners), gaps, strict=True):
        pieces = int(np.ceil(gap / unit)) if mixtures else 1
        members += [Member(before, after, k / pieces) for k in range(1, pieces)]
        members.append(Member(after, after, 0.0))
    return members


def replay(actions: Actions, cells: PomdpCells, first: int = 0) -> tuple[float, float, float]:
    """Mean score, mean cost and share above the first tier of a policy on the fitting questions."""
    total = cells.counts.sum()
    final, cost = play(actions, cells.symbols, cells.levels, cells.costs)
    score = cells.scores[np.arange(len(final)), final].sum() / total
    return float(score), float(cost.sum() / total), float(cells.counts[final > first].sum() / total)


def play(
    actions: Actions, symbols: IntArray, levels: IntArray, costs: FloatArray
) -> tuple[IntArray, FloatArray]:
    """The final tier of each row, and the cost of all tiers on its way; costs are (rows, N)."""
    number, num_tiers = costs.shape
    shown, level = (dict(enumerate(table.T)) for table in (symbols, levels))
    walk = follow_tables(actions, range(num_tiers), num_tiers, shown, level, number)
    paid = np.zeros(number)
    for column, asked in zip(costs.T, walk.visited.T, strict=True):
        paid += column * asked
    return walk.final, paid


def _corners(solver: Solver, first: Solution, final: Solution) -> list[Solution]:
    spread = np.array([_positive(first.fixed - final.fixed), _positive(final.slope - first.slope)])
    found = {0: first, 1: final}
    after = {0: 1}
    heap = [(-_distance(first, final, spread), 0, 1)]
    while heap and len(found) < MAX_POLICIES:
        _, left, right = heapq.heappop(heap)
        a, b = found[left], found[right]
        if abs(b.slope - a.slope) <= GAIN * spread[1]:
            continue
        x = _tie(a, b)
        middle = solver.solve(x)
        gain = middle.fixed + x * middle.slope - (a.fixed + x * a.slope)
        if gain <= GAIN * (spread[0] + x * spread[1]):
            continue
        at = len(found)
        found[at] = middle
        after[left], after[at] = at, right
        for pair in ((left, at), (at, right)):
            gap = _distance(found[pair[0]], found[pair[1]], spread)
            if gap > RESOLUTION:
                heapq.heappush(heap, (-gap, *pair))
    order = [0]
    while order[-1] in after:
        order.append(after[order[-1]])
    corners = [found[0]]
    for at in order[1:]:
        if _distance(corners[-1], found[at], spread) > GAIN:
            corners.append(found[at])
    return corners


def _gaps(corners: list[Solution]) -> FloatArray:
    spread = np.array(
        [_positive(corners[0].fixed - corners[-1].fixed),
         _positive(corners[-1].slope - corners[0].slope)]
    )  # fmt: skip
    return np.array([_distance(a, b, spread) for a, b in itertools.pairwise(corners)])


def _distance(a: Solution, b: Solution, spread: FloatArray) -> float:
    return float(abs(a.fixed - b.fixed) / spread[0] / 2 + abs(a.slope - b.slope) / spread[1] / 2)


def _tie(a: Solution, b: Solution) -> float:
    """The x at which two policies are worth the same."""
    return (a.fixed - b.fixed) / (b.slope - a.slope)


def _positive(value: float) -> float:
    return abs(value) or 1.0
