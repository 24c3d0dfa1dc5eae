"""Columns over the same questions, bootstrapped together: each mean as a vector of draws.

A vector has 1 + B entries: the figure of the data, then that of each resample. What is computed
from vectors is computed for the data and for all resamples at once and stays paired; NaN stands
for an undefined value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from automix_eval.analysis.figures import Figure
from automix_eval.analysis.routed_paths import Index, Routing
from automix_eval.metrics.bootstrap import Totals, percentile_interval, resample
from automix_eval.metrics.calibration import (
    ConfidenceCells,
    auroc_of,
    brier_of,
    calibration_error_of,
    risk_coverage_area_of,
)
from automix_eval.metrics.ibc import Undefined

ROUNDING = 1e-12

Array = npt.NDArray[np.float64]
Vector = Array | Undefined
Column = Callable[[Index], Array]


@dataclass(slots=True)
class BootstrapTable:
    """Registers columns, then draws all of them at once.

    Attributes:
        documents: (n,) document of each question, 0 .. D - 1.
        resamples: Number of resamples, B.
        seed: Of the bootstrap.
        number: Number of documents, D.
    """

    documents: npt.ArrayLike
    resamples: int
    seed: int
    number: int = field(init=False)
    _columns: list[tuple[Column, int]] = field(default_factory=list)
    _totals: Totals | None = None
    _width: int = 0

    def __post_init__(self) -> None:
        self.number = int(np.max(self.documents)) + 1

    def add(self, column: Column, width: int = 1) -> int:
        """Register ``width`` columns, before anything is drawn; returns the number of the first."""
        if self._totals is not None:
            raise RuntimeError("a column is registered after the draw")
        self._columns.append((column, width))
        first, self._width = self._width, self._width + width
        return first

    def sums(self, first: int, width: int) -> Array:
        """(1 + B, width) totals of columns; the first call draws."""
        if self._totals is None:
            self._totals = resample(self.documents, self._block, self.resamples, self.seed)
        point = self._totals.point[None, first : first + width]
        if self._totals.draws is None:
            return point
        return np.concatenate([point, self._totals.draws[:, first : first + width]])

    def mean(self, column: int) -> Array:
        """(1 + B,) mean of a column over questions."""
        total = self.sums(column, 1)[:, 0]
        assert self._totals is not None
        weights = np.full(len(total), float(self._totals.number))
        if self._totals.weights is not None:
            weights[1:] = self._totals.weights
        return np.asarray(total / weights)

    def figure(self, vector: Vector, undefined: Undefined | None = None) -> Figure:
        """A vector's value, interval and standard error: :func:`figure`."""
        return figure(vector, self.number, undefined)

    def _block(self, rows: Index) -> Array:
        parts = [column(rows).reshape(len(rows), width) for column, width in self._columns]
        return np.concatenate(parts, axis=1) if parts else np.zeros((len(rows), 0))


@dataclass(slots=True)
class RoutingColumns:
    """The columns of one routing in a table."""

    table: BootstrapTable
    places: Mapping[str, int | Undefined]

    @classmethod
    def of(cls, table: BootstrapTable, routing: Routing, names: Sequence[str]) -> RoutingColumns:
        """Register the figures of a routing."""
        missing = routing.missing()

        def column(name: str) -> Column:
            return lambda rows: routing.values(name, rows)

        places: dict[str, int | Undefined] = {
            name: missing[name] if name in missing else table.add(column(name)) for name in names
        }
        return cls(table, places)

    def mean(self, name: str) -> Vector:
        """The mean of a figure as a vector, or why there is none."""
        place = self.places[name]
        return place if isinstance(place, Undefined) else self.table.mean(place)


class VerifierVectors(NamedTuple):
    """What answers counted by confidence tell of a verifier."""

    auroc: Array
    calibration_error: Array
    brier: Array
    risk_coverage: Array

    @classmethod
    def of(cls, right: Array, wrong: Array, confidence: Array) -> VerifierVectors:
        """From counts (..., m) of right and of wrong answers by ascending confidence (m,)."""
        return cls(
            auroc_of(right, wrong),
            calibration_error_of(right, wrong, confidence),
            brier_of(right, wrong, confidence),
            risk_coverage_area_of(right, wrong),
        )


@dataclass(slots=True)
class ConfidenceColumns:
    """The answers of one verifier, counted by confidence, in a table."""

    table: BootstrapTable
    cells: ConfidenceCells
    right: npt.NDArray[np.bool_]
    first: int

    @classmethod
    def of(
        cls, table: BootstrapTable, cells: ConfidenceCells, right: npt.NDArray[np.bool_]
    ) -> ConfidenceColumns:
        """Register the counts of right and of wrong answers of each cell."""
        number = len(cells.confidence)

        def column(rows: Index) -> Array:
            flags = np.zeros((len(rows), 2 * number))
            codes = cells.codes[rows]
            known = np.flatnonzero(codes >= 0)
            flags[known, codes[known] + number * ~right[rows][known]] = 1.0
            return flags

        return cls(table, cells, right, table.add(column, 2 * number))

    def vectors(self) -> VerifierVectors:
        """How good the confidence is, (1 + B,) each."""
        number = len(self.cells.confidence)
        counts = self.table.sums(self.first, 2 * number)
        return VerifierVectors.of(counts[:, :number], counts[:, number:], self.cells.confidence)


def figure(vector: Vector, documents: int, undefined: Undefined | None = None) -> Figure:
    """A vector's value, interval and standard error.

    Args:
        vector: (1 + B,), or why there is none.
        documents: Number of documents that were drawn from.
        undefined: Why the value of the data is undefined, where it is.
    """
    if isinstance(vector, Undefined):
        return Figure(vector)
    if undefined is not None or np.isnan(vector[0]):
        return Figure(undefined or Undefined("it is undefined for these questions"))
    # what is 0 but for rounding is 0, and not -0%
    vector = np.where(np.abs(vector) < ROUNDING, 0.0, vector)
    value = float(vector[0])
    interval = percentile_interval(vector[1:], documents)
    if isinstance(interval, Undefined):
        return Figure(value, interval)
    return Figure(value, interval, float(np.nanstd(vector[1:], ddof=1)))


def first_undefined(*vectors: Vector) -> Undefined | None:
    """The reason of the first vector that does not exist."""
    return next((v for v in vectors if isinstance(v, Undefined)), None)


def pooled(vectors: Sequence[Vector], weights: Array) -> Vector:
    """Mean over seeds, seeds resampled too.

    Args:
        vectors: One (1 + B,) vector a seed.
        weights: (1 + B, S) as :func:`seed_weights` gives them.
    """
    total: Array = np.zeros(1)
    for index, vector in enumerate(vectors):
        if isinstance(vector, Undefined):
            return vector
        weight = weights[: len(vector), index]
        # a seed that a resample did not draw counts for nothing, also where it has no value
        total = total + np.where(weight > 0, weight * vector, 0.0)
    return total


def seed_weights(number: int, draws: int, seed: int) -> Array:
    """(1 + draws, S) weight of each seed: equal in the data, drawn with replacement in resamples.

    Seeds are resampled beside the documents (A. Owen and D. Eckles, "Bootstrapping data arrays of
    arbitrary order", 2012): a method is what it is on new questions and with a new seed. Methods
    with equally many seeds share their draws and stay paired.
    """
    if number == 1:
        return np.ones((1 + draws, 1))
    rng = np.random.default_rng([seed, number])
    drawn = rng.multinomial(number, np.full(number, 1 / number), size=draws)
    return np.concatenate([np.full((1, number), 1.0), drawn]) / number
