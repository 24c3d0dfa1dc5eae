"""How well a confidence says where the LLM helps: benefit is the LLM's score minus the SLM's.

A confidence that tells right answers from wrong ones may still not say where to escalate: on the
questions that neither model can answer (arXiv 2310.12963, section 3.2, the state Unsolvable) the
SLM is unsure and the LLM of no use.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from automix_eval.metrics.calibration import auroc
from automix_eval.metrics.ibc import Undefined

HELPS_ABOVE = 0.1
"""The LLM helps where its score is higher than the SLM's by more than this share of the scale."""


def helps(benefit: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether the LLM's answer is better, by more than :data:`HELPS_ABOVE`."""
    return benefit > HELPS_ABOVE


def benefit_auroc(
    confidence: npt.NDArray[np.float64], benefit: npt.NDArray[np.float64]
) -> float | Undefined:
    """Area under the ROC curve of low confidence as a predictor that the LLM helps.

    Args:
        confidence: (n,) finite.
        benefit: (n,) LLM score minus SLM score in units of the scores' scale, finite.

    Returns:
        A number in [0, 1], 0.5 for a confidence that says nothing of it; undefined where the LLM
        helps on all questions or on none.
    """
    helped = helps(benefit)
    if (len(helped) > 1 and helped.all()) or not helped.any():
        which = "every question" if len(helped) and helped.all() else "no question"
        return Undefined(f"the LLM's score is higher by more than {HELPS_ABOVE:g} on {which}")
    return auroc((-confidence).tolist(), helped.tolist())


def benefit_correlation(
    confidence: npt.NDArray[np.float64], benefit: npt.NDArray[np.float64]
) -> float | Undefined:
    """Kendall's rank correlation (tau b) of low confidence and benefit.

    Args:
        confidence: (n,) finite.
        benefit: (n,) LLM score minus SLM score, finite.

    Returns:
        A number in [-1, 1], 0 for a confidence that says nothing of it; undefined where either is
        the same for all questions.
    """
    for name, values in (("confidence", confidence), ("benefit", benefit)):
        if len(values) < 2 or np.ptp(values) == 0:
            return Undefined(f"a rank correlation needs two different values of {name}")
    order = np.lexsort((benefit, -confidence))
    first, second = (np.unique(v, return_inverse=True)[1][order] for v in (-confidence, benefit))
    pairs = len(order) * (len(order) - 1) / 2
    first_tied, second_tied = _ties(first), _ties(second)
    both_tied = _ties(first * (int(second.max()) + 1) + second)
    # concordant less discordant pairs; in this order a discordant pair is an inversion
    excess = pairs - first_tied - second_tied + both_tied - 2 * _inversions(second)
    tau = excess / np.sqrt(pairs - first_tied) / np.sqrt(pairs - second_tied)
    return float(np.clip(tau, -1, 1))


def _ties(ranks: npt.NDArray[np.intp]) -> float:
    """Pairs of equal ranks."""
    counts = np.unique(ranks, return_counts=True)[1].astype(float)
    return float((counts * (counts - 1) / 2).sum())


def _inversions(ranks: npt.NDArray[np.intp]) -> int:
    """Pairs of which the first has the larger rank: bit by bit, among ranks of equal higher bits.

    ``scipy.stats`` counts them too; importing it takes longer than all figures of a small report.
    """
    found = 0
    for bit in reversed(range(int(ranks.max()).bit_length())):
        larger = (ranks >> bit) & 1
        before = np.cumsum(larger)
        starts = np.flatnonzero(np.diff(ranks >> (bit + 1), prepend=-1))
        in_group = before - np.repeat(
            before[starts] - larger[starts], np.diff(starts, append=len(ranks))
        )
        found += int(in_group[larger == 0].sum())
        ranks = ranks[np.argsort(ranks >> bit, kind="stable")]
    return found
