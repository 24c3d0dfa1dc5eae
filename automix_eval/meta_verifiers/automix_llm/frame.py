"""A pandas frame, or one row of it, as checked columns of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

import numpy as np

from automix_eval.records.outcomes import ROUNDING, BoolArray, FloatArray
from automix_eval.safety.errors import AutoMixError


class Frame:
    """What the methods read of a frame.

    Args:
        data: A pandas DataFrame, or a row: a Series or a mapping from column to value.
        verifier_column: Column of the confidences.
        scores: Columns of the scores, by the names ``slm`` and ``llm``.
        undefined: What a missing confidence counts as: ``escalate``, ``keep``, or a confidence.

    Attributes:
        is_row: Whether it is a single row.
        confidence: (n,) in [0, 1]; 0 where it is missing.

    Raises:
        AutoMixError: No row, a missing column (the message lists those present), a score that is
            no finite number, or a confidence outside [0, 1]; names row and column.
    """

    def __init__(
        self,
        data: Any,
        verifier_column: str,
        scores: Mapping[str, str],
        undefined: str | float = "escalate",
    ) -> None:
        self._data = data
        self.is_row = getattr(data, "ndim", 1) == 1
        if not self.is_row and not len(data):
            raise AutoMixError("the frame has no rows: give it at least one")
        self._scores = {name: self._score(column) for name, column in scores.items()}
        self.confidence, self._missing = self._read_confidence(verifier_column, undefined)
        self._escalates_missing = undefined == "escalate"
        self._any_missing = bool(self._missing.any())

    def __len__(self) -> int:
        return len(self.confidence)

    def __contains__(self, column: str) -> bool:
        return column in self._data

    def score(self, name: str) -> FloatArray:
        """(n,) the scores called ``slm`` or ``llm``, or those of another column."""
        return self._scores[name] if name in self._scores else self._score(name)

    def values(self, column: str) -> list[Any]:
        """The values of any column.

        Raises:
            AutoMixError: There is no such column.
        """
        self._require(column)
        return [self._data[column]] if self.is_row else list(self._data[column].tolist())

    @property
    def defined(self) -> BoolArray:
        """(n,) whether there is a confidence."""
        return ~self._missing

    def decide(self, escalates: BoolArray) -> BoolArray:
        """Decisions by confidence, with what a missing confidence counts as in its place."""
        if not self._any_missing:
            return escalates
        return np.where(self._missing, self._escalates_missing, escalates)

    def series(self, route: BoolArray) -> Any:
        """Decisions under the frame's own index."""
        import pandas as pd  # type: ignore[import-untyped]

        return pd.Series(route, index=self._data.index)

    def _require(self, column: str) -> None:
        if column not in self:
            held = self._data.keys() if self.is_row else self._data.columns
            raise AutoMixError(
                f"the frame has no column {column!r}; it has {', '.join(map(str, held))}"
            )

    def _numbers(self, column: str) -> FloatArray:
        self._require(column)
        kind = None if self.is_row else self._data[column].dtype
        if isinstance(kind, np.dtype) and kind.kind in "fiub":
            return np.asarray(self._data[column], dtype=np.float64)
        values = self.values(column)
        odd = [v for v in values if not isinstance(v, Real) and not _is_missing(v)]
        if odd:
            raise AutoMixError(f"column {column!r} holds {odd[0]!r}, which is no number")
        return np.array([np.nan if _is_missing(v) else v for v in values], dtype=np.float64)

    def _score(self, column: str) -> FloatArray:
        found = self._numbers(column)
        self._refuse(~np.isfinite(found), column, "a finite score; leave the row out")
        return found

    def _read_confidence(self, column: str, undefined: str | float) -> tuple[FloatArray, BoolArray]:
        found = self._numbers(column)
        if ((found >= 0) & (found <= 1)).all():
            return found, np.zeros(len(found), dtype=np.bool_)
        self._refuse((found < -ROUNDING) | (found > 1 + ROUNDING), column, "a number in [0, 1]")
        missing = np.isnan(found)
        if not isinstance(undefined, str):
            found, missing = np.where(missing, undefined, found), np.zeros_like(missing)
        return np.clip(np.where(missing, 0.0, found), 0.0, 1.0), missing

    def _refuse(self, bad: BoolArray, column: str, expected: str) -> None:
        if bad.any():
            at = int(np.flatnonzero(bad)[0])
            row = getattr(self._data, "name", None) if self.is_row else self._data.index[at]
            raise AutoMixError(
                f"row {row!r}, column {column!r}: {self.values(column)[at]!r} is not {expected}"
            )


def _is_missing(value: Any) -> bool:
    # pandas.NA compares to nothing, not even to itself, so it is known by its type
    return value is None or type(value).__name__ in ("NAType", "NaTType")
