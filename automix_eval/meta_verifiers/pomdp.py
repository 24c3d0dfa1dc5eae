"""AutoMix's POMDP meta-verifier with three hidden states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from automix_eval.meta_verifiers import pomdp_rule
from automix_eval.meta_verifiers.base import ConfidenceRouter, check_undefined, require_fitted
from automix_eval.meta_verifiers.density import bin_edges, bin_index, bin_probabilities
from automix_eval.meta_verifiers.pairs import Pair, parse_rules, read_pairs, rule_of
from automix_eval.meta_verifiers.pomdp_rule import STATES, PomdpRule
from automix_eval.meta_verifiers.selection import MIN_ESCALATION, check_selection, select
from automix_eval.meta_verifiers.selection import Outcomes as PairOutcomes
from automix_eval.outcomes import BoolArray, FloatArray, Outcomes, Seen
from automix_eval.types import AutoMixError, Observation

SIMPLE, COMPLEX, UNSOLVABLE = range(3)

# Keeping is worth this much more: a tie in exact arithmetic keeps, and rounding cannot turn it.
TIE = 1e-9


class Pomdp(ConfidenceRouter):
    """Escalate iff E[R(escalate) | v] > E[R(keep) | v] under the belief over three hidden states.

    ::

        b(s | v)       is proportional to  P(s) P(bin(v) | s)
        R(keep | s)     = E[Perf_tier | s]
        R(escalate | s) = E[Perf_next | s] - lambda * C_next

    Source: AutoMix, arXiv 2310.12963, section on the POMDP router; the states are those of its
    first version, the reward and the kernel density (``density.py``) those of its final version.
    The problem is solved by pomdp-py (``pomdp_model.py``) into a lookup policy from bins to
    actions; deciding needs the lookup only.

    States, from the scores of the pair (tier, tier + 1) of each fitting question, the first that
    holds: Complex, the next tier scores higher. Unsolvable, both score 0, or both are at or below
    their own 10th percentile and below their own best score (without the last condition a tier
    that is nearly always right would make questions that both get right unsolvable). Simple, all
    others, those where the next tier scores lower included: they lower E[Perf_next | Simple].

    In a chain of N tiers one such policy is fitted per tier but the last.

    Args:
        num_bins: Equal bins of the confidence; 17 gives each of the 9 values of a verifier with
            8 samples a bin of its own, with an empty one between.
        bandwidth: Of the kernel density: ``scott``, ``silverman``, or a number.
        smoothing: Pseudo-count added to each state in the prior.
        lambda_: Quality a unit of cost must buy; None chooses it by ``objective`` among one value
            for every distinct policy.
        objective: What lambda maximises on the fitting data: ``ibc``, the delta IBC.
        min_escalation: Least share of the fitting questions a candidate must escalate; see
            :mod:`automix_eval.meta_verifiers.selection` for its default.
        undefined: What an undefined confidence counts as: ``escalate``, ``keep``, or a confidence
            in [0, 1].

    Attributes:
        rules_: One :class:`~automix_eval.meta_verifiers.pomdp_rule.PomdpRule` per tier but the
            last; None before fitting.
    """

    needs_fit = True

    def __init__(
        self,
        num_bins: int = 17,
        bandwidth: str | float = "scott",
        smoothing: float = 1.0,
        lambda_: float | None = None,
        objective: str = "ibc",
        min_escalation: float = MIN_ESCALATION,
        undefined: str | float = "escalate",
    ) -> None:
        if not isinstance(num_bins, int) or isinstance(num_bins, bool) or num_bins < 2:
            raise AutoMixError(f"meta_verifier.num_bins={num_bins!r} must be an integer >= 2")
        if bandwidth not in ("scott", "silverman") and not _is_number(bandwidth, above=0.0):
            raise AutoMixError(
                f"meta_verifier.bandwidth={bandwidth!r} must be scott, silverman or a number > 0"
            )
        if smoothing != 0 and not _is_number(smoothing, above=0.0):
            raise AutoMixError(f"meta_verifier.smoothing={smoothing!r} must be a number >= 0")
        if lambda_ not in (None, 0) and not _is_number(lambda_, above=0.0):
            raise AutoMixError(f"meta_verifier.lambda_={lambda_!r} must be null or a number >= 0")
        check_selection("pomdp", objective, min_escalation)
        check_undefined(undefined)
        self.num_bins = num_bins
        self.bandwidth = bandwidth
        self.smoothing = smoothing
        self.lambda_ = lambda_
        self.objective = objective
        self.min_escalation = min_escalation
        self.undefined = undefined
        self.rules_: tuple[PomdpRule, ...] | None = None

    def fit(self, outcomes: Outcomes) -> Pomdp:
        """Learn one lookup policy per tier but the last."""
        pairs = read_pairs(outcomes, self.undefined, "pomdp")
        self.rules_ = tuple(self._fit_pair(pair) for pair in pairs)
        return self

    def get_learned(self) -> dict[str, Any]:
        """The rules, one a tier."""
        return {"rules": [pomdp_rule.to_json(r) for r in require_fitted(self.rules_, "pomdp")]}

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the rules."""
        self.rules_ = parse_rules(learned, pomdp_rule.from_json, "pomdp")

    def describe(self) -> str:
        """Prior, observation model, belief after each bin and action of every rule, as tables."""
        rules = require_fitted(self.rules_, "pomdp")
        tables = [
            f"{pomdp_rule.describe(rule, tier)}\n"
            f"undefined confidence: {'keep' if rule.keep_all else self.undefined}"
            for tier, rule in enumerate(rules)
        ]
        return "\n\n".join(tables)

    def _rule(self, confidence: FloatArray, seen: Seen) -> BoolArray:
        rule = rule_of(self.rules_, seen, "pomdp")
        if rule.keep_all:
            return np.zeros(len(seen), dtype=np.bool_)
        bins = bin_index(confidence, np.array(rule.edges))
        return np.asarray(np.array(rule.escalate)[bins], dtype=np.bool_)

    def _escalates_undefined(self, seen: Seen) -> bool:
        return (
            super()._escalates_undefined(seen) and not rule_of(self.rules_, seen, "pomdp").keep_all
        )

    def _reason(self, observation: Observation, to: int) -> str:
        reason = super()._reason(observation, to)
        if observation.confidence is None or self.rules_ is None:
            return reason
        if observation.tier >= len(self.rules_):
            return reason
        rule = self.rules_[observation.tier]
        index = int(bin_index([observation.confidence], np.array(rule.edges))[0])
        states = ", ".join(f"{s} {p:.2f}" for s, p in zip(STATES, rule.belief[index], strict=True))
        return f"{reason}: {states}"

    def _fit_pair(self, pair: Pair) -> PomdpRule:
        # Questions without a confidence are not decided by the belief, so they do not shape it.
        states = label_states(pair.outcomes)
        # Too few confidences say nothing about the states: then every question shapes the prior.
        used = np.ones_like(pair.defined) if pair.uninformed else pair.defined
        known = states[used]
        seen = pair.confidences[used]
        edges = bin_edges(self.num_bins)
        counts = np.bincount(known, minlength=3)
        prior = (counts + self.smoothing) / (counts + self.smoothing).sum()
        if pair.uninformed:
            observation = np.full((3, self.num_bins), 1.0 / self.num_bins)
        else:
            observation = np.stack(
                [bin_probabilities(seen[known == s], seen, self.bandwidth, edges) for s in range(3)]
            )
        scores = _mean_scores(pair, states, used)
        price = float(pair.outcomes.next_cost.mean())
        gain = expected_gain(prior, observation, scores)
        lambdas = np.array([self.lambda_]) if self.lambda_ is not None else breakpoints(gain, price)
        policies = np.stack([escalated_bins(gain, value, price) for value in lambdas])
        bins = bin_index(pair.confidences, edges)
        masks = np.stack([pair.mask(policy[bins], self.undefined) for policy in policies])
        if self.lambda_ is None:
            chosen = select(masks, pair.outcomes, self.objective, self.min_escalation)
            index, value, note = chosen.index, chosen.value, chosen.note
        else:
            index, value, note = 0, None, ""
        keep_all = index is None
        # The largest lambda is the one that keeps every bin.
        lambda_ = float(lambdas[-1 if index is None else index])
        belief, escalate = _solve(prior, observation, reward_table(scores, lambda_, price))
        return PomdpRule(
            edges=edges.tolist(),
            escalate=escalate.tolist(),
            keep_all=keep_all,
            prior=prior.tolist(),
            counts=counts.tolist(),
            observation=observation.tolist(),
            scores=scores.tolist(),
            belief=belief.tolist(),
            price=price,
            lambda_=lambda_,
            escalation=0.0 if index is None else float(masks[index].mean()),
            objective=value,
            note="; ".join(filter(None, (note, pair.uninformed))),
        )


def label_states(outcomes: PairOutcomes) -> np.ndarray:
    """The hidden state of each fitting question; see :class:`Pomdp`."""
    keep, after = outcomes.keep_score, outcomes.next_score
    low = np.ones(len(keep), dtype=np.bool_)
    for score in (keep, after):
        # A score that occurs, not one interpolated: repeating all records leaves it as it is.
        tenth = np.percentile(score, 10, method="inverted_cdf")
        low &= (score <= tenth) & (score < score.max())
    states = np.where(low | ((keep == 0) & (after == 0)), UNSOLVABLE, SIMPLE)
    return np.where(after > keep, COMPLEX, states)


def expected_gain(prior: FloatArray, observation: FloatArray, scores: FloatArray) -> FloatArray:
    """E[Perf_next - Perf_tier | bin], the exact posterior mean for every bin at once."""
    joint = prior[:, None] * observation
    gain = scores[:, 1] - scores[:, 0]
    weighted: FloatArray = (gain[:, None] * joint).sum(axis=0) / joint.sum(axis=0)
    return weighted


def escalated_bins(gain: FloatArray, lambda_: float, price: float) -> BoolArray:
    """The exact argmax: which bins escalate at this lambda."""
    return np.asarray(gain > lambda_ * price + TIE, dtype=np.bool_)


def reward_table(scores: FloatArray, lambda_: float, price: float) -> FloatArray:
    """R(state, keep) and R(state, escalate), one row a state."""
    return np.stack([scores[:, 0] + TIE, scores[:, 1] - lambda_ * price], axis=1)


def breakpoints(gain: FloatArray, price: float) -> FloatArray:
    """One lambda >= 0 inside each interval on which the policy is the same, ascending.

    A bin changes from escalate to keep at lambda = gain / price, so there are at most bins + 1
    policies, each contained in the one before. Midpoints keep rounding out of the choice; gains
    that only rounding tells apart turn together.
    """
    worth = np.unique(gain[gain > TIE])
    if not len(worth) or price <= 0:
        return np.zeros(1)
    apart = np.diff(worth) > 4 * TIE
    middles = ((worth[:-1] + worth[1:]) / 2)[apart]
    return np.concatenate([[0.0], middles, [2 * worth[-1]]]) / price


def _mean_scores(pair: Pair, states: np.ndarray, used: BoolArray) -> FloatArray:
    """E[Perf_tier | s] and E[Perf_next | s]; a state without a question takes the overall means."""
    table = np.stack([pair.outcomes.keep_score, pair.outcomes.next_score], axis=1)[used]
    known = states[used]
    rows = [table[known == s] if (known == s).any() else table for s in range(3)]
    return np.stack([row.mean(axis=0) for row in rows])


def _solve(
    prior: FloatArray, observation: FloatArray, reward: FloatArray
) -> tuple[FloatArray, BoolArray]:
    try:
        from automix_eval.meta_verifiers.pomdp_model import solve
    except ModuleNotFoundError as err:
        raise AutoMixError(
            f"meta_verifier=pomdp is fitted with pomdp-py, and {err.name!r} is missing: "
            "pip install pomdp-py (a policy already fitted decides without it)"
        ) from err
    return solve(prior, observation, reward)


def _is_number(value: Any, above: float) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and above < value < float("inf")
