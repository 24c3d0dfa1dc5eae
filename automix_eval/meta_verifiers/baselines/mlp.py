"""A small neural network on confidences and signals."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from automix_eval.meta_verifiers.baselines import common
from automix_eval.meta_verifiers.baselines.cost_aware import GreedyLearner
from automix_eval.metrics.calibration import scale_of
from automix_eval.records.outcomes import FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class MlpModel:
    """Scores = tanh(... tanh(x W0 + b0) ...) Wk + bk, cut to the range of the fitting scores.

    Attributes:
        weights: One (inputs, outputs) matrix a layer.
        biases: One (outputs,) vector a layer.
        low: Least score of the fitting data.
        width: Range of the scores.
    """

    weights: list[FloatArray]
    biases: list[FloatArray]
    low: float
    width: float

    def predict(self, x: FloatArray) -> FloatArray:
        """(n, m) predicted scores."""
        for weights, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            x = np.tanh(x @ weights + bias)
        made = x @ self.weights[-1] + self.biases[-1]
        return np.asarray(self.low + self.width * np.minimum(np.maximum(made, 0.0), 1.0))


@dataclass(eq=False)
class Mlp(GreedyLearner):
    """Predict each tier's score by a small neural network, and route greedily at a price.

    scikit-learn's ``MLPRegressor`` with tanh units, squared loss and L-BFGS, which needs no
    learning rate and gives the same network for the same seed.

    Args:
        hidden: Units of each hidden layer.
        penalty: scikit-learn's ``alpha``: L2 penalty of the weights, divided by the questions.
        max_iter: Steps of L-BFGS at most; stopping there is meant, as a further penalty.
        seed: Seed of the first weights.

    The others are those of :class:`.cost_aware.GreedyLearner`.

    Attributes:
        learned_: :class:`.cost_aware.Learned`; None before fitting.
    """

    name: ClassVar[str] = "mlp"
    hidden: Sequence[int] = (16,)
    penalty: float = 1.0
    max_iter: int = 200
    seed: int = 0
    max_fit_rows: int = field(default=10_000, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        for units in self.hidden if isinstance(self.hidden, Iterable) else [self.hidden]:
            common.check_count("hidden", units, 1)
        common.check_positive("penalty", self.penalty)
        common.check_count("max_iter", self.max_iter, 1)

    def _learn(self, x: FloatArray, y: FloatArray) -> MlpModel:
        from sklearn.exceptions import ConvergenceWarning  # heavy, and needed to fit only
        from sklearn.neural_network import MLPRegressor

        low, width = scale_of(y)
        model = MLPRegressor(
            hidden_layer_sizes=tuple(self.hidden),
            activation="tanh",
            solver="lbfgs",
            alpha=self.penalty,
            max_iter=self.max_iter,
            random_state=self.seed,
        )
        with common.one_thread(), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            model.fit(x, (y - low) / width)
        return MlpModel(model.coefs_, model.intercepts_, low, width)

    def _read_model(self, value: Any, inputs: int, outputs: int) -> MlpModel:
        common.exactly(value, "weights", "biases", "low", "width")
        weights, biases = [], []
        for w, b in zip(value["weights"], value["biases"], strict=True):
            weights.append(common.table(w, inputs, None))
            inputs = weights[-1].shape[1]
            biases.append(common.table(b, inputs))
        if not weights or inputs != outputs:
            raise ValueError(f"{len(weights)} layers with {inputs} outputs, not {outputs}")
        low, width = common.number(value["low"]), common.number(value["width"], 0.0)
        return MlpModel(weights, biases, low, width)
