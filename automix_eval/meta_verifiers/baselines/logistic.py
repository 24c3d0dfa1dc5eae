"""Logistic regression on confidences and signals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from automix_eval.meta_verifiers.baselines import common
from automix_eval.meta_verifiers.baselines.cost_aware import GreedyLearner
from automix_eval.metrics.calibration import scale_of
from automix_eval.records.outcomes import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class LogisticModel:
    """Score = low + width / (1 + exp(-(weights x + bias))).

    Attributes:
        weights: (f, m) one column a score.
        bias: (m,).
        low: Least score.
        width: Range of the scores.
    """

    weights: FloatArray
    bias: FloatArray
    low: float
    width: float

    def predict(self, x: FloatArray) -> FloatArray:
        """(n, m) predicted scores."""
        logit = np.clip(x @ self.weights + self.bias, -500.0, 500.0)
        return np.asarray(self.low + self.width / (1.0 + np.exp(-logit)))


@dataclass(eq=False)
class Logistic(GreedyLearner):
    """Predict each tier's score by logistic regression, and route greedily at a price.

    A score s in [0, 1], as F1 is, counts as s of a correct answer and 1 - s of a wrong one (the
    fractional response of Papke and Wooldridge, 1996); other scores are mapped to [0, 1] first.

    Args:
        strength: scikit-learn's ``C``: the inverse of the L2 penalty.

    The others are those of :class:`.cost_aware.GreedyLearner`.

    Attributes:
        learned_: :class:`.cost_aware.Learned`; None before fitting.
    """

    name: ClassVar[str] = "logistic"
    strength: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        common.check_positive("strength", self.strength)

    def _learn(self, x: FloatArray, y: FloatArray) -> LogisticModel:
        from sklearn.linear_model import LogisticRegression  # heavy, and needed to fit only

        low, width = scale_of(y)
        both = np.concatenate([x, x])
        labels = np.repeat([1, 0], len(x))
        fitted = []
        for share in ((y - low) / width).T:
            model = LogisticRegression(C=self.strength, max_iter=1000)
            with common.one_thread():
                fitted.append(model.fit(both, labels, np.concatenate([share, 1 - share])))
        weights = np.stack([m.coef_[0] for m in fitted], axis=1)
        bias = np.array([m.intercept_[0] for m in fitted])
        return LogisticModel(weights, bias, low, width)

    def _read_model(self, value: Any, inputs: int, outputs: int) -> LogisticModel:
        common.exactly(value, "weights", "bias", "low", "width")
        return LogisticModel(
            common.table(value["weights"], inputs, outputs),
            common.table(value["bias"], outputs),
            common.number(value["low"]),
            common.number(value["width"], 0.0),
        )
