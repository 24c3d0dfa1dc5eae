"""Double threshold: escalate the answers whose confidence lies between two bounds."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from automix_eval.meta_verifiers.rules import bins as grid
from automix_eval.meta_verifiers.rules.cells import TierRows
from automix_eval.meta_verifiers.rules.rule_router import RuleRouter, check_bins
from automix_eval.records.outcomes import BoolArray, FloatArray
from automix_eval.safety.numbers import is_number

# The pairs grow with the square of the bins: 20,301 of them here.
MAX_BINS = 200


@dataclass(eq=False)
class DoubleThreshold(RuleRouter):
    """Escalate iff a <= v <= b, with a and b chosen by the objective on the fitting data.

    For data in which confident answers gain nothing and neither do hopeless ones. Source: the
    authors' package automix-llm. Candidates are ``never``, all pairs a <= b of the points 0,
    1/num_bins, ..., 1, and ``always``.

    Args:
        num_bins: Steps of the grid of a and b.
    """

    name: ClassVar[str] = "double_threshold"
    num_bins: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bins(self.name, self.num_bins, MAX_BINS)

    def breaks(self, rows: TierRows) -> FloatArray:  # noqa: ARG002 - the same for all data
        """The points of the grid."""
        return grid.points(self.num_bins)

    def candidates_of(self, rows: TierRows) -> list[Any]:  # noqa: ARG002 - as above
        """All pairs [a, b]."""
        bounds = grid.points(self.num_bins).tolist()
        return [list(pair) for pair in itertools.combinations_with_replacement(bounds, 2)]

    def escalates(self, rule: Any, confidence: FloatArray) -> BoolArray:
        """Whether each confidence lies in [a, b]."""
        return np.asarray((confidence >= rule[0]) & (confidence <= rule[1]))

    def words(self, rule: Any) -> str:
        """Both bounds."""
        return f"from {rule[0]:.4g} to {rule[1]:.4g}"

    def check(self, rule: Any) -> None:
        """A list [a, b] with 0 <= a <= b <= 1."""
        good = isinstance(rule, list) and len(rule) == 2 and is_number(rule[0], 0.0, 1.0)
        if not good or not is_number(rule[1], rule[0], 1.0):
            raise ValueError(f"the rule {rule!r} is no pair of bounds in [0, 1]")
