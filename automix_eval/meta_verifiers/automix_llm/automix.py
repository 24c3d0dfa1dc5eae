"""Training and evaluation of a method on pandas frames, as in automix-llm."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.automix_llm.frame import Frame
from automix_eval.meta_verifiers.automix_llm.methods import DropInMethod
from automix_eval.meta_verifiers.base import check_undefined
from automix_eval.meta_verifiers.objectives import Ends, Selection, select
from automix_eval.metrics import ibc
from automix_eval.metrics.ibc import TOLERANCE
from automix_eval.records.outcomes import BoolArray, FloatArray
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number

KEEP = "keep"  # the parameter where no other is defined: every answer of the SLM is kept


class AutoMix:
    """Trains and evaluates a method that routes between an SLM and an LLM.

    Args:
        method: One of the classes of this module.
        slm_column: Column of the SLM's scores.
        llm_column: Column of the LLM's scores.
        verifier_column: Column of the verifier's confidences, in [0, 1].
        costs: Cost of one answer of the SLM and of the LLM.
        verifier_cost: Cost of one verification.
        verbose: Print the chosen parameter and its delta IBC.
        undefined: What a missing confidence counts as: ``escalate``, ``keep``, or a confidence in
            [0, 1].

    Attributes:
        best_param: What :meth:`train` chose; None before.
    """

    def __init__(
        self,
        method: DropInMethod,
        slm_column: str = "llama13b_f1",
        llm_column: str = "llama70b_f1",
        verifier_column: str = "p_ver_13b",
        costs: Sequence[float] = (1, 50),
        verifier_cost: float = 1,
        verbose: bool = False,
        undefined: str | float = "escalate",
    ) -> None:
        _check_costs(costs, verifier_cost)
        check_undefined(undefined)
        self.method = method
        self.slm_column = slm_column
        self.llm_column = llm_column
        self.verifier_column = verifier_column
        self.costs = costs
        self.verifier_cost = verifier_cost
        self.verbose = verbose
        self.undefined = undefined
        self.best_param: Any = None

    def train(
        self,
        data: Any,
        costs: Sequence[float] | None = None,
        verifier_cost: float | None = None,
        cost_constraint: Sequence[float] | None = None,
    ) -> None:
        """Choose the parameter with the largest delta IBC.

        Where delta IBC exists for no parameter, a warning says why. With an LLM that is not better
        every answer is kept and ``best_param`` is ``"keep"``; with one that is better and no dearer
        the parameter of the best performance is taken.

        Args:
            data: A pandas frame with the three columns.
            costs: In the place of the constructor's.
            verifier_cost: In the place of the constructor's.
            cost_constraint: Smallest and largest mean cost of a question that may be chosen.

        Raises:
            AutoMixError: An empty frame, a missing column, a score or confidence that is none, or
                no parameter at all or within ``cost_constraint``.
        """
        frame, prices = self._frame(data, scored=True), self._prices(costs, verifier_cost)
        params = self.method.generate_points(frame)
        if not params:
            raise AutoMixError(
                f"{type(self.method).__name__} has no parameter to try: raise num_bins"
            )
        routes = [self.method.run(frame, p) for p in params]
        score, cost = np.array([_point(frame, route, prices) for route in routes]).T
        share = np.array([route.mean() for route in routes])
        within = np.flatnonzero(_within(cost, cost_constraint))
        slm, llm = frame.score("slm").mean(), frame.score("llm").mean()
        ends = Ends(float(slm), prices[0], float(llm), prices[1])
        asked = Selection(objective="ibc", min_escalation=0.0)
        chosen = select(score[within], cost[within], share[within], ends, asked)
        self.best_param = KEEP if chosen.index is None else params[int(within[chosen.index])]
        if chosen.value is None:
            warnings.warn(chosen.note, stacklevel=2)
        if self.verbose:
            print("Best Param:", self.best_param, chosen.value)

    def infer(self, df_row: Any) -> Any:
        """Whether to ask the LLM: a bool for a row, a boolean column for a frame.

        Raises:
            AutoMixError: Not trained, a missing column, or a confidence that is none.
        """
        frame = self._frame(df_row, scored=False)
        route = self._route(frame)
        return bool(route[0]) if frame.is_row else frame.series(route)

    def evaluate(
        self,
        data: Any,
        costs: Sequence[float] | None = None,
        verifier_cost: float | None = None,
        return_dict: bool = False,
        return_decisions: bool = False,
    ) -> Any:
        """Delta IBC, slope, mean performance and mean cost of the trained method on a frame.

        Returns:
            The four in this order, or by the names ``ibc_lift``, ``automix_slm_slope``,
            ``avg_performance`` and ``avg_cost``; and ``route_to_llm``, the decisions, if asked
            for. The first two are :class:`~automix_eval.metrics.ibc.Undefined`, with the reason,
            where the figure does not exist.

        Raises:
            AutoMixError: As :meth:`train` and :meth:`infer`.
        """
        frame, prices = self._frame(data, scored=True), self._prices(costs, verifier_cost)
        route = self._route(frame)
        score, cost = _point(frame, route, prices)
        slm, llm = (float(frame.score(name).mean()) for name in ("slm", "llm"))
        figures = {
            "ibc_lift": ibc.delta_ibc(score, cost, slm, prices[0], llm, prices[1]),
            "automix_slm_slope": ibc.ibc(score, cost, slm, prices[0]),
            "avg_performance": score,
            "avg_cost": cost,
        }
        if return_decisions:
            figures["route_to_llm"] = frame.series(route)
        return figures if return_dict else tuple(figures.values())

    def compute_performance_cost(
        self,
        data: Any,
        to_retry: Any,
        costs: Sequence[float] | None = None,
        verifier_cost: float | None = None,
    ) -> tuple[float, float]:
        """Mean performance and mean cost of given decisions on a frame."""
        route = np.asarray(to_retry, dtype=np.bool_)
        return _point(self._frame(data, scored=True), route, self._prices(costs, verifier_cost))

    def _route(self, frame: Frame) -> BoolArray:
        if self.best_param is None:
            raise AutoMixError("this AutoMix is not trained: call train(data) first")
        if isinstance(self.best_param, str):
            return np.zeros(len(frame), dtype=np.bool_)
        return self.method.run(frame, self.best_param)

    def _frame(self, data: Any, scored: bool) -> Frame:
        names = {"slm": self.slm_column, "llm": self.llm_column}
        return Frame(data, self.verifier_column, names if scored else {}, self.undefined)

    def _prices(
        self, costs: Sequence[float] | None, verifier_cost: float | None
    ) -> tuple[float, float, float]:
        chosen = self.costs if costs is None else costs
        verification = self.verifier_cost if verifier_cost is None else verifier_cost
        _check_costs(chosen, verification)
        return float(chosen[0]), float(chosen[1]), float(verification)


Automix = AutoMix  # the name in automix-llm


def _point(
    frame: Frame, route: BoolArray, prices: tuple[float, float, float]
) -> tuple[float, float]:
    """Mean score, and mean cost: SLM and verification always, the LLM where it is asked."""
    slm_cost, llm_cost, verifier_cost = prices
    score = np.where(route, frame.score("llm"), frame.score("slm")).mean()
    return float(score), float(slm_cost + verifier_cost + llm_cost * route.mean())


def _within(cost: FloatArray, bounds: Sequence[float] | None) -> BoolArray:
    if bounds is None:
        return np.ones(len(cost), dtype=np.bool_)
    low, high = bounds
    inside = (cost >= low * (1 - TOLERANCE)) & (cost <= high * (1 + TOLERANCE))
    if not inside.any():
        raise AutoMixError(
            f"cost_constraint={list(bounds)}: no parameter has a mean cost within it; they cost "
            f"{cost.min():.6g} to {cost.max():.6g}"
        )
    return np.asarray(inside)


def _check_costs(costs: Sequence[float], verifier_cost: float) -> None:
    if len(costs) != 2 or not all(is_number(c, 0.0, np.inf) for c in (*costs, verifier_cost)):
        raise AutoMixError(
            f"costs={list(costs)} and verifier_cost={verifier_cost!r} must be the cost of the SLM, "
            "of the LLM and of a verification, numbers of at least 0 (chains of more tiers: "
            "automix_eval.meta_verifiers)"
        )
