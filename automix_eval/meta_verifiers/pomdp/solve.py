"""Exact solution of the POMDP by backward induction over what can have been seen.

What is known of a question is the set of tiers asked, the symbol each of them showed, and the cost
level of the first, so the belief is one of finitely many, and a horizon of N steps is exact::

    V(seen) = max( E[R(keep) | seen],
                   max over j > i of  E[R(route to j) | seen] + E[V(seen and j's symbol) | seen] )

with V = E[Perf_N | seen] at the last tier. All values are held times P(seen): then expectations
over the next symbol are sums, and no belief is ever divided by its probability.

Actions after at least one answer are tables (levels, symbols...): the level of a question's cost is
seen with its first answer (``costs.py``), and multiplies the prices of the tiers ahead.

Rewards are linear in one parameter x: R = fixed + x * slope. By default x is lambda, keeping earns
Perf and routing costs lambda times the price of the tier asked, verification included.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from automix_eval.meta_verifiers.pomdp.problem import Problem
from automix_eval.records.outcomes import ABSTAIN, BoolArray, FloatArray

Subset = tuple[int, ...]
Actions = dict[Subset, npt.NDArray[np.int8]]

# What a route must earn beyond keeping, as a share of the values at hand: ties keep the answer,
# or go to the first tier among equals, whatever rounding says.
TIE = 1e-11


@dataclass(frozen=True, slots=True)
class StateReward:
    """R(state, action) = fixed + x * slope for the three states, in the order of STATES.

    The states are those of the pair (tier reached, last tier). Any route earns ``escalate``, the
    first tier is always asked, and the last tier's answer earns nothing more.
    """

    keep: tuple[tuple[float, float, float], tuple[float, float, float]]
    escalate: tuple[tuple[float, float, float], tuple[float, float, float]]


@dataclass(frozen=True, slots=True, eq=False)
class Solution:
    """A policy, and what the model expects of it: a mean reward of fixed + x * slope."""

    x: float
    fixed: float
    slope: float
    actions: Actions


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """Rewards at one set of tiers asked, (2, symbols...): the fixed part and the slope.

    They are those at mean cost; a level multiplies a route's slope.

    Attributes:
        abstains: (symbols...) where the answer at hand, if kept, is not to count; None: nowhere.
    """

    mass: FloatArray
    keep: FloatArray | None
    routes: dict[int, FloatArray]
    abstains: BoolArray | None = None


def subsets(num_tiers: int) -> list[Subset]:
    """Sets of tiers before the last, in ascending order of size; the first is empty."""
    tiers = range(num_tiers - 1)
    return [s for size in range(num_tiers) for s in itertools.combinations(tiers, size)]


class Solver:
    """Solves one problem for any x.

    Args:
        problem: The POMDP.
        reward: None for Perf - lambda * cost.
        undefined: ``escalate`` or ``keep`` fixes the action at an undefined confidence; otherwise
            it is an observation like any other.
        abstention: The score that is worth an abstention; None: there is no such action.
    """

    def __init__(
        self,
        problem: Problem,
        reward: StateReward | None = None,
        undefined: object = "observe",
        abstention: float | None = None,
    ) -> None:
        self.problem = problem
        self._abstention = abstention
        self._undefined = undefined
        self._order = subsets(problem.num_tiers)[::-1]
        self._scale = float(np.abs(problem.scores).max())
        make = self._performance if reward is None else _ByState(self, reward).node
        self._nodes = {s: make(s) for s in self._order}
        # what the last tier earns is the same whatever is done before
        self._final = {s: self._after(s, self._last, {}) for s in self._order if s}

    @property
    def _last(self) -> int:
        return self.problem.num_tiers - 1

    def marginal(self, table: FloatArray, subset: Subset) -> FloatArray:
        """Sum over the types that agree on what the tiers of a subset show."""
        every = range(self.problem.num_tiers - 1)
        return np.asarray(table.sum(axis=tuple(t for t in every if t not in subset)))

    def _after(self, subset: Subset, j: int, values: Mapping[Subset, FloatArray]) -> FloatArray:
        """(2, L, symbols...) what a route earns in all, at each level; (2,) before any tier."""
        route, last = self._nodes[subset].routes[j], self._last
        if not subset:
            # what the first answer will cost is not known yet
            ahead = 0.0 if j == last else values[j,].sum(axis=-1) @ self.problem.levels[j].shares
            return route + ahead
        ratio = self.problem.levels[subset[0]].ratios[:, j]
        ratio = ratio.reshape(-1, *(1 for _ in subset))
        here = np.stack([np.broadcast_to(route[0], ratio.shape[:1] + route[0].shape),
                         ratio * route[1]])  # fmt: skip
        return here if j == last else here + values[(*subset, j)].sum(axis=-1)

    def solve(self, x: float) -> Solution:
        """The optimal policy at x; ties keep, then go to the first tier among equals."""
        values: dict[Subset, FloatArray] = {}
        actions: Actions = {}
        for subset in self._order:
            node = self._nodes[subset]
            tier = subset[-1] if subset else -1
            keeps = node.keep is not None
            shape = (len(self.problem.levels[subset[0]]), *node.mass.shape) if subset else ()
            held = np.zeros((2, *shape))
            if node.keep is not None:
                held = np.broadcast_to(node.keep[:, None], held.shape)
            best = held[0] + x * held[1] if keeps else np.full(shape, -np.inf)
            action = np.full(shape, tier if keeps else self._last, dtype=np.int8)
            undefined = (..., -1)
            if keeps and self._undefined == "escalate":
                best[undefined] = -np.inf
            for j in node.routes:
                final = subset and j == self._last
                after = self._final[subset] if final else self._after(subset, j, values)
                paid = x * after[1]
                worth = after[0] + paid
                tie = np.abs(after[0]) + node.mass * self._scale + np.abs(paid)
                better = np.asarray(worth > best + TIE * tie)
                if keeps and self._undefined == "keep":
                    better[undefined] = False
                best = np.where(better, worth, best)
                held = np.where(better, after, held)
                action = np.where(better, np.int8(j), action)
            if node.abstains is not None:
                action = np.where(node.abstains & (action == tier), np.int8(ABSTAIN), action)
            values[subset], actions[subset] = held, action
        return Solution(x, float(values[()][0]), float(values[()][1]), actions)

    def _performance(self, subset: Subset) -> Node:
        problem, last = self.problem, self.problem.num_tiers - 1
        tier = subset[-1] if subset else -1
        mass = self.marginal(problem.mass, subset)
        routes = {}
        for j in range(tier + 1, last + 1):
            earned = np.zeros_like(mass)
            if j == last:
                earned = self.marginal(problem.mass * problem.scores[last], subset)
            routes[j] = np.stack([earned, -problem.costs[j] * mass])
        keep = abstains = None
        if subset:
            kept = self.marginal(problem.mass * problem.scores[tier], subset)
            if self._abstention is not None:
                # neither pays a call, so that the better of the two is so at every price
                abstains = self._abstention * mass > kept + TIE * mass * self._scale
                if self._undefined in ("keep", "escalate"):
                    abstains[..., -1] = False
                kept = np.where(abstains, self._abstention * mass, kept)
            keep = np.stack([kept, np.zeros_like(kept)])
        return Node(mass, keep, routes, abstains)


class _ByState:
    """Rewards that depend on the hidden state and not on Perf."""

    def __init__(self, solver: Solver, reward: StateReward) -> None:
        self._solver, self._reward = solver, reward

    def node(self, subset: Subset) -> Node:
        """What keeping and each route earn by the table of rewards, after a subset was seen."""
        problem = self._solver.problem
        mass = self._solver.marginal(problem.mass, subset)
        if not subset:
            return Node(mass, None, {0: np.zeros((2, *mass.shape))})
        tier = subset[-1]
        shares = [self._solver.marginal(problem.mass * s, subset) for s in problem.states[tier]]
        escalate = _weigh(self._reward.escalate, shares)
        ahead = range(tier + 1, problem.num_tiers)
        return Node(mass, _weigh(self._reward.keep, shares), dict.fromkeys(ahead, escalate))


def _weigh(reward: Sequence[Sequence[float]], shares: Sequence[FloatArray]) -> FloatArray:
    parts = [sum(r * s for r, s in zip(row, shares, strict=True)) for row in reward]
    return np.stack([np.asarray(part) for part in parts])
