"""The numbers a learner reads: confidences and signals of the tiers visited so far."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.base import require_signals
from automix_eval.meta_verifiers.baselines.common import exactly, table
from automix_eval.records.outcomes import FloatArray, Outcomes, Seen


@dataclass(frozen=True, slots=True, eq=False)
class Scaling:
    """Standardised columns: NaN becomes the mean, and a column of its own says so.

    Attributes:
        mean: (f,) mean of each raw column where it is defined.
        scale: (f,) its standard deviation; 1 for a constant column.
        holes: Raw columns with a NaN in the fitting data; each gets an indicator.
    """

    mean: FloatArray
    scale: FloatArray
    holes: list[int]

    @classmethod
    def of(cls, raw: FloatArray) -> Scaling:
        """Learn from (n, f) raw columns."""
        known = ~np.isnan(raw)
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, raw, 0.0).sum(axis=0) / count
        spread = np.sqrt((np.where(known, raw - mean, 0.0) ** 2).sum(axis=0) / count)
        holes = np.flatnonzero(~known.all(axis=0)).tolist()
        return cls(mean, np.where(spread > 0, spread, 1.0), holes)

    def __call__(self, raw: FloatArray) -> FloatArray:
        """(n, f + holes) columns for a model."""
        missing = np.isnan(raw)
        filled = (np.where(missing, self.mean, raw) - self.mean) / self.scale
        if not self.holes:
            return filled
        return np.concatenate([filled, missing[:, self.holes]], axis=1)

    @property
    def width(self) -> int:
        """Columns a model gets."""
        return len(self.mean) + len(self.holes)

    @classmethod
    def from_json(cls, value: Any, width: int) -> Scaling:
        """Of a policy with ``width`` raw columns; ValueError for another shape."""
        exactly(value, "mean", "scale", "holes")
        scale, holes = table(value["scale"], width), value["holes"]
        known = isinstance(holes, list) and all(type(h) is int and 0 <= h < width for h in holes)
        if not known or (scale <= 0).any():
            raise ValueError(f"scale={scale}, holes={holes!r:.60}")
        return cls(table(value["mean"], width), scale, holes)


def signal_names(outcomes: Outcomes, wanted: Sequence[str] | None) -> list[str]:
    """The signals to read: those wanted, or all there are.

    Raises:
        AutoMixError: A wanted signal is not there.
    """
    require_signals(wanted or (), outcomes.signals)
    return sorted(outcomes.signals) if wanted is None else list(wanted)


def raw_columns(seen: Seen | Outcomes, tier: int, signals: Sequence[str]) -> FloatArray:
    """(n, (1 + signals) * (tier + 1)) confidences, then each signal, of tiers 0 .. tier.

    Raises:
        AutoMixError: A signal that was there in the fit is not there now.
    """
    if not signals:
        return seen.confidences[:, : tier + 1]
    require_signals(signals, seen.signals)
    tables = [seen.confidences, *(seen.signals[name] for name in signals)]
    return np.concatenate([t[:, : tier + 1] for t in tables], axis=1)


def visits(tier: int) -> Iterator[FloatArray]:
    """Ways to have come from tier 0 to a tier, as (tier + 1,) factors: 1 visited, NaN skipped.

    Way number k skips tier t (0 < t < tier) iff the bit t - 1 of k is not set; 2^(tier - 1) ways.
    """
    for bits in product((np.nan, 1.0), repeat=max(tier - 1, 0)):
        # product counts with its last place fastest, and the lowest bit is tier 1
        yield np.array([1.0, *reversed(bits), 1.0][: tier + 1])


def on_the_way(raw: FloatArray, visited: FloatArray) -> FloatArray:
    """Raw columns as they look when some tiers were skipped."""
    return raw * np.tile(visited, raw.shape[1] // len(visited))
