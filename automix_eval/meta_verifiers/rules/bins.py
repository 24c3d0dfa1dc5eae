"""Confidences on a grid of num_bins + 1 points 0, 1/num_bins, ..., 1, each a bin of its own.

A verifier with k samples says a multiple of 1/k. A bin holds what is nearest to its point, the
middle between two points going to the upper, so every confidence has exactly one bin whatever the
number of bins; fitting and deciding ask the same function.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.rules.cells import TierRows
from automix_eval.meta_verifiers.rules.rule_router import RuleRouter, check_bins
from automix_eval.records.outcomes import BoolArray, FloatArray, IntArray

MAX_BINS = 1000


@functools.cache
def points(num_bins: int) -> FloatArray:
    """(num_bins + 1,) the points of the grid."""
    return np.arange(num_bins + 1) / num_bins


@functools.cache
def middles(num_bins: int) -> FloatArray:
    """(num_bins,) where one bin ends and the next begins."""
    return (np.arange(num_bins) + 0.5) / num_bins


def nearest(confidence: FloatArray, num_bins: int) -> IntArray:
    """(n,) the bin, 0 .. num_bins, of confidences in [0, 1]."""
    return np.searchsorted(middles(num_bins), confidence, "right")


def bins_of(rows: TierRows, num_bins: int) -> IntArray:
    """The bins of the defined confidences."""
    return rows.remembered(
        ("bins", num_bins, rows.tiers[0]), lambda: nearest(rows.confidence[rows.defined], num_bins)
    )


def distinct_of_each(
    rows: TierRows, what: tuple[Any, ...], family: Callable[[FloatArray], list[list[int]]]
) -> list[list[int]]:
    """The rules that a family gives for each later tier's scores, each once.

    Args:
        rows: The fitting data of a tier.
        what: Names the family.
        family: From the (n,) scores of a later tier.
    """
    found = [
        rows.remembered((*what, rows.tiers[0], later), functools.partial(family, column))
        for later, column in zip(rows.tiers[1:], rows.later.T, strict=True)
    ]
    return [list(rule) for rule in dict.fromkeys(tuple(r) for rules in found for r in rules)]


@dataclass(eq=False)
class BinRouter(RuleRouter):
    """A rule says of each bin whether to escalate it: a list of 0 and 1, one a bin.

    A subclass finds the candidates.

    Args:
        num_bins: Steps of the grid; there is one bin more. The others are those of
            :class:`~automix_eval.meta_verifiers.rules.rule_router.RuleRouter`.
    """

    num_bins: int = 8
    tries_always = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bins(self.name, self.num_bins, MAX_BINS)

    def breaks(self, rows: TierRows) -> FloatArray:  # noqa: ARG002 - the same for all data
        """Where the bins meet."""
        return middles(self.num_bins)

    def escalates(self, rule: Any, confidence: FloatArray) -> BoolArray:
        """Whether the bin of each confidence is escalated."""
        return np.asarray(rule, dtype=np.bool_)[nearest(confidence, self.num_bins)]

    def words(self, rule: Any) -> str:
        """The points whose bins are escalated."""
        chosen = [f"{p:.4g}" for p, up in zip(points(self.num_bins), rule, strict=True) if up]
        return f"nearest to one of {', '.join(chosen)}" if chosen else "nearest to no point"

    def check(self, rule: Any) -> None:
        """A list of num_bins + 1 zeros and ones."""
        number = self.num_bins + 1
        if not isinstance(rule, list) or len(rule) != number or not set(rule) <= {0, 1}:
            raise ValueError(f"the rule {rule!r} is no list of {number} zeros and ones")
