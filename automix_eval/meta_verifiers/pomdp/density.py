"""The observation model: bins of a tier's confidence, and a Gaussian kernel density over them.

Source: AutoMix, arXiv 2310.12963, appendix on the POMDP: "P(o|s) is estimated by a Gaussian kernel
density on the training points". The paper leaves the rest open; here it is:

* Confidences crowd at 1 (or at k/8), so distances are measured between their normal scores: the
  standard normal quantile of a value's rank, ties taken together. One bandwidth then fits all
  tiers, and nothing changes if a verifier's scale is stretched.
* Bins hold about equal numbers of fitting questions; equal values share a bin. A bin stands at the
  mean normal score of its questions. Undefined confidences are a symbol of their own, the last.
* Bandwidth, in units of the standard deviation, for n questions and d tiers that are observed:
  Scott h = n^(-1/(d+4)), Silverman h = (n (d+2) / 4)^(-1/(d+4)), or a fixed number.
* Fallback: constant confidences, or none, make a single bin, which says nothing about a question.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from automix_eval.records.outcomes import FloatArray, IntArray

# Rounds of proportional fitting that give a smoothed density its margins back.
FITTING_ROUNDS = 12


@dataclass(frozen=True, slots=True, eq=False)
class Axis:
    """The symbols a tier's verifier can show: B bins, then "undefined".

    Attributes:
        edges: (B - 1,) a confidence at or above an edge lies in a later bin.
        centres: (B + 1,) mean normal score of each bin; 0 for "undefined".
        shares: (B + 1,) share of the fitting questions in each.
    """

    edges: FloatArray
    centres: FloatArray
    shares: FloatArray

    def __len__(self) -> int:
        return len(self.shares)

    def symbols(self, confidences: FloatArray) -> IntArray:
        """The symbol of each confidence; NaN is "undefined"."""
        return symbols(self.edges, confidences)


def symbols(edges: FloatArray, confidences: FloatArray) -> IntArray:
    """The bin of each confidence; NaN is "undefined", the symbol after the last bin."""
    # searchsorted takes NaN for the largest number
    found = edges.searchsorted(confidences, side="right")
    found[np.isnan(confidences)] = len(edges) + 1
    return found


def make_axis(confidences: FloatArray, num_bins: int) -> Axis:
    """The axis of one tier's confidences, (n,) with NaN where undefined; at most ``num_bins``."""
    values, counts = np.unique(confidences[~np.isnan(confidences)], return_counts=True)
    below = np.cumsum(counts)
    if not len(values):
        return Axis(np.empty(0), np.zeros(2), np.array([0.0, 1.0]))
    if len(values) <= num_bins:
        last = np.arange(len(values) - 1)
    else:
        wanted = below[-1] * np.arange(1, num_bins) / num_bins
        last = np.unique(np.searchsorted(below, wanted))
        last = last[last < len(values) - 1]
    middle = (values[last] + values[last + 1]) / 2
    # a midpoint that rounds down to its lower neighbour would take that into the upper bin
    edges = np.maximum(middle, np.nextafter(values[last], np.inf))
    filled = np.diff(np.concatenate([[0], below[last], below[-1:]]))
    shares = filled / len(confidences)
    missing = 1.0 - below[-1] / len(confidences)
    return Axis(edges, np.append(_normal_means(filled), 0.0), np.append(shares, missing))


def bandwidth(rule: str | float, num_questions: int, num_axes: int) -> float:
    """The bandwidth in units of the standard deviation; see the module's docstring."""
    if not isinstance(rule, str):
        return float(rule)
    factor = 1.0 if rule == "scott" else (num_axes + 2) / 4
    return float((num_questions * factor) ** (-1 / (num_axes + 4)))


def density(counts: FloatArray, axes: Sequence[Axis], width: float) -> FloatArray:
    """The joint density of the symbols of several tiers, shape of ``counts``, summing to 1.

    A Gaussian kernel on every question; its centre is drawn to the mean by 1 / sqrt(1 + h^2), so
    that smoothing leaves the spread as it is, and proportional fitting returns each tier's own
    shares exactly.
    """
    smoothed: FloatArray = counts / counts.sum()
    if len(axes) == 1:
        return smoothed
    for i, axis in enumerate(axes):
        smoothed = _along(smoothed, _transition(axis, width), i)
    for _ in range(FITTING_ROUNDS):
        for i, axis in enumerate(axes):
            others = tuple(k for k in range(len(axes)) if k != i)
            margin = smoothed.sum(axis=others)
            ratio = np.where(margin > 0, axis.shares / np.where(margin > 0, margin, 1.0), 0.0)
            smoothed = smoothed * ratio.reshape([-1 if k == i else 1 for k in range(len(axes))])
    return np.asarray(smoothed / smoothed.sum())


def local_sums(table: FloatArray, axes: Sequence[Axis], width: float) -> FloatArray:
    """Sums over each cell's neighbourhood, a question at distance 0 counting 1."""
    for i, axis in enumerate(axes):
        apart = axis.centres[:, None] - axis.centres[None, :]
        table = _along(table, _apart_from_undefined(np.exp(-0.5 * (apart / width) ** 2)), i)
    return table


def _normal_means(filled: FloatArray) -> FloatArray:
    """Mean standard normal score of consecutive groups of ranks of the given sizes."""
    bounds = ndtri(np.concatenate([[0.0], np.cumsum(filled) / filled.sum()]).clip(0.0, 1.0))
    height = np.exp(-0.5 * bounds**2) / np.sqrt(2 * np.pi)
    means: FloatArray = -np.diff(height) / (filled / filled.sum())
    return means


def _transition(axis: Axis, width: float) -> FloatArray:
    """P(symbol | the kernel of a question in a symbol), rows summing to 1."""
    shrink = 1.0 / np.sqrt(1.0 + width**2)
    apart = (axis.centres[None, :] - shrink * axis.centres[:, None]) / (width * shrink)
    # a bin's width in normal scores is its share over the normal density
    log_kernel = 0.5 * (axis.centres**2 - apart**2)
    weight = np.exp(log_kernel - log_kernel.max(axis=1, keepdims=True)) * axis.shares
    weight = _apart_from_undefined(weight)
    total = weight.sum(axis=1, keepdims=True)
    return np.where(total > 0, weight / np.where(total > 0, total, 1.0), np.eye(len(axis)))


def _apart_from_undefined(kernel: FloatArray) -> FloatArray:
    kernel[-1, :] = kernel[:, -1] = 0.0
    kernel[-1, -1] = 1.0
    return kernel


def _along(table: FloatArray, matrix: FloatArray, axis: int) -> FloatArray:
    """Apply (from, to) to one axis of a table."""
    return np.moveaxis(np.tensordot(table, matrix, ([axis], [0])), -1, axis)
