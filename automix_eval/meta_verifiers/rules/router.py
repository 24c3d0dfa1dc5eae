"""Meta-verifiers that learn one rule a tier among candidates: fit, store, sweep and describe."""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar, TypeVar

import numpy as np

from automix_eval.meta_verifiers.base import TierByTier, check_undefined, require_fitted, stand_in
from automix_eval.meta_verifiers.objectives import Selection, is_number
from automix_eval.meta_verifiers.rules.cells import TierRows, make_cells, tier_rows
from automix_eval.meta_verifiers.rules.chain_search import Points, front, search
from automix_eval.records.outcomes import BoolArray, FloatArray, IntArray, Outcomes, Seen
from automix_eval.safety.errors import AutoMixError

R = TypeVar("R", bound="RuleRouter")

# Rules that hold whatever the confidence is, undefined ones included; "undefined" keeps every
# answer that has a confidence and leaves the others to the setting of that name.
NEVER, ALWAYS, UNDEFINED = "never", "always", "undefined"
_WORDS = {
    NEVER: "keep every answer",
    ALWAYS: "escalate every answer",
    UNDEFINED: "keep every answer that has a confidence",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """One rule for each tier but the last, and what it was worth on the fitting data.

    Attributes:
        rules: The rules: ``never``, ``always``, ``undefined``, or a parameter of the
            meta-verifier, as JSON.
        score: Mean score.
        cost: Mean cost of a question, verification included.
        escalation: Share of questions answered above the first tier.
    """

    rules: tuple[Any, ...]
    score: float
    cost: float
    escalation: float


@dataclass(eq=False)
class RuleRouter(Selection, TierByTier):
    """Chooses one rule a tier, jointly, by the objective on the whole chain.

    A subclass names its candidates and says which confidences a candidate escalates; the same
    function answers when fitting and when deciding. Two tiers: every candidate is compared. A
    longer chain: see :mod:`automix_eval.meta_verifiers.rules.chain_search`.

    Args:
        undefined: What an undefined confidence counts as: ``escalate``, ``keep``, or a confidence
            in [0, 1].

    The others are those of :class:`~automix_eval.meta_verifiers.objectives.Selection`.

    Attributes:
        policy_: The chosen :class:`Policy`; None before fitting.
        family_: All policies of the sweep, cheap to dear.
        value_: The objective's value (delta IBC, mean score or mean cost), None if undefined.
        note_: What the reader must know about the fit, else empty.
    """

    undefined: str | float = field(default="escalate", kw_only=True)

    needs_verification = True
    needs_fit = True
    name: ClassVar[str]
    tries_always = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_undefined(self.undefined)
        self.policy_: Policy | None = None
        self.family_: tuple[Policy, ...] = ()
        self.value_: float | None = None
        self.note_ = ""

    # ----------------------------------------------------------------- what a subclass says

    @abstractmethod
    def breaks(self, rows: TierRows) -> FloatArray:
        """The confidences, ascending, at which some candidate may change its mind."""

    @abstractmethod
    def candidates_of(self, rows: TierRows) -> list[Any]:
        """The rules to try at a tier, as JSON; the first of equals is taken."""

    @abstractmethod
    def escalates(self, rule: Any, confidence: FloatArray) -> BoolArray:
        """(n,) whether a rule escalates confidences, all defined."""

    @abstractmethod
    def words(self, rule: Any) -> str:
        """A rule in words, after "escalate if the confidence is"."""

    @abstractmethod
    def check(self, rule: Any) -> None:
        """Raise ValueError unless it is a rule of this meta-verifier."""

    # ----------------------------------------------------------------- learning

    def fit(self: R, outcomes: Outcomes) -> R:
        """Learn one rule per tier but the last.

        Raises:
            AutoMixError: Fewer than two questions or tiers.
        """
        rows = tier_rows(outcomes, self.undefined, self.name)
        tried = [self._tried(tier) for tier in rows]
        cells = make_cells(outcomes, rows, [self.breaks(tier) for tier in rows])
        masks = [
            np.stack([self._decides(rule, held) for rule in rules])
            for rules, held in zip(tried, cells.values, strict=True)
        ]
        points, chosen = search(cells, masks, self)
        kept = int(np.flatnonzero((points.rules == 0).all(axis=1))[0])
        best = kept if chosen.index is None else chosen.index
        family = _family(points, best)
        self.family_ = tuple(_policy(points, i, tried) for i in family.tolist())
        self.policy_ = _policy(points, best, tried)
        self.value_ = chosen.value
        self.note_ = "; ".join(filter(None, [chosen.note, *(tier.uninformed for tier in rows)]))
        return self

    def sweep(self) -> list[tuple[float | None, Any]]:
        """(mean cost on the fitting data, policy), cheap to dear.

        The cost is the least ``budget`` that admits the policy. Two tiers: every candidate. A
        longer chain: those to which no policy that was compared is better at the same cost.
        """
        require_fitted(self.policy_, self.name)
        return [(policy.cost, self._with(policy)) for policy in self.family_]

    def notes(self) -> list[str]:
        """What the reader must know about the fit."""
        return [self.note_] if self.note_ else []

    def get_learned(self) -> dict[str, Any]:
        """The policy and its family."""
        return {
            "policy": _to_json(require_fitted(self.policy_, self.name)),
            "value": self.value_,
            "note": self.note_,
            "family": [_to_json(policy) for policy in self.family_],
        }

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the policy and its family."""
        try:
            if set(learned) != {"policy", "value", "note", "family"}:
                raise ValueError(f"the keys are {sorted(learned)}")
            policy = self._read(learned["policy"])
            family = tuple(self._read(row) for row in learned["family"])
            value, note = learned["value"], learned["note"]
            if not isinstance(note, str) or not (
                value is None or is_number(value, -math.inf, math.inf)
            ):
                raise ValueError(f"value={value!r}, note={note!r}")
        except (KeyError, TypeError, ValueError) as err:
            raise AutoMixError(
                f"this is no policy of meta_verifier={self.name} ({err}): fit it again"
            ) from err
        self.policy_, self.family_, self.value_, self.note_ = policy, family, value, note

    def describe(self) -> str:
        """Each tier's rule in words, and what the policy was worth on the fitting data."""
        policy: Policy = require_fitted(self.policy_, self.name)
        lines = [f"tier {tier}: {self._sentence(rule)}" for tier, rule in enumerate(policy.rules)]
        lines.append(
            f"fitting data: mean score {policy.score:.4g}, mean cost {policy.cost:.4g}, "
            f"escalation rate {policy.escalation:.4g}"
        )
        return "\n".join([*lines, *filter(None, [self.note_])])

    # ----------------------------------------------------------------- deciding

    def _escalates(self, seen: Seen) -> BoolArray:
        policy: Policy = require_fitted(self.policy_, self.name)
        if len(policy.rules) != seen.num_tiers - 1:
            raise AutoMixError(
                f"meta_verifier={self.name} was fitted for {len(policy.rules) + 1} tiers and meets "
                f"a chain of {seen.num_tiers}: fit it on records of this chain"
            )
        return self._decides(policy.rules[seen.tier], stand_in(seen.confidence, self.undefined))

    def _decides(self, rule: Any, confidence: FloatArray) -> BoolArray:
        if isinstance(rule, str) and rule != UNDEFINED:
            return np.full(len(confidence), rule == ALWAYS)
        missing = np.isnan(confidence)
        if isinstance(rule, str):
            return np.asarray(missing & (self.undefined == "escalate"))
        if not missing.any():
            return self.escalates(rule, confidence)
        held = self.escalates(rule, np.where(missing, 0.0, confidence))
        return np.where(missing, self.undefined == "escalate", held)

    # ----------------------------------------------------------------- helpers

    def _tried(self, rows: TierRows) -> list[Any]:
        if rows.uninformed:
            return [NEVER, UNDEFINED]
        return [NEVER, *self.candidates_of(rows), *([ALWAYS] if self.tries_always else [])]

    def _with(self: R, policy: Policy) -> R:
        other = copy.copy(self)
        other.policy_, other.value_, other.note_ = policy, None, ""
        return other

    def _sentence(self, rule: Any) -> str:
        named = isinstance(rule, str)
        sentence = _WORDS[rule] if named else f"escalate if the confidence is {self.words(rule)}"
        if rule in (NEVER, ALWAYS) or not isinstance(self.undefined, str):
            return sentence
        return f"{sentence}; undefined confidence: {self.undefined}"

    def _read(self, row: Mapping[str, Any]) -> Policy:
        policy = Policy(**{**row, "rules": tuple(row["rules"])})
        numbers = (policy.score, policy.cost, policy.escalation)
        if not policy.rules or not all(is_number(x, -math.inf, math.inf) for x in numbers):
            raise ValueError(f"rules={policy.rules}; score, cost, escalation={numbers}")
        if not 0 <= policy.escalation <= 1:
            raise ValueError(f"escalation={policy.escalation!r}")
        for rule in policy.rules:
            if not (isinstance(rule, str) and rule in _WORDS):
                self.check(rule)
        return policy


def check_bins(name: str, num_bins: Any, most: int) -> None:
    """Raise AutoMixError unless it is a number of steps from confidence 0 to 1."""
    if not isinstance(num_bins, int) or isinstance(num_bins, bool) or not 1 <= num_bins <= most:
        raise AutoMixError(
            f"meta_verifier.num_bins={num_bins!r} of {name} must be an integer in [1, {most}]"
        )


def _family(points: Points, best: int) -> IntArray:
    """The policies of a sweep, cheap to dear."""
    rows = np.arange(len(points.cost))
    if points.rules.shape[1] > 1:
        rows = np.union1d(front(points), [best])
    order = np.lexsort((rows, points.score[rows], points.cost[rows]))
    return np.asarray(rows[order], dtype=np.intp)


def _policy(points: Points, index: int, tried: Sequence[Sequence[Any]]) -> Policy:
    chosen = points.rules[index].tolist()
    return Policy(
        tuple(rules[k] for rules, k in zip(tried, chosen, strict=True)),
        float(points.score[index]),
        float(points.cost[index]),
        float(points.escalation[index]),
    )


def _to_json(policy: Policy) -> dict[str, Any]:
    return {**asdict(policy), "rules": list(policy.rules)}
