"""What a method's questions could have shown: the least differences they find."""

from __future__ import annotations

import numpy as np

from automix_eval.analysis.figures import Detectable, Figure
from automix_eval.analysis.routed_paths import ChainRouting, GivenRouting, Method, Routing
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.power import Pilot
from automix_eval.records.record_columns import FloatArray, IntArray


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
        llm, tiers = part.questions.llm, part.questions.tiers
        slm, last = ChainRouting.only(tiers, 0), GivenRouting(llm.scores, llm.costs)
        columns = six_columns(part.routing, slm, last, len(documents))
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


def detectable(pilot: Pilot | Undefined) -> Detectable:
    """The least differences that as many questions find."""
    if isinstance(pilot, Undefined):
        return Detectable(Figure(pilot), Figure(pilot))
    return Detectable(Figure(pilot.detectable_delta_ibc()), Figure(pilot.detectable_loss()))
