"""What all methods of a run are compared with: the SLM, the LLM, the oracle, and its verifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from automix_eval.analysis.bootstrap_table import (
    BootstrapTable,
    ConfidenceColumns,
    RoutingColumns,
    figure,
)
from automix_eval.analysis.curve_figures import EndPoints
from automix_eval.analysis.figures import Figure
from automix_eval.analysis.question_sets import PricedTiers
from automix_eval.analysis.replayed import oracle_routings
from automix_eval.analysis.routed_paths import ChainRouting, Routing
from automix_eval.metrics.calibration import CORRECT_ABOVE, ConfidenceCells, auroc
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.record_columns import BoolArray


@dataclass(slots=True)
class References:
    """The columns that all methods on the same questions are compared with.

    Attributes:
        tiers: What every tier did.
        slm: The SLM alone.
        llm: The LLM alone.
        oracle: Corners of the best that any router can do, dear to cheap.
        no_oracle: Why there is no oracle; None if there is one.
        cells: By tier, the confidences of its answers.
    """

    tiers: PricedTiers
    slm: RoutingColumns
    llm: RoutingColumns
    oracle: tuple[RoutingColumns, ...]
    no_oracle: Undefined | None
    cells: Mapping[int, ConfidenceColumns]

    @classmethod
    def of(cls, table: BootstrapTable, tiers: PricedTiers, llm: Routing) -> References:
        """Register the SLM, the LLM, the oracle and the verifiers."""
        no_oracle = tiers.why_not_full()
        corners = [] if no_oracle else oracle_routings(tiers)
        names = ("quality", "cost")
        return cls(
            tiers,
            RoutingColumns.of(table, ChainRouting.only(tiers, 0), names),
            RoutingColumns.of(table, llm, names),
            tuple(RoutingColumns.of(table, r, (*names, "final 0")) for r in corners),
            no_oracle,
            {
                tier: ConfidenceColumns.of(table, *_cells(tiers, tier))
                for tier in range(tiers.last + 1)
                if tiers.judged[:, tier].any()
            },
        )

    def ends(self) -> EndPoints:
        """Quality and cost of the SLM and of the LLM."""
        slm, llm = self.slm, self.llm
        return EndPoints(
            slm.mean("quality"), slm.mean("cost"), llm.mean("quality"), llm.mean("cost")
        )

    def verifier(self, tier: int) -> tuple[Figure, Figure]:
        """AUROC and calibration error of a tier's confidence."""
        if tier not in self.cells:
            reason = Undefined("no answer of this tier was verified")
            return Figure(reason), Figure(reason)
        columns = self.cells[tier]
        known = columns.cells.codes >= 0
        exact = auroc(self.tiers.confidences[known, tier], columns.right[known].tolist())
        if isinstance(exact, Undefined):
            return Figure(exact), self._error(columns)
        draws = columns.vectors()[0]
        # neighbouring confidences may share a cell: the point stays exact
        return figure(np.clip(draws - draws[0] + exact, 0, 1)), self._error(columns)

    def _error(self, columns: ConfidenceColumns) -> Figure:
        draws = columns.vectors()[1]
        return figure(draws, Undefined("no answer has both a confidence and a score")
                      if np.isnan(draws[0]) else None)  # fmt: skip


def _cells(tiers: PricedTiers, tier: int) -> tuple[ConfidenceCells, BoolArray]:
    confidences, scores = tiers.confidences[:, tier], tiers.scores[:, tier]
    known = np.isfinite(confidences) & np.isfinite(scores)
    return ConfidenceCells.of(confidences, known), scores > CORRECT_ABOVE
