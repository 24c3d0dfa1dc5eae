"""A method beside the LLM, question by question: what it keeps, what so many could have shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from automix_eval.analysis.bootstrap_table import BootstrapTable, RoutingColumns, Vector
from automix_eval.analysis.curve_figures import EndPoints, lift
from automix_eval.analysis.figures import Detectable, Figure
from automix_eval.analysis.routed_paths import ChainRouting, GivenRouting, Method, Routing
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.luck import unseen_of_columns
from automix_eval.metrics.noninferiority import PairedScores
from automix_eval.metrics.power import Pilot
from automix_eval.records.record_columns import BoolArray, FloatArray, IntArray


def paired_with_llm(method: Method, documents: IntArray) -> PairedScores | Undefined:
    """The scores of a method and of the LLM alone, means over seeds; undefined where one has none.

    Args:
        method: A row of a board.
        documents: (n,) document of each question.
    """
    if method.missing:
        return method.missing
    given = [GivenRouting.llm_of(p.questions) for p in method.parts if p.questions]
    if len(given) < len(method.parts):
        return Undefined("a run of one model alone: there is no LLM to compare it with")
    return paired_scores([p.routing for p in method.parts], given, documents)


def paired_scores(
    own: Sequence[Routing], llm: Sequence[Routing], documents: IntArray
) -> PairedScores | Undefined:
    """The same of routings, one a seed."""
    reference, scores = (mean_values(each, "quality", len(documents)) for each in (llm, own))
    if isinstance(reference, Undefined):
        return reference
    return (
        scores if isinstance(scores, Undefined) else PairedScores.of(scores, reference, documents)
    )


def mean_values(routings: Sequence[Routing], name: str, number: int) -> FloatArray | Undefined:
    """(n,) a figure of each question, the mean over seeds, or why there is none."""
    if missing := next((m for one in routings if (m := one.missing().get(name))), None):
        return missing
    rows = np.arange(number)
    return np.asarray(np.mean([one.values(name, rows) for one in routings], axis=0))


def pilot_of(method: Method, documents: IntArray) -> Pilot | Undefined:
    """A method beside the SLM and the LLM on the same questions, means over its seeds.

    Args:
        method: A row of a board.
        documents: (n,) document of each question.
    """
    if method.missing:
        return method.missing
    parts = []
    for part in method.parts:
        if part.questions is None:
            return Undefined("a run of one model alone: there is no SLM and no LLM beside it")
        slm, llm = ChainRouting.only(part.questions.tiers, 0), GivenRouting.llm_of(part.questions)
        columns = six_columns(part.routing, slm, llm, len(documents))
        if isinstance(columns, Undefined):
            return columns
        parts.append(columns)
    return Pilot.of(np.mean(parts, axis=0), documents)


def six_columns(method: Routing, slm: Routing, llm: Routing, number: int) -> FloatArray | Undefined:
    """(n, 6) quality and cost of each question: of the method, of the SLM, of the LLM."""
    names = ("quality", "cost")
    routings = (method, slm, llm)
    if reason := next((m for r in routings for n in names if (m := r.missing().get(n))), None):
        return reason
    rows = np.arange(number)
    return np.column_stack([r.values(n, rows) for r in routings for n in names])


_POINT = ("quality", "cost")


@dataclass(frozen=True, slots=True, eq=False)
class ColumnScore:
    """A method by the columns of :func:`six_columns`, registered before the bootstrap.

    Attributes:
        table: Holds them.
        columns: The six, (n,) each, or why one does not exist.
        escalated: (n,) whether a tier above the first answered; None where that is not known.
        points: The method, the SLM and the LLM.
    """

    table: BootstrapTable
    columns: Sequence[FloatArray | Undefined]
    escalated: BoolArray | None
    points: Sequence[RoutingColumns]

    @classmethod
    def of(
        cls,
        table: BootstrapTable,
        columns: Sequence[FloatArray | Undefined],
        escalated: BoolArray | None,
    ) -> ColumnScore:
        """Register the columns."""
        pairs = zip(columns[::2], columns[1::2], strict=True)
        points = [RoutingColumns.of(table, GivenRouting(*pair), _POINT) for pair in pairs]
        return cls(table, columns, escalated, points)

    def mean(self, name: str) -> Vector:
        """``quality`` or ``cost`` of the method."""
        return self.points[0].mean(name)

    def ends(self) -> EndPoints:
        """Quality and cost of the SLM and of the LLM."""
        return EndPoints(*(one.mean(name) for one in self.points[1:] for name in _POINT))

    def delta_ibc(self) -> Vector:
        """Delta IBC, with the luck of few escalations as in a leaderboard's row."""
        quality = self.mean("quality")
        known = [c for c in self.columns if not isinstance(c, Undefined)]
        if self.escalated is not None and len(known) == len(self.columns):
            luck = unseen_of_columns(np.column_stack(known), self.escalated)
            quality = self.table.widened(quality, luck)
        return lift(quality, self.mean("cost"), self.ends())


def detectable(pilot: Pilot | Undefined) -> Detectable:
    """The least differences that as many questions find."""
    if isinstance(pilot, Undefined):
        return Detectable(Figure(pilot), Figure(pilot))
    return Detectable(Figure(pilot.detectable_delta_ibc()), Figure(pilot.detectable_loss()))
