"""Ridge-penalised logistic regression on counted types, with the evidence for its penalty."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.special import expit, logit

from automix_eval.records.outcomes import FloatArray

# Penalties tried: on the slope of a tier's own confidence, and on those of the other tiers'. The
# slopes are per normal score, so 1 expects them about 1, and 100 about 0.1.
OWN, OTHERS = 0, 1
PENALTIES = tuple(itertools.product((0.3, 1.0, 3.0, 10.0, 30.0), (1.0, 3.0, 10.0, 30.0, 100.0)))
NEWTON_STEPS = 50
# Of the intercept: next to none, so that the mean is the data's.
FREE = 1e-9


def ridge_logistic(
    features: FloatArray, counts: FloatArray, share: FloatArray, penalty: FloatArray
) -> tuple[FloatArray, float]:
    """Fit by Newton's method.

    Maximises sum counts (share log p + (1 - share) log(1 - p)) - 1/2 sum penalty slope^2; shares in
    [0, 1] need not be 0 or 1.

    Args:
        features: (m, F) of each type; the first column is 1, its weight the intercept.
        counts: (m,) questions of each type.
        share: (m,) mean value of each type's questions.
        penalty: (F,) of each weight; the intercept's is not read.

    Returns:
        The weights (F,), and Laplace's approximation of the log evidence for the penalty, up to a
        constant: the slopes are normal with variances 1 / penalty before the data.
    """
    penalty = np.concatenate([[FREE], penalty[1:]])
    weights = np.zeros(features.shape[1])
    weights[0] = logit(np.average(share, weights=counts).clip(1e-9, 1 - 1e-9))

    def loss(w: FloatArray) -> float:
        z = features @ w
        return float(counts @ (np.logaddexp(0.0, z) - share * z) + 0.5 * penalty @ w**2)

    best = loss(weights)
    for _ in range(NEWTON_STEPS):
        p = expit(features @ weights)
        gradient = features.T @ (counts * (p - share)) + penalty * weights
        step = np.linalg.solve(_curvature(features, counts, p, penalty), gradient)
        scale = 1.0
        while (value := loss(weights - scale * step)) > best and scale > 1e-4:
            scale /= 2
        if value >= best:
            break
        gained, best, weights = best - value, value, weights - scale * step
        if gained <= 1e-12 * abs(best):
            break
    curve = _curvature(features, counts, expit(features @ weights), penalty)
    prior = 0.5 * float(np.log(penalty[1:]).sum())
    return weights, prior - best - 0.5 * float(np.linalg.slogdet(curve)[1])


def _curvature(
    features: FloatArray, counts: FloatArray, p: FloatArray, penalty: FloatArray
) -> FloatArray:
    weighed = features * (counts * p * (1 - p))[:, None]
    return np.asarray(weighed.T @ features + np.diag(penalty + FREE))
