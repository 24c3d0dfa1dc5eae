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
"""The LLM helps where its score is higher than the SLM's by more than this."""


def helps(benefit: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    """Whether the LLM's answer is better, by more than :data:`HELPS_ABOVE`."""
    return benefit > HELPS_ABOVE


def benefit_auroc(
    confidence: npt.NDArray[np.float64], benefit: npt.NDArray[np.float64]
) -> float | Undefined:
    """Area under the ROC curve of low confidence as a predictor that the LLM helps.

    Args:
        confidence: (n,) finite.
        benefit: (n,) LLM score minus SLM score, finite.

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
    from scipy.stats import kendalltau  # imported late: it takes a moment

    return float(kendalltau(-confidence, benefit).statistic)
