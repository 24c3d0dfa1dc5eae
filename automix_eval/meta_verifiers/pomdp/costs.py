"""What a question's own cost tells of the tiers ahead: the POMDP's cost levels.

The prompt that makes a question dear at one tier makes it dear at the next. What the first answer
has cost is known when it is judged, and is an observed component of the state: its level. Only
lambda * cost enters the reward, so each level is the same problem at prices of its own, and the
solutions of all levels together are the exact solution. Before the first tier the level is unknown,
and the value of starting there is the mean over the levels.

Levels are quantiles of the first answer's cost on the fitting questions. E[cost of tier j | level]
is the mean of each level's questions, made to rise with the level (isotonic regression; the overall
mean stays), and shrunk to the overall mean as far as the differences may be chance. The level is
taken to be independent of the confidences and of Perf. Where all questions cost the same there is
one level, and nothing is estimated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from automix_eval.meta_verifiers.pomdp.density import make_axis
from automix_eval.records.outcomes import FloatArray, IntArray

# Costs that differ by less than this share of their mean are equal but for rounding.
SAME = 1e-9


@dataclass(frozen=True, slots=True, eq=False)
class Levels:
    """The cost levels of questions that a chain asks at one tier first.

    Attributes:
        edges: (L - 1,) an answer that costs an edge or more lies in a later level.
        shares: (L,) share of the fitting questions in each.
        ratios: (L, N) E[cost of asking a tier | level] / E[cost of asking it].
    """

    edges: FloatArray
    shares: FloatArray
    ratios: FloatArray

    def __len__(self) -> int:
        return len(self.shares)


def one_level(num_tiers: int) -> Levels:
    """All questions cost the same, as far as is known."""
    return Levels(np.empty(0), np.ones(1), np.ones((1, num_tiers)))


def make_levels(answered: FloatArray, paid: FloatArray, tier: int, number: int) -> Levels:
    """The levels seen at a tier.

    Args:
        answered: (n,) cost of its answers.
        paid: (n, N) cost of asking each tier, verification included.
        tier: The tier.
        number: Levels at most.
    """
    mean = float(answered.mean())
    if number == 1 or float(np.ptp(answered)) <= SAME * mean:
        return one_level(paid.shape[1])
    axis = make_axis(answered, number)
    at = level_of(axis.edges, answered)
    counts = np.bincount(at, minlength=len(axis) - 1).astype(np.float64)
    ratios = np.ones((len(counts), paid.shape[1]))
    # what the tier itself cost is spent when its level is known
    for j in range(tier + 1, paid.shape[1]):
        ratios[:, j] = _expected(at, counts, paid[:, j])
    return Levels(axis.edges, axis.shares[:-1], ratios)


def level_of(edges: FloatArray, costs: FloatArray) -> IntArray:
    """The level of each answer's cost."""
    return edges.searchsorted(costs, side="right")


def _expected(at: IntArray, counts: FloatArray, paid: FloatArray) -> FloatArray:
    # seconds to import, and only questions of unequal costs need it
    from sklearn.isotonic import isotonic_regression

    mean = float(paid.mean())
    if mean == 0.0:
        return np.ones(len(counts))
    relative = paid / mean
    means = np.bincount(at, weights=relative, minlength=len(counts)) / counts
    within = float(((relative - means[at]) ** 2).mean())
    rising = isotonic_regression(means, sample_weight=counts)
    between = float(counts @ (rising - 1.0) ** 2 / counts.sum())
    chance = within * (len(counts) - 1) / counts.sum()
    kept = max(0.0, 1.0 - chance / between) if between > 0 else 0.0
    return np.asarray(1.0 + kept * (rising - 1.0))
