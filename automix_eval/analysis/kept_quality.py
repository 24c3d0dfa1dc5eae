"""The scores of a method beside those of the LLM, question by question."""

from __future__ import annotations

import numpy as np

from automix_eval.analysis.routed_paths import GivenRouting, Method
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.noninferiority import PairedScores
from automix_eval.records.record_columns import FloatArray, IntArray


def paired_with_llm(method: Method, documents: IntArray) -> PairedScores | Undefined:
    """The scores of a method and of the LLM alone, means over seeds; undefined where one has none.

    Args:
        method: A row of a board.
        documents: (n,) document of each question.
    """
    if method.missing:
        return method.missing
    rows = np.arange(len(documents))
    both: tuple[list[FloatArray], list[FloatArray]] = ([], [])
    for part in method.parts:
        if part.questions is None:
            return Undefined("a run of one model alone: there is no LLM to compare it with")
        llm = part.questions.llm
        routings = (GivenRouting(llm.scores, llm.costs), part.routing)
        for scores, routing in zip(both, routings, strict=True):
            if reason := routing.missing().get("quality"):
                return reason
            scores.append(routing.values("quality", rows))
    reference, own = (np.mean(scores, axis=0) for scores in both)
    return PairedScores.of(own, reference, documents)
