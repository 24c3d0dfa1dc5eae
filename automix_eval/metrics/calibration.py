"""How well a confidence tells right answers from wrong ones, and how well it is calibrated.

A bootstrap needs AUROC and calibration error for a thousand weightings of the same answers. They
depend on the answers through how many right and wrong ones have each confidence, so answers are
counted in cells of equal confidence once and only the counts are weighted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from automix_eval.metrics.ibc import Undefined

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

BINS = 10  # of the calibration error
# Above this many different confidences neighbours share a cell, in the intervals only.
MAX_CELLS = 100


@dataclass(frozen=True, slots=True, eq=False)
class ConfidenceCells:
    """Answers by confidence.

    Attributes:
        codes: (n,) cell of each answer, ascending with the confidence; -1 for answers without a
            confidence or a score.
        confidence: (m,) mean confidence of each cell.
        exact: Whether all answers of a cell have one confidence.
    """

    codes: IntArray
    confidence: Array
    exact: bool

    @classmethod
    def of(cls, confidences: Array, known: npt.NDArray[np.bool_]) -> ConfidenceCells:
        """Cells of the answers in the mask ``known``; each lies within one of the ten bins."""
        values, inverse = np.unique(confidences[known], return_inverse=True)
        exact = len(values) <= MAX_CELLS
        cell = np.arange(len(values))
        if not exact:
            rank = cell * (MAX_CELLS - BINS) // len(values)
            joint = np.stack([bin_of(values, BINS), rank])
            cell = np.unique(joint, axis=1, return_inverse=True)[1].ravel()
        codes = np.full(len(known), -1)
        codes[known] = cell[inverse]
        mean = np.bincount(codes[known], confidences[known]) / np.bincount(codes[known])
        # a mean that rounding carries over the end of a bin would be counted in the next one
        first, last = np.diff(cell, prepend=-1) > 0, np.diff(cell, append=len(cell)) > 0
        mean = np.clip(mean, values[first], values[last])
        return cls(codes, mean, exact)


def bin_of(confidences: npt.ArrayLike, bins: int = BINS) -> IntArray:
    """Bin 0 .. bins - 1 of each confidence: (low, high], and the first holds 0 too."""
    # Compared with the bins' ends, not multiplied: 0.7 * 10 is more than 7 in floating point.
    ends = np.arange(1, bins) / bins
    return np.searchsorted(ends, np.asarray(confidences), side="left")


def auroc_of(right: Array, wrong: Array) -> Array:
    """AUROC of counts by ascending confidence, ties counting half.

    Args:
        right: (..., m) weight of the correct answers in each cell.
        wrong: (..., m) weight of the others.

    Returns:
        (...,) NaN where all answers are correct or none is.
    """
    below = np.cumsum(wrong, axis=-1) - wrong
    wins = (right * (below + wrong / 2)).sum(axis=-1)
    pairs = right.sum(axis=-1) * wrong.sum(axis=-1)
    return np.where(pairs > 0, wins / np.where(pairs > 0, pairs, 1), np.nan)


def calibration_error_of(right: Array, wrong: Array, confidence: Array) -> Array:
    """Expected calibration error over ten equal bins (Naeini et al. 2015).

    Args:
        right: (..., m) weight of the correct answers in each cell.
        wrong: (..., m) weight of the others.
        confidence: (m,) confidence of each cell.

    Returns:
        (...,) sum over bins of weight x |accuracy - mean confidence|; NaN without any answer.
    """
    member = np.eye(BINS)[bin_of(confidence)]
    gap = np.abs(right @ member - ((right + wrong) * confidence) @ member).sum(axis=-1)
    weight = (right + wrong).sum(axis=-1)
    return np.where(weight > 0, gap / np.where(weight > 0, weight, 1), np.nan)


def brier_of(right: Array, wrong: Array, confidence: Array) -> Array:
    """Brier score: mean squared distance of the confidence from 1 (correct) or 0 (G. Brier 1950).

    Args:
        right: (..., m) weight of the correct answers in each cell.
        wrong: (..., m) weight of the others.
        confidence: (m,) confidence of each cell.

    Returns:
        (...,) in [0, 1]; NaN without any answer.
    """
    weight = (right + wrong).sum(axis=-1)
    total = right @ (1 - confidence) ** 2 + wrong @ confidence**2
    return np.where(weight > 0, total / np.where(weight > 0, weight, 1), np.nan)


def risk_coverage_area_of(right: Array, wrong: Array) -> Array:
    """Area under the risk-coverage curve: the mean share of errors among the k surest answers.

    Source: Y. Geifman, G. Uziel and R. El-Yaniv, "Bias-reduced uncertainty estimation for deep
    neural classifiers" (2019), over k = 1 .. n. Of answers with equal confidence the order is
    random: the mean over all orders, which harmonic numbers give.

    Args:
        right: (..., m) number of the correct answers in each cell, by ascending confidence.
        wrong: (..., m) number of the others.

    Returns:
        (...,) in [0, 1], 0 where the surest answers are right until there are no others; NaN
        without any answer.
    """
    from scipy.special import digamma  # imported late: it takes a moment

    right, wrong = right[..., ::-1], wrong[..., ::-1]
    size = right + wrong
    until, errors = np.cumsum(size, axis=-1), np.cumsum(wrong, axis=-1)
    before = until - size
    rate = wrong / np.where(size > 0, size, 1)
    # sum over j = 1 .. size of (errors before + rate j) / (answers before + j)
    carried = errors - wrong - rate * before
    total = (wrong + carried * (digamma(until + 1) - digamma(before + 1))).sum(axis=-1)
    number = size.sum(axis=-1)
    return np.where(number > 0, total / np.where(number > 0, number, 1), np.nan)


def scale_of(scores: npt.ArrayLike) -> tuple[float, float]:
    """(low, width) that map scores, NaN where unknown, to [0, 1].

    (0, 1) for those that lie there already; else the range they span: per cent, errors counted
    below 0.
    """
    known = np.asarray(scores, dtype=float)
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return low, high - low if high > low else 1.0


def right_above(scores: npt.ArrayLike) -> float:
    """The score above which an answer is right: the middle of the scale of these scores."""
    low, width = scale_of(scores)
    return low + width / 2


def are_right(scores: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Whether each answer is right, of scores of any shape; False where a score is NaN."""
    return np.asarray(scores, dtype=float) > right_above(scores)


def auroc(confidences: Sequence[float], correct: Sequence[bool]) -> float | Undefined:
    """Area under the ROC curve of the confidence as a predictor of correctness.

    Args:
        confidences: Confidence of each answer, shape (n,), any monotone scale.
        correct: Whether each answer is correct, shape (n,); here :func:`are_right`.

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
    codes = np.unique(values, return_inverse=True)[1]
    every = np.bincount(codes).astype(float)
    right = np.bincount(codes[labels], minlength=len(every)).astype(float)
    return float(auroc_of(right, every - right))
