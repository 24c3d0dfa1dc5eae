"""Bootstrap of many columns on the same resampled documents, and percentile intervals from it.

Method: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 8
(resampling the units that were sampled) and 13 (percentile intervals). Questions about one document
are not independent, so whole documents are drawn. Every figure of a task is computed on the same
draws, so that what the SLM, the LLM and the method have in common cancels in delta IBC.

Percentiles of G documents are too narrow by the factor sqrt((G - 1) / G), and by that of the normal
distribution to Student's t with G - 1 degrees. The expanded percentile interval makes up for both:
its ends are further out among the resamples (T. Hesterberg, "What teachers should know about the
bootstrap", The American Statistician 69, 2015, arXiv 1411.5279). ``make coverage`` measures it.

A resample is a vector of how often each document was drawn, and all totals of all resamples are one
product of matrices. Up to :data:`LARGE` documents the draws are multinomial, the exact bootstrap;
above, each document's number is an independent Poisson(1) draw (A. Chamandy et al., "Estimating
uncertainty for massive data streams", 2012), which lets documents be dealt with block by block and
differs by less than the resampling error itself. More than :data:`GROUPS` documents are put into as
many groups at random, and groups are drawn: a mean of independent groups varies as that of their
documents does, and its spread is known to 1 / sqrt(2 GROUPS), .3 %.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from automix_eval.metrics.ibc import TOLERANCE, Undefined

Array = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.intp]

LARGE, GROUPS = 20_000, 50_000  # documents
_CHUNK = 4_000_000  # weights held at a time
_ROWS = 65_536  # questions whose columns are held at a time

LEVEL = 0.95
RESAMPLES = 2000
# All that G documents can show is the range of their figures, which covers 1 - 2 / 2^G.
MIN_DOCUMENTS = 6

FEW = Undefined(f"an interval needs questions about at least {MIN_DOCUMENTS} documents")


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of columns, over the data and over each resample.

    Attributes:
        point: (k,) sums over all questions.
        draws: (B, d) sums of the first d columns over the resampled questions; None for a single
            document.
        number: Number of questions.
        weights: (B,) number of questions in each resample; None likewise.
        counts: (1 + B, c) number of questions of each kind, over the data and each resample; one
            row for a single document.
    """

    point: Array
    draws: Array | None
    number: int
    weights: Array | None
    counts: Array

    def mean(self, column: int) -> Array:
        """(1 + B,) mean of a column over the data and the resamples; (1,) if it is not drawn."""
        value = self.point[column] / self.number
        if self.draws is None or self.weights is None or column >= self.draws.shape[1]:
            return np.array([value])
        return np.concatenate([[value], self.draws[:, column] / self.weights])


def resample(
    documents: npt.ArrayLike,
    columns: Callable[[IntArray], Iterable[Array]],
    resamples: int,
    seed: int = 0,
    drawn: int | None = None,
    kinds: Sequence[tuple[IntArray, int]] = (),
) -> Totals:
    """Totals of columns over resampled documents.

    Args:
        documents: (n,) an integer a question, 0 <= ... < D; questions with equal values are drawn
            together.
        columns: Gives k columns of finite values of some questions, (len(rows),) each; called
            block by block, so that columns that are not held can be computed.
        resamples: Number of resamples, B.
        seed: Seed of the draws: equal seeds, document numbers and B give equal draws, whatever
            the columns.
        drawn: How many columns are drawn, the first ones; None for all.
        kinds: Ways of sorting the questions into kinds that are counted: (n,) kind of each
            question, -1 for none, and the number of kinds.

    Raises:
        ValueError: There is no question, or a value is not finite.
    """
    codes = np.asarray(documents, dtype=np.intp)
    if codes.ndim != 1 or not len(codes):
        raise ValueError(f"need one document a question and a question, got shape {codes.shape}")
    number, rng = int(codes.max()) + 1, np.random.default_rng(seed)
    if number > GROUPS:
        codes, number = rng.permutation(number)[codes] % GROUPS, GROUPS
    blocks = _blocks(codes, number, columns, drawn, kinds)
    if number < 2:
        whole = next(blocks)
        return Totals(whole.point, None, len(codes), None, whole.counts.sum(axis=1)[None])
    draw = _poisson if number > LARGE else _multinomial
    point, counts, draws = draw(blocks, number, resamples, rng)
    width = draws.shape[1] - len(counts) - 1
    return Totals(
        point, draws[:, :width], len(codes), draws[:, width],
        np.concatenate([counts[None], draws[:, width + 1 :]]),
    )  # fmt: skip


@dataclass(frozen=True)
class _Block:
    """Some documents, in order.

    Attributes:
        point: (k,) sums of all columns.
        sums: (m + 1, D) sums by document of the columns to draw, equal ones once, and the number of
            questions.
        counts: (c, D) number of questions of each kind, sparse: a question is of few of them.
        place: (d + 1 + c,) where each total to draw is among those of ``sums`` and ``counts``.
    """

    point: Array
    sums: Array
    counts: Any
    place: list[int]

    def totals(self, times: Array, some: slice = slice(None)) -> Array:
        """(B, m + 1 + c) totals of resamples, by how often each document was drawn, (D, B).

        Args:
            times: Of ``some`` of the documents.
            some: Which.
        """
        summed = times.T @ self.sums[:, some].T
        return np.concatenate([summed, (self.counts[:, some] @ times).T], axis=1)


def _blocks(
    codes: IntArray,
    number: int,
    columns: Callable[[IntArray], Iterable[Array]],
    drawn: int | None,
    kinds: Sequence[tuple[IntArray, int]],
) -> Iterator[_Block]:
    in_order = bool((np.diff(codes) >= 0).all())
    order = np.arange(len(codes)) if in_order else np.argsort(codes, kind="stable")
    questions = np.bincount(codes, minlength=number)
    ends = np.cumsum(questions)
    first = 0
    while first < number:
        start = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, start + _ROWS, side="right")))
        rows = order[start : int(ends[last - 1])]
        here = questions[first:last]
        point, sums, place = _by_document(columns(rows), here, drawn)
        at = codes[rows] - first
        counts = _sparse_counts([(kind[rows], most) for kind, most in kinds], at, len(here))
        place += range(len(sums) - 1, len(sums) + counts.shape[0])
        yield _Block(point, sums, counts, place)
        first = last


def _by_document(
    columns: Iterable[Array], questions: IntArray, drawn: int | None
) -> tuple[Array, Array, list[int]]:
    """``point``, ``sums`` and the beginning of ``place`` of a block.

    Methods share columns: a model alone asks itself always, and no other.

    Args:
        columns: k, (n,) each, the questions of a document one after the other.
        questions: (D,) number of them.
        drawn: How many of the columns are drawn.
    """
    asked = np.flatnonzero(questions)
    starts = (np.cumsum(questions) - questions)[asked]
    point: list[float] = []
    sums: list[Array] = []
    place: list[int] = []
    alike: dict[float, list[int]] = {}  # only columns of one total are compared
    for values in columns:
        column = np.asarray(values, dtype=np.float64)
        total = float(column.sum())
        if not math.isfinite(total):
            raise ValueError("scores and costs must be finite numbers")
        point.append(total)
        if drawn is not None and len(place) >= drawn:
            continue
        held = np.zeros(len(questions))
        held[asked] = np.add.reduceat(column, starts)
        seen = alike.setdefault(total, [])
        same = next((i for i in seen if np.array_equal(sums[i], held)), None)
        if same is None:
            same = len(sums)
            seen.append(same)
            sums.append(held)
        place.append(same)
    return np.array(point), np.array([*sums, questions.astype(np.float64)]), place


def _sparse_counts(kinds: Sequence[tuple[IntArray, int]], codes: IntArray, number: int) -> Any:
    """(c, D) how many questions of each kind are about each document."""
    from scipy.sparse import csr_array  # imported late: it takes a moment

    rows, at, height = [np.empty(0, np.intp)], [np.empty(0, np.intp)], 0
    for kind, most in kinds:
        known = np.flatnonzero(kind >= 0)
        rows.append(kind[known] + height)
        at.append(codes[known])
        height += most
    places = np.concatenate(rows), np.concatenate(at)
    return csr_array((np.ones(len(places[0])), places), shape=(height, number))


_Drawn = tuple[Array, Array, Array]
"""(k,) sums, (c,) counts, and (B, d + 1 + c) sums, numbers of questions, counts of resamples"""


def _multinomial(
    blocks: Iterator[_Block], number: int, resamples: int, rng: np.random.Generator
) -> _Drawn:
    every = list(blocks)
    ends = np.cumsum([0, *(b.sums.shape[1] for b in every)]).tolist()
    parts = []
    step = max(1, _CHUNK // number)
    for first in range(0, resamples, step):
        rows = min(step, resamples - first)
        drawn = rng.integers(number, size=(rows, number)) + number * np.arange(rows)[:, None]
        often = np.bincount(drawn.ravel(), minlength=rows * number).reshape(rows, number)
        times = often.T.astype(np.float64, order="C")
        of_blocks = (
            b.totals(times[start:end])[:, b.place]
            for b, start, end in zip(every, ends, ends[1:], strict=False)
        )
        parts.append(functools.reduce(np.add, of_blocks))
    point = np.sum([b.point for b in every], axis=0)
    counts = np.sum([b.counts.sum(axis=1) for b in every], axis=0)
    return point, counts, np.concatenate(parts)


def _poisson(
    blocks: Iterator[_Block], number: int, resamples: int, rng: np.random.Generator
) -> _Drawn:
    del number  # each document is drawn for itself
    table = _poisson_table()
    step = max(1, _CHUNK // resamples)
    found = []
    for block in blocks:
        draws = np.zeros((resamples, len(block.sums) + block.counts.shape[0]))
        for first in range(0, block.sums.shape[1], step):
            size = min(step, block.sums.shape[1] - first)
            drawn = rng.integers(len(table), size=(resamples, size), dtype=np.uint16)
            times = table.take(drawn).T.astype(np.float64, order="C")
            draws += block.totals(times, slice(first, first + size))
        found.append((block.point, block.counts.sum(axis=1), draws[:, block.place]))
    point, counts, totals = (np.sum(same, axis=0) for same in zip(*found, strict=True))
    return point, counts, totals


def _poisson_table() -> npt.NDArray[np.uint8]:
    """Poisson(1) as 65,536 equally likely values: probabilities are exact to 1 in 100,000."""
    from scipy.special import pdtr  # imported late: it takes a moment

    middles = (np.arange(65_536) + 0.5) / 65_536
    return np.searchsorted(pdtr(np.arange(20), 1.0), middles).astype(np.uint8)


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


Interval = tuple[float, float] | Undefined

# Method, SLM, LLM: the arguments of delta_ibc, in its order.
DELTA_IBC_COLUMNS = ("quality", "cost", "slm_quality", "slm_cost", "llm_quality", "llm_cost")


def sorted_codes(documents: npt.ArrayLike) -> IntArray:
    """(n,) equal numbers for equal documents, from 0 without gaps, in their ascending order."""
    names = np.asarray(documents)
    if names.dtype.kind == "i" and len(names) and 0 <= names.min() <= names.max() <= 2 * len(names):
        # numbers already: no sorting of a million
        return np.asarray((np.cumsum(np.bincount(names) > 0) - 1)[names])
    return np.unique(names, return_inverse=True)[1]


def document_codes(documents: Sequence[Hashable]) -> npt.NDArray[np.intp]:
    """(n,) equal numbers for equal documents, counted from 0 in the order of appearance."""
    index: dict[Hashable, int] = {}
    return np.array([index.setdefault(d, len(index)) for d in documents], dtype=np.intp)


def delta_ibc_values(
    performance: Array,
    cost: Array,
    slm_performance: Array,
    slm_cost: Array,
    llm_performance: Array,
    llm_cost: Array,
) -> Array:
    """:func:`automix_eval.metrics.ibc.delta_ibc` of arrays of one shape, NaN where undefined."""
    defined = (
        _exceeds(cost, slm_cost)
        & _exceeds(llm_performance, slm_performance)
        & _exceeds(llm_cost, slm_cost)
    )
    lift = np.full(performance.shape, np.nan)
    p, c = performance[defined], cost[defined]
    ps, cs = slm_performance[defined], slm_cost[defined]
    pl, cl = llm_performance[defined], llm_cost[defined]
    lift[defined] = ((p - ps) / (c - cs)) / ((pl - ps) / (cl - cs)) - 1
    return lift


def tail_share(documents: int, level: float = LEVEL) -> float:
    """Share of the resamples beyond each end of an interval.

    Args:
        documents: Number of documents drawn, G > 1.
        level: Coverage aimed at.

    Returns:
        The expanded percentile: Phi(-sqrt(G / (G - 1)) t), t the quantile of Student's t with
        G - 1 degrees. :func:`level_of_tail` is its inverse.
    """
    from scipy.special import ndtr, stdtrit  # imported late: it takes a moment

    quantile = stdtrit(documents - 1, (1 + level) / 2)
    return float(ndtr(-quantile * math.sqrt(documents / (documents - 1))))


def level_of_tail(share: float, documents: int) -> float:
    """The coverage of an interval that leaves a share of the resamples beyond each end."""
    from scipy.special import ndtri, stdtr

    quantile = -ndtri(min(share, 0.5)) * math.sqrt((documents - 1) / documents)
    return float(1 - 2 * stdtr(documents - 1, -quantile))


def percentile_interval(values: Array, documents: int, level: float = LEVEL) -> Interval:
    """The expanded percentile interval of bootstrap values, NaN standing for an undefined one.

    Args:
        values: (B,) one for each resample.
        documents: Number of documents they were drawn from.
        level: Coverage aimed at.

    Returns:
        (low, high); Undefined for fewer than :data:`MIN_DOCUMENTS` documents, and where more
        resamples have no value than one tail holds: they lie beyond one end (an LLM no better
        than the SLM), so fewer of them leave the interval's ends among the defined ones.
    """
    if documents < MIN_DOCUMENTS:
        return FEW
    known = values[~np.isnan(values)]
    share = tail_share(documents, level)
    missing = 1 - len(known) / len(values) if len(values) else 0.0
    if missing > share:
        return Undefined(
            f"no interval: the figure is undefined in {missing:.1%} of the resamples, so the "
            "questions are too few, or too much alike, to tell"
        )
    beyond = math.ceil(share * (len(known) + 1)) - 2  # what p < 1 - level allows: bootstrap_p
    if beyond < 0:
        least = math.ceil(1 / share)
        return Undefined(f"an interval of {documents} documents needs {least} resamples or more")
    last = len(known) - 1 - beyond
    ends = np.partition(known, sorted({beyond, last}))
    return float(ends[beyond]), float(ends[last])


def _exceeds(high: Array, low: Array) -> npt.NDArray[np.bool_]:
    return high - low > TOLERANCE * np.maximum(np.abs(high), np.abs(low))
