"""Meta-verifiers that learn one rule a tier among candidates: fit, store, sweep and describe."""

from __future__ import annotations

import copy
import itertools
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, TypeVar

import numpy as np

from automix_eval.meta_verifiers.abstain import AbstainingRouter, abstention_bounds, as_answered
from automix_eval.meta_verifiers.base import (
    Walk,
    check_undefined,
    require_chain,
    require_fitted,
    stand_in,
)
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.objectives import Ends, select
from automix_eval.meta_verifiers.rules.cells import FittingData, TierRows, doubts
from automix_eval.meta_verifiers.rules.chain_search import Points, front, search
from automix_eval.meta_verifiers.rules.long_chains import said_of, worth_asking
from automix_eval.records.outcomes import (
    ABSTAIN,
    BoolArray,
    FloatArray,
    IntArray,
    Outcomes,
    Seen,
)
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number, is_whole

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
    """One rule for each tier asked but the last, and what it was worth on the fitting data.

    Attributes:
        rules: One rule for each of ``tiers`` but the last: ``never``, ``always``, ``undefined``,
            or a parameter of the meta-verifier, as JSON.
        score: Mean score.
        cost: Mean cost of a question, verification included.
        escalation: Share of questions answered above the first tier.
        tiers: The tiers that are asked, in this order; the others are skipped.
        num_tiers: Of the whole chain.
    """

    rules: tuple[Any, ...]
    score: float
    cost: float
    escalation: float
    tiers: tuple[int, ...]
    num_tiers: int


@dataclass(eq=False)
class RuleRouter(AbstainingRouter):
    """Chooses one rule a tier, jointly, by the objective on the whole chain.

    A subclass names its candidates and says which confidences a candidate escalates; the same
    function answers when fitting and when deciding. Two tiers: every candidate is compared. A
    longer chain: see :mod:`automix_eval.meta_verifiers.rules.chain_search`. Of many
    questions and more than four tiers not every sub-chain of three or more is searched, and a note
    says which tiers may be asked: see :mod:`automix_eval.meta_verifiers.rules.long_chains`.

    Any tiers of the chain may be skipped, the first too, so that a policy is never worse than one
    model alone on the fitting data; one tier alone is not verified. By ``ibc``, the objective of
    the paper, every question starts at the first tier and goes on tier by tier, as there (a router
    of pairs: to one later tier).

    Args:
        undefined: What an undefined confidence counts as: ``escalate``, ``keep``, or a confidence
            in [0, 1].

    The others are those of :class:`.objectives.Selection` and :class:`.abstain.AbstainingRouter`.
    Where it may abstain, each tier has a bound as well: an answer that would be kept does not count
    where its confidence is at most that.

    Attributes:
        policy_: The chosen :class:`Policy`; None before fitting.
        family_: All policies of the sweep, cheap to dear.
        value_: The objective's value (delta IBC, mean score or mean cost), None if undefined.
        bounds_: Of abstention, one a tier but the last, None for none; empty without a price.
    """

    undefined: str | float = field(default="escalate", kw_only=True)

    needs_verification = True
    needs_fit = True
    name: ClassVar[str]
    tries_always = True
    # most tiers that a policy asks
    longest: ClassVar[int] = 99

    def __post_init__(self) -> None:
        super().__post_init__()
        check_undefined(self.undefined)
        self.policy_: Policy | None = None
        self.family_: tuple[Policy, ...] = ()
        self.value_: float | None = None
        self.bounds_: tuple[float | None, ...] = ()
        self._last: Policy | None = None

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

    def _fit(self: R, outcomes: Outcomes) -> R:
        """Learn which tiers to ask, and one rule for each of them but the last."""
        data = FittingData(outcomes, self.undefined, self.name)
        number, ends = outcomes.num_tiers, data.ends()
        worth = self.abstention_score
        if worth is not None:
            held = stand_in(outcomes.confidences, self.undefined)
            self.bounds_ = abstention_bounds(outcomes, held, worth)
            answered = as_answered(outcomes, held, self.bounds_, worth)
            data = FittingData(answered, self.undefined, self.name)
        chains, bound = self._chains(data)
        searches = [self._search(data, tiers, ends) for tiers in chains]
        of = np.repeat(np.arange(len(searches)), [len(found.points.cost) for found in searches])
        begins = np.searchsorted(of, of)
        score, cost, escalation, doubt = (
            np.concatenate([getattr(found.points, name) for found in searches])
            for name in ("score", "cost", "escalation", "doubt")
        )
        chosen = select(score, cost, escalation, ends, self, doubt)
        # no index: the objective exists for no candidate, and the first keeps every answer
        best = chosen.index or 0
        rows = np.arange(len(cost))
        if number > 2:
            rows = np.union1d(front(score, cost, escalation), [best])
        order = rows[np.lexsort((rows, score[rows], cost[rows]))].tolist()
        self.family_ = tuple(_policy(searches[of[i]], i - int(begins[i]), number) for i in order)
        alone = [i for i, found in enumerate(searches) if found.tiers == (number - 1,)]
        self._last = _policy(searches[alone[0]], 0, number) if alone else None
        self._hold(self.family_[order.index(best)])
        self.value_ = chosen.value
        uninformed = (tier.uninformed for tier in data.rows(range(number)))
        abstained = follow(self, outcomes).abstained.mean() if self.bounds_ else 0.0
        notes = [chosen.note, bound, *uninformed, self.abstention_note(float(abstained))]
        self.note_ = "; ".join(filter(None, notes))
        return self

    def sweep(self) -> list[tuple[float | None, Any]]:
        """(mean cost on the fitting data, policy), cheap to dear.

        The cost is the least ``budget`` that admits the policy. Two tiers: every candidate. A
        longer chain: those to which no policy that was compared is better at the same cost.
        """
        require_fitted(self.policy_, self.name)
        return [(policy.cost, self._with(policy)) for policy in self.family_]

    def only_last(self) -> Any:
        """The last tier alone, which a range leaves out where a cheaper policy is as good."""
        return None if self._last is None else self._with(self._last)

    def get_learned(self) -> dict[str, Any]:
        """The policy and its family."""
        return {
            "policy": _to_json(require_fitted(self.policy_, self.name)),
            "value": self.value_,
            "note": self.note_,
            "family": [_to_json(policy) for policy in self.family_],
            **({"abstain": list(self.bounds_)} if self.bounds_ else {}),
        }

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the policy and its family."""
        try:
            if set(learned) - {"abstain"} != {"policy", "value", "note", "family"}:
                raise ValueError(f"the keys are {sorted(learned)}")
            policy = self._read(learned["policy"])
            family = tuple(self._read(row) for row in learned["family"])
            value, note = learned["value"], learned["note"]
            bounds = tuple(learned.get("abstain", ()))
            if not isinstance(note, str) or not (
                value is None or is_number(value, -math.inf, math.inf)
            ):
                raise ValueError(f"value={value!r}, note={note!r}")
            if not all(b is None or is_number(b, 0.0, 1.0) for b in bounds) or (
                len(bounds) not in (0, policy.num_tiers - 1)
            ):
                raise ValueError(f"abstain={list(bounds)}")
        except (KeyError, TypeError, ValueError) as err:
            raise AutoMixError(
                f"this is no policy of meta_verifier={self.name} ({err}): fit it again"
            ) from err
        self._hold(policy)
        self.family_, self.value_, self.note_, self.bounds_ = family, value, note, bounds

    def describe(self) -> str:
        """Each tier's rule in words, and what the policy was worth on the fitting data."""
        policy: Policy = require_fitted(self.policy_, self.name)
        lines = [
            f"tier {tier}: {self._sentence(rule, after, policy.num_tiers)}"
            for tier, after, rule in zip(policy.tiers, policy.tiers[1:], policy.rules, strict=False)
        ]
        if len(policy.tiers) == 1:
            lines.append(f"ask tier {policy.tiers[0]} alone, and verify nothing")
        elif policy.tiers[0] > 0:
            lines.insert(0, f"start at tier {policy.tiers[0]}")
        lines += [
            f"tier {tier}: abstain where an answer of at most {bound:.4g} would be kept"
            for tier, bound in enumerate(self.bounds_)
            if bound is not None and tier in policy.tiers and len(policy.tiers) > 1
        ]
        lines.append(
            f"fitting data: mean score {policy.score:.4g}, mean cost {policy.cost:.4g}, "
            f"escalation rate {policy.escalation:.4g}"
        )
        return "\n".join([*lines, *filter(None, [self.note_])])

    # ----------------------------------------------------------------- deciding

    def choose(self, seen: Seen) -> IntArray:
        """The next tier that the policy asks, or the same to keep."""
        policy = self._policy(seen.num_tiers)
        if seen.tier < 0:
            return np.full(len(seen), policy.tiers[0])
        to = np.full(len(seen), seen.tier)
        if seen.tier in policy.tiers[:-1]:
            place = policy.tiers.index(seen.tier)
            goes = self._decides(policy.rules[place], self._shown(seen, seen.tier))
            to[goes] = policy.tiers[place + 1]
        bound = self.bounds_[seen.tier] if seen.tier < len(self.bounds_) else None
        if bound is not None:
            to[(to == seen.tier) & (self._shown(seen, seen.tier) <= bound)] = ABSTAIN
        return to

    def walk(self, outcomes: Outcomes, known: dict[Any, Any]) -> Walk | None:
        """Where :meth:`choose` leads all rows; those that may be abstained on go step by step."""
        policy = self._policy(outcomes.num_tiers)
        if self.bounds_:
            return None
        number = len(outcomes)
        visited = np.full((outcomes.num_tiers, number), False)
        final = np.full(number, policy.tiers[-1])
        here = np.full(number, True)
        for tier, rule in zip(policy.tiers, policy.rules, strict=False):
            visited[tier] = here
            if (key := (self.name, tier)) not in known:
                known[key] = self._shown(outcomes, tier).copy()
            goes = here & self._decides(rule, known[key])
            np.copyto(final, tier, where=here & ~goes)
            here = goes
        visited[policy.tiers[-1]] = here
        return Walk(final, visited.T, np.full(number, False))

    def _policy(self, num_tiers: int) -> Policy:
        policy: Policy = require_fitted(self.policy_, self.name)
        require_chain(f"meta_verifier={self.name}", policy.num_tiers, num_tiers)
        return policy

    def _shown(self, rows: Outcomes | Seen, tier: int) -> FloatArray:
        """(n,) what the rules are told of a tier."""
        return stand_in(rows.confidences[:, tier], self.undefined)

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

    def _chains(self, data: FittingData) -> tuple[list[tuple[int, ...]], str]:
        """The tiers that a policy may ask, the one that keeps every answer first, and a note."""
        number = data.num_tiers
        longest = min(number, self.longest)
        if self.objective == "ibc":
            rest = itertools.combinations(range(1, number), longest - 1)
            return [(0, *tiers) for tiers in rest], ""
        kept: Sequence[int] = range(number) if longest < 3 else worth_asking(data, self.objective)
        every = [
            tiers
            for size in range(1, longest + 1)
            for tiers in itertools.combinations(range(number) if size < 3 else kept, size)
        ]
        return every, said_of(kept, number, "one or two of all")

    def _search(self, data: FittingData, tiers: tuple[int, ...], ends: Ends) -> _Search:
        if len(tiers) == 1:
            cost, score = ends.singles[tiers[0]]
            above = float(tiers[0] > 0)
            return _Search(tiers, [], Points.of_one(score, cost, above))
        rows = data.rows(tiers)
        tried = [self._tried(tier) for tier in rows]
        cells = data.cells(tiers, [self.breaks(tier) for tier in rows])
        masks = [self._masks(*one) for one in zip(tried, cells.values, strict=True)]
        unsure = [doubts(tier, cells, mask) for tier, mask in zip(rows, masks, strict=True)]
        points = search(cells, masks, unsure, ends, self)
        if tiers[0] > 0:
            points = replace(points, escalation=np.ones(len(points.cost)))
        return _Search(tiers, tried, points)

    def _masks(self, rules: Sequence[Any], held: FloatArray) -> BoolArray:
        """(rules, bins) whether each rule escalates a confidence."""
        numbers = [i for i, rule in enumerate(rules) if isinstance(rule, float)]
        rest = [i for i, rule in enumerate(rules) if not isinstance(rule, float)]
        table = np.empty((len(rules), len(held)), dtype=np.bool_)
        # rules that are numbers are compared at once
        if numbers:
            table[numbers] = self._decides(np.array([[rules[i]] for i in numbers]), held)
        for i in rest:
            table[i] = self._decides(rules[i], held)
        return table

    def _hold(self, policy: Policy) -> None:
        self.policy_ = policy
        # one tier alone is not judged
        self.needs_verification = len(policy.tiers) > 1
        only = policy.tiers[0] if len(policy.tiers) == 1 else None
        self.only_tier = -1 if only == policy.num_tiers - 1 else only

    def _with(self: R, policy: Policy) -> R:
        other = copy.copy(self)
        other._hold(policy)
        other.value_, other.note_ = None, ""
        return other

    def _take(self, chosen: Any, value: float, note: str) -> None:
        self._hold(chosen.policy_)
        self.value_, self.note_ = value, note

    def _sentence(self, rule: Any, after: int, num_tiers: int) -> str:
        named = isinstance(rule, str)
        to = f" to tier {after}" if num_tiers > 2 else ""
        sentence = (
            _WORDS[rule] if named else f"escalate{to} if the confidence is {self.words(rule)}"
        )
        if rule in (NEVER, ALWAYS) or not isinstance(self.undefined, str):
            return sentence
        return f"{sentence}; undefined confidence: {self.undefined}"

    def _read(self, row: Mapping[str, Any]) -> Policy:
        rules = tuple(row["rules"])
        # policies of before tiers could be skipped ask all of them
        tiers = tuple(row.get("tiers", range(len(rules) + 1)))
        held = {"num_tiers": len(rules) + 1, **row, "rules": rules, "tiers": tiers}
        policy = Policy(**held)
        order = list(policy.tiers)
        if len(order) != len(rules) + 1 or order != sorted(set(order)):
            raise ValueError(f"tiers={order} with {len(rules)} rules")
        if not set(order) <= set(range(policy.num_tiers)):
            raise ValueError(f"tiers={order} of {policy.num_tiers}")
        numbers = (policy.score, policy.cost, policy.escalation)
        if not all(is_number(x, -math.inf, math.inf) for x in numbers):
            raise ValueError(f"rules={policy.rules}; score, cost, escalation={numbers}")
        if not 0 <= policy.escalation <= 1:
            raise ValueError(f"escalation={policy.escalation!r}")
        for rule in policy.rules:
            if not (isinstance(rule, str) and rule in _WORDS):
                self.check(rule)
        return policy


def check_bins(name: str, num_bins: Any, most: int) -> None:
    """Raise AutoMixError unless it is a number of steps from confidence 0 to 1."""
    if not is_whole(num_bins, 1) or num_bins > most:
        raise AutoMixError(
            f"meta_verifier.num_bins={num_bins!r} of {name} must be an integer in [1, {most}]"
        )


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    """The policies that ask these tiers: what was tried at each but the last, and their points."""

    tiers: tuple[int, ...]
    tried: list[list[Any]]
    points: Points


def _policy(found: _Search, index: int, num_tiers: int) -> Policy:
    points, chosen = found.points, found.points.rules[index].tolist()
    return Policy(
        tuple(rules[k] for rules, k in zip(found.tried, chosen, strict=True)),
        float(points.score[index]),
        float(points.cost[index]),
        float(points.escalation[index]),
        found.tiers,
        num_tiers,
    )


def _to_json(policy: Policy) -> dict[str, Any]:
    return {**asdict(policy), "rules": list(policy.rules), "tiers": list(policy.tiers)}
