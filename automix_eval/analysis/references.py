"""What all methods of a run are compared with: the SLM, the LLM, the oracle, and its verifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from automix_eval.analysis.bootstrap_table import CellColumns, LaneColumns, Ledger, figure
from automix_eval.analysis.figures import Figure
from automix_eval.analysis.play import oracle_tracks, why_not_full
from automix_eval.analysis.routed_paths import Fixed, Sheet, Track
from automix_eval.metrics.auroc import CORRECT_ABOVE, auroc
from automix_eval.metrics.calibration import Cells
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.columns import BoolArray


@dataclass(slots=True)
class Ends:
    """The columns of a sheet that all its methods are compared with."""

    sheet: Sheet
    slm: LaneColumns
    llm: LaneColumns
    oracle: tuple[LaneColumns, ...]
    no_oracle: Undefined | None
    cells: Mapping[int, CellColumns]

    @classmethod
    def of(cls, ledger: Ledger, sheet: Sheet) -> Ends:
        """Register the SLM, the LLM, the oracle and the verifiers of a sheet."""
        no_oracle = why_not_full(sheet)
        tracks = [] if no_oracle else oracle_tracks(sheet)
        names = ("quality", "cost")
        llm = Fixed(sheet.llm.scores, sheet.llm.costs, sheet.last)
        oracle_names = (*names, "final 0")
        return cls(
            sheet,
            LaneColumns.of(ledger, Track.only(sheet, 0), names),
            LaneColumns.of(ledger, llm, names),
            tuple(LaneColumns.of(ledger, t, oracle_names) for t in tracks),
            no_oracle,
            {
                tier: CellColumns.of(ledger, *_cells(sheet, tier))
                for tier in range(sheet.rows.num_tiers)
                if sheet.rows.judged[:, tier].any()
            },
        )

    def verifier(self, tier: int) -> tuple[Figure, Figure]:
        """AUROC and calibration error of a tier's confidence."""
        if tier not in self.cells:
            reason = Undefined("no answer of this tier was verified")
            return Figure(reason), Figure(reason)
        columns = self.cells[tier]
        known = columns.cells.codes >= 0
        exact = auroc(self.sheet.rows.confidences[known, tier], columns.right[known].tolist())
        if isinstance(exact, Undefined):
            return Figure(exact), self._error(columns)
        draws = columns.vectors()[0]
        # neighbouring confidences may share a cell: the point stays exact
        return figure(np.clip(draws - draws[0] + exact, 0, 1)), self._error(columns)

    def _error(self, columns: CellColumns) -> Figure:
        draws = columns.vectors()[1]
        return figure(draws, Undefined("no answer has both a confidence and a score")
                      if np.isnan(draws[0]) else None)  # fmt: skip


def _cells(sheet: Sheet, tier: int) -> tuple[Cells, BoolArray]:
    rows = sheet.rows
    known = np.isfinite(rows.confidences[:, tier]) & np.isfinite(rows.scores[:, tier])
    return Cells.of(rows.confidences[:, tier], known), rows.scores[:, tier] > CORRECT_ABOVE
