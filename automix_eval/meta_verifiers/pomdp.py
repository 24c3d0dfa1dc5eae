"""AutoMix's POMDP over a chain of any length, solved exactly into a lookup policy."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from automix_eval.meta_verifiers import pomdp_rule, pomdp_text
from automix_eval.meta_verifiers.base import Router, check_undefined, require_fitted, stand_in
from automix_eval.meta_verifiers.objectives import MIN_ESCALATION, Ends, Objective, select
from automix_eval.meta_verifiers.pomdp_family import Member, family, replay
from automix_eval.meta_verifiers.pomdp_labels import COMPLEX, SIMPLE, UNSOLVABLE
from automix_eval.meta_verifiers.pomdp_problem import Cells, Problem, estimate
from automix_eval.meta_verifiers.pomdp_rule import Rule
from automix_eval.meta_verifiers.pomdp_solve import Actions, Solver, StateReward, subsets
from automix_eval.outcomes import IntArray, Outcomes, Seen
from automix_eval.types import AutoMixError, Observation

# Order of the columns of a reward table in the configuration, as in AutoMix's first version.
COLUMNS = (COMPLEX, SIMPLE, UNSOLVABLE)
# A parameter so large that only its slope matters: prices that differ by one in 10^4 are told
# apart.
LARGEST = 1e4
# Where rewards are a table there is no price; the largest parameter, in units of the rewards.
LARGEST_OF_TABLE = 1e6


class Pomdp(Router):
    """The paper's POMDP for N tiers: keep an answer, or route to any later tier.

    State: the tier reached, and the question's hidden type with E[Perf_1..Perf_N]
    (``pomdp_problem.py``). Actions: keep, or route to any later tier; the first chooses the first
    tier. Observation: the confidence of the tier reached, in bins, or "undefined"
    (``density.py``). Reward: Perf - lambda * cost, a verification being paid with every tier but
    the last; or a table over the states Simple, Complex, Unsolvable. Discount 1. Solved by
    backward induction (``pomdp_solve.py``; ``pomdp_model.py`` states the same problem in
    pomdp-py's terms). Source: AutoMix, arXiv 2310.12963, appendix on the POMDP.

    Lambda is chosen on the fitting data among all policies between the cheapest and the dearest
    (``pomdp_family.py``).

    Args:
        num_bins: Bins of a tier's confidence at most, with about equally many questions each.
        bandwidth: Of the kernel density: ``scott``, ``silverman``, or a number (standard
            deviations).
        ridge: Penalty on the slopes of E[Perf | type].
        neighbours: Questions nearby at which their own mean weighs as much as the regression.
        lambda_: Quality a unit of cost must buy (with a reward table: its parameter r); None
            chooses it by ``objective``.
        reward: None for Perf - lambda * cost; or a table ``{keep: {fixed, per_r}, escalate: {fixed,
            per_r}}`` of rewards fixed + r * per_r, each a list for [Complex, Simple, Unsolvable].
        mixtures: Whether to offer mixtures of two policies as well: a share of the questions, drawn
            by their identity, follows the dearer one. They meet a budget exactly.
        objective: What is chosen by: ``ibc``, ``budget`` or ``target``.
        budget: Largest mean cost of a question.
        target: Share of the last tier's mean score to reach.
        min_escalation: Least share of escalated fitting questions, for ``ibc``.
        undefined: What an undefined confidence is: ``observe``, an observation of its own, learned
            like any other; ``escalate`` or ``keep``, which fix the action; or a confidence in
            [0, 1] that stands in.

    Attributes:
        rule_: The policy, a :class:`~automix_eval.meta_verifiers.pomdp_rule.Rule`; None before
            fitting.
    """

    needs_verification = True
    needs_fit = True

    def __init__(
        self,
        num_bins: int = 64,
        bandwidth: str | float = "scott",
        ridge: float = 10.0,
        neighbours: float = 50.0,
        lambda_: float | None = None,
        reward: Mapping[str, Any] | None = None,
        mixtures: bool = True,
        objective: str = "ibc",
        budget: float | None = None,
        target: float | None = None,
        min_escalation: float = MIN_ESCALATION,
        undefined: str | float = "observe",
    ) -> None:
        if not isinstance(num_bins, int) or isinstance(num_bins, bool) or not 2 <= num_bins:
            raise AutoMixError(f"meta_verifier.num_bins={num_bins!r} must be an integer >= 2")
        if bandwidth not in ("scott", "silverman") and not _is_number(bandwidth, above=0.0):
            raise AutoMixError(
                f"meta_verifier.bandwidth={bandwidth!r} must be scott, silverman or a number > 0"
            )
        for name, value in (("ridge", ridge), ("neighbours", neighbours)):
            if not _is_number(value, above=0.0):
                raise AutoMixError(f"meta_verifier.{name}={value!r} must be a number > 0")
        if lambda_ not in (None, 0) and not _is_number(lambda_, above=0.0):
            raise AutoMixError(f"meta_verifier.lambda_={lambda_!r} must be null or a number >= 0")
        if not isinstance(mixtures, bool):
            raise AutoMixError(f"meta_verifier.mixtures={mixtures!r} must be true or false")
        if undefined != "observe":
            check_undefined(undefined)
        self.num_bins = num_bins
        self.bandwidth = bandwidth
        self.ridge = ridge
        self.neighbours = neighbours
        self.lambda_ = lambda_
        self.reward = reward
        self.mixtures = mixtures
        self.objective = objective
        self.budget = budget
        self.target = target
        self.min_escalation = min_escalation
        self.undefined = undefined
        self._objective = Objective(objective, budget, target, min_escalation)
        self._reward = None if reward is None else _parse_reward(reward)
        self.rule_: Rule | None = None
        self._family: list[Rule] | None = None

    @property
    def needs_texts(self) -> bool:  # type: ignore[override]
        """A mixture draws by the identity of a question."""
        return self.rule_ is not None and self.rule_.high is not self.rule_.low

    def fit(self, outcomes: Outcomes) -> Pomdp:
        """Estimate the problem, solve it for every lambda, and choose one policy.

        Raises:
            AutoMixError: Fewer than two questions or tiers.
        """
        _check_size(outcomes)
        rows = outcomes.canonical()
        rows = replace(rows, confidences=stand_in(rows.confidences, self._stand_in))
        problem, cells = estimate(rows, self.num_bins, self.bandwidth, self.ridge, self.neighbours)
        solver = Solver(problem, self._reward, self.undefined)
        largest = LARGEST_OF_TABLE if self._reward else LARGEST * _largest_price(problem)
        members = family(solver, largest, self.mixtures)
        rules = _rules(problem, members, cells)
        rules.sort(key=lambda rule: (rule.cost, rule.score))
        self._family = rules
        if self.lambda_ is not None:
            one = solver.solve(self.lambda_)
            chosen, value, note = _rules(problem, [Member(one, one, 0.0)], cells)[0], None, ""
        else:
            chosen, value, note = _choose(rules, Ends.of(rows), self._objective, problem, cells)
        summary = pomdp_text.summarise(solver, chosen.low)
        self.rule_ = replace(chosen, objective=value, note=note, summary=summary)
        return self

    def choose(self, seen: Seen) -> IntArray:
        """The next tier, or the same to keep; before the first tier the one asked first."""
        rule = self._rule(seen.num_tiers)
        return rule.next_tier(seen, stand_in(seen.confidences, self._stand_in))

    def sweep(self) -> list[tuple[float | None, Any]]:
        """Every (parameter, policy) between the cheapest and the dearest, cheapest first."""
        rules = self._family
        if rules is None:
            require_fitted(self.rule_, "pomdp")
            raise AutoMixError(
                "a stored policy of meta_verifier=pomdp is one of its family and does not hold "
                "the others: fit it again to sweep over them"
            )
        routers = []
        for rule in rules:
            router = copy.copy(self)
            router.rule_ = rule
            routers.append((rule.parameter, router))
        return list(routers)

    def get_learned(self) -> dict[str, Any]:
        """The chosen policy as JSON: edges, packed lookup tables and what explains them."""
        return pomdp_rule.to_json(require_fitted(self.rule_, "pomdp"))

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the chosen policy."""
        try:
            self.rule_ = pomdp_rule.from_json(learned)
        except (KeyError, TypeError, ValueError) as err:
            raise AutoMixError(
                f"this is no policy of meta_verifier=pomdp ({err!r}): fit it again"
            ) from err
        self._family = None

    def describe(self) -> str:
        """Prior, observation model, belief after each group of bins and action, as tables."""
        return pomdp_text.describe(require_fitted(self.rule_, "pomdp"), self.undefined)

    @property
    def _stand_in(self) -> str | float:
        return "" if isinstance(self.undefined, str) else self.undefined

    def _rule(self, num_tiers: int) -> Rule:
        rule: Rule = require_fitted(self.rule_, "pomdp")
        if rule.num_tiers != num_tiers:
            raise AutoMixError(
                f"meta_verifier=pomdp was fitted for {rule.num_tiers} tiers and meets a chain of "
                f"{num_tiers}: fit it on records of this chain"
            )
        return rule

    def _reason(self, observation: Observation, to: int) -> str:
        reason = super()._reason(observation, to)
        rule, tier = self.rule_, observation.tier
        if rule is None or tier < 0 or tier == rule.num_tiers - 1 or not rule.summary:
            return reason
        value = observation.confidence
        return (
            reason if value is None else f"{reason}: {pomdp_text.belief_at(rule, tier, value)}"
        )


def _rules(problem: Problem, members: Sequence[Member], cells: Cells) -> list[Rule]:
    edges = tuple(a.edges for a in problem.axes)
    # neighbours share their ends, so each policy is played once
    played = {id(s): s for m in members for s in (m.low, m.high)}
    values = {key: np.array(replay(s.actions, cells)) for key, s in played.items()}
    rules = []
    for member in members:
        low, high = values[id(member.low)], values[id(member.high)]
        score, cost, escalation = ((1 - member.share) * low + member.share * high).tolist()
        # of two policies the dearer is the second, whatever the reward made of it
        swap = member.share > 0 and low[1] > high[1]
        pair = (member.high, member.low) if swap else (member.low, member.high)
        rules.append(
            Rule(
                edges, pair[0].actions, pair[1].actions,
                1 - member.share if swap else member.share,
                member.x, escalation, score, cost,
            )  # fmt: skip
        )
    return rules


def _choose(
    rules: Sequence[Rule], ends: Ends, objective: Objective, problem: Problem, cells: Cells
) -> tuple[Rule, float | None, str]:
    table = np.array([(r.score, r.cost, r.escalation) for r in rules])
    chosen = select(table[:, 0], table[:, 1], table[:, 2], ends, objective)
    if chosen.index is not None:
        return rules[chosen.index], chosen.value, chosen.note
    actions = _keep_all(problem)
    score, cost, escalation = replay(actions, cells)
    edges = tuple(a.edges for a in problem.axes)
    rule = Rule(edges, actions, actions, 0.0, rules[0].parameter, escalation, score, cost)
    return rule, None, chosen.note


def _keep_all(problem: Problem) -> Actions:
    """Starts at the first tier and keeps every answer."""
    actions = {}
    for subset in subsets(problem.num_tiers):
        shape = tuple(len(problem.axes[t]) for t in subset)
        actions[subset] = np.full(shape, subset[-1] if subset else 0, dtype=np.uint8)
    return actions


def _largest_price(problem: Problem) -> float:
    """Quality for cost beyond which no tier is worth more than a cheaper one."""
    paid = problem.costs[problem.costs > 0]
    span = float(problem.scores.max() - problem.scores.min())
    return (span or 1.0) / float(paid.min()) if len(paid) else 1.0


def _check_size(outcomes: Outcomes) -> None:
    if len(outcomes) < 2:
        raise AutoMixError(
            f"meta_verifier=pomdp is fitted on at least 2 records and got {len(outcomes)}: raise "
            "calibration.num_docs, or load a fitted policy"
        )
    if outcomes.num_tiers < 2:
        raise AutoMixError(
            "meta_verifier=pomdp is fitted on records of at least 2 tiers, and these have only "
            "the first: record them with every tier asked (record=full)"
        )


def _parse_reward(reward: Any) -> StateReward:
    try:
        rows = {
            action: tuple(_column(reward[action][part]) for part in ("fixed", "per_r"))
            for action in ("keep", "escalate")
        }
        if set(reward) != set(rows) or any(len(reward[a]) != 2 for a in rows):
            raise ValueError("other keys")
    except (KeyError, TypeError, ValueError) as err:
        raise AutoMixError(
            f"meta_verifier.reward={reward!r} must be null or {{keep: {{fixed: [..], per_r: "
            "[..]}, escalate: {fixed: [..], per_r: [..]}}, each a list of three numbers for "
            f"Complex, Simple, Unsolvable ({err!r})"
        ) from err
    return StateReward(keep=rows["keep"], escalate=rows["escalate"])  # type: ignore[arg-type]


def _column(values: Any) -> tuple[float, ...]:
    numbers = list(values)
    if len(numbers) != len(COLUMNS) or not all(_is_number(v, -math.inf) for v in numbers):
        raise ValueError(f"{numbers} is no list of three numbers")
    named = dict(zip(COLUMNS, numbers, strict=True))
    return tuple(float(named[s]) for s in (SIMPLE, COMPLEX, UNSOLVABLE))


def _is_number(value: Any, above: float) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and above < value < float("inf")
