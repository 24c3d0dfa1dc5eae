"""Paired tests between methods on the same questions, and the correction for many of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from automix_eval.metrics.ibc import Undefined

Array = npt.NDArray[np.float64]

SIGNIFICANT = 0.05
# Up to here signs are permuted; above, the mean of so many documents is normal for all purposes.
_PERMUTED = 2_000
_PERMUTATIONS = 9_999


def paired_test(differences: npt.ArrayLike, seed: int = 0) -> float | Undefined:
    """Two-sided p-value of "the two methods are equally good", paired by document.

    Under it each document's difference has either sign with equal chance: signs are permuted
    all of them where there are few documents (``scipy.stats.permutation_test``), else at random
    (``scipy.stats.monte_carlo_test``), and above 2,000 documents the one-sample t-test takes their
    place.

    Args:
        differences: (D,) difference of the two methods' summed scores on each document.
        seed: Seed of the permutations.

    Returns:
        p in (0, 1]; undefined for fewer than two documents.
    """
    values = np.asarray(differences, dtype=float)
    if len(values) < 2:
        return Undefined("a paired test needs questions about at least two documents")
    if not values.any():
        return 1.0
    from scipy import stats  # imported late: it takes a moment

    if len(values) > _PERMUTED:
        return float(stats.ttest_1samp(values, 0.0).pvalue)
    if 2 ** len(values) <= _PERMUTATIONS:
        exact = stats.permutation_test((values,), np.sum, permutation_type="samples")
        return float(exact.pvalue)
    rng = np.random.default_rng(seed)

    def flipped(size: tuple[int, int]) -> Array:
        return np.where(rng.integers(0, 2, size, dtype=np.int8), values, -values)

    # a fifth of the time of permutation_test, which draws and copies sample by sample
    drawn = stats.monte_carlo_test(
        values,
        flipped,
        np.sum,
        vectorized=True,
        n_resamples=_PERMUTATIONS,
        batch=max(1, 4_000_000 // len(values)),
    )
    return float(drawn.pvalue)


def bootstrap_p(draws: Array) -> float | Undefined:
    """Two-sided p-value of "the difference is 0" from its bootstrap (NaN where undefined).

    Twice the smaller share of resamples on either side of 0, with one added to both counts (A.
    Davison and D. Hinkley, "Bootstrap Methods and their Application", 1997, section 4.2).
    """
    known = draws[~np.isnan(draws)]
    if len(known) < 0.975 * len(draws) or not len(known):
        return Undefined("the difference is undefined in too many resamples")
    side = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2 * (side + 1) / (len(known) + 1))


def holm(p_values: Sequence[float | Undefined]) -> list[float | Undefined]:
    """p-values after Holm's step-down correction; undefined ones stay and do not count.

    Source: S. Holm, "A simple sequentially rejective multiple test procedure" (1979), by
    ``statsmodels.stats.multitest.multipletests``.
    """
    known = [(i, p) for i, p in enumerate(p_values) if not isinstance(p, Undefined)]
    result = list(p_values)
    if known:
        from statsmodels.stats.multitest import multipletests  # type: ignore[import-untyped]

        corrected = multipletests([p for _, p in known], method="holm")[1]
        for (index, _), value in zip(known, corrected, strict=True):
            result[index] = float(value)
    return result
