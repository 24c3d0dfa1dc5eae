"""AUROC and calibration error from counts of right and wrong answers by confidence.

A bootstrap needs both figures for a thousand weightings of the same answers. They depend on the
answers through how many right and wrong ones have each confidence, so answers are counted in cells
of equal confidence once and only the counts are weighted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

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
        if not exact:
            rank = np.arange(len(values)) * (MAX_CELLS - BINS) // len(values)
            joint = np.stack([bin_of(values, BINS), rank])
            inverse = np.unique(joint, axis=1, return_inverse=True)[1].ravel()[inverse]
        codes = np.full(len(known), -1, dtype=np.intp)
        codes[known] = inverse
        number = int(inverse.max()) + 1 if len(inverse) else 0
        count = np.bincount(inverse, minlength=number)
        mean = np.bincount(inverse, confidences[known], minlength=number) / np.maximum(count, 1)
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
