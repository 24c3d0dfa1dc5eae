"""The cost-quality curve: what a quality costs on it, and the area under it.

A curve is the upper envelope of operating points: between two policies one may draw lots question
by question, so every mixture of points is attainable, at the mean of their costs and qualities. The
SLM alone and the LLM alone are points of every curve, since nobody is forced to use the router; a
router below the line between them changes nothing. The area is that of RouterBench (arXiv
2403.12031, AIQ): quality averaged over the range of costs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from automix_eval.metrics.ibc import TOLERANCE, Undefined, exceeds

Array = npt.NDArray[np.float64]
Point = tuple[float, float]
"""(mean cost per question, mean quality)"""


def envelope(points: Sequence[Point]) -> list[Point]:
    """The upper envelope of operating points, up to the best quality.

    Args:
        points: (cost, quality) of policies, at least one, in any order.

    Returns:
        Its corners, strictly ascending in cost and in quality; between them it is straight.
    """
    hull: list[Point] = []
    for cost, quality in sorted(points, key=lambda p: (p[0], -p[1])):
        if hull and quality <= hull[-1][1]:
            continue
        while len(hull) > 1 and _slope(hull[-2], hull[-1]) <= _slope(hull[-2], (cost, quality)):
            hull.pop()
        hull.append((cost, quality))
    return hull


def quality_at(points: Sequence[Point], cost: float) -> float | Undefined:
    """Quality that a mean cost buys on the curve of ``points``.

    Returns:
        The quality; undefined below the cost of the cheapest point.
    """
    hull = envelope(points)
    if exceeds(hull[0][0], cost):
        return Undefined(
            f"no policy is as cheap as {cost:.6g} a question, the cheapest costs {hull[0][0]:.6g}"
        )
    return float(np.interp(cost, [c for c, _ in hull], [q for _, q in hull]))


def cost_at(points: Sequence[Point], llm_score: float, share: float) -> float | Undefined:
    """Least mean cost per question that reaches a share of the LLM's quality.

    Args:
        points: (cost, quality) of policies; the SLM's and the LLM's own points belong to them.
        llm_score: Mean quality of the LLM.
        share: For example 0.95.

    Returns:
        The cost on the curve of the points; undefined where no mixture of them reaches it.
    """
    hull = envelope(points)
    target = share * llm_score
    if exceeds(target, hull[-1][1]):
        return Undefined(
            f"{share:.0%} of the LLM's quality ({target:.4g}) is not reached at any cost, the best "
            f"is {hull[-1][1]:.4g}"
        )
    return float(np.interp(target, [q for _, q in hull], [c for c, _ in hull]))


def area(
    points: Sequence[Point], slm_score: float, slm_cost: float, llm_score: float, llm_cost: float
) -> float | Undefined:
    """Area under the cost-quality curve: quality averaged over costs from the SLM's to the LLM's.

    Args:
        points: (cost, quality) of policies.
        slm_score: Quality of the SLM, a point of the curve like the LLM's.
        slm_cost: Cost of the SLM, without verification.
        llm_score: Quality of the LLM.
        llm_cost: Cost of the LLM, without verification.

    Returns:
        A quality: (slm_score + llm_score) / 2 for lots drawn between SLM and LLM. Undefined where
        the LLM does not cost more than the SLM.
    """
    if not exceeds(llm_cost, slm_cost):
        return Undefined(
            f"the LLM ({llm_cost:.6g}) does not cost more than the SLM ({slm_cost:.6g}), so there "
            "is no range of costs to average over"
        )
    hull = envelope([*points, (slm_cost, slm_score), (llm_cost, llm_score)])
    costs, qualities = (np.array([p[i] for p in hull]) for i in (0, 1))
    corners = costs[(costs > slm_cost) & (costs < llm_cost)]
    grid = np.concatenate([[slm_cost], corners, [llm_cost]])
    height = np.interp(grid, costs, qualities)
    return float(np.trapezoid(height, grid) / (llm_cost - slm_cost))


# --------------------------------------------------------------------------- many curves at once


def quality_at_values(costs: Array, qualities: Array, cost: Array) -> Array:
    """:func:`quality_at` of B curves: on the envelope, without computing its corners.

    Args:
        costs: (B, m) of the operating points.
        qualities: (B, m) likewise.
        cost: (B,) the cost of which the quality is asked.

    Returns:
        (B,) NaN below the cheapest point.
    """
    at = cost[:, None]
    best = np.where(costs <= at, qualities, -np.inf).max(axis=1)
    run = costs[:, None, :] - costs[:, :, None]
    crosses = (costs <= at)[:, :, None] & (costs >= at)[:, None, :] & (run > 0)
    share = (at - costs)[:, :, None] / np.where(crosses, run, 1)
    chord = qualities[:, :, None] + share * (qualities[:, None, :] - qualities[:, :, None])
    best = np.maximum(best, np.where(crosses, chord, -np.inf).max(axis=(1, 2)))
    return np.where(np.isneginf(best), np.nan, best)


def cost_at_values(costs: Array, qualities: Array, target: Array) -> Array:
    """:func:`cost_at` of B curves.

    Args:
        costs: (B, m) of the operating points.
        qualities: (B, m) likewise.
        target: (B,) the quality to reach.

    Returns:
        (B,) NaN where it is not reached.
    """
    goal = target[:, None] * np.where(target[:, None] > 0, 1 - TOLERANCE, 1 + TOLERANCE)
    reached = qualities >= goal
    least = np.where(reached, costs, np.inf).min(axis=1)
    rise = qualities[:, None, :] - qualities[:, :, None]
    crosses = ~reached[:, :, None] & reached[:, None, :] & (rise > 0)
    share = (target[:, None] - qualities)[:, :, None] / np.where(crosses, rise, 1)
    run = costs[:, None, :] - costs[:, :, None]
    chord = costs[:, :, None] + np.clip(share, 0, 1) * run
    least = np.minimum(least, np.where(crosses, chord, np.inf).min(axis=(1, 2)))
    return np.where(np.isposinf(least), np.nan, least)


def area_values(costs: Array, qualities: Array) -> Array:
    """:func:`area` of B curves.

    Args:
        costs: (B, m) of the operating points, the SLM first and the LLM last.
        qualities: (B, m) likewise.

    Returns:
        (B,) NaN where the LLM does not cost more than the SLM.
    """
    slm, llm = costs[:, :1], costs[:, -1:]
    dearer = (llm - slm > TOLERANCE * np.maximum(np.abs(llm), np.abs(slm)))[:, 0]
    grid = np.sort(np.clip(costs, slm, np.maximum(slm, llm)), axis=1)
    columns = [quality_at_values(costs, qualities, x) for x in grid.T]
    total = np.trapezoid(np.stack(columns, axis=1), grid, axis=1)
    return np.where(dearer, total / np.where(dearer, (llm - slm)[:, 0], 1), np.nan)


def _slope(left: Point, right: Point) -> float:
    return (right[1] - left[1]) / (right[0] - left[0])
