"""Logistic calibration: a weighted sum of signals through the logistic function."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import brentq
from scipy.special import expit

from automix_eval.meta_verifiers.calibrators.heads import check_predicts
from automix_eval.meta_verifiers.calibrators.signals import Preparation, labelled, numbers
from automix_eval.records.outcomes import FloatArray
from automix_eval.safety.errors import AutoMixError

LEAST_WEIGHT = 0.1
"""Of a confidence's standardised logit, in a fit that rises with it."""


class Logistic:
    """P(right | signals) = sigma(w . x + b), x the standardised logits of the signals.

    Source: Platt scaling on the logit; with several signals, logistic regression. Fitted by
    scikit-learn; a graded score in [0, 1] counts as that share of a right answer.

    Args:
        penalty: Inverse of the L2 penalty's strength (scikit-learn's ``C``).
        predicts: What the confidence stands for, see :class:`.heads.Calibrator`.
        rising: Whether the first signal is a confidence, and the fit must rise with it: its weight
            is then at least :data:`LEAST_WEIGHT`, so that answers keep the order of a confidence
            which the fitting data say nothing of.

    Attributes:
        preparation_: Logits and standardisation of the signals.
        weights_: w, one a signal.
        intercept_: b.
    """

    reads_confidence = False

    def __init__(self, penalty: float = 1.0, predicts: str = "score", rising: bool = False) -> None:
        if isinstance(penalty, bool) or not isinstance(penalty, (int, float)) or not penalty > 0:
            raise AutoMixError(f"calibrator.penalty={penalty!r} must be a number > 0")
        self.penalty = penalty
        self.predicts = check_predicts(predicts)
        self.rising = rising
        self.preparation_: Preparation | None = None
        self.weights_: list[float] = []
        self.intercept_ = 0.0

    def fit(self, signals: FloatArray, target: FloatArray) -> Logistic:
        """Learn from signals (n, s), NaN where missing, and scores (n,) in [0, 1]."""
        from sklearn.linear_model import LogisticRegression

        self.preparation_ = Preparation.of(signals)
        x = self.preparation_.features(signals)
        rows, labels, weights = labelled(target)
        used = weights > 0
        if len(set(labels[used])) < 2 or not x.shape[1]:
            # All right or all wrong, or no signal: nothing separates them, so the prior with one
            # pseudo-count on either side stands for every answer.
            share = (target.sum() + 1.0) / (len(target) + 2.0)
            self.weights_ = [
                LEAST_WEIGHT if self.rising and not i else 0.0 for i in range(x.shape[1])
            ]
            self.intercept_ = float(np.log(share) - np.log1p(-share))
            return self
        model = LogisticRegression(C=self.penalty, max_iter=1000)
        model.fit(x[rows][used], labels[used], weights[used])
        self.weights_ = model.coef_[0].tolist()
        self.intercept_ = float(model.intercept_[0])
        if self.rising and self.weights_[0] < LEAST_WEIGHT and np.ptp(x[:, 0]) > 0:
            self._hold_first(x, target)
        return self

    def _hold_first(self, x: FloatArray, target: FloatArray) -> None:
        """Set the first weight to its least, and the intercept to what then fits best."""
        self.weights_[0] = LEAST_WEIGHT
        known = x @ np.array(self.weights_)
        mean = float(target.mean())
        # the likelihood is largest where the mean prediction is the mean score
        self.intercept_ = brentq(lambda b: float(expit(known + b).mean()) - mean, -50.0, 50.0)

    def predict(self, signals: FloatArray) -> FloatArray:
        """(n,) expected scores."""
        assert self.preparation_ is not None
        x = self.preparation_.features(signals)
        return np.asarray(expit(x @ np.array(self.weights_) + self.intercept_), dtype=np.float64)

    def of_last(self) -> Logistic:
        """Itself: it rises and falls as the fitting data say."""
        return self

    def get_learned(self) -> dict[str, Any]:
        """The learned values as JSON."""
        assert self.preparation_ is not None
        return {
            "preparation": self.preparation_.to_json(),
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
