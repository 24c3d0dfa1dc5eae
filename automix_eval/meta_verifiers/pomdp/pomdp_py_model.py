"""The same POMDP in pomdp-py's terms, for its solvers; a test holds ours to the same policy.

The hidden state is the tier reached and the question's type (``problem.py``); E[Perf_1..N]
goes with the type, since the reward is linear in Perf. After the kept answer, and at the last tier,
a question is done: a state that earns nothing more.

What :class:`pomdp_py.ValueIteration` (1.3.5.1, enumeration in Cython) does:

* ``horizon`` must be an integer >= 1; its default, infinity, fails an assertion.
* ``plan(agent)`` returns the action object, the first of the policy model's in a tie. It keeps
  nothing between calls and does not touch the belief.
* The policy model is asked for its actions without a state, so actions that are not possible must
  be made unattractive by their reward.
* It enumerates policy trees, actions ^ (observations ^ horizon) of them, and sums
  R(s, a, s') T(s'|s, a) O(o|s', a) over all states and observations: one step is quick, two are
  feasible for a handful of symbols, three are not.

``update_histogram_belief`` returns zeros, without a word, for an observation that is impossible in
every state; P(type) > 0 everywhere rules that out.

This file alone imports pomdp_py, at about a second; no decision needs it, and no fit but that of
``solver: pomdp_py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pomdp_py

from automix_eval.meta_verifiers.pomdp.problem import Problem

# What an action costs that is not possible: more than any policy could earn.
IMPOSSIBLE = -1e6
DONE = -2

# pomdp_py ships no types, so each of its classes is Any to the type checker.


@dataclass(frozen=True)
class Reached(pomdp_py.State):  # type: ignore[misc]
    """A hidden state.

    Attributes:
        tier: The tier that answered last; -1 before the first, DONE once an answer is kept.
        symbols: The question's type, one symbol for every tier but the last.
    """

    tier: int
    symbols: tuple[int, ...]


@dataclass(frozen=True)
class Route(pomdp_py.Action):  # type: ignore[misc]
    """An action: ask a tier, or keep the answer."""

    to: int | None


@dataclass(frozen=True)
class Shown(pomdp_py.Observation):  # type: ignore[misc]
    """An observation: the symbol of the confidence; None where there is none."""

    symbol: int | None


KEEP = Route(None)


class Step(pomdp_py.TransitionModel):  # type: ignore[misc]
    """T(s' | s, a): the tier asked is reached, the type stays."""

    def __init__(self, states: Sequence[Reached], num_tiers: int) -> None:
        self._states, self._last = states, num_tiers - 1

    def after(self, state: Reached, action: Route) -> Reached:
        """The one next state."""
        over = action.to is None or action.to <= state.tier or action.to == self._last
        tier = DONE if over or state.tier == DONE else action.to
        assert tier is not None
        return Reached(tier, state.symbols)

    def probability(self, next_state: Reached, state: Reached, action: Route) -> float:
        """T(s' | s, a)."""
        return float(next_state == self.after(state, action))

    def get_all_states(self) -> Sequence[Reached]:
        """Every tier with every type."""
        return self._states


class Confidence(pomdp_py.ObservationModel):  # type: ignore[misc]
    """O(o | s', a): the tier reached shows its own symbol of the type."""

    def __init__(self, num_symbols: int) -> None:
        self._observations = [Shown(i) for i in range(num_symbols)] + [Shown(None)]

    def shown(self, state: Reached) -> Shown:
        """The one observation."""
        return Shown(None) if state.tier < 0 else Shown(state.symbols[state.tier])

    def probability(self, observation: Shown, next_state: Reached, action: Route) -> float:  # noqa: ARG002 - pomdp_py passes it by position
        """O(o | s', a)."""
        return float(observation == self.shown(next_state))

    def get_all_observations(self) -> list[Shown]:
        """Every symbol, and none."""
        return self._observations


class Performance(pomdp_py.RewardModel):  # type: ignore[misc]
    """R(s, a): Perf of the answer kept, less lambda times the price of the tier asked."""

    def __init__(self, problem: Problem, lambda_: float, ahead: Mapping[int, float]) -> None:
        self._problem, self._lambda, self._ahead = problem, lambda_, ahead

    def sample(self, state: Reached, action: Route, next_state: Any) -> float:  # noqa: ARG002 - pomdp_py passes it by position
        """R(s, a, s')."""
        if state.tier == DONE:
            return 0.0
        if action.to is None:
            return IMPOSSIBLE if state.tier < 0 else self._perf(state.tier, state)
        if action.to <= state.tier:
            return IMPOSSIBLE
        last = self._problem.num_tiers - 1
        earned = self._ahead.get(action.to, 0.0)
        if action.to == last:
            earned = self._perf(last, state)
        return earned - self._lambda * float(self._problem.costs[action.to])

    def _perf(self, tier: int, state: Reached) -> float:
        return float(self._problem.scores[(tier, *state.symbols)])


class Routes(pomdp_py.PolicyModel):  # type: ignore[misc]
    """The actions: keep, the one to prefer in a tie, then every tier."""

    def __init__(self, num_tiers: int) -> None:
        self._actions = [KEEP, *(Route(t) for t in range(num_tiers))]

    def get_all_actions(self, state: Any = None, history: Any = None) -> list[Route]:  # noqa: ARG002 - pomdp_py's signature
        """Keep, and every tier."""
        return self._actions


def make_agent(problem: Problem, lambda_: float, ahead: Mapping[int, float] | None = None) -> Any:
    """The agent, with the belief before the first tier.

    Args:
        problem: A small problem: every type is a state for each tier.
        lambda_: Quality a unit of cost must buy.
        ahead: What is earned after asking a tier, beyond the horizon of the plan.
    """
    types = list(np.ndindex(problem.mass.shape))
    tiers = [-1, *range(problem.num_tiers - 1), DONE]
    states = [Reached(t, symbols) for t in tiers for symbols in types]
    belief = dict.fromkeys(states, 0.0)
    belief |= {Reached(-1, symbols): float(problem.mass[symbols]) for symbols in types}
    return pomdp_py.Agent(
        pomdp_py.Histogram(belief),
        Routes(problem.num_tiers),
        Step(states, problem.num_tiers),
        Confidence(max(len(a) for a in problem.axes)),
        Performance(problem, lambda_, ahead or {}),
    )


def observe(agent: Any, tier: int, symbol: int) -> None:
    """Update the agent's belief: a tier was asked, and showed a symbol."""
    models = (agent.observation_model, agent.transition_model)
    agent.set_belief(
        pomdp_py.update_histogram_belief(agent.belief, Route(tier), Shown(symbol), *models)
    )


def plan(agent: Any, horizon: int) -> int | None:
    """The tier to ask next by value iteration over ``horizon`` steps; None keeps the answer."""
    action = pomdp_py.ValueIteration(horizon=horizon, discount_factor=1.0).plan(agent)
    return None if action.to is None else int(action.to)
