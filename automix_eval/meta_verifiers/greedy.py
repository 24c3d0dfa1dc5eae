"""Greedy: escalate the bins of confidence in which the next tier gains most."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from automix_eval.meta_verifiers.rules import bins as grid
from automix_eval.meta_verifiers.rules.cells import TierRows, exact_parts, sums
from automix_eval.records.outcomes import FloatArray, IntArray
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number


@dataclass(eq=False)
class Greedy(grid.BinRouter):
    """Escalate the m bins with the largest smoothed mean gain, with m chosen by the objective.

    The gain of a question is the next tier's score minus this tier's; a bin without a question
    gains 0. In a chain the later tiers are tried in the next tier's place as well, since a useless
    one may stand before a useful one. Source: the authors' package automix-llm ("GreedyPOMDP").

    Args:
        num_bins: Steps of the grid; there is one bin more, see
            :mod:`automix_eval.meta_verifiers.rules.bins`.
        sigma: Standard deviation, in bins, of the Gaussian that smooths the gains; 0: none.
    """

    name: ClassVar[str] = "greedy"
    sigma: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_sigma(self.sigma)

    def candidates_of(self, rows: TierRows) -> list[Any]:
        """The best bin, the two best, ... all bins."""
        known = rows.defined
        bins = grid.bins_of(rows, self.num_bins)

        def family(later: FloatArray) -> list[list[int]]:
            return greediest(bins, (later - rows.score)[known], self.num_bins, self.sigma)

        return grid.distinct_of_each(rows, (self.name, self.num_bins, self.sigma), family)


def greediest(bins: IntArray, gain: FloatArray, num_bins: int, sigma: float) -> list[list[int]]:
    """For m = 1 .. num_bins + 1 the m bins of largest smoothed mean gain, as zeros and ones.

    Equal gains: the higher confidence first.
    """
    from scipy.ndimage import gaussian_filter1d

    size = num_bins + 1
    mean = sums(bins, exact_parts(gain), size) / np.maximum(np.bincount(bins, minlength=size), 1)
    smooth = gaussian_filter1d(mean, sigma) if sigma > 0 else mean
    order = np.argsort(smooth, kind="stable")[::-1]
    rank = np.argsort(order)
    rules: list[list[int]] = (rank[None, :] <= np.arange(size)[:, None]).astype(int).tolist()
    return rules


def check_sigma(sigma: Any) -> None:
    """Raise AutoMixError unless it is a width of the smoothing."""
    if not is_number(sigma, 0.0, 1e6):
        raise AutoMixError(f"meta_verifier.sigma={sigma!r} must be a number of at least 0")
