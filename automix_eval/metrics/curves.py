"""The cost-quality curve: what a quality costs on it, and the area under it.

A curve is the upper envelope of operating points: between two policies a random choice may be made
question by question, so every mixture of points is attainable, at the mean of their costs and
qualities. The SLM alone and the LLM alone are points of every curve, since nobody is forced to use
the router; a router below the line between them changes nothing. The area is that of RouterBench
(arXiv 2403.12031, AIQ): quality averaged over the range of costs.

Without mixing, a budget buys the best policy that it pays for and nothing between two policies, so
the curve is a staircase that climbs where a better policy becomes affordable::

    h(c)      = max { P_i : C_i <= c }
    step area = 1 / (high - low) * integral of h(c) from low to high

That is the area published results on cascades of two tiers were found to use: it reproduces them
within the width of the grid of thresholds, while areas under straight lines or under the convex
hull of the points come out 0.0015 to 0.016 higher.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

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


# --------------------------------------------------------------------------- many curves at once


def quality_at_values(costs: Array, qualities: Array, cost: Array) -> Array:
    """:func:`quality_at` of B curves.

    Args:
        costs: (B, m) of the operating points.
        qualities: (B, m) likewise.
        cost: (B,) the cost of which the quality is asked.

    Returns:
        (B,) NaN below the cheapest point.
    """
    best = np.full(len(cost), np.nan)
    for side in _sides(costs, qualities):
        best = np.where(cost >= side.cost, side.quality_at(cost), best)
    return best


def cost_at_values(costs: Array, qualities: Array, target: Array) -> Array:
    """Least mean cost per question at which B curves reach a quality.

    Args:
        costs: (B, m) of the operating points; those of the SLM and of the LLM belong to them.
        qualities: (B, m) likewise.
        target: (B,) the quality to reach, such as a share of the LLM's.

    Returns:
        (B,) NaN where it is not reached.
    """
    goal = target * np.where(target > 0, 1 - TOLERANCE, 1 + TOLERANCE)
    least = np.full(len(target), np.nan)
    for side in _sides(costs, qualities):
        here = np.isnan(least) & (side.next_quality >= goal)
        least = np.where(here, side.cost_at(target), least)
    return least


def area_values(costs: Array, qualities: Array) -> Array:
    """Area under B curves: quality averaged over costs from the SLM's to the LLM's.

    Args:
        costs: (B, m) of the operating points, the SLM first and the LLM last, neither verified.
        qualities: (B, m) likewise.

    Returns:
        (B,) qualities: the mean of the SLM's and the LLM's for lots drawn between the two; NaN
        where the LLM does not cost more than the SLM.
    """
    slm, llm = costs[:, 0], costs[:, -1]
    dearer = llm - slm > TOLERANCE * np.maximum(np.abs(llm), np.abs(slm))
    total = np.zeros(len(costs))
    for side in _sides(costs, qualities):
        left, right = np.clip(side.cost, slm, llm), np.clip(side.next_cost, slm, llm)
        total += (right - left) * (side.quality_at(left) + side.quality_at(right)) / 2
    # Beyond the best point more money buys no more.
    total += (llm - np.clip(side.next_cost, slm, llm)) * side.next_quality
    return np.where(dearer, total / np.where(dearer, llm - slm, 1), np.nan)


def path_area_values(along: Array, qualities: Array) -> Array:
    """Area under B ways whose points are taken in the given order, divided by their width.

    No hull is taken: which points belong to the way was decided on other questions, so that on
    average a point counts for what it is worth.

    Args:
        along: (B, m) cost of each point, or share of questions escalated.
        qualities: (B, m) likewise.

    Returns:
        (B,) NaN where the last point does not lie beyond the first.
    """
    first, last = along[:, 0], along[:, -1]
    further = last - first > TOLERANCE * np.maximum(np.abs(last), np.abs(first))
    total = np.trapezoid(qualities, along, axis=1)
    return np.asarray(np.where(further, total / np.where(further, last - first, 1), np.nan))


def path_cost_values(along: Array, qualities: Array, target: Array) -> Array:
    """How far down from their last point B ways hold a quality, neighbours mixed.

    The first place from the cheap end that reaches it would be reached too early by chance; a walk
    down from the dear end stops, on average, where it should (Wald).

    Args:
        along: (B, m) cost of each point, or share of questions escalated.
        qualities: (B, m) likewise.
        target: (B,) the quality.

    Returns:
        (B,) NaN where the last point itself does not reach it.
    """
    rows = np.arange(len(along))
    below = qualities < (target - TOLERANCE * np.maximum(1.0, np.abs(target)))[:, None]
    width = along.shape[1]
    at = width - 1 - below[:, ::-1].argmax(axis=1)  # the last point below
    after = np.minimum(at + 1, width - 1)
    rise = qualities[rows, after] - qualities[rows, at]
    share = (target - qualities[rows, at]) / np.where(rise > 0, rise, 1)
    found = along[rows, at] + share * (along[rows, after] - along[rows, at])
    found = np.where(below.any(axis=1), found, along.min(axis=1))
    return np.asarray(np.where(below[:, -1], np.nan, found))


@dataclass(frozen=True, slots=True, eq=False)
class _Side:
    """One side of each of B envelopes, from a corner to the next; all (B,).

    A curve that has no further corner stays where it is.
    """

    cost: Array
    quality: Array
    next_cost: Array
    next_quality: Array

    def quality_at(self, cost: Array) -> Array:
        """Quality at a cost; that of the nearer end outside the side."""
        run = self.next_cost - self.cost
        share = np.clip((cost - self.cost) / np.where(run > 0, run, 1), 0, 1)
        return self.quality + share * (self.next_quality - self.quality)

    def cost_at(self, quality: Array) -> Array:
        """Cost at a quality; that of the nearer end outside the side."""
        rise = self.next_quality - self.quality
        share = np.clip((quality - self.quality) / np.where(rise > 0, rise, 1), 0, 1)
        return self.cost + share * (self.next_cost - self.cost)


def _sides(costs: Array, qualities: Array) -> Iterator[_Side]:
    """The sides of B envelopes: from the cheapest point always to the steepest that is better."""
    rows = np.arange(len(costs))
    cost = costs.min(axis=1)
    quality = np.where(costs == cost[:, None], qualities, -np.inf).max(axis=1)
    yield _Side(cost, quality, cost, quality)
    while True:
        run, rise = costs - cost[:, None], qualities - quality[:, None]
        ahead = (run > 0) & (rise > 0)
        if not ahead.any():
            return
        slope = np.where(ahead, rise / np.where(ahead, run, 1), -np.inf)
        steepest = slope.argmax(axis=1)
        goes = ahead[rows, steepest]
        next_cost = np.where(goes, costs[rows, steepest], cost)
        next_quality = np.where(goes, qualities[rows, steepest], quality)
        yield _Side(cost, quality, next_cost, next_quality)
        cost, quality = next_cost, next_quality


def _slope(left: Point, right: Point) -> float:
    return (right[1] - left[1]) / (right[0] - left[0])


# --------------------------------------------------------------------------- without mixing

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
