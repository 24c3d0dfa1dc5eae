"""Bootstrap totals of many columns on the same resampled documents, in bounded memory.

Whole documents are drawn (B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993,
chapter 8), so a resample is a vector of how often each document was drawn, and all totals of all
resamples are one product of matrices. Up to :data:`LARGE` documents the draws are multinomial, the
exact bootstrap; above, each document's number is an independent Poisson(1) draw (A. Chamandy et
al., "Estimating uncertainty for massive data streams", 2012), which lets documents be dealt with
block by block and differs by less than the resampling error itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from automix_eval.metrics.ibc import Undefined

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

LARGE = 20_000  # documents
_CHUNK = 4_000_000  # weights held at a time
_ROWS = 65_536  # questions whose columns are held at a time

SINGLE = Undefined("an interval needs questions about at least two documents, there is one")


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of k columns, over the data and over each resample.

    Attributes:
        point: (k,) sums over all questions.
        draws: (B, k) sums over the resampled questions; None for a single document.
        number: Number of questions.
        weights: (B,) number of questions in each resample; None likewise.
    """

    point: Array
    draws: Array | None
    number: int
    weights: Array | None

    def mean(self, column: int) -> tuple[float, Array | None]:
        """A column's mean over the data, and its (B,) means over the resamples."""
        value = float(self.point[column] / self.number)
        if self.draws is None or self.weights is None:
            return value, None
        return value, self.draws[:, column] / self.weights


def resample(
    documents: npt.ArrayLike,
    columns: Callable[[IntArray], Array],
    resamples: int,
    seed: int = 0,
) -> Totals:
    """Totals of columns over resampled documents.

    Args:
        documents: (n,) an integer a question, 0 <= ... < D; questions with equal values are drawn
            together.
        columns: Gives the (len(rows), k) finite values of some questions; called block by block,
            so that columns that are not held can be computed.
        resamples: Number of resamples, B.
        seed: Seed of the draws: equal seeds, document numbers and B give equal draws, whatever
            the columns.

    Raises:
        ValueError: There is no question, or a value is not finite.
    """
    codes = np.asarray(documents, dtype=np.intp)
    if codes.ndim != 1 or not len(codes):
        raise ValueError(f"need one document a question and a question, got shape {codes.shape}")
    number = int(codes.max()) + 1
    blocks = _blocks(codes, number, columns)
    if number < 2:
        point = np.sum([sums[:, :-1].sum(axis=0) for _, sums in blocks], axis=0)
        return Totals(point, None, len(codes), None)
    rng = np.random.default_rng(seed)
    draw = _poisson if number > LARGE else _multinomial
    point, totals = draw(blocks, number, resamples, rng)
    return Totals(point[:-1], totals[:, :-1], len(codes), totals[:, -1])


def _blocks(
    codes: IntArray, number: int, columns: Callable[[IntArray], Array]
) -> Iterator[tuple[slice, Array]]:
    """Documents in blocks, and the sums of their columns, the number of questions last."""
    in_order = bool((np.diff(codes) >= 0).all())
    order = np.arange(len(codes)) if in_order else np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=number))
    first = 0
    while first < number:
        start = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, start + _ROWS, side="right")))
        rows = order[start : int(ends[last - 1])]
        values = columns(rows)
        if not np.isfinite(values).all():
            raise ValueError("scores and costs must be finite numbers")
        values = np.column_stack([values, np.ones(len(rows))])
        if len(rows) > last - first or (codes[rows] != np.arange(first, last)).any():
            values = _by_document(values, codes[rows] - first, last - first)
        yield slice(first, last), values
        first = last


def _by_document(values: Array, codes: IntArray, number: int) -> Array:
    from scipy.sparse import csr_array

    rows = np.arange(len(codes))
    picks = csr_array((np.ones(len(codes)), (codes, rows)), shape=(number, len(codes)))
    return np.asarray(picks @ values)


def _multinomial(
    blocks: Iterator[tuple[slice, Array]], number: int, resamples: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    sums = np.concatenate([values for _, values in blocks])
    parts = []
    step = max(1, _CHUNK // number)
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        drawn = rng.integers(number, size=(rows, number)) + number * np.arange(rows)[:, None]
        times = np.bincount(drawn.ravel(), minlength=rows * number).reshape(rows, number)
        parts.append(times.astype(np.float64) @ sums)
    return sums.sum(axis=0), np.concatenate(parts)


def _poisson(
    blocks: Iterator[tuple[slice, Array]], number: int, resamples: int, rng: np.random.Generator
) -> tuple[Array, Array]:
    del number  # each document is drawn for itself
    table = _poisson_table()
    totals: Array | None = None
    point: Array | None = None
    for _, values in blocks:
        total = np.zeros((resamples, values.shape[1]))
        step = max(1, _CHUNK // resamples)
        for first in range(0, len(values), step):
            part = values[first : first + step]
            drawn = rng.integers(len(table), size=(resamples, len(part)), dtype=np.uint16)
            total += table[drawn] @ part
        totals = total if totals is None else totals + total
        point = values.sum(axis=0) if point is None else point + values.sum(axis=0)
    assert point is not None
    assert totals is not None
    return point, totals


def _poisson_table() -> Array:
    """Poisson(1) as 65,536 equally likely values: probabilities are exact to 1 in 100,000."""
    from scipy.stats import poisson

    middles = (np.arange(65_536) + 0.5) / 65_536
    return np.asarray(poisson.ppf(middles, 1.0), dtype=np.float64)
