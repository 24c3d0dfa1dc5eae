"""Columns over the same questions, bootstrapped together: each mean as a vector of draws.

A vector has 1 + B entries: the figure of the data, then that of each resample. What is computed
from vectors is computed for the data and for all resamples at once and stays paired; NaN stands
for an undefined value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

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
C = TypeVar("C")


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
    _columns: list[Column] = field(default_factory=list)
    _undrawn: list[Column] = field(default_factory=list)
    _kinds: list[tuple[Index, int]] = field(default_factory=list)
    _totals: Totals | None = None

    def __post_init__(self) -> None:
        self.number = int(np.max(self.documents)) + 1

    def add(self, column: Column, drawn: bool = True) -> int:
        """Register a column, before anything is drawn.

        Args:
            column: Gives the values of some questions.
            drawn: Whether the resamples are wanted; without them it costs next to nothing.

        Returns:
            Its number, below 0 if it is not drawn.
        """
        of = self._open(self._columns if drawn else self._undrawn)
        of.append(column)
        return len(of) - 1 if drawn else -len(of)

    def add_kinds(self, kind: Index, number: int) -> int:
        """Register how many questions are of each of ``number`` kinds; the number of the first.

        ``kind`` is (n,), -1 for questions of none.
        """
        kinds = self._open(self._kinds)
        kinds.append((kind, number))
        return sum(most for _, most in kinds[:-1])

    def counts(self, first: int, number: int) -> Array:
        """(1 + B, number) questions of some kinds."""
        return self._drawn().counts[:, first : first + number]

    def mean(self, column: int) -> Array:
        """(1 + B,) mean of a column over questions; (1,) of one that is not drawn."""
        return self._drawn().mean(column if column >= 0 else len(self._columns) - column - 1)

    def widened(self, vector: Vector, variance: float) -> Vector:
        """A vector whose resamples vary by so much more, as every other that is widened does.

        So the bootstrap is smoothed (B. Silverman and G. Young, "The bootstrap: to smooth or not to
        smooth?", 1987).
        """
        if isinstance(vector, Undefined) or variance == 0:
            return vector
        more = np.random.default_rng([self.seed, 1]).standard_normal(len(vector) - 1)
        return np.concatenate([vector[:1], vector[1:] + math.sqrt(variance) * more])

    def figure(self, vector: Vector) -> Figure:
        """A vector's value, interval and standard error: :func:`figure`."""
        return figure(vector, self.number)

    def _open(self, columns: list[C]) -> list[C]:
        if self._totals is not None:
            raise RuntimeError("a column is registered after the draw")
        return columns

    def _drawn(self) -> Totals:
        """All totals; the first call draws."""
        if self._totals is None:
            self._totals = resample(
                self.documents, self._block, self.resamples, self.seed, len(self._columns),
                self._kinds,
            )  # fmt: skip
        return self._totals

    def _block(self, rows: Index) -> Iterator[Array]:
        return (column(rows) for column in (*self._columns, *self._undrawn))


@dataclass(slots=True)
class RoutingColumns:
    """The columns of one routing in a table."""

    table: BootstrapTable
    routing: Routing
    places: Mapping[str, int | Undefined]

    @classmethod
    def of(
        cls,
        table: BootstrapTable,
        routing: Routing,
        names: Sequence[str],
        undrawn: Sequence[str] = (),
    ) -> RoutingColumns:
        """Register some figures of a routing, of them ``undrawn`` without resamples."""
        missing = routing.missing()

        def column(name: str) -> Column:
            return lambda rows: routing.values(name, rows)

        places: dict[str, int | Undefined] = {
            name: missing[name] if name in missing else table.add(column(name), name not in undrawn)
            for name in names
        }
        return cls(table, routing, places)

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
        kind = np.where(cells.codes >= 0, cells.codes + number * ~right, -1)
        return cls(table, cells, right, table.add_kinds(kind, 2 * number))

    def vectors(self) -> VerifierVectors:
        """How good the confidence is, (1 + B,) each."""
        number = len(self.cells.confidence)
        counts = self.table.counts(self.first, 2 * number)
        return VerifierVectors.of(counts[:, :number], counts[:, number:], self.cells.confidence)


def figure(vector: Vector, documents: int) -> Figure:
    """A vector's value, interval and standard error.

    Args:
        vector: (1 + B,), or why there is none.
        documents: Number of documents that were drawn from.
    """
    if isinstance(vector, Undefined):
        return Figure(vector)
    if np.isnan(vector[0]):
        return Figure(Undefined("it is undefined for these questions"))
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
