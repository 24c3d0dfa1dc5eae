"""The calibration that the rows can support: of the confidence alone, or of all signals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.calibrators.heads import Calibrator, check_predicts
from automix_eval.meta_verifiers.calibrators.isotonic import Isotonic
from automix_eval.meta_verifiers.calibrators.logistic import Logistic
from automix_eval.meta_verifiers.calibrators.signals import direction
from automix_eval.meta_verifiers.objectives import ONE_SIDED
from automix_eval.records.outcomes import FloatArray
from automix_eval.safety.errors import AutoMixError

LEAST_ROWS = 40
"""With fewer rows nothing but the confidence is calibrated."""

_FOLDS = 5
_CLIP = 1e-3


def read_by(kind: str) -> int | None:
    """How many of the signals, the confidence first, a kind of calibration reads; None: all."""
    return 0 if kind == "constant" else 1 if kind.endswith("confidence") else None


class ByRows(Calibrator):
    """Chosen by cross-validation between calibrations of growing freedom.

    In this order: logistic and rising in the confidence, logistic in it either way, isotonic in it,
    logistic in all signals with a strong and with a weak penalty, each signal only in the direction
    that it is known to point in. A later one is taken only where its out-of-fold log loss is lower
    than that of the first beyond noise (95 %, one-sided), and lowest of all; so the order of the
    confidence is left only for a gain that the rows show.

    For the last tier's score (:meth:`of_last`) the first is a constant, and no direction is known.

    The first column of the signals is the verifier's confidence (:attr:`reads_confidence`).

    Args:
        penalty: Inverse of the L2 penalty's strength (scikit-learn's ``C``) of the weak penalty;
            the strong one is a tenth of it.
        predicts: What the confidence stands for, see :class:`.heads.Calibrator`.

    Attributes:
        kind_: Name of the calibration chosen.
        chosen_: That calibration, fitted.
    """

    reads_confidence = True

    def __init__(self, penalty: float = 0.3, predicts: str = "score") -> None:
        Logistic(penalty)  # the same bounds
        self.penalty = penalty
        self.predicts = check_predicts(predicts)
        self.rising = True
        self.directions: list[int] = []
        self.kind_ = ""
        self.chosen_: Logistic | Isotonic | None = None

    def fit(self, signals: FloatArray, target: FloatArray) -> ByRows:
        """Learn from signals (n, s), NaN where missing, and scores (n,) in [0, 1]."""
        kinds = self._kinds()
        if len(target) < LEAST_ROWS or signals.shape[1] == 1:
            kinds = dict(list(kinds.items())[: 1 if len(target) < LEAST_ROWS else 3])
        self.kind_ = next(iter(kinds))
        if len(kinds) > 1:
            losses = {kind: self._losses(kind, signals, target) for kind in kinds}
            first = losses[self.kind_]
            gains = {
                kind: float(np.mean(first - loss))
                for kind, loss in losses.items()
                if np.mean(first - loss) > ONE_SIDED * np.std(first - loss) / np.sqrt(len(target))
            }
            self.kind_ = max(gains, key=lambda kind: gains[kind], default=self.kind_)
        self.chosen_ = kinds[self.kind_].fit(self._columns(self.kind_, signals), target)
        return self

    def predict(self, signals: FloatArray) -> FloatArray:
        """(n,) expected scores."""
        assert self.chosen_ is not None
        return self.chosen_.predict(self._columns(self.kind_, signals))

    def of_last(self) -> ByRows:
        """This one, for a score that may not depend on the signals at all."""
        self.rising = False
        return self

    def knowing(self, names: Sequence[str]) -> ByRows:
        """This one, which holds each signal to its direction."""
        self.directions = [direction(name) for name in names]
        return self

    def get_learned(self) -> dict[str, Any]:
        """The learned values as JSON."""
        assert self.chosen_ is not None
        return {"kind": self.kind_, "chosen": self.chosen_.get_learned()}

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore them.

        Raises:
            KeyError, TypeError, ValueError: Not values of this calibrator.
        """
        if set(learned) != {"kind", "chosen"}:
            raise ValueError(f"expected kind and chosen; got {sorted(learned)}")
        kinds = self._kinds()
        if learned["kind"] not in kinds:
            raise ValueError(f"kind is {learned['kind']!r}, expected one of {', '.join(kinds)}")
        chosen = kinds[learned["kind"]]
        chosen.set_learned(learned["chosen"])
        self.kind_, self.chosen_ = learned["kind"], chosen

    def _kinds(self) -> dict[str, Logistic | Isotonic]:
        first = "rising logistic of the confidence" if self.rising else "constant"
        known = self.directions if self.rising else []
        return {
            first: Logistic(directions=[1] if self.rising else []),
            "logistic of the confidence": Logistic(),
            "isotonic of the confidence": Isotonic(),
            "logistic, strong penalty": Logistic(self.penalty / 10, directions=known),
            "logistic": Logistic(self.penalty, directions=known),
        }

    def _columns(self, kind: str, signals: FloatArray) -> FloatArray:
        if not signals.shape[1]:
            raise AutoMixError("a calibrator needs the confidence, and there is no signal at all")
        return signals[:, : read_by(kind)]

    def _losses(self, kind: str, signals: FloatArray, target: FloatArray) -> FloatArray:
        """(n,) log loss of each row by a calibration that has not seen it; NaN-free."""
        columns = self._columns(kind, signals)
        # rows come in the order of their values: every fifth is a stratified sample
        fold = np.arange(len(target)) % _FOLDS
        value = np.empty(len(target))
        for number in range(_FOLDS):
            out = fold == number
            value[out] = self._kinds()[kind].fit(columns[~out], target[~out]).predict(columns[out])
        value = np.clip(value, _CLIP, 1 - _CLIP)
        return np.asarray(-(target * np.log(value) + (1 - target) * np.log1p(-value)))
