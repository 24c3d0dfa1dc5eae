"""AutoMix's POMDP over a chain of any length, solved exactly into a lookup policy."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from automix_eval.meta_verifiers.abstain import AbstainingRouter
from automix_eval.meta_verifiers.base import (
    Walk,
    require_chain,
    require_fitted,
    require_rows,
    stand_in,
)
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.objectives import Chosen, Ends, Selection, select
from automix_eval.meta_verifiers.pomdp import describe as pomdp_text
from automix_eval.meta_verifiers.pomdp import policy_json as pomdp_json
from automix_eval.meta_verifiers.pomdp.density import Axis
from automix_eval.meta_verifiers.pomdp.family import Member, family, replay
from automix_eval.meta_verifiers.pomdp.options import check_options, check_solver, parse_reward
from automix_eval.meta_verifiers.pomdp.policy import Rule, SubChain, table_shapes
from automix_eval.meta_verifiers.pomdp.pomdp_py import PomdpPy, check_two_tiers
from automix_eval.meta_verifiers.pomdp.problem import PomdpCells, Problem, estimate
from automix_eval.meta_verifiers.pomdp.solve import Actions, Solution, Solver
from automix_eval.meta_verifiers.rules.cells import FittingData
from automix_eval.meta_verifiers.rules.long_chains import MOST, said_of, worth_asking
from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Observation

# A parameter so large that only its slope matters: prices that differ by one in 10^4 are told
# apart.
LARGEST = 1e4
# Where rewards are a table there is no price; the largest parameter, in units of the rewards.
LARGEST_OF_TABLE = 1e6
# A budget is fitted so that one data set in ten exceeds it by more than this share.
SLACK = 0.05
RARELY = 1.28
STORED_ALONE = (
    "a stored policy of meta_verifier=pomdp is one of its family and does not hold the others: fit "
    "it again to sweep over them"
)


@dataclass(kw_only=True, eq=False)
class ChainPomdp(AbstainingRouter):
    """The paper's POMDP for N tiers: keep an answer, or route to any later tier.

    State: the tier reached, and the question's hidden type with E[Perf_1..Perf_N]
    (``problem.py``). Actions: keep, or route to any later tier; the first chooses the first
    tier. Observation: the confidence of the tier reached, in bins, or "undefined"
    (``density.py``); with the first answer also what it has cost, in levels
    (``costs.py``). Reward: Perf - lambda * cost, a verification being paid with every tier
    but the last; or a table over the states Simple, Complex, Unsolvable. Discount 1. Solved by
    backward induction (``solve.py``; ``pomdp_py_model.py`` states the same problem in
    pomdp-py's terms). Source: AutoMix, arXiv 2310.12963, appendix on the POMDP.

    Lambda is chosen on the fitting data among all policies between the cheapest and the dearest
    (``family.py``). Of many questions and more than four tiers only some are asked, and a note says
    which (``rules/long_chains.py``).

    Args:
        num_bins: Bins of a tier's confidence at most, with about equally many questions each.
        cost_levels: Levels of a question's own cost at most, seen with its first answer
            (``costs.py``); 1 looks at no cost. A reward table has no cost, and no level.
        solver: ``exact``, or ``pomdp_py``: pomdp-py's value iteration, for chains of two tiers, to
            the same policies; slower.
        bandwidth: Of the kernel density: ``scott``, ``silverman``, or a number (standard
            deviations).
        ridge: Penalty on the slopes of E[Perf | type], per normal score; None: chosen by the data
            (the most probable ones, for a tier's own confidence and for others').
        neighbours: Questions nearby at which their own mean weighs as much as the regression.
        lambda_: Quality a unit of cost must buy (with a reward table: its parameter r); None
            chooses it by ``objective``.
        reward: None for Perf - lambda * cost; or a table ``{keep: {fixed, per_r}, escalate: {fixed,
            per_r}}`` of rewards fixed + r * per_r, each a list for [Complex, Simple, Unsolvable].
        mixtures: Whether to offer mixtures of two policies as well: a share of the questions, drawn
            by their identity, follows the dearer one. They meet a budget exactly.
        undefined: What an undefined confidence is: ``observe``, an observation of its own, learned
            like any other; ``escalate`` or ``keep``, which fix the action; or a confidence in
            [0, 1] that stands in.

    The others are those of :class:`.objectives.Selection` and :class:`.abstain.AbstainingRouter`:
    where it may abstain, that is one more action after any tier but the last.

    Attributes:
        rule_: The policy, a :class:`~automix_eval.meta_verifiers.pomdp.policy.Rule`; None before
            fitting.
    """

    num_bins: int = 64
    cost_levels: int = 7
    solver: str = "exact"
    bandwidth: str | float = "scott"
    ridge: float | None = None
    neighbours: float = 50.0
    lambda_: float | None = None
    reward: Mapping[str, Any] | None = None
    mixtures: bool = True
    undefined: str | float = "observe"

    needs_verification = True
    needs_fit = True
    # the first tier that answers
    first: ClassVar[int] = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_solver(self.solver, self.reward, self.undefined, self.abstain_price)
        check_options(
            self.num_bins, self.cost_levels, self.bandwidth, self.ridge, self.neighbours,
            self.lambda_, self.mixtures, self.undefined,
        )  # fmt: skip
        self._reward = None if self.reward is None else parse_reward(self.reward)
        self.rule_: Rule | None = None
        self._family: list[Rule] | None = None
        self._solved: Solver | None = None

    def check_chain(self, num_tiers: int) -> None:
        """Raise AutoMixError unless the solver plans chains of this length."""
        if self.solver == "pomdp_py":
            check_two_tiers(num_tiers)

    def _fit(self, outcomes: Outcomes) -> ChainPomdp:
        """Estimate the problem, solve it for every lambda, and choose one policy.

        Raises:
            AutoMixError: Fewer than two questions or tiers.
        """
        require_rows(outcomes, "pomdp")
        rows = outcomes.canonical()
        rows = replace(rows, confidences=stand_in(rows.confidences, self._stand_in))
        number, tiers = rows.num_tiers, self._asked(rows)
        chain = SubChain(tiers, number)
        problem, cells = estimate(
            _part(rows, tiers), self.num_bins, self.bandwidth, self.ridge, self.neighbours,
            self.cost_levels if self._reward is None else 1,
        )  # fmt: skip
        solver = self._solver(problem)
        largest = LARGEST_OF_TABLE if self._reward else LARGEST * _largest_price(problem)
        members = family(solver, largest, self.mixtures)
        rules = [_as_asked(rule, rows) for rule in self._rules(problem, chain, members, cells)]
        singles = _single_tiers(problem, chain, rows, members[0].x)
        if self._reward is None:
            rules = [rule for rule in rules if not rule.is_single]
            rules += singles
        rules.sort(key=lambda rule: (rule.cost, rule.score))
        self._family = rules
        if self.lambda_ is not None:
            one = solver.solve(self.lambda_)
            members = [Member(one, one, 0.0)]
            chosen = _as_asked(self._rules(problem, chain, members, cells)[0], rows)
            value, note = None, ""
        else:
            chosen, value, note = _choose(rules, singles[0], Ends.of(rows), self, len(rows))
        axes = zip(tiers, problem.axes, strict=False)
        notes = [note, said_of(tiers, number, "one of all alone")]
        notes += [_uninformed(a, t, len(rows)) for t, a in axes]
        if self.abstention_score is not None:
            self.rule_ = chosen
            notes.append(self.abstention_note(float(follow(self, rows).abstained.mean())))
        self._solved = solver
        return self._hold(self._explained(chosen, value, "; ".join(filter(None, notes))))

    def choose(self, seen: Seen) -> IntArray:
        """The next tier, or the same to keep; before the first tier the one asked first."""
        rule = self._rule(seen.num_tiers)
        return rule.next_tier(seen, stand_in(seen.confidences, self._stand_in))

    def walk(self, outcomes: Outcomes, known: dict[Any, Any]) -> Walk | None:
        """Where all rows lead, table by table."""
        return self._rule(outcomes.num_tiers).walk(outcomes, self._stand_in, known)

    def sweep(self) -> list[tuple[float | None, Any]]:
        """Every (parameter, policy) between the cheapest and the dearest, cheapest first."""
        rules = self._family
        if rules is None:
            require_fitted(self.rule_, "pomdp")
            raise AutoMixError(STORED_ALONE)
        return [(rule.parameter, copy.copy(self)._hold(rule)) for rule in rules]

    def get_learned(self) -> dict[str, Any]:
        """The chosen policy as JSON: edges, packed lookup tables and what explains them."""
        return pomdp_json.to_json(require_fitted(self.rule_, "pomdp"))

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the chosen policy."""
        try:
            self._hold(pomdp_json.from_json(learned))
        except (KeyError, TypeError, ValueError) as err:
            raise AutoMixError(
                f"this is no policy of meta_verifier=pomdp ({err!r}): fit it again"
            ) from err
        self._family = None

    def describe(self) -> str:
        """Prior, observation model, belief after each group of bins and action, as tables."""
        parameter = "lambda (quality per unit of cost)" if self._reward is None else "r"
        rule = require_fitted(self.rule_, "pomdp")
        return pomdp_text.describe(rule, self.undefined, parameter)

    def notes(self) -> list[str]:
        """What the reader must know about the fit."""
        return [self.rule_.note] if self.rule_ is not None and self.rule_.note else []

    def _take(self, chosen: Any, value: float, note: str) -> None:
        self._hold(self._explained(chosen.rule_, value, note))

    def _explained(self, rule: Rule, value: float | None, note: str) -> Rule:
        """A rule of the family with what it stores beside its actions."""
        assert self._solved is not None
        summary = pomdp_text.summarise(self._solved, rule)
        return replace(rule, objective=value, note=note, summary=summary)

    def _asked(self, rows: Outcomes) -> tuple[int, ...]:
        """The tiers that a policy may ask."""
        if rows.num_tiers <= MOST:
            return tuple(range(rows.num_tiers))
        return worth_asking(FittingData(rows, "escalate", "pomdp"), self.objective)

    def _hold(self, rule: Rule) -> ChainPomdp:
        self.rule_ = rule
        # a mixture draws by the identity of a question
        self.needs_texts = rule.high is not rule.low
        self.needs_verification = not rule.is_single
        return self

    @property
    def _stand_in(self) -> str | float:
        return "" if isinstance(self.undefined, str) else self.undefined

    def _solver(self, problem: Problem) -> Solver:
        if self.solver == "pomdp_py":
            return PomdpPy(problem)
        return Solver(problem, self._reward, self.undefined, self.abstention_score)

    def _rules(
        self, problem: Problem, chain: SubChain, members: Sequence[Member], cells: PomdpCells
    ) -> list[Rule]:
        # neighbours share their ends, so each policy is played once
        ends = {id(s): s for m in members for s in (m.low, m.high)}
        points = {key: self._point(solution, cells) for key, solution in ends.items()}
        if chain.tiers[self.first] > self.first:
            points = {key: np.array([*point[:2], 1.0]) for key, point in points.items()}
        actions = {key: chain.within(solution.actions) for key, solution in ends.items()}
        bins, levels = chain.edges(problem)
        made = []
        for member in members:
            # what a reward table or an odd price makes of the order, the second is the dearer
            pair = [(id(member.low), 1 - member.share), (id(member.high), member.share)]
            if member.share > 0 and points[pair[0][0]][1] > points[pair[1][0]][1]:
                pair.reverse()
            (low, rest), (high, share) = pair
            score, cost, escalation = (rest * points[low] + share * points[high]).tolist()
            made.append(
                Rule(
                    edges=bins,
                    levels=levels,
                    tiers=chain.tiers,
                    low=actions[low],
                    high=actions[high],
                    share=share,
                    parameter=member.x,
                    escalation=escalation,
                    score=score,
                    cost=cost,
                )
            )
        return made

    def _point(self, solution: Solution, cells: PomdpCells) -> FloatArray:
        """Mean score, mean cost and escalated share.

        The score is what the model expects: chosen among many, the best score on the fitting
        questions themselves is mostly luck. A reward table expects no score, so there it is theirs.
        """
        score, cost, escalation = replay(solution.actions, cells, self.first)
        expected = solution.fixed if self._reward is None else score
        return np.array([expected, cost, escalation])

    def _rule(self, num_tiers: int) -> Rule:
        rule: Rule = require_fitted(self.rule_, "pomdp")
        require_chain("meta_verifier=pomdp", rule.num_tiers, num_tiers)
        return rule

    def _reason(self, observation: Observation, to: int) -> str:
        reason = super()._reason(observation, to)
        rule, tier = self.rule_, observation.tier
        if rule is None or tier not in rule.tiers[:-1] or not rule.summary:
            return reason
        value = observation.confidence
        return reason if value is None else f"{reason}: {pomdp_text.belief_at(rule, tier, value)}"


def _part(rows: Outcomes, tiers: tuple[int, ...]) -> Outcomes:
    """The rows of some tiers; the last of them is judged unless it is the chain's last."""
    if len(tiers) == rows.num_tiers:
        return rows
    part = rows.select_tiers(tiers)
    if tiers[-1] < rows.num_tiers - 1:
        part.answer_costs[:, -1] += part.verification_costs[:, -1]
    return part


def _choose(
    rules: Sequence[Rule], single: Rule, ends: Ends, asked: Selection, number: int
) -> tuple[Rule, float | None, str]:
    points = np.array([(r.score, r.cost, r.escalation) for r in rules])
    chosen = select_safely(points, ends, asked, number)
    if chosen.index is not None:
        return rules[chosen.index], chosen.value, chosen.note
    return replace(single, parameter=rules[0].parameter), None, chosen.note


def select_safely(points: FloatArray, ends: Ends, asked: Selection, number: int) -> Chosen:
    """:func:`.objectives.select` among (m, 3) scores, costs and escalated shares, safe of a budget.

    Args:
        points: Of the candidates.
        ends: Both ends of the chain.
        asked: What is asked for.
        number: Questions fitted on.
    """
    if asked.objective == "budget" and asked.budget is not None:
        within = within_budget(points[:, 1], asked.budget, number)
        asked = Selection(objective="budget", budget=within)
    return select(points[:, 0], points[:, 1], points[:, 2], ends, asked)


def within_budget(costs: FloatArray, budget: float, number: int) -> float:
    """The mean cost to fit to, so that new questions rarely exceed the budget by more than SLACK.

    A mean cost C between the cheapest m and the dearest M has at most the standard error
    sqrt((C - m) (M - C) / n) (Bhatia and Davis, 2000), with equality where a question costs the
    one or the other.
    """
    apart = (costs - costs.min()) * (costs.max() - costs) / number
    safe = costs[costs + RARELY * np.sqrt(apart) <= (1 + SLACK) * budget]
    return min(budget, float(safe.max())) if len(safe) else budget


def _as_asked(rule: Rule, rows: Outcomes) -> Rule:
    """The rule at what it costs: one that asks a single tier verifies nothing."""
    if not rule.is_single:
        return rule
    return replace(rule, cost=float(rows.answer_costs[:, int(rule.low[()])].mean()))


def _single_tiers(
    problem: Problem, chain: SubChain, rows: Outcomes, parameter: float
) -> list[Rule]:
    """Asks one tier and verifies nothing, for each tier, whatever the model expects of it."""
    made, (edges, levels), last = [], chain.edges(problem), chain.num_tiers - 1
    for tier in range(chain.num_tiers):
        tiers = chain.tiers if tier in chain.tiers else tuple(sorted({tier, last}))
        actions = _keep_all(tiers, tier, edges, levels)
        score, cost = (float(t[:, tier].mean()) for t in (rows.scores, rows.answer_costs))
        above = float(tier > 0)
        made.append(
            Rule(edges, levels, tiers, actions, actions, 0.0, parameter, above, score, cost)
        )
    return made


def _keep_all(
    tiers: Sequence[int], start: int, edges: Sequence[FloatArray], levels: Sequence[FloatArray]
) -> Actions:
    """Starts at a tier and keeps every answer."""
    return {
        asked: np.full(shape, asked[-1] if asked else start, dtype=np.int8)
        for asked, shape in table_shapes(tiers, edges, levels).items()
    }


def _largest_price(problem: Problem) -> float:
    """Quality for cost beyond which no tier is worth more than a cheaper one."""
    paid = problem.costs[problem.costs > 0]
    span = float(problem.scores.max() - problem.scores.min())
    return (span or 1.0) / float(paid.min()) if len(paid) else 1.0


def _uninformed(axis: Axis, tier: int, number: int) -> str:
    if len(axis.edges):
        return ""
    defined = round(number * float(1.0 - axis.shares[-1]))
    equal = ", all the same," if defined > 1 else ""
    return (
        f"{defined} of {number} fitting questions have a confidence{equal} at tier {tier}, so the "
        "policy cannot tell that tier's answers apart. Look at the verifier's outcomes, or try "
        "another"
    )
