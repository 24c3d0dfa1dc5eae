"""What a few escalations leave open: luck that resamples of their own answers do not show.

Six escalated answers that are all right are right in every resample, though the LLM be right in no
more than four of five such questions. What it answered to the others is known as well, and says how
much its answers vary. So the variance of the few is drawn towards that of all, as where many small
samples are compared (G. Smyth, "Linear models and empirical Bayes methods for assessing
differential expression", 2004), but never made smaller, as where the larger of two standard errors
is taken (J. Angrist and J.-S. Pischke, "Mostly Harmless Econometrics", 2009, section 8.1). Where
nearly all is escalated the same holds of the few that are kept. ``make coverage`` measures it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

# Of so many questions or more their own variance alone is believed; of fewer a share of it.
BELIEVED = 40


def unseen_variance(final: IntArray, leads: Array) -> float:
    """Variance of the mean of what tiers lead by that the answers which count do not show.

    Args:
        final: (n,) the tier at which each question ends, 0 .. N - 1.
        leads: (n, N) by how much each tier's answer is better than what it is compared with;
            finite.

    Returns:
        Above that of ``leads[i, final[i]]``, in squared units of them, 0 at least: the sum over
        tiers of what their answers vary among all questions more than among those that end there,
        both about the means of the questions that end at one tier.
    """
    counts = np.bincount(final, minlength=leads.shape[1])
    extra = 0.0
    for tier in np.flatnonzero((counts > 0) & (counts < BELIEVED)):
        means = np.bincount(final, leads[:, tier], len(counts)) / np.maximum(counts, 1)
        squares = np.square(leads[:, tier] - means[final])
        more = float(squares.mean() - squares[final == tier].mean())
        extra += more * counts[tier] * (1 - counts[tier] / BELIEVED)
    return max(0.0, float(extra)) / len(final) ** 2


def unseen_of_columns(columns: Array, escalated: npt.NDArray[np.bool_]) -> float:
    """:func:`unseen_variance` of a gain over the line from the SLM to the LLM.

    Args:
        columns: (n, 6) figures of each question, in the order of ``DELTA_IBC_COLUMNS``; finite.
        escalated: (n,) whether a tier above the first answered. What it would have answered to the
            other questions is taken to be the LLM's answer.
    """
    quality, cost, slm, slm_cost, llm, llm_cost = columns.T
    if not (dearer := float((llm_cost - slm_cost).mean())) > 0:
        return 0.0
    line = (llm - slm) * float((cost - slm_cost).mean()) / dearer
    above = np.where(escalated, quality, llm) - slm
    return unseen_variance(escalated.astype(np.intp), np.column_stack([-line, above - line]))
