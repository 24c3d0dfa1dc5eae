"""Equal rows found and counted once, and the bootstrap over what is left.

Outcomes have few different rows: scores are often 0 or 1, prices constant, a confidence one of nine
values. Drawing n rows with replacement then needs no n draws: how often each kind of row is drawn
is one multinomial draw, with exactly the same distribution (B. Efron and R. Tibshirani, "An
Introduction to the Bootstrap", 1993, chapter 6).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]


def distinct_rows(columns: Sequence[Array], most: int) -> IntArray | None:
    """Number of its kind for each of n rows; rows with equal values are of one kind.

    Args:
        columns: k columns (n,); NaN equals NaN.
        most: Largest number of kinds wanted.

    Returns:
        (n,) from 0 without gaps; None where there are more kinds than ``most``.
    """
    kind: IntArray = np.zeros(len(columns[0]), dtype=np.intp)
    for column in columns:
        values, codes = np.unique(column, return_inverse=True)
        if len(values) > most:
            return None
        kept, kind = np.unique(kind * len(values) + codes, return_inverse=True)
        if len(kept) > most:
            return None
    return kind


def first_of_kind(kind: IntArray) -> IntArray:
    """The first row of each kind of :func:`distinct_rows`."""
    return np.unique(kind, return_index=True)[1]


def multinomial_means(columns: Sequence[Array], kind: IntArray, resamples: int, seed: int) -> Array:
    """Means of columns on bootstrap resamples of single rows.

    Args:
        columns: k columns (n,), constant within a kind.
        kind: Of :func:`distinct_rows`.
        resamples: Number of resamples, B.
        seed: Seed of the draws.

    Returns:
        (B, k), all columns on the same resamples.
    """
    first = first_of_kind(kind)
    values = np.stack([column[first] for column in columns], axis=1)
    count = np.bincount(kind)
    drawn = np.random.default_rng(seed).multinomial(len(kind), count / len(kind), size=resamples)
    return np.asarray(drawn.astype(np.float64) @ values / len(kind))
