"""How well a verifier's confidence tells right answers from wrong ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix_eval.metrics.ibc import Undefined

CORRECT_ABOVE = 0.5


def is_correct(score: float) -> bool:
    """Whether an answer counts as correct: its score in [0, 1] is above 0.5."""
    return score > CORRECT_ABOVE


def auroc(confidences: Sequence[float], correct: Sequence[bool]) -> float | Undefined:
    """Area under the ROC curve of the confidence as a predictor of correctness.

    Args:
        confidences: Confidence of each answer, shape (n,), any monotone scale.
        correct: Whether each answer is correct, shape (n,); here score > 0.5
            (:func:`is_correct`).

    Returns:
        The chance that a correct answer has the higher confidence, ties counting half (the
        statistic of Mann and Whitney by its number of pairs): 1 is perfect, 0.5 is chance.
        Undefined for fewer than two answers and where all are correct or none is.

    Raises:
        ValueError: The lengths differ or a confidence is not finite.
    """
    values, labels = np.asarray(confidences, dtype=float), np.asarray(correct, dtype=bool)
    if values.ndim != 1 or values.shape != labels.shape:
        raise ValueError(f"need two lists of equal length, got {values.shape} and {labels.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a confidence is not a finite number: leave undefined ones out")
    if len(values) < 2:
        return Undefined(f"AUROC needs two answers with a confidence or more, not {len(values)}")
    if labels.all() or not labels.any():
        which = "all" if labels.any() else "none"
        return Undefined(f"AUROC needs correct and incorrect answers, {which} of them are correct")
    from scipy.stats import mannwhitneyu  # imported late: it takes a moment

    right, wrong = values[labels], values[~labels]
    # Its p-value is not asked for; the exact one would take long.
    pairs_won = mannwhitneyu(right, wrong, method="asymptotic").statistic
    return float(pairs_won / (len(right) * len(wrong)))
