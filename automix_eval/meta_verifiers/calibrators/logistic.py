"""Logistic calibration: a weighted sum of signals through the logistic function."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from automix_eval.meta_verifiers.calibrators.heads import Calibrator, check_predicts
from automix_eval.meta_verifiers.calibrators.signals import Preparation, numbers
from automix_eval.records.outcomes import FloatArray
from automix_eval.safety.errors import AutoMixError

LEAST_WEIGHT = 0.1
"""Of a confidence's standardised logit, in a fit that rises with it."""


class Logistic(Calibrator):
    """P(right | signals) = sigma(w . x + b), x the standardised logits of the signals.

    Source: Platt scaling on the logit; with several signals, logistic regression. A graded score
    in [0, 1] counts as that share of a right answer.

    Args:
        penalty: Inverse of the L2 penalty's strength (scikit-learn's ``C``).
        predicts: What the confidence stands for, see :class:`.heads.Calibrator`.
        directions: Of each signal, 1 if it may only speak for a right answer, -1 against one, 0
            either way; empty: all either way. A first signal with 1 is the confidence, whose weight
            is at least :data:`LEAST_WEIGHT`, so that answers keep the order of a confidence which
            the fitting data say nothing of.

    Attributes:
        preparation_: Logits and standardisation of the signals.
        weights_: w, one a signal.
        intercept_: b.
    """

    reads_confidence = False

    def __init__(
        self, penalty: float = 1.0, predicts: str = "score", directions: Sequence[int] = ()
    ) -> None:
        if isinstance(penalty, bool) or not isinstance(penalty, (int, float)) or not penalty > 0:
            raise AutoMixError(f"calibrator.penalty={penalty!r} must be a number > 0")
        self.penalty = penalty
        self.predicts = check_predicts(predicts)
        self.directions = directions
        self.preparation_: Preparation | None = None
        self.weights_: list[float] = []
        self.intercept_ = 0.0

    def fit(self, signals: FloatArray, target: FloatArray) -> Logistic:
        """Learn from signals (n, s), NaN where missing, and scores (n,) in [0, 1]."""
        self.preparation_ = Preparation.of(signals)
        x = self.preparation_.features(signals)
        directions = list(self.directions) or [0] * x.shape[1]
        least = [None if d < 1 else 0.0 for d in directions]
        most = [0.0 if d < 0 else None for d in directions]
        if directions[:1] == [1] and (x[:, 0] != x[:1, 0]).any():
            least[0] = LEAST_WEIGHT
        weights = np.array([bound or 0.0 for bound in least])
        if not 0 < target.sum() < len(target) or not x.shape[1]:
            # All right or all wrong, or no signal: nothing separates them, so the prior with one
            # pseudo-count on either side stands for every answer.
            share = (target.sum() + 1.0) / (len(target) + 2.0)
            self.weights_, self.intercept_ = weights.tolist(), float(np.log(share / (1 - share)))
            return self

        def loss(values: FloatArray) -> tuple[float, FloatArray]:
            """Log loss and penalty of weights and intercept, with its gradient."""
            w, z = values[:-1], x @ values[:-1] + values[-1]
            off = expit(z) - target
            value = np.logaddexp(0.0, z).sum() - target @ z + w @ w / (2 * self.penalty)
            return float(value), np.append(x.T @ off + w / self.penalty, off.sum())

        bounds = [*zip(least, most, strict=True), (None, None)]
        found = minimize(loss, np.append(weights, 0.0), jac=True, method="L-BFGS-B", bounds=bounds)
        *self.weights_, self.intercept_ = found.x.tolist()
        return self

    def predict(self, signals: FloatArray) -> FloatArray:
        """(n,) expected scores."""
        assert self.preparation_ is not None
        x = self.preparation_.features(signals)
        return np.asarray(expit(x @ np.array(self.weights_) + self.intercept_))

    def get_learned(self) -> dict[str, Any]:
        """The learned values as JSON."""
        assert self.preparation_ is not None
        return {
            "preparation": asdict(self.preparation_),
            "weights": self.weights_,
            "intercept": self.intercept_,
        }

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore them.

        Raises:
            KeyError, TypeError, ValueError: Not values of this calibrator.
        """
        if set(learned) != {"preparation", "weights", "intercept"}:
            raise ValueError(f"expected preparation, weights, intercept; got {sorted(learned)}")
        preparation = Preparation.from_json(learned["preparation"])
        weights = numbers("weights", learned["weights"])
        (intercept,) = numbers("intercept", [learned["intercept"]])
        if len(weights) != len(preparation.mean):
            raise ValueError("there must be one weight a signal")
        self.preparation_, self.weights_ = preparation, weights.tolist()
        self.intercept_ = float(intercept)
