"""What the meta-verifiers share: reading records, undefined confidences, the loop over tiers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from automix_eval.meta_verifiers.selection import BoolArray, FloatArray, Outcomes
from automix_eval.types import AutoMixError, CostModel, Decision, Observation, Record, TierRecord

# How far a confidence may lie outside [0, 1]: sums of probabilities round, larger steps are errors.
ROUNDING = 1e-6

Rule = TypeVar("Rule")


@dataclass(frozen=True, slots=True)
class Pair:
    """The fitting data of one decision: keep the answer of ``tier``, or ask ``tier + 1``.

    The rows are in an order of their own values, so that no sum depends on the records' order.
    A pair is fitted as if it were a cascade of its own: on every question, those an earlier tier
    would keep included, and without the price of a verification at ``tier + 1``.

    Attributes:
        confidences: Confidence at ``tier``; 0 where it is not defined.
        defined: Whether the confidence is defined (or ``undefined`` is a number that stands in).
        outcomes: Scores and costs.
    """

    tier: int
    confidences: FloatArray
    defined: BoolArray
    outcomes: Outcomes

    @property
    def uninformed(self) -> str:
        """A note where fewer than two confidences are defined, else empty.

        The rule cannot tell answers by their confidence then; it is fitted all the same, since a
        verifier that fails on one task must not end a run over many.
        """
        number = int(self.defined.sum())
        if number >= 2:
            return ""
        return (
            f"{number} of {len(self.defined)} fitting questions have a confidence at tier "
            f"{self.tier}, so the policy cannot tell answers apart: meta_verifier.undefined "
            "decides for those without one. Look at the verifier's outcomes, or try another"
        )

    def mask(self, escalates: BoolArray, undefined: str | float) -> BoolArray:
        """A candidate's mask, once undefined confidences are decided too."""
        return np.where(self.defined, escalates, undefined == "escalate")


class TierByTier(ABC):
    """The loop of every meta-verifier that decides between a tier and the next.

    A subclass says in :meth:`_choose` whether the answer of one observation is escalated.
    """

    needs_verification = False
    needs_fit = False
    start = 0

    def fit(
        self,
        records: Sequence[Record],  # noqa: ARG002 - for those that learn
        cost: CostModel,  # noqa: ARG002 - for those that learn
    ) -> TierByTier:
        """Learn nothing; a meta-verifier with learned values overrides this."""
        return self

    def decide(self, observations: Sequence[Observation]) -> list[Decision]:
        """One decision per observation, in order: the next tier, or the same to keep."""
        return [self._decide(o) for o in observations]

    def get_learned(self) -> dict[str, Any]:
        """The learned values as JSON."""
        return {}

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore what :meth:`get_learned` returned."""
        if learned:
            raise AutoMixError(
                f"{type(self).__name__} learns nothing, so the policy with {sorted(learned)} "
                "belongs to another meta_verifier"
            )

    def _decide(self, observation: Observation) -> Decision:
        tier = observation.tier
        if tier == observation.num_tiers - 1:
            return Decision(tier, tier, "last tier")
        escalates, reason = self._choose(observation)
        return Decision(tier, tier + escalates, reason)

    @abstractmethod
    def _choose(self, observation: Observation) -> tuple[bool, str]:
        """Whether to ask the next tier, and the reason in one short phrase."""


class ConfidenceRouter(TierByTier):
    """A :class:`TierByTier` meta-verifier that reads the confidence at the tier reached."""

    needs_verification = True
    undefined: str | float

    def _choose(self, observation: Observation) -> tuple[bool, str]:
        value = read_confidence(observation.confidence, _place(observation))
        if value is None and not isinstance(self.undefined, str):
            value = float(self.undefined)
        return self._rule(observation, value)

    @abstractmethod
    def _rule(self, observation: Observation, confidence: float | None) -> tuple[bool, str]:
        """Like :meth:`_choose`, for a confidence in [0, 1], or None where it is undefined."""

    def _rule_undefined(self) -> tuple[bool, str]:
        """What ``undefined`` says, where it is no number."""
        return self.undefined == "escalate", "undefined confidence"


def check_undefined(undefined: Any) -> None:
    """Raise AutoMixError unless it says what an undefined confidence counts as."""
    if isinstance(undefined, str) and undefined in ("escalate", "keep"):
        return
    number = isinstance(undefined, (int, float)) and not isinstance(undefined, bool)
    if not number or not 0 <= undefined <= 1:
        raise AutoMixError(
            f"meta_verifier.undefined={undefined!r} must be escalate, keep or a confidence in "
            "[0, 1]"
        )


def read_confidence(value: Any, place: str) -> float | None:
    """A confidence clipped to [0, 1] against rounding; None stays None.

    Raises:
        AutoMixError: It is NaN, no number, or outside [0, 1] by more than rounding.
    """
    if value is None:
        return None
    # numpy's numbers pass float() too; a text would as well, and is none.
    number = math.nan if isinstance(value, str) else float(value)
    if not -ROUNDING <= number <= 1 + ROUNDING:
        raise AutoMixError(
            f"{place}: the confidence is {value!r}, not a number in [0, 1]. A verifier reports a "
            "confidence it does not have as None (see meta_verifier.undefined)"
        )
    return min(max(number, 0.0), 1.0)


def read_pairs(
    records: Sequence[Record], cost: CostModel, undefined: str | float, name: str
) -> list[Pair]:
    """The fitting data of every tier but the last.

    Raises:
        AutoMixError: Fewer than two usable records, a tier that was not asked, scored or verified,
            or a score or confidence that is not a number; names task, doc_id, tier and remedy.
    """
    if len(records) < 2:
        raise AutoMixError(
            f"meta_verifier={name} is fitted on at least 2 records and got {len(records)}: raise "
            "calibration.num_docs, or load a fitted policy"
        )
    num_tiers = 1 + max(t.tier for r in records for t in r.tiers)
    if num_tiers < 2:
        raise AutoMixError(
            f"meta_verifier={name} is fitted on records of at least 2 tiers, and these have only "
            "the first: record them with every tier asked (record=full)"
        )
    cost.check(num_tiers)
    return [_read_pair(records, cost, undefined, name, tier) for tier in range(num_tiers - 1)]


def _read_pair(
    records: Sequence[Record], cost: CostModel, undefined: str | float, name: str, tier: int
) -> Pair:
    rows = []
    for record in records:
        low, high = _tier(record, tier), _tier(record, tier + 1)
        place = f"task {record.task}, doc_id {record.doc_id}, tier {tier}"
        if low.verification is None:
            raise AutoMixError(
                f"{place}: no verification, which meta_verifier={name} learns from: record the "
                "fitting data with a verifier"
            )
        value = read_confidence(low.verification.confidence, place)
        if value is None and not isinstance(undefined, str):
            value = float(undefined)
        rows.append(
            (
                value is not None,
                value or 0.0,
                _score(record, low),
                _score(record, high),
                cost.answer_cost(low.answer),
                cost.verification_cost(low.verification),
                cost.answer_cost(high.answer),
            )
        )
    table = np.array(sorted(rows), dtype=np.float64)
    return Pair(tier, table[:, 1], table[:, 0] == 1, Outcomes(*table[:, 2:].T))


def _tier(record: Record, tier: int) -> TierRecord:
    found = record.tier(tier)
    if found is None:
        raise AutoMixError(
            f"task {record.task}, doc_id {record.doc_id}: tier {tier} was not asked, and a policy "
            "is fitted on records of every tier: record them with record=full"
        )
    return found


def _score(record: Record, tier: TierRecord) -> float:
    if tier.score is None or not math.isfinite(tier.score):
        raise AutoMixError(
            f"task {record.task}, doc_id {record.doc_id}, tier {tier.tier}: the score is "
            f"{tier.score!r}, and a policy is fitted on numbers: mend the task's metric, or leave "
            "the document out of the fitting data"
        )
    return float(tier.score)


def _place(observation: Observation) -> str:
    question = observation.question
    prefix = f"task {question.task}, doc_id {question.doc_id}, " if question else ""
    return f"{prefix}tier {observation.tier}"


# --------------------------------------------------------------------------- learned rules


def rule_of(rules: Sequence[Rule] | None, observation: Observation, name: str) -> Rule:
    """The learned rule of the tier reached.

    Raises:
        AutoMixError: Nothing was learned, or for a chain of another length.
    """
    fitted = require_fitted(rules, name)
    if len(fitted) != observation.num_tiers - 1:
        raise AutoMixError(
            f"meta_verifier={name} was fitted for {len(fitted) + 1} tiers and meets a chain of "
            f"{observation.num_tiers}: fit it on records of this chain"
        )
    return fitted[observation.tier]


def require_fitted(rules: Sequence[Rule] | None, name: str) -> Sequence[Rule]:
    """The learned rules, or an AutoMixError that says how to get them."""
    if rules is None:
        raise AutoMixError(
            f"meta_verifier={name} has learned nothing yet: call fit(records, cost), or load a "
            "policy with set_learned"
        )
    return rules


def parse_rules(
    learned: Mapping[str, Any], parse: Callable[[Mapping[str, Any]], Rule], name: str
) -> tuple[Rule, ...]:
    """The rules of a stored policy.

    Raises:
        AutoMixError: The policy has another shape; names the field.
    """
    try:
        if set(learned) != {"rules"} or not isinstance(learned["rules"], list):
            raise ValueError(f"expected one list 'rules', got the keys {sorted(learned)}")
        if not learned["rules"]:
            raise ValueError("'rules' is empty")
        return tuple(parse(rule) for rule in learned["rules"])
    except (KeyError, TypeError, ValueError) as err:
        raise AutoMixError(
            f"this is no policy of meta_verifier={name} ({err!r}): fit it again"
        ) from err
