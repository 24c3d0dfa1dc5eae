"""Threshold: escalate the answers whose confidence is at most t."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from automix_eval.meta_verifiers.rules.cells import TierRows
from automix_eval.meta_verifiers.rules.rule_router import RuleRouter
from automix_eval.records.outcomes import BoolArray, FloatArray
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number

EIGHTHS = tuple(k / 8 for k in range(9))
# More observed confidences than this are thinned to as many of their quantiles; the cells of a
# longer chain are the product of its tiers' bins.
MOST, MOST_IN_CHAIN = 1000, 250


@dataclass(eq=False)
class Threshold(RuleRouter):
    """Escalate iff v <= t, with t chosen by the objective on the fitting data.

    Source: AutoMix, arXiv 2310.12963, the meta-verifier "Thresholding". Candidates are ``never``,
    the given values in ascending order and ``always``, so the candidates' policies are nested.

    Args:
        candidates: Values of t to try, or ``observed``: every confidence of the fitting data, or
            1000 quantiles of them where there are more (250 in a chain of more than two tiers).
            The paper's grid is :data:`EIGHTHS`, all that eight samples can show; between them a
            confidence that is a probability has thresholds worth several times as much.
    """

    name: ClassVar[str] = "threshold"
    candidates: Sequence[float] | str = "observed"

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_candidates(self.candidates)

    def breaks(self, rows: TierRows) -> FloatArray:
        """The thresholds."""
        if isinstance(self.candidates, str):
            two_tiers = rows.tier == 0 and rows.later.shape[1] == 1
            return thin(rows.ascending, MOST if two_tiers else MOST_IN_CHAIN)
        return np.unique(np.array(self.candidates, dtype=np.float64))

    def candidates_of(self, rows: TierRows) -> list[Any]:
        """The thresholds, ascending."""
        return list(self.breaks(rows).tolist())

    def escalates(self, rule: Any, confidence: FloatArray) -> BoolArray:
        """Whether each confidence is at most t."""
        return np.asarray(confidence <= rule)

    def words(self, rule: Any) -> str:
        """The threshold."""
        return f"at most {rule:.4g}"

    def check(self, rule: Any) -> None:
        """A number in [0, 1]."""
        if not is_number(rule, 0.0, 1.0):
            raise ValueError(f"the threshold {rule!r} is no number in [0, 1]")


def thin(values: FloatArray, most: int) -> FloatArray:
    """The distinct ones of ascending values; beyond ``most`` that many quantiles of all values."""
    distinct = values[np.diff(values, prepend=-np.inf) > 0]
    if len(distinct) <= most:
        return distinct
    ranks = np.linspace(0, len(values) - 1, most).astype(np.intp)
    return np.unique(values[ranks])


def _check_candidates(candidates: Any) -> None:
    if candidates == "observed":
        return
    listed = isinstance(candidates, Iterable) and not isinstance(candidates, str)
    values = list(candidates) if listed else []
    if not values or not all(is_number(t, 0.0, 1.0) for t in values):
        raise AutoMixError(
            f"meta_verifier.candidates={candidates!r} must be observed or a list of "
            "thresholds in [0, 1]"
        )
