"""Incremental benefit per cost (IBC) and its lift over always asking the LLM.

Source: AutoMix, arXiv 2310.12963, section "Evaluation: IBC metric" (equations for IBC_M,
IBC_base and delta IBC). With performance P and mean cost C of a method M, the SLM and the LLM::

    IBC_M     = (P_M   - P_SLM) / (C_M   - C_SLM)
    IBC_base  = (P_LLM - P_SLM) / (C_LLM - C_SLM)
    delta IBC = (IBC_M - IBC_base) / IBC_base

The SLM and the LLM points are without verification; the method's cost has it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

# Means of the same prices, summed in another order, differ in their last digits. Such a
# difference is no cost and no gain: dividing by it would print a figure of rounding noise.
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Undefined:
    """A figure that does not exist for these data.

    Attributes:
        reason: Why, in one sentence for the reader of a table.
    """

    reason: str


def exceeds(high: float, low: float) -> bool:
    """Whether ``high`` is greater than ``low`` by more than rounding."""
    return high > low and not math.isclose(high, low, rel_tol=TOLERANCE, abs_tol=0.0)


def ibc(
    performance: float, cost: float, slm_performance: float, slm_cost: float
) -> float | Undefined:
    """Performance gained over the SLM per unit of extra cost (arXiv 2310.12963, IBC_M).

    Args:
        performance: Mean task metric of the method, P_M.
        cost: Mean cost of a question with the method, C_M, verification included.
        slm_performance: P_SLM.
        slm_cost: C_SLM, without verification.

    Returns:
        Metric units per cost unit, or why there is no such figure: a method that costs no more
        than the SLM has no extra cost to divide by, and below it the sign would be inverted.

    Raises:
        ValueError: A number is not finite.
    """
    _check_finite(performance, cost, slm_performance, slm_cost)
    if not exceeds(cost, slm_cost):
        return Undefined(
            f"the cost per question ({cost:.6g}) is not above that of the SLM alone "
            f"({slm_cost:.6g}), so there is no extra cost to divide by"
        )
    return _finite((performance - slm_performance) / (cost - slm_cost))


def delta_ibc(
    performance: float,
    cost: float,
    slm_performance: float,
    slm_cost: float,
    llm_performance: float,
    llm_cost: float,
) -> float | Undefined:
    """Lift of the method's IBC over that of always asking the LLM (arXiv 2310.12963, delta IBC).

    Args:
        performance: P_M, as in :func:`ibc`.
        cost: C_M.
        slm_performance: P_SLM.
        slm_cost: C_SLM.
        llm_performance: P_LLM.
        llm_cost: C_LLM, without verification.

    Returns:
        A ratio (x 100 for %): 0 on the line from the SLM to the LLM, above 0 where quality is
        bought more cheaply than on it. Undefined where C_M or C_LLM is not above C_SLM, and where
        the LLM is not better than the SLM: the ratio's sign would turn round there and call a
        loss of quality a lift.

    Raises:
        ValueError: A number is not finite.
    """
    _check_finite(performance, cost, slm_performance, slm_cost, llm_performance, llm_cost)
    if not exceeds(llm_performance, slm_performance):
        return Undefined(
            f"the LLM ({llm_performance:.4g}) is not better than the SLM ({slm_performance:.4g}) "
            "on these questions, so there is no gain to compare with"
        )
    if not exceeds(llm_cost, slm_cost):
        return Undefined(
            f"the LLM ({llm_cost:.6g}) does not cost more than the SLM ({slm_cost:.6g}), so there "
            "is no extra cost to compare with"
        )
    method = ibc(performance, cost, slm_performance, slm_cost)
    base = ibc(llm_performance, llm_cost, slm_performance, slm_cost)
    if isinstance(method, Undefined):
        return method
    if isinstance(base, Undefined):
        return base
    if base == 0:
        return Undefined("the IBC of the LLM is too small for a floating-point number")
    return _finite((method - base) / base)


def _check_finite(*values: float) -> None:
    if not all(math.isfinite(v) for v in values):
        raise ValueError(f"performance and cost must be finite numbers, got {values}")


def _finite(value: float) -> float | Undefined:
    if math.isfinite(value):
        return value
    return Undefined("the figure is too large for a floating-point number")
