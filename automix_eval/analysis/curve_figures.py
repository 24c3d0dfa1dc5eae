"""Figures of vectors: the data's own value first, then that of each resample.

Each function returns the vector, with NaN for resamples in which it is undefined; or the reason
alone where it is undefined for the data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from automix_eval.analysis.bootstrap_table import Array, Vector, first_undefined
from automix_eval.metrics.bootstrap import delta_ibc_values
from automix_eval.metrics.curves import (
    area_values,
    cost_at_values,
    path_area_values,
    path_cost_values,
    quality_at,
    quality_at_values,
)
from automix_eval.metrics.ibc import TOLERANCE, Undefined, delta_ibc, ibc

_TOO_CHEAP = Undefined("the method costs less than the SLM: no random choice is as cheap")
NO_LINE = Undefined("the LLM does not cost more than the SLM: there is no line")
_NO_GAP = Undefined("the LLM is not better than the SLM on these questions: no gap to recover")


class EndPoints(NamedTuple):
    """Quality and cost of the two ends of a chain."""

    slm_quality: Vector
    slm_cost: Vector
    llm_quality: Vector
    llm_cost: Vector

    def regions(self, number: int) -> list[float]:
        """Costs that part the range from the SLM's to the LLM's into equal regions."""
        slm, llm = (float(np.asarray(v)[0]) for v in (self.slm_cost, self.llm_cost))
        return [float(v) for v in np.linspace(slm, llm, number + 1)]


def over_random(quality: Vector, cost: Vector, ends: EndPoints) -> Vector:
    """Quality above that of a random choice between SLM and LLM of the same mean cost.

    The vertical distance to the line between both ends: with delta IBC it is above 0 where the LLM
    is the better one, and it is defined too where the data hardly tell the two apart.
    """
    if reason := first_undefined(quality, cost, *ends):
        return reason
    q, c, qs, cs, ql, cl = map(np.asarray, (quality, cost, *ends))
    extra = cl - cs
    if not extra[0] > 0:
        return NO_LINE
    share = (c - cs) / np.where(extra > 0, extra, np.nan)
    return np.asarray(q - (qs + share * (ql - qs)))


def benefit(quality: Vector, cost: Vector, slm_quality: Vector, slm_cost: Vector) -> Vector:
    """IBC of a method."""
    parts = (quality, cost, slm_quality, slm_cost)
    if reason := first_undefined(*parts):
        return reason
    q, c, qs, cs = map(np.asarray, parts)
    above = c - cs > TOLERANCE * np.maximum(np.abs(c), np.abs(cs))
    values = np.where(above, (q - qs) / np.where(above, c - cs, 1), np.nan)
    return _unless(ibc(*(float(v[0]) for v in (q, c, qs, cs))), values)


def lift(quality: Vector, cost: Vector, ends: EndPoints) -> Vector:
    """Delta IBC of a method."""
    parts = (quality, cost, *ends)
    if reason := first_undefined(*parts):
        return reason
    arrays = [np.asarray(v) for v in parts]
    return _unless(delta_ibc(*(float(v[0]) for v in arrays)), delta_ibc_values(*arrays))


def random_quality(cost: Vector, ends: EndPoints) -> Vector:
    """Quality of a random choice between SLM and LLM whose mean cost is ``cost``.

    Exact: the mixture lies on the line between the two. Above the LLM's cost it is the LLM's
    quality, see :func:`random_cost`.
    """
    if reason := first_undefined(cost, *ends):
        return reason
    c, qs, cs, ql, cl = (np.asarray(v) for v in (cost, *ends))
    dearer = cl - cs > TOLERANCE * np.maximum(np.abs(cl), np.abs(cs))
    share = (c - cs) / np.where(dearer, cl - cs, 1)
    values = np.where(dearer & (share >= -TOLERANCE), qs + np.clip(share, 0, 1) * (ql - qs), np.nan)
    if not np.isnan(values[0]):
        return values
    return _TOO_CHEAP if dearer[0] else NO_LINE


def random_cost(cost: Vector, ends: EndPoints) -> Vector:
    """What a random choice between SLM and LLM costs that is to cost ``cost``: the LLM at most."""
    if reason := first_undefined(cost, ends.llm_cost):
        return reason
    spent: Array = np.minimum(np.asarray(cost), np.asarray(ends.llm_cost))
    return spent


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """The cost-quality curve of each draw; its ends are the SLM and the LLM.

    Attributes:
        costs: (1 + B, m) of the operating points, the SLM first and the LLM last.
        qualities: (1 + B, m) likewise.
    """

    costs: Array
    qualities: Array

    @classmethod
    def of(cls, points: Sequence[tuple[Vector, Vector]], ends: EndPoints) -> Curve | Undefined:
        """The curve through operating points (cost, quality), or why there is none."""
        pairs = [(ends.slm_cost, ends.slm_quality), *points, (ends.llm_cost, ends.llm_quality)]
        if reason := first_undefined(*(v for pair in pairs for v in pair)):
            return reason
        costs, qualities = (np.stack([np.asarray(p[i]) for p in pairs], axis=1) for i in (0, 1))
        return cls(costs, qualities)

    def area(self) -> Vector:
        """Area under the curve, per unit of cost."""
        values = area_values(self.costs, self.qualities)
        if not np.isnan(values[0]):
            return values
        slm, llm = self.costs[0, [0, -1]].tolist()
        return Undefined(
            f"the LLM ({llm:.6g}) does not cost more than the SLM ({slm:.6g}), so there is no "
            "range of costs to average over"
        )

    def cost_of_share(self, share: float) -> Vector:
        """Cost at which the curve reaches a share of the LLM's quality."""
        llm = self.qualities[:, -1]
        none = _no_share(float(llm[0]), share)
        return none or cost_at_values(self.costs, self.qualities, share * llm)

    def quality(self, cost: Array) -> Vector:
        """Quality that a cost buys on the curve."""
        values = quality_at_values(self.costs, self.qualities, cost)
        points = list(zip(self.costs[0].tolist(), self.qualities[0].tolist(), strict=True))
        return _unless(quality_at(points, float(cost[0])), values)


@dataclass(frozen=True, slots=True, eq=False)
class FittedCurve:
    """The way from the SLM to the LLM along policies that were chosen on other questions.

    Attributes:
        costs: (1 + B, m) of its points, the SLM first and the LLM last.
        qualities: (1 + B, m) likewise.
        calls: (1 + B, m) share of questions on which the last tier is asked.
    """

    costs: Array
    qualities: Array
    calls: Array

    @classmethod
    def of(
        cls, points: Sequence[tuple[Vector, Vector, Vector]], ends: EndPoints
    ) -> FittedCurve | Undefined:
        """The curve through points (cost, quality, calls) in their order, or why there is none."""
        pairs = [(ends.slm_cost, ends.slm_quality), *((c, q) for c, q, _ in points),
                 (ends.llm_cost, ends.llm_quality)]  # fmt: skip
        vectors = [*(v for pair in pairs for v in pair), *(u for _, _, u in points)]
        if reason := first_undefined(*vectors):
            return reason
        costs, qualities = (np.stack([np.asarray(p[i]) for p in pairs], axis=1) for i in (0, 1))
        asked = [np.zeros(len(costs)), *(np.asarray(u) for _, _, u in points), np.ones(len(costs))]
        return cls(costs, qualities, np.stack(asked, axis=1))

    def area(self) -> Vector:
        """Area under the curve, per unit of cost."""
        values = path_area_values(self.costs, self.qualities)
        return NO_LINE if np.isnan(values[0]) else values

    def cost_of_share(self, share: float) -> Vector:
        """Cost down to which the curve holds a share of the LLM's quality."""
        if none := _no_share(float(self.qualities[0, -1]), share):
            return none
        values = path_cost_values(self.costs, self.qualities, share * self.qualities[:, -1])
        values = _unbiased(values, self.costs[0])
        if np.isnan(values[0]):
            return Undefined(f"the LLM itself does not reach {share:.0%} of its quality")
        return values

    def recovered(self) -> Vector:
        """Mean share of the gap in quality recovered over 0 to 100 % of the LLM's calls (APGR)."""
        low, high = self.qualities[:, 0], self.qualities[:, -1]
        gap = np.where(high > low, high - low, np.nan)
        values = (path_area_values(self.calls, self.qualities) - low) / gap
        return _NO_GAP if np.isnan(values[0]) else values

    def calls_of_gap(self, share: float) -> Vector:
        """Least share of the LLM's calls that recovers a share of the gap in quality (CPT)."""
        low, high = self.qualities[:, 0], self.qualities[:, -1]
        goal = low + share * (high - low)
        values = np.where(high > low, path_cost_values(self.calls, self.qualities, goal), np.nan)
        values = _unbiased(values, self.calls[0])
        return _NO_GAP if np.isnan(values[0]) else values


def _no_share(llm: float, share: float) -> Undefined | None:
    """Of a quality of 0 or less there is no share but the whole of it."""
    if share == 1 or llm > 0:
        return None
    return Undefined(f"the LLM's quality is {llm:.4g}, of which there is no share")


def spread_of(values: Array) -> tuple[float, float, float, float]:
    """Mean, standard deviation (ddof 0), minimum and maximum."""
    return (
        float(values.mean()), float(values.std(ddof=0)), float(values.min()), float(values.max())
    )  # fmt: skip


def _unbiased(values: Array, along: Array) -> Array:
    """A place on the way, further on by what the resamples show it to be too early.

    Where a quality is crossed is a quotient of differences, and comes out too cheap from few
    questions; the mean of the resamples lies as far below the data's value as that below the truth
    (B. Efron and R. Tibshirani, "An Introduction to the Bootstrap", 1993, ch. 10). Where that mean
    lies above, nothing is taken off: a cost is not to be flattered.
    """
    if len(values) == 1 or np.isnan(values[1:]).all():
        return values
    bias = min(0.0, float(np.nanmean(values[1:])) - values[0])
    return np.concatenate([[min(values[0] - bias, along.max())], values[1:]])


def _unless(own: float | Undefined, values: Array) -> Vector:
    """The vector, or why the data's own value does not exist."""
    return own if isinstance(own, Undefined) else values
