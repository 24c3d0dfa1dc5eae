"""The POMDP solved by pomdp-py's value iteration: slower, two tiers only, and the same policy.

Value iteration of pomdp-py enumerates policy trees, actions ^ (observations ^ horizon), so a whole
horizon is out of reach with many symbols. It plans one step at a time instead: first the step after
each observation, on the belief that pomdp-py updates; then the first step, where asking the first
tier earns what those plans are worth. With two tiers an observation tells the type, so a belief
holds one type and a plan takes a fraction of a millisecond. With three it would not, and there are
(symbols ^ 2) beliefs.
"""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

import numpy as np

from automix_eval.meta_verifiers.pomdp.density import Axis
from automix_eval.meta_verifiers.pomdp.problem import Problem
from automix_eval.meta_verifiers.pomdp.solve import Solution, Solver
from automix_eval.records.outcomes import FloatArray
from automix_eval.safety.errors import AutoMixError


def check_two_tiers(number: int) -> None:
    """Raise AutoMixError unless a chain has two tiers."""
    if number != 2:
        raise AutoMixError(
            f"meta_verifier.solver=pomdp_py plans chains of 2 tiers, and this one has {number}: "
            "its value iteration enumerates policy trees. Use meta_verifier.solver=exact, which "
            "gives the same policies"
        )


class PomdpPy(Solver):
    """A :class:`Solver` whose actions are pomdp-py's.

    Args:
        problem: The POMDP, of two tiers; the reward is Perf - lambda * cost.

    Raises:
        AutoMixError: More than two tiers, or pomdp-py is not installed.
    """

    def __init__(self, problem: Problem) -> None:
        check_two_tiers(problem.num_tiers)
        self._model = _pomdp_py_model()
        super().__init__(problem)

    def solve(self, x: float) -> Solution:
        """The policy at x, planned step by step."""
        problem, ratios = self.problem, self.problem.levels[0].ratios[:, 1]
        price = problem.costs[1] * ratios
        after = [[self._after_first(x, k, p) for k in range(len(problem.axes[0]))] for p in price]
        asks = np.array(after)
        # what the plans are worth: (fixed, slope), the mean over types and levels
        keep, ask = problem.mass * problem.scores
        shares = problem.levels[0].shares
        fixed = shares @ np.where(asks, ask, keep).sum(axis=1)
        slope = -(shares * price) @ np.where(asks, problem.mass, 0.0).sum(axis=1)
        start = self._first(x, float(fixed + x * slope))
        worth = (fixed, slope - problem.costs[0]) if start == 0 else (ask.sum(), -problem.costs[1])
        actions = {(): np.array(start, dtype=np.int8), (0,): asks.astype(np.int8)}
        return Solution(x, float(worth[0]), float(worth[1]), actions)

    def _after_first(self, x: float, symbol: int, price: float) -> bool:
        scores = self.problem.scores[:, symbol]
        agent = self._model.make_agent(_one_type(self.problem, scores, price), x)
        self._model.observe(agent, 0, 0)
        return self._model.plan(agent, 1) is not None

    def _first(self, x: float, ahead: float) -> int:
        problem = self.problem
        scores = (problem.mass * problem.scores).sum(axis=1)
        one = _one_type(problem, scores, float(problem.costs[1]))
        to = self._model.plan(self._model.make_agent(one, x, {0: ahead}), 1)
        assert to is not None
        return int(to)


def _one_type(problem: Problem, scores: FloatArray, price: float) -> Problem:
    """The problem of questions that are all of one type."""
    axis = Axis(np.empty(0), np.zeros(1), np.ones(1))
    return replace(
        problem,
        axes=(axis,),
        mass=np.ones(1),
        scores=scores[:, None],
        costs=np.array([problem.costs[0], price]),
    )


def _pomdp_py_model() -> ModuleType:
    try:
        from automix_eval.meta_verifiers.pomdp import pomdp_py_model as pomdp_model
    except ModuleNotFoundError as err:
        if err.name is None or err.name.partition(".")[0] != "pomdp_py":
            raise
        raise AutoMixError(
            "meta_verifier.solver=pomdp_py needs pomdp-py, which is not installed: pip install "
            "'automix-eval[pomdp]' (from Python 3.13 on that needs a C compiler), or use "
            "meta_verifier.solver=exact, which gives the same policies"
        ) from err
    return pomdp_model
