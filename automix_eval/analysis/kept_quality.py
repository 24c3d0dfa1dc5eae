"""The scores of a method beside those of the LLM, question by question."""

from __future__ import annotations

from collections.abc import Sequence

from automix_eval.analysis.routed_paths import GivenRouting, Method, Routing, mean_values
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.noninferiority import PairedScores
from automix_eval.records.record_columns import IntArray


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
