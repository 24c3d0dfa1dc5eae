"""The three hidden states of AutoMix's first version: Simple, Complex, Unsolvable."""

from __future__ import annotations

import numpy as np

from automix_eval.records.outcomes import FloatArray, IntArray

STATES = ("Simple", "Complex", "Unsolvable")
SIMPLE, COMPLEX, UNSOLVABLE = range(3)


def label_states(keep: FloatArray, after: FloatArray) -> IntArray:
    """The hidden state of each question for a pair of tiers, from the scores of the two.

    The first that holds. Complex: the upper tier scores higher. Unsolvable: both score 0, or both
    are at or below their own 10th percentile and below their own best score (without the last
    condition a tier that is nearly always right would make questions that both get right
    unsolvable). Simple: all others, those where the upper tier scores lower included.
    Source: AutoMix, arXiv 2310.12963, first version; there the last are thrown away.

    Args:
        keep: (n,) scores of the lower tier.
        after: (n,) scores of the upper tier.
    """
    low = np.ones(len(keep), dtype=np.bool_)
    for score in (keep, after):
        # A score that occurs, not one interpolated: repeating all rows leaves it as it is.
        tenth = np.percentile(score, 10, method="inverted_cdf")
        low &= (score <= tenth) & (score < score.max())
    states = np.where(low | ((keep == 0) & (after == 0)), UNSOLVABLE, SIMPLE)
    return np.where(after > keep, COMPLEX, states)
