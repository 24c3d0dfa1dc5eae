"""One or two calibrators of a tier: what its answer is worth, and what the last tier's would be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from automix_eval.meta_verifiers.calibrators.signals import numbers
from automix_eval.records.outcomes import FloatArray
from automix_eval.safety.errors import AutoMixError

PREDICTS = ("score", "benefit")
# Rows at which half of what the signals say of the last tier's score is believed.
_HALF_BELIEVED = 40


class Calibrator(Protocol):
    """Turns signals into the expected score of an answer.

    Attributes:
        reads_confidence: Whether the first signal must be the verifier's confidence.
        predicts: What the confidence stands for: ``score``, E[score | signals]; or ``benefit``,
            (1 + E[score | signals] - E[last tier's score | signals]) / 2.
    """

    reads_confidence: bool
    predicts: str

    def fit(self, signals: FloatArray, target: FloatArray) -> Calibrator:
        """Learn from signals (n, s), NaN where missing, and scores (n,) in [0, 1]."""

    def predict(self, signals: FloatArray) -> FloatArray:
        """(n,) expected scores in [0, 1]."""

    def of_last(self) -> Calibrator:
        """This one, unfitted, for the last tier's score: it need not rise with the confidence."""
        return self

    def knowing(self, names: Sequence[str]) -> Calibrator:  # noqa: ARG002 - for those that care
        """This one, unfitted, told what its signals are called."""
        return self

    def get_learned(self) -> dict[str, Any]:
        """The learned values as JSON."""

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore them; KeyError, TypeError or ValueError where they are none."""


def check_predicts(predicts: Any) -> str:
    """Raise AutoMixError unless it is one of :data:`PREDICTS`."""
    if predicts not in PREDICTS:
        raise AutoMixError(
            f"calibrator.predicts={predicts!r} is unknown: choose {' or '.join(PREDICTS)}"
        )
    return str(predicts)


class Heads:
    """The confidence of a tier's answers from their signals.

    The head of the last tier's score is drawn to that score's mean, which takes it for independent
    of the signals, by n / (n + 40) with n rows.

    Args:
        make: Makes one unfitted calibrator; its ``predicts`` says what the confidence stands for.

    Attributes:
        own_: Of the tier's own score.
        last_: Of the last tier's; None where the confidence is the expected score.
        weight_: How far the last tier's head is believed.
        mean_: Mean score of the last tier on the fitting data.
    """

    def __init__(self, make: Callable[[], Calibrator]) -> None:
        self.own_ = make()
        self.last_ = make().of_last() if self.own_.predicts == "benefit" else None
        self.weight_ = self.mean_ = 0.0

    def fit(self, signals: FloatArray, own: FloatArray, last: FloatArray) -> Heads:
        """Learn from signals (n, s) and both tiers' scores (n,) in [0, 1]."""
        self.own_.fit(signals, own)
        if self.last_ is not None:
            self.last_.fit(signals, last)
            self.weight_ = len(last) / (len(last) + _HALF_BELIEVED)
            self.mean_ = float(last.mean()) if len(last) else 0.5
        return self

    def predict(self, signals: FloatArray) -> FloatArray:
        """(n,) confidences in [0, 1]."""
        own = self.own_.predict(signals)
        if self.last_ is None:
            return own
        last = self.mean_ + self.weight_ * (self.last_.predict(signals) - self.mean_)
        return np.clip((1 + own - last) / 2, 0.0, 1.0)

    def get_learned(self) -> dict[str, Any]:
        """The learned values as JSON."""
        learned: dict[str, Any] = {"learned": self.own_.get_learned()}
        if self.last_ is not None:
            last = {"weight": self.weight_, "mean": self.mean_}
            learned["last"] = {**last, "learned": self.last_.get_learned()}
        return learned

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore them.

        Raises:
            KeyError, TypeError, ValueError: Not values of these heads.
        """
        if ("last" in learned) != (self.last_ is not None):
            raise ValueError(f"calibrator.predicts={self.own_.predicts} has other heads")
        self.own_.set_learned(learned["learned"])
        if self.last_ is not None:
            last = learned["last"]
            self.last_.set_learned(last["learned"])
            weight, mean = numbers("weight and mean", [last["weight"], last["mean"]])
            if not (0 <= weight <= 1 and 0 <= mean <= 1):
                raise ValueError(f"weight and mean are {weight!r} and {mean!r}, expected shares")
            self.weight_, self.mean_ = float(weight), float(mean)
