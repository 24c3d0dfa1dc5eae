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
from automix_eval.analysis.figures import Figure
from automix_eval.analysis.play import oracle_routings, why_not_full
from automix_eval.analysis.question_sets import QuestionSet
from automix_eval.analysis.routed_paths import ChainRouting, GivenRouting
from automix_eval.metrics.calibration import CORRECT_ABOVE, ConfidenceCells, auroc
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.columns import BoolArray


@dataclass(slots=True)
class References:
    """The columns of a question set that all its methods are compared with."""

    questions: QuestionSet
    slm: RoutingColumns
    llm: RoutingColumns
    oracle: tuple[RoutingColumns, ...]
    no_oracle: Undefined | None
    cells: Mapping[int, ConfidenceColumns]

    @classmethod
    def of(cls, table: BootstrapTable, questions: QuestionSet) -> References:
        """Register the SLM, the LLM, the oracle and the verifiers of a question set."""
        no_oracle = why_not_full(questions)
        routings = [] if no_oracle else oracle_routings(questions)
        names = ("quality", "cost")
        llm = GivenRouting(questions.llm.scores, questions.llm.costs, questions.last)
        oracle_names = (*names, "final 0")
        return cls(
            questions,
            RoutingColumns.of(table, ChainRouting.only(questions, 0), names),
            RoutingColumns.of(table, llm, names),
            tuple(RoutingColumns.of(table, t, oracle_names) for t in routings),
            no_oracle,
            {
                tier: ConfidenceColumns.of(table, *_cells(questions, tier))
                for tier in range(questions.rows.num_tiers)
                if questions.rows.judged[:, tier].any()
            },
        )

    def verifier(self, tier: int) -> tuple[Figure, Figure]:
        """AUROC and calibration error of a tier's confidence."""
        if tier not in self.cells:
            reason = Undefined("no answer of this tier was verified")
            return Figure(reason), Figure(reason)
        columns = self.cells[tier]
        known = columns.cells.codes >= 0
        exact = auroc(self.questions.rows.confidences[known, tier], columns.right[known].tolist())
        if isinstance(exact, Undefined):
            return Figure(exact), self._error(columns)
        draws = columns.vectors()[0]
        # neighbouring confidences may share a cell: the point stays exact
        return figure(np.clip(draws - draws[0] + exact, 0, 1)), self._error(columns)

    def _error(self, columns: ConfidenceColumns) -> Figure:
        draws = columns.vectors()[1]
        return figure(draws, Undefined("no answer has both a confidence and a score")
                      if np.isnan(draws[0]) else None)  # fmt: skip


def _cells(questions: QuestionSet, tier: int) -> tuple[ConfidenceCells, BoolArray]:
    rows = questions.rows
    known = np.isfinite(rows.confidences[:, tier]) & np.isfinite(rows.scores[:, tier])
    right = rows.scores[:, tier] > CORRECT_ABOVE
    return ConfidenceCells.of(rows.confidences[:, tier], known), right
