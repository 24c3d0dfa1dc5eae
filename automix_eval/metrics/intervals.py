"""Percentile bootstrap intervals, paired over questions and clustered by document.

Method: B. Efron and R. Tibshirani, "An Introduction to the Bootstrap" (1993), chapters 13
(percentile intervals) and 8 (resampling the units that were sampled). Every figure of a task is
computed on the same resampled questions, so that what the SLM, the LLM and the method have in
common cancels in delta IBC. Questions about one document are not independent: whole documents are
drawn.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from automix_eval.metrics.bootstrap import SINGLE, resample
from automix_eval.metrics.ibc import TOLERANCE, Undefined

Array = npt.NDArray[np.float64]
Interval = tuple[float, float] | Undefined

# Method, SLM, LLM: the arguments of delta_ibc, in its order.
DELTA_IBC_COLUMNS = ("quality", "cost", "slm_quality", "slm_cost", "llm_quality", "llm_cost")

LEVEL = 0.95
RESAMPLES = 2000
# Undefined resamples lie beyond one end of the distribution (an LLM no better than the SLM). As
# long as they are fewer than one tail holds, the interval's ends are among the defined ones.
MAX_UNDEFINED = (1 - LEVEL) / 2


def paired_intervals(
    columns: Mapping[str, npt.ArrayLike],
    documents: Sequence[Hashable],
    *,
    level: float = LEVEL,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """Intervals of a task's mean figures and of delta IBC, on the same resampled documents.

    Args:
        columns: Figure -> one finite number a question, shape (n,), all in one order: for example
            ``escalation_rate`` (0 or 1), and the six of :data:`DELTA_IBC_COLUMNS`.
        documents: What each question is about, shape (n,); questions with equal values are drawn
            together.
        level: Coverage aimed at.
        resamples: Number of bootstrap resamples.
        seed: Seed of the resampling; equal seeds give equal intervals.

    Returns:
        For each column (low, high) of its mean, in its unit; also ``delta_ibc``, a ratio, where
        its six columns are there. Undefined for a single document, and for delta IBC where more
        than 2.5 % of the resamples leave it undefined.

    Raises:
        ValueError: Shapes differ, a value is not finite, or there is no question.
    """
    means = bootstrap_means(list(columns.values()), documents, resamples=resamples, seed=seed)
    lifted = all(name in columns for name in DELTA_IBC_COLUMNS)
    if isinstance(means, Undefined):
        return dict.fromkeys([*columns, *(["delta_ibc"] if lifted else [])], means)
    by_name = {name: means[:, i] for i, name in enumerate(columns)}
    ends = {name: percentile_interval(values, level) for name, values in by_name.items()}
    if lifted:
        lift = delta_ibc_values(*(by_name[name] for name in DELTA_IBC_COLUMNS))
        ends["delta_ibc"] = percentile_interval(lift, level)
    return ends


def bootstrap_means(
    columns: Sequence[npt.ArrayLike],
    documents: Sequence[Hashable],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Array | Undefined:
    """Means of several columns on the same resampled documents.

    Args:
        columns: k columns of n numbers, one number a question.
        documents: As in :func:`paired_intervals`.
        resamples: Number of resamples, B.
        seed: Seed of the resampling.

    Returns:
        Shape (B, k); undefined for a single document, whose spread cannot be seen.

    Raises:
        ValueError: Shapes differ, a value is not finite, or there is no question.
    """
    values = np.asarray([np.asarray(c, dtype=float) for c in columns], dtype=float).T
    if values.ndim != 2 or len(values) != len(documents) or len(values) == 0:
        raise ValueError(f"need columns of {len(documents)} > 0 numbers, got shape {values.shape}")
    totals = resample(document_codes(documents), lambda rows: values[rows], resamples, seed)
    if totals.draws is None or totals.weights is None:
        return SINGLE
    return totals.draws / totals.weights[:, None]


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


def percentile_interval(values: Array, level: float = LEVEL) -> Interval:
    """The central share ``level`` of bootstrap values, NaN standing for an undefined one.

    Returns:
        (low, high), or Undefined where more than 2.5 % of the resamples have no value.
    """
    missing = float(np.isnan(values).mean())
    if missing > MAX_UNDEFINED or not len(values):
        return Undefined(
            f"no interval: the figure is undefined in {missing:.0%} of the resamples, so the "
            "questions are too few, or too much alike, to tell"
        )
    low, high = np.nanquantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _exceeds(high: Array, low: Array) -> npt.NDArray[np.bool_]:
    return high - low > TOLERANCE * np.maximum(np.abs(high), np.abs(low))
