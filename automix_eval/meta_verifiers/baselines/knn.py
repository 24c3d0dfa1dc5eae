"""Nearest neighbours on confidences and signals."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from automix_eval.meta_verifiers.baselines import common
from automix_eval.meta_verifiers.baselines.cost_aware import GreedyLearner
from automix_eval.records.outcomes import FloatArray

# Decimals of standardised columns: rows that agree in them are one point.
DECIMALS = 3
# Rows predicted at a time, to bound memory.
BATCH = 20_000


@dataclass(frozen=True, eq=False)
class KnnModel:
    """Mean scores of the nearest points, each point the mean of all rows that share it.

    Attributes:
        points: (p, f) distinct rows of columns.
        means: (p, m) mean scores of the rows of each point.
        counts: (p,) how many rows that are.
        neighbors: Rows to average at least.
    """

    points: FloatArray
    means: FloatArray
    counts: FloatArray
    neighbors: int

    @cached_property
    def _tree(self) -> Any:
        from scipy.spatial import cKDTree

        return cKDTree(self.points)

    def predict(self, x: FloatArray) -> FloatArray:
        """(n, m) predicted scores."""
        rows = np.round(x, DECIMALS)
        if len(rows) <= BATCH:
            return self._predict(rows)
        # many rows agree: each distinct one is looked up once
        distinct, which = np.unique(rows, axis=0, return_inverse=True)
        starts = range(0, len(distinct), BATCH)
        return np.concatenate([self._predict(distinct[i : i + BATCH]) for i in starts])[which]

    def _predict(self, x: FloatArray) -> FloatArray:
        most = min(self.neighbors, len(self.points))
        near = self._tree.query(x, k=[*range(1, most + 1)])[1]
        counts = self.counts[near]
        # a point counts as long as those nearer to it hold too few rows
        weight = np.where(np.cumsum(counts, axis=1) - counts < self.neighbors, counts, 0.0)
        total = (weight[:, :, None] * self.means[near]).sum(axis=1)
        return np.asarray(total / weight.sum(axis=1, keepdims=True))


@dataclass(eq=False)
class Knn(GreedyLearner):
    """Predict each tier's score by that of the nearest questions, and route greedily at a price.

    Columns are standardised. Questions that agree in them to three decimals are one point with
    their mean score, so questions at the same confidence always count alike, in whatever order
    they came; the last point that is needed to reach ``neighbors`` counts as a whole.

    Args:
        neighbors: Questions to average at least.

    The others are those of :class:`.cost_aware.GreedyLearner`.

    Attributes:
        learned_: :class:`.cost_aware.Learned`; None before fitting.
    """

    name: ClassVar[str] = "knn"
    neighbors: int = 25
    max_fit_rows: int = field(default=5_000, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        common.check_count("neighbors", self.neighbors, 1)

    def _learn(self, x: FloatArray, y: FloatArray) -> KnnModel:
        points, which = np.unique(np.round(x, DECIMALS), axis=0, return_inverse=True)
        counts = np.bincount(which).astype(np.float64)
        means = np.stack([np.bincount(which, weights=column) for column in y.T], axis=1)
        return KnnModel(points, means / counts[:, None], counts, self.neighbors)

    def _read_model(self, value: Any, inputs: int, outputs: int) -> KnnModel:
        common.exactly(value, "points", "means", "counts", "neighbors")
        points = common.table(value["points"], None, inputs)
        counts = common.table(value["counts"], len(points))
        common.check_count("neighbors", value["neighbors"], 1)
        if not len(points) or (counts < 1).any():
            raise ValueError(f"{len(points)} points, counts={counts}")
        means = common.table(value["means"], len(points), outputs)
        return KnnModel(points, means, counts, value["neighbors"])
