"""Signals as features: probabilities by their logit, everything standardised, gaps filled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from automix_eval.records.outcomes import BoolArray, FloatArray
from automix_eval.safety.errors import AutoMixError

# A probability of 0 or 1 has no finite logit; beyond this it says no more.
CLIP = 1e-4


@dataclass(frozen=True, slots=True)
class Preparation:
    """What turns raw signals (n, s) into features (n, s) of mean 0 and deviation 1.

    Attributes:
        logit: Whether each signal is a probability and enters by its logit.
        mean: Mean of each (transformed) signal on the fitting data; fills gaps.
        scale: Its standard deviation, 1 where it is constant.
    """

    logit: list[bool]
    mean: list[float]
    scale: list[float]

    @classmethod
    def of(cls, signals: FloatArray) -> Preparation:
        """Learned from the fitting data; a signal that is always missing becomes constant 0."""
        known = ~np.isnan(signals)
        logit = [
            bool(((column >= 0) & (column <= 1) | ~has).all() and has.any())
            for column, has in zip(signals.T, known.T, strict=True)
        ]
        columns = _transform(signals, np.array(logit))
        mean, scale = [], []
        for column, has in zip(columns.T, known.T, strict=True):
            values = column[has]
            mean.append(float(values.mean()) if len(values) else 0.0)
            varied = len(values) > 1 and np.ptp(values) > 0
            scale.append(float(values.std()) if varied else 1.0)
        return cls(logit, mean, scale)

    def features(self, signals: FloatArray) -> FloatArray:
        """(n, s) features; a gap counts as the mean.

        Raises:
            AutoMixError: Another number of signals than was fitted.
        """
        if signals.shape[1] != len(self.mean):
            raise AutoMixError(
                f"the calibrator was fitted on {len(self.mean)} signals and meets "
                f"{signals.shape[1]}: fit the policy again with this verifier"
            )
        columns = _transform(signals, np.array(self.logit))
        scaled = (columns - np.array(self.mean)) / np.array(self.scale)
        return np.where(np.isnan(scaled), 0.0, scaled)

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Preparation:
        """Rebuild, checking every field.

        Raises:
            TypeError: A field is missing, unknown or of the wrong type.
            ValueError: Lengths differ, or a number is not finite.
        """
        made = cls(**row)
        if not all(isinstance(x, bool) for x in made.logit):
            raise TypeError("logit must hold booleans")
        mean, scale = numbers("mean", made.mean), numbers("scale", made.scale)
        if not len(made.logit) == len(mean) == len(scale) or (scale <= 0).any():
            raise ValueError("logit, mean and scale differ in length, or a scale is not positive")
        return made


def direction(name: str) -> int:
    """Which way a signal is known to point: 1 for a right answer, -1 against it, 0 not known."""
    kind = name.rsplit("_", 1)[-1]
    against = kind in ("entropy", "rank")
    return -1 if against else int(kind in ("confidence", "probability", "margin", "f1", "exact"))


def numbers(name: str, value: Any) -> FloatArray:
    """A list of finite numbers of a stored policy.

    Raises:
        TypeError: It holds something else.
        ValueError: A number is not finite.
    """
    table = np.asarray(value)
    if not isinstance(value, list) or (value and table.dtype.kind not in "if") or table.ndim != 1:
        raise TypeError(f"{name} must be a list of numbers")
    if not np.isfinite(table).all():
        raise ValueError(f"{name} must be finite")
    return table.astype(np.float64)


def _transform(signals: FloatArray, logit: BoolArray) -> FloatArray:
    clipped = np.clip(signals, CLIP, 1.0 - CLIP)
    return np.where(logit, np.log(clipped) - np.log1p(-clipped), signals)
