"""Threshold: escalate the answers whose confidence is at most t."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.base import ConfidenceRouter, check_undefined, require_fitted
from automix_eval.meta_verifiers.pairs import Pair, parse_rules, read_pairs, rule_of
from automix_eval.meta_verifiers.selection import MIN_ESCALATION, check_selection, select
from automix_eval.outcomes import BoolArray, FloatArray, Outcomes, Seen
from automix_eval.types import AutoMixError

EIGHTHS = tuple(k / 8 for k in range(9))


@dataclass(frozen=True, slots=True)
class ThresholdRule:
    """What is learned for one tier.

    Attributes:
        threshold: t; or ``never`` or ``always``, which hold for undefined confidences as well.
        escalation: Share of the fitting questions it escalates.
        objective: The objective's value on the fitting data, None where it is undefined.
        note: What the reader must know about the fit, else empty.
    """

    threshold: float | str
    escalation: float
    objective: float | None
    note: str


class Threshold(ConfidenceRouter):
    """Escalate iff v <= t; t maximises the objective on the fitting data.

    Source: AutoMix, arXiv 2310.12963, the meta-verifier "Thresholding". Candidates are ``never``,
    the given values in ascending order and ``always``, so the candidates' policies are nested.
    In a chain of N tiers one t is fitted per tier but the last, on the pair (tier, tier + 1) of
    every fitting question.

    Args:
        candidates: Values of t to try, or ``observed``: every confidence of the fitting data.
        objective: What t maximises: ``ibc``, the delta IBC.
        min_escalation: Least share of the fitting questions a candidate must escalate; see
            :mod:`automix_eval.meta_verifiers.selection` for its default.
        undefined: What an undefined confidence counts as: ``escalate``, ``keep``, or a confidence
            in [0, 1].

    Attributes:
        rules_: One :class:`ThresholdRule` per tier but the last; None before fitting.
    """

    needs_fit = True

    def __init__(
        self,
        candidates: Sequence[float] | str = EIGHTHS,
        objective: str = "ibc",
        min_escalation: float = MIN_ESCALATION,
        undefined: str | float = "escalate",
    ) -> None:
        _check_candidates(candidates)
        check_selection("threshold", objective, min_escalation)
        check_undefined(undefined)
        self.candidates = candidates
        self.objective = objective
        self.min_escalation = min_escalation
        self.undefined = undefined
        self.rules_: tuple[ThresholdRule, ...] | None = None

    def fit(self, outcomes: Outcomes) -> Threshold:
        """Learn one threshold per tier but the last."""
        pairs = read_pairs(outcomes, self.undefined, "threshold")
        self.rules_ = tuple(self._fit_pair(pair) for pair in pairs)
        return self

    def get_learned(self) -> dict[str, Any]:
        """The rules, one a tier."""
        return {"rules": [asdict(r) for r in require_fitted(self.rules_, "threshold")]}

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the rules."""
        self.rules_ = parse_rules(learned, _parse, "threshold")

    def _fit_pair(self, pair: Pair) -> ThresholdRule:
        if pair.uninformed:
            # no confidence to search over: t = 0 leaves the decisions to `undefined`
            mask = pair.mask(pair.confidences <= 0.0, self.undefined)
            return ThresholdRule(0.0, float(mask.mean()), None, pair.uninformed)
        tried = pair.confidences[pair.defined] if self.candidates == "observed" else self.candidates
        values = np.unique(np.array(tried, dtype=np.float64))
        masks = np.stack(
            [
                np.zeros(len(pair.defined), dtype=np.bool_),
                *(pair.mask(pair.confidences <= t, self.undefined) for t in values),
                np.ones(len(pair.defined), dtype=np.bool_),
            ]
        )
        names: list[float | str] = ["never", *values.tolist(), "always"]
        chosen = select(masks, pair.outcomes, self.objective, self.min_escalation)
        index = chosen.index or 0  # None: the objective exists for no candidate
        return ThresholdRule(names[index], float(masks[index].mean()), chosen.value, chosen.note)

    def _rule(self, confidence: FloatArray, seen: Seen) -> BoolArray:
        threshold = rule_of(self.rules_, seen, "threshold").threshold
        if isinstance(threshold, str):
            return np.full(len(seen), threshold == "always")
        return np.asarray(confidence <= threshold)

    def _escalates_undefined(self, seen: Seen) -> bool:
        threshold = rule_of(self.rules_, seen, "threshold").threshold
        if isinstance(threshold, str):
            return threshold == "always"
        return super()._escalates_undefined(seen)


def _check_candidates(candidates: Any) -> None:
    if candidates == "observed":
        return
    values = [] if isinstance(candidates, str) else list(candidates)
    if not values or not all(
        isinstance(t, (int, float)) and not isinstance(t, bool) and 0 <= t <= 1 for t in values
    ):
        raise AutoMixError(
            f"meta_verifier.candidates={candidates!r} of threshold must be observed or a list of "
            "thresholds in [0, 1]"
        )


def _parse(row: Mapping[str, Any]) -> ThresholdRule:
    rule = ThresholdRule(**row)
    named = isinstance(rule.threshold, str) and rule.threshold in ("never", "always")
    if not named and not (isinstance(rule.threshold, (int, float)) and 0 <= rule.threshold <= 1):
        raise ValueError(f"threshold={rule.threshold!r}")
    if not 0 <= rule.escalation <= 1 or not isinstance(rule.note, str):
        raise ValueError(f"escalation={rule.escalation!r}, note={rule.note!r}")
    if rule.objective is not None and not np.isfinite(rule.objective):
        raise ValueError(f"objective={rule.objective!r}")
    return rule
