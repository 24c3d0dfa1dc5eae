"""Curves of cost and performance without mixing: what a list of policies attains, and its area.

A curve is a list of operating points (mean cost of a question, mean performance). Here a budget
buys the best policy that it pays for, and nothing between two policies: no lots are drawn, so the
curve is a staircase that climbs where a better policy becomes affordable::

    h(c)      = max { P_i : C_i <= c }
    step area = 1 / (high - low) * integral of h(c) from low to high

That is the area published results on cascades of two tiers were found to use: it reproduces them
within the width of the grid of thresholds, while areas under straight lines or under the convex
hull of the points come out 0.0015 to 0.016 higher.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix_eval.metrics.ibc import TOLERANCE, Undefined, exceeds

Point = tuple[float, float]
"""(mean cost per question, mean performance)"""

STEP_AREA = (
    "mean over the range of costs from the cheapest to the dearest single tier of h(c), the best "
    "performance among the points (the curve's, and the cheapest single tier) that cost at most c; "
    "no mixing and no interpolation between points; costs are mean costs on the test questions"
)


def staircase(points: Sequence[Point]) -> list[Point]:
    """The points that beat every cheaper one: strictly ascending in cost and in performance.

    Args:
        points: (cost, performance) of policies in any order.
    """
    steps: list[Point] = []
    for cost, performance in sorted(points, key=lambda p: (p[0], -p[1])):
        if not steps or performance > steps[-1][1]:
            steps.append((cost, performance))
    return steps


def least_cost(points: Sequence[Point], performance: float) -> float | None:
    """Cost of the cheapest point that reaches a performance; None where none does.

    Args:
        points: (cost, performance) of policies.
        performance: What to reach; rounding of means is forgiven.
    """
    enough = [c for c, p in points if p >= performance - TOLERANCE * abs(performance)]
    return min(enough, default=None)


def step_area(points: Sequence[Point], low: float, high: float) -> float | Undefined:
    """Area under the :func:`staircase` between two costs, divided by their distance.

    Args:
        points: (cost, performance); one of them must cost at most ``low``. Points dearer than
            ``high`` add nothing.
        low: Mean cost of the cheapest single tier.
        high: Mean cost of the dearest single tier.

    Returns:
        The mean height of the staircase, in units of performance; undefined where the tiers cost
        the same, and where nothing can be had for ``low``.
    """
    if not exceeds(high, low):
        return Undefined(
            f"every tier costs the same ({low:.6g}), so there is no range of costs to average over"
        )
    steps = staircase(points)
    if not steps or exceeds(steps[0][0], low):
        return Undefined(f"no point costs {low:.6g} or less, so the curve begins too late")
    costs = np.array([c for c, _ in steps])
    edges = np.concatenate([[low], costs[(costs > low) & (costs < high)], [high]])
    # The height right of an edge: the dearest step that costs no more than it.
    height = np.array([p for _, p in steps])[
        np.maximum(np.searchsorted(costs, edges[:-1], side="right") - 1, 0)
    ]
    return float((height * np.diff(edges)).sum() / (high - low))
