"""The POMDP of AutoMix's first version: one step, three hidden states, a penalty searched over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from automix_eval.meta_verifiers.rules import bins as grid
from automix_eval.meta_verifiers.rules.cells import TierRows
from automix_eval.records.outcomes import FloatArray, IntArray

COMPLEX, SIMPLE, UNSOLVABLE = range(3)
REWARDS = 5000


@dataclass(eq=False)
class PomdpV1(grid.BinRouter):
    """Escalate a bin iff p_C (r - 100) > 100 p_S + 99 p_U, with r chosen by the objective.

    p_C, p_S, p_U are the shares of Complex, Simple and Unsolvable questions among the fitting
    questions of the bin, and r = 0, 1, ..., 4999. That is the better action of one step under the
    rewards, columns Complex, Simple, Unsolvable::

        keep      -r    0     -r - 1
        escalate  -100  -100  -r - 100

    States, from the scores of a tier and the next: Complex, the next scores higher; Simple, both
    score the same and not 0; Unsolvable, both at or below their own 10th percentile of the
    fitting data, or both 0; all others, where the tier scores higher than the next, are Simple:
    asking the next tier does not help there, and the evidence counts. At most num_bins + 2
    policies differ, each contained in the next. In a chain the later tiers are tried in the next
    tier's place as well, since a useless one may stand before a useful one.

    Source: AutoMix, arXiv 2310.12963v1, and the authors' package automix-llm ("POMDPSimple").

    Args:
        num_bins: Steps of the grid; there is one bin more, see
            :mod:`automix_eval.meta_verifiers.rules.bins`.
    """

    name: ClassVar[str] = "pomdp_v1"

    def candidates_of(self, rows: TierRows) -> list[Any]:
        """The distinct policies over all r."""
        known = rows.defined
        bins = grid.bins_of(rows, self.num_bins)

        def family(later: FloatArray) -> list[list[int]]:
            return policies(bins, label_states(rows.score, later)[known], self.num_bins)

        return grid.distinct_of_each(rows, (self.name, self.num_bins), family)


def label_states(score: FloatArray, next_score: FloatArray) -> IntArray:
    """(n,) the hidden state of each fitting question; see :class:`PomdpV1`."""
    low = np.full(len(score), True)
    for column in (score, next_score):
        # a score that occurs, not one interpolated: repeating all rows leaves it as it is
        low &= column <= np.percentile(column, 10, method="inverted_cdf")
    nothing = (score == 0) & (next_score == 0)
    states = np.where(low | nothing, UNSOLVABLE, SIMPLE)
    states[(score == next_score) & (score != 0)] = SIMPLE
    states[next_score > score] = COMPLEX
    return states


def policies(bins: IntArray, states: IntArray, num_bins: int) -> list[list[int]]:
    """The distinct policies over r = 0 .. 4999, as zeros and ones a bin, fewest escalations first.

    A bin without a question is never escalated.
    """
    size = num_bins + 1
    codes = bins * 3 + states
    counts = np.bincount(codes, minlength=3 * size).reshape(size, 3)
    share = counts / np.maximum(counts.sum(axis=1), 1)[:, None]
    hard, easy, hopeless = (share[:, state, None] for state in (COMPLEX, SIMPLE, UNSOLVABLE))
    r = np.arange(REWARDS)
    keep = hard * -r + hopeless * (-r - 1)
    escalate = hard * -100 + easy * -100 + hopeless * (-r - 100)
    # once a bin is escalated it stays so for every larger r
    better = escalate > keep
    turn = np.where(better.any(axis=1), better.argmax(axis=1), REWARDS)
    steps = np.unique(np.append(turn[turn < REWARDS], 0))
    rules: list[list[int]] = (turn <= steps[:, None]).astype(int).tolist()
    return rules
