"""What is written of a routed question: every tier's answer, scored by the task's own code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from automix_eval.cascade.failures import FITTED_ON, Failures
from automix_eval.cascade.tier import Tier
from automix_eval.harness.corpus import ROUTED, CorpusMetrics
from automix_eval.harness.task_view import TaskView
from automix_eval.types import CostModel, Question, Record, TierRecord


class Recorder:
    """Makes records, and keeps what metrics of many questions together are computed from.

    Args:
        tiers: The chain, for its names.
        failures: Takes the questions to which the task gives no score.
        corpus: Takes the items of such metrics.
    """

    def __init__(self, tiers: Sequence[Tier], failures: Failures, corpus: CorpusMetrics) -> None:
        self._tiers = tiers
        self._failures = failures
        self._corpus = corpus

    def records(
        self, view: TaskView, questions: Sequence[Question], done: Sequence[Sequence[TierRecord]]
    ) -> list[Record | None]:
        """A record of each question; None for those without a tier's record, which failed."""
        return [
            self._record(view, question, tiers) if tiers else None
            for question, tiers in zip(questions, done, strict=True)
        ]

    def not_fitted_on(self, view: TaskView, questions: Sequence[Question]) -> list[Question]:
        """The questions but those on a document that the router was fitted on, which are noted."""
        for question in questions:
            if view.is_fitted_on(question):
                self._failures.add(question, 0, "answer", FITTED_ON, scored=False)
        return [q for q in questions if not view.is_fitted_on(q)]

    def keeps(self, view: TaskView, row: Record) -> bool:
        """Whether a record enters the figures; if not, that is noted.

        Those do not to which the task gave no score, unless it scores no single question.
        """
        if view.metrics.is_corpus or view.metrics.is_bypassed:
            return True
        return all(t.score is not None for t in row.tiers)

    def _record(self, view: TaskView, question: Question, tiers: Sequence[TierRecord]) -> Record:
        scored = []
        final = [t for t in tiers if t.on_path] or list(tiers)
        for tier in tiers:
            found = view.score(question, tier.answer)
            scored.append(replace(tier, score=found.score, metrics=found.metrics))
            if found.why:
                self._failures.add(question, tier.tier, "answer", found.why, scored=False)
            counts = question.phase == "evaluation" and not question.repeat
            if found.corpus and counts:
                name = self._tiers[tier.tier].name
                self._corpus.add(view.name, name, question.doc_id, found.corpus)
                if tier is final[-1]:
                    self._corpus.add(view.name, ROUTED, question.doc_id, found.corpus)
        prompt = view.prompt_of(question)
        return Record(
            task=question.task,
            doc_id=question.doc_id,
            repeat=question.repeat,
            phase=question.phase,
            final=final[-1].tier,
            tiers=tuple(scored),
            prompt_hash=hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest(),
            document=view.document_id(question),
            question=question.question,
            references=view.references(question),
        )


def routing(row: Record, cost: CostModel, tiers: Sequence[Tier]) -> dict[str, Any]:
    """What an answer tells the task's ``process_results`` of the way it came."""
    path = [t for t in row.tiers if t.on_path]
    first = path[0]
    costs = [cost.answer_cost(t.answer) for t in path]
    costs += [cost.verification_cost(t.verification) for t in path if t.verification]
    decision = path[-1].decision
    said = "abstained at " if decision and decision.abstains else ""
    return {
        "decision": f"{said}tier {row.final} ({tiers[row.final].name})",
        "confidence": first.verification.confidence if first.verification else None,
        "cost": sum(costs),
        "escalation": float(row.final > 0),
    }
