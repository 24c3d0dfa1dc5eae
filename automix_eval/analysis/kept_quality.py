"""The scores of a method beside those of the LLM, question by question."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from automix_eval.analysis.routed_paths import GivenRouting, Method, Routing
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
    llms = [p.questions.llm for p in method.parts if p.questions]
    if len(llms) < len(method.parts):
        return Undefined("a run of one model alone: there is no LLM to compare it with")
    given = [GivenRouting(llm.scores, llm.costs) for llm in llms]
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
