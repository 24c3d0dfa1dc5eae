"""Union: the best of four meta-verifiers on the fitting data."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from automix_eval.meta_verifiers.double_threshold import MAX_BINS, DoubleThreshold
from automix_eval.meta_verifiers.greedy import Greedy, check_sigma
from automix_eval.meta_verifiers.pomdp_v1 import PomdpV1
from automix_eval.meta_verifiers.rules.bins import points
from automix_eval.meta_verifiers.rules.cells import TierRows
from automix_eval.meta_verifiers.rules.rule_router import RuleRouter, check_bins
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.records.outcomes import BoolArray, FloatArray


@dataclass(eq=False)
class Union(RuleRouter):
    """The rule of pomdp_v1, greedy, double_threshold or threshold that the objective prefers.

    The meta-verifier whose results AutoMix's first version (arXiv 2310.12963v1) reports as
    "POMDP"; the authors' package automix-llm names it so. Candidates are those of the four, in
    this order; equals fall to the first. Each tier of a chain may take another of the four.

    Args:
        num_bins: Steps of the grid of all four.
        sigma: Smoothing of ``greedy``, in bins.
    """

    name: ClassVar[str] = "union"
    num_bins: int = 8
    sigma: float = 2.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_bins(self.name, self.num_bins, MAX_BINS)
        check_sigma(self.sigma)

    def breaks(self, rows: TierRows) -> FloatArray:
        """Those of the four."""
        return np.unique(
            np.concatenate(
                [part.breaks(rows) for part in parts(self.num_bins, self.sigma).values()]
            )
        )

    def candidates_of(self, rows: TierRows) -> list[Any]:
        """Those of the four, each with the name of its meta-verifier."""
        return [
            {"method": name, "rule": rule}
            for name, part in parts(self.num_bins, self.sigma).items()
            for rule in part.candidates_of(rows)
        ]

    def escalates(self, rule: Any, confidence: FloatArray) -> BoolArray:
        """What the rule's own meta-verifier says."""
        part = parts(self.num_bins, self.sigma)[rule["method"]]
        return part.escalates(rule["rule"], confidence)

    def words(self, rule: Any) -> str:
        """The rule in the words of its meta-verifier."""
        part = parts(self.num_bins, self.sigma)[rule["method"]]
        return f"{part.words(rule['rule'])} ({part.name})"

    def check(self, rule: Any) -> None:
        """A mapping of method and rule."""
        if not isinstance(rule, Mapping) or set(rule) != {"method", "rule"}:
            raise ValueError(f"the rule {rule!r} names no method and rule")
        known = parts(self.num_bins, self.sigma)
        if rule["method"] not in known:
            raise ValueError(f"method={rule['method']!r} is none of {', '.join(known)}")
        known[rule["method"]].check(rule["rule"])


@functools.cache
def parts(num_bins: int, sigma: float) -> Mapping[str, RuleRouter]:
    """The four meta-verifiers by name, in the order in which equals are preferred."""
    four: list[RuleRouter] = [
        PomdpV1(num_bins),
        Greedy(num_bins, sigma),
        DoubleThreshold(num_bins),
        Threshold(points(num_bins).tolist()),
    ]
    return {part.name: part for part in four}
