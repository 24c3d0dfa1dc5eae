"""Isotonic calibration: the best monotone step function of a signal, in either direction."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.calibrators.heads import Calibrator, check_predicts
from automix_eval.meta_verifiers.calibrators.logistic import Logistic
from automix_eval.meta_verifiers.calibrators.signals import numbers
from automix_eval.records.outcomes import FloatArray
from automix_eval.safety.errors import AutoMixError


class Isotonic(Calibrator):
    """P(right | signals) as a monotone function of one number.

    The number is the signal itself, or with several signals their logistic combination. The
    direction is the one the fitting data show (Spearman's correlation), so a verifier that is the
    wrong way round is turned. Fitted by scikit-learn. Source of its use on a margin of token
    probabilities: arXiv 2605.18796.

    Args:
        penalty: Of the logistic combination, see :class:`.logistic.Logistic`; without effect on a
            single signal.
        predicts: What the confidence stands for, see :class:`.heads.Calibrator`.

    Attributes:
        combination_: The logistic combination, None for a single signal.
        x_: Knots of the function, ascending.
        y_: Its values there; between knots it is linear, beyond them constant.
    """

    reads_confidence = False

    def __init__(self, penalty: float = 1.0, predicts: str = "score") -> None:
        Logistic(penalty)  # the same bounds
        self.penalty = penalty
        self.predicts = check_predicts(predicts)
        self.combination_: Logistic | None = None
        self.x_: list[float] = []
        self.y_: list[float] = []

    def fit(self, signals: FloatArray, target: FloatArray) -> Isotonic:
        """Learn from signals (n, s), NaN where missing, and scores (n,) in [0, 1]."""
        from sklearn.isotonic import IsotonicRegression

        several = signals.shape[1] > 1
        self.combination_ = Logistic(self.penalty).fit(signals, target) if several else None
        x = self._one(signals)
        known = ~np.isnan(x)
        if not known.any() or np.ptp(x[known]) == 0:
            self.x_, self.y_ = [0.0], [float(target.mean()) if len(target) else 0.5]
            return self
        increasing = bool(_correlation(x[known], target[known]) >= 0)
        model = IsotonicRegression(y_min=0.0, y_max=1.0, increasing=increasing)
        model.fit(x[known], target[known])
        self.x_, self.y_ = model.X_thresholds_.tolist(), model.y_thresholds_.tolist()
        return self

    def predict(self, signals: FloatArray) -> FloatArray:
        """(n,) expected scores."""
        x = self._one(signals)
        values = np.interp(x, np.array(self.x_), np.array(self.y_))
        # a missing single signal has no place on the axis: the mean value stands for it
        return np.where(np.isnan(x), float(np.mean(self.y_)), values)

    def get_learned(self) -> dict[str, Any]:
        """The learned values as JSON."""
        inner = self.combination_
        combined = None if inner is None else inner.get_learned()
        return {"combination": combined, "x": self.x_, "y": self.y_}

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore them.

        Raises:
            KeyError, TypeError, ValueError: Not values of this calibrator.
        """
        if set(learned) != {"combination", "x", "y"}:
            raise ValueError(f"expected combination, x, y; got {sorted(learned)}")
        x, y = numbers("x", learned["x"]), numbers("y", learned["y"])
        if not len(x) or len(x) != len(y) or (np.diff(x) < 0).any():
            raise ValueError("x and y must be equally long, and x ascending")
        if (y < 0).any() or (y > 1).any():
            raise ValueError("y must lie in [0, 1]")
        combination = None
        if learned["combination"] is not None:
            combination = Logistic(self.penalty)
            combination.set_learned(learned["combination"])
        self.combination_, self.x_, self.y_ = combination, x.tolist(), y.tolist()

    def _one(self, signals: FloatArray) -> FloatArray:
        if self.combination_ is not None:
            return self.combination_.predict(signals)
        if signals.shape[1] != 1:
            raise AutoMixError(
                f"the calibrator was fitted on 1 signal and meets {signals.shape[1]}: fit the "
                "policy again with this verifier"
            )
        return signals[:, 0]


def _correlation(x: FloatArray, y: FloatArray) -> float:
    """Spearman's rank correlation; 0 where it is undefined."""
    from scipy.stats import rankdata

    if np.ptp(y) == 0:
        return 0.0
    return float(np.corrcoef(rankdata(x), rankdata(y))[0, 1])
