"""Quantiles with intervals, from whole documents drawn again.

Source: the bootstrap of :mod:`automix_eval.metrics.bootstrap`. Near the largest value it is too
narrow: no resample holds what the sample does not. So an interval is given only where the largest
of n documents lies above the quantile in 97.5 of 100 samples, 1 - p^n >= .975 (H. A. David and
H. N. Nagaraja, "Order Statistics", 2003, section 7.1).
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from automix_eval.metrics.bootstrap import LEVEL, Interval, percentile_interval, sorted_codes
from automix_eval.metrics.ibc import Undefined

_CHUNK = 4_000_000  # weights held at a time
Array = npt.NDArray[np.float64]


def quantile(values: Array, share: float) -> float:
    """The least value that a share of all is not above (the inverse of the empirical CDF)."""
    # a share of an exact number of values must not be missed by rounding
    place = max(math.ceil(share * len(values) - 1e-9), 1) - 1
    return float(np.partition(values, place)[place])


def least_number(share: float, level: float = LEVEL) -> int:
    """How many documents an interval of a quantile needs."""
    return math.ceil(math.log((1 - level) / 2) / math.log(share))


def quantile_intervals(
    values: Array,
    documents: npt.NDArray[np.integer],
    shares: tuple[float, ...],
    resamples: int,
    seed: int,
) -> list[tuple[Interval, float | None]]:
    """(interval, standard error) of each quantile.

    Args:
        values: (n,) finite numbers.
        documents: (n,) values of equal documents are drawn together.
        shares: Between 0 and 1.
        resamples: Number of resamples, B.
        seed: Of the draws.
    """
    codes = sorted_codes(documents)
    number = int(codes.max()) + 1
    few = [s for s in shares if number < least_number(s)]
    drawn = np.empty((resamples, len(shares)))
    if resamples and len(few) < len(shares):
        order = np.argsort(values, kind="stable")
        rng, even = np.random.default_rng(seed), np.full(number, 1.0 / number)
        step = max(1, _CHUNK // len(values))
        for start in range(0, resamples, step):
            size = min(step, resamples - start)
            weights = rng.multinomial(number, even, size=size)[:, codes[order]].cumsum(axis=1)
            for k, share in enumerate(shares):
                wanted = np.ceil(share * weights[:, -1:] - 1e-9)
                drawn[start : start + size, k] = values[order][(weights >= wanted).argmax(axis=1)]
    found: list[tuple[Interval, float | None]] = []
    for k, share in enumerate(shares):
        if share in few:
            need = least_number(share)
            reason = f"an interval of p{share * 100:g} needs at least {need} documents"
            found.append((Undefined(reason), None))
        elif not resamples:
            found.append((Undefined("no resamples were asked for"), None))
        else:
            found.append((percentile_interval(drawn[:, k], number), float(drawn[:, k].std())))
    return found
