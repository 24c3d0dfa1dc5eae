"""P(bin | state): bins of [0, 1], and a Gaussian kernel density of confidences summed into them.

Source: AutoMix, arXiv 2310.12963, appendix on the POMDP: "P(o|s) is estimated by a Gaussian kernel
density on the training points". The paper leaves the rest open; here it is:

* The kernel of a datum x with bandwidth h gives a bin [a, b] the mass
  (Phi((b-x)/h) - Phi((a-x)/h)) / (Phi((1-x)/h) - Phi(-x/h)): a normal density cut off at 0 and 1.
  Dividing per datum keeps the data at 0 and 1, where verifiers put most of theirs, at full weight.
* Bandwidth (sd the sample standard deviation, n the number of data): Scott h = sd n^(-1/5),
  Silverman h = sd (3 n / 4)^(-1/5), or a fixed number; never below half a bin, so that no kernel
  hides between two edges.
* A state whose data are constant takes sd from the data of all states. A state with fewer than
  two data takes the density of all states: it then says nothing about the confidence.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr

from automix_eval.meta_verifiers.selection import FloatArray
from automix_eval.types import AutoMixError

# Share of the uniform distribution in every P(bin | state). Without it a confidence far from all
# data has probability 0 in each state, and there is no belief to update to.
UNIFORM_SHARE = 1e-6


def bin_edges(num_bins: int) -> FloatArray:
    """Edges of equal bins of [0, 1]."""
    return np.linspace(0.0, 1.0, num_bins + 1)


def bin_index(confidences: FloatArray | Sequence[float], edges: FloatArray) -> np.ndarray:
    """The bin of each confidence, fitting and deciding alike: [a, b), the last one closed.

    Values outside [0, 1] by rounding fall into the first or the last bin.

    Raises:
        AutoMixError: A confidence is NaN.
    """
    values = np.asarray(confidences, dtype=np.float64)
    if np.isnan(values).any():
        raise AutoMixError(
            "a confidence is NaN, which lies in no bin: a verifier reports a confidence it does "
            "not have as None (see meta_verifier.undefined)"
        )
    return np.clip(np.searchsorted(edges, values, side="right") - 1, 0, len(edges) - 2)


def bandwidth(data: FloatArray, pooled: FloatArray, rule: str | float, num_bins: int) -> float:
    """The bandwidth for the data of one state; see the module's docstring."""
    floor = 0.5 / num_bins
    if not isinstance(rule, str):
        return max(float(rule), floor)
    spread = _spread(data) or _spread(pooled)
    factor = len(data) if rule == "scott" else 0.75 * len(data)
    return max(float(spread * factor**-0.2), floor)


def bin_probabilities(
    data: FloatArray, pooled: FloatArray, rule: str | float, edges: FloatArray
) -> FloatArray:
    """P(bin | state) from the confidences of one state.

    Args:
        data: Confidences of the state's questions.
        pooled: Confidences of all questions, at least two.
        rule: ``scott``, ``silverman`` or a bandwidth.
        edges: Edges of the bins.
    """
    points = data if len(data) >= 2 else pooled
    num_bins = len(edges) - 1
    width = bandwidth(points, pooled, rule, num_bins)
    # Equal confidences are computed once: a verifier with k samples has only k + 1 values.
    values, counts = np.unique(points, return_counts=True)
    below = ndtr((edges[None, :] - values[:, None]) / width)
    mass = np.diff(below, axis=1) / (below[:, -1:] - below[:, :1])
    density = counts @ mass / counts.sum()
    mixed = (1.0 - UNIFORM_SHARE) * density + UNIFORM_SHARE / num_bins
    return np.asarray(mixed / mixed.sum(), dtype=np.float64)


def _spread(data: FloatArray) -> float:
    """Sample standard deviation; 0 for constant data (whose computed one may be a rounding)."""
    return float(data.std(ddof=1)) if len(data) > 1 and np.ptp(data) > 0 else 0.0
