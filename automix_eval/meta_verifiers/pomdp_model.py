"""The three-state POMDP in pomdp-py's terms, and its solution into a lookup policy.

One decision is taken per question, so the horizon is 1 and the discount factor plays no part. The
hidden state (Simple, Complex, Unsolvable) is static. The tier reached has answered and verified,
and the verifier's confidence, binned, is the observation; then the answer is kept or escalated.

What :class:`pomdp_py.ValueIteration` (1.3.5.1, enumeration in Cython) does:

* ``horizon`` must be an integer >= 1; its default, infinity, fails an assertion.
* ``plan(agent)`` returns the action object, the first of the policy model's in a tie. It keeps
  nothing between calls and does not touch the belief.
* Even at horizon 1 it sums R(s, a, s') T(s'|s, a) O(o|s', a) over all observations, so rows of O
  that do not sum to 1 would scale the rewards; about 0.5 ms for 17 bins. Horizon 2 takes a minute.

``update_histogram_belief`` returns zeros, without a word, for an observation that is impossible in
every state; P(bin | state) > 0 everywhere (``density.py``) rules that out.

This file alone imports pomdp_py, at about a second; it is itself imported only by a fit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pomdp_py

from automix_eval.meta_verifiers.pomdp_rule import STATES
from automix_eval.meta_verifiers.selection import BoolArray, FloatArray

# pomdp_py ships no types, so each of its classes is Any to the type checker.


@dataclass(frozen=True)
class Difficulty(pomdp_py.State):  # type: ignore[misc]
    """A hidden state: what kind of question it is for this pair of tiers."""

    name: str


@dataclass(frozen=True)
class Route(pomdp_py.Action):  # type: ignore[misc]
    """An action."""

    name: str


@dataclass(frozen=True)
class ConfidenceBin(pomdp_py.Observation):  # type: ignore[misc]
    """An observation: the bin of the verifier's confidence."""

    index: int


DIFFICULTIES = [Difficulty(name) for name in STATES]
VERIFY, KEEP, ESCALATE = Route("answer and verify"), Route("keep"), Route("escalate")


class StaticTransition(pomdp_py.TransitionModel):  # type: ignore[misc]
    """T(s' | s, a) = 1 iff s' = s: routing does not change a question."""

    def probability(self, next_state: Difficulty, state: Difficulty, action: Route) -> float:  # noqa: ARG002 - pomdp_py passes it by position
        """T(s' | s, a)."""
        return float(next_state == state)

    def get_all_states(self) -> list[Difficulty]:
        """The three states."""
        return DIFFICULTIES


class BinObservation(pomdp_py.ObservationModel):  # type: ignore[misc]
    """O(o | s', a) = P(bin | state), whatever the action."""

    def __init__(self, table: FloatArray) -> None:
        self._table = table
        self._row = {s: i for i, s in enumerate(DIFFICULTIES)}

    def probability(
        self,
        observation: ConfidenceBin,
        next_state: Difficulty,
        action: Route,  # noqa: ARG002 - pomdp_py passes it by position
    ) -> float:
        """O(o | s', a)."""
        return float(self._table[self._row[next_state], observation.index])

    def get_all_observations(self) -> list[ConfidenceBin]:
        """Every bin."""
        return [ConfidenceBin(i) for i in range(self._table.shape[1])]


class RouteReward(pomdp_py.RewardModel):  # type: ignore[misc]
    """R(s, a), deterministic."""

    def __init__(self, table: FloatArray) -> None:
        self._reward = {
            (state, action): float(table[i, j])
            for i, state in enumerate(DIFFICULTIES)
            for j, action in enumerate((KEEP, ESCALATE))
        }

    def sample(self, state: Difficulty, action: Route, next_state: Any) -> float:  # noqa: ARG002 - pomdp_py passes it by position
        """R(s, a, s')."""
        return self._reward[state, action]


class RoutePolicy(pomdp_py.PolicyModel):  # type: ignore[misc]
    """The actions a planner may choose from, the one to prefer in a tie first."""

    def get_all_actions(self, state: Any = None, history: Any = None) -> list[Route]:  # noqa: ARG002 - pomdp_py's signature
        """Keep, escalate."""
        return [KEEP, ESCALATE]


def solve(
    prior: FloatArray, observation: FloatArray, reward: FloatArray
) -> tuple[FloatArray, BoolArray]:
    """Solve the POMDP for every observation.

    Args:
        prior: P(state), shape (3,).
        observation: P(bin | state), shape (3, bins), rows summing to 1.
        reward: R(state, keep) and R(state, escalate), shape (3, 2).

    Returns:
        The belief after each bin, shape (bins, 3), and whether each bin escalates.
    """
    belief = pomdp_py.Histogram(dict(zip(DIFFICULTIES, prior.tolist(), strict=True)))
    agent = pomdp_py.Agent(
        belief,
        RoutePolicy(),
        StaticTransition(),
        BinObservation(observation),
        RouteReward(reward),
    )
    planner = pomdp_py.ValueIteration(horizon=1, discount_factor=1.0)
    beliefs, actions = [], []
    for seen in agent.observation_model.get_all_observations():
        after = pomdp_py.update_histogram_belief(
            belief, VERIFY, seen, agent.observation_model, agent.transition_model
        )
        agent.set_belief(after)
        beliefs.append([after[s] for s in DIFFICULTIES])
        actions.append(planner.plan(agent) == ESCALATE)
    return np.array(beliefs), np.array(actions, dtype=np.bool_)
