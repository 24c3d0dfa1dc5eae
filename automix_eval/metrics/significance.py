"""Paired tests between methods on the same questions, and the correction for many of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from automix_eval.metrics.bootstrap import FEW, LEVEL, Interval, level_of_tail, tail_share
from automix_eval.metrics.ibc import Undefined

Array = npt.NDArray[np.float64]

SIGNIFICANT = 0.05  # 1 - LEVEL
# Up to here signs are permuted; above, the mean of so many documents is normal for all purposes.
_PERMUTED = 2_000
_PERMUTATIONS = 9_999
_CHUNK = 4_000_000  # signs held at a time


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The mean difference of two methods, tested by document.

    Attributes:
        interval: 95 % interval of the mean difference of a question: the differences that the test
            does not reject, so that it holds 0 just where p is at least .05.
        p: Two-sided p-value of "the two methods are equally good", in (0, 1].
        differing: Number of documents on which they differ.
        mid_p: The same with half the chance of what is exactly as extreme (H. Lancaster, 1961).
            Scores of 0 and 1 tie often, which makes p larger than it need be; of them mid_p is a
            test of its level as well (M. Fagerland et al., "The McNemar test for binary
            matched-pairs data: mid-p and asymptotic are better than exact conditional", 2013).
    """

    interval: Interval
    p: float | Undefined
    mid_p: float | Undefined
    differing: int


class PairedTests:
    """Tests of pairs of methods on the same documents, on the same permutations.

    Under the hypothesis that the mean difference of a question is d, the difference of a document
    less d for each of its questions has either sign with equal chance. All signs are tried where
    there are few documents, else random ones (a wild cluster bootstrap with the hypothesis imposed:
    A. Cameron, J. Gelbach and D. Miller, "Bootstrap-based improvements for inference with clustered
    errors", 2008). Signs part the documents in two; the sum is at least as extreme as the one
    observed just where d lies between the means of the two parts. So the differences that are not
    rejected end at quantiles of the lower and of the higher mean (J. Hartigan, "Using subsample
    values as typical values", 1969). Above 2,000 documents Student's t takes their place.

    Args:
        sums: (D, K) summed scores of K methods on each document.
        sizes: (D,) number of questions of each document.
        seed: Seed of the permutations.
    """

    def __init__(self, sums: npt.ArrayLike, sizes: npt.ArrayLike, seed: int = 0) -> None:
        self._sums = np.asarray(sums, dtype=float)
        self._sizes = np.asarray(sizes, dtype=float)
        if self._sums.ndim != 2 or len(self._sums) != len(self._sizes):
            raise ValueError(f"need sums of {len(self._sizes)} documents, got {self._sums.shape}")
        self._parts = self._split(seed) if 2 <= len(self._sizes) <= _PERMUTED else None

    def _split(self, seed: int) -> Array:
        """(B, K + 1) sums of one part of the documents, the numbers of questions last."""
        values = np.column_stack([self._sums, self._sizes])
        number = len(values)
        if 2 ** (number - 1) <= _PERMUTATIONS:
            # the first document stays: the other half of all signs is their mirror image
            picks = (np.arange(1, 2 ** (number - 1))[:, None] >> np.arange(number - 1)) & 1
            return np.asarray(picks.astype(float) @ values[1:])
        rng = np.random.default_rng(seed)
        step = max(1, _CHUNK // number)
        parts = [
            rng.integers(0, 2, (min(step, _PERMUTATIONS - i), number), dtype=np.int8) @ values
            for i in range(0, _PERMUTATIONS, step)
        ]
        return np.concatenate(parts)

    def difference(self, first: int, second: int) -> PairedDifference:
        """Method ``first`` minus method ``second``, by their columns."""
        gaps = self._sums[:, first] - self._sums[:, second]
        differing = int(np.count_nonzero(gaps))
        if len(gaps) < 2:
            few = Undefined("a paired test needs questions about at least two documents")
            return PairedDifference(FEW, few, few, differing)
        if self._parts is None:
            return self._by_student(gaps)
        one = np.stack([self._parts[:, first] - self._parts[:, second], self._parts[:, -1]])
        other = np.array([[gaps.sum()], [self._sizes.sum()]]) - one
        whole = (one[1] > 0) & (other[1] > 0)
        # where a part is empty the sum is the observed one itself, whatever the hypothesis
        always = int((~whole).sum()) + 1
        means = np.sort([part[0, whole] / part[1, whole] for part in (one, other)], axis=0)
        means[np.abs(means) < 1e-12 * np.abs(gaps).max()] = 0.0  # but for rounding
        between = (means[0] <= 0) & (means[1] >= 0)
        tied = int(((means == 0).any(axis=0)).sum())
        signs = len(whole) + 1
        p = (always + int(between.sum())) / signs
        mid_p = p - tied / 2 / signs
        # the least number of the rest that keeps p at .05
        kept = math.ceil(SIGNIFICANT * signs - 1e-9) - always
        if kept <= 0:
            return PairedDifference(FEW, p, mid_p, differing)
        low = float(np.partition(means[0], kept - 1)[kept - 1])
        high = float(-np.partition(-means[1], kept - 1)[kept - 1])
        return PairedDifference((low, high), p, mid_p, differing)

    def _by_student(self, gaps: Array) -> PairedDifference:
        """Student's t with D - 1 degrees and the standard error of documents."""
        from scipy.special import stdtr, stdtrit  # imported late: it takes a moment

        number, questions = len(gaps), self._sizes.sum()
        differing = int(np.count_nonzero(gaps))
        mean = float(gaps.sum() / questions)
        rest = gaps - mean * self._sizes
        error = math.sqrt(number / (number - 1) * float(rest @ rest)) / questions
        half = float(stdtrit(number - 1, (1 + LEVEL) / 2)) * error
        if error == 0:
            p = 1.0 if mean == 0 else 0.0
            return PairedDifference((mean, mean), p, p, differing)
        p = 2 * float(stdtr(number - 1, -abs(mean) / error))
        return PairedDifference((mean - half, mean + half), p, p, differing)


def bootstrap_p(draws: Array, documents: int) -> float | Undefined:
    """Two-sided p-value of "the difference is 0" from its bootstrap (NaN where undefined).

    One less the coverage of the widest interval of
    :func:`~automix_eval.metrics.bootstrap.percentile_interval` that does not hold 0, one being
    added to the resamples beyond 0 and to all (A. Davison and D. Hinkley, "Bootstrap Methods and
    their Application", 1997, section 4.2). So it is below .05 just where the 95 % interval does
    not hold 0.

    Args:
        draws: (B,) the difference in each resample.
        documents: Number of documents they were drawn from.
    """
    if documents < 2:
        return FEW
    known = draws[~np.isnan(draws)]
    if not len(known) or 1 - len(known) / len(draws) > tail_share(documents):
        return Undefined("the difference is undefined in too many resamples")
    side = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return 1 - level_of_tail((side + 1) / (len(known) + 1), documents)


def holm(
    p_values: Sequence[float | Undefined], floors: Sequence[float] | None = None
) -> list[float | Undefined]:
    """p-values after Holm's step-down correction; undefined ones stay and do not count.

    The k-th smallest of m is multiplied by m - k + 1, and none is smaller than the one before it.
    Source: S. Holm, "A simple sequentially rejective multiple test procedure" (1979). statsmodels'
    ``multipletests`` gives the same, and collects all garbage of the process at every call, which
    takes as long as the rest of a small report.

    Args:
        p_values: Of the tests, in any order.
        floors: What each p-value is at least, whatever is observed: tests that could not have been
            as small as one do not count for it (P. Westfall and R. Wolfinger, "Multiple tests with
            discrete distributions", 1997).
    """
    result = list(p_values)
    known = sorted((p, i) for i, p in enumerate(p_values) if not isinstance(p, Undefined))
    least = 0.0
    for rank, (p, index) in enumerate(known):
        rest = (i for _, i in known[rank:])
        count = len(known) - rank if floors is None else sum(floors[i] <= p for i in rest)
        result[index] = least = max(least, min(1.0, max(count, 1) * p))
    return result
