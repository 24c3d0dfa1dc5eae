"""What is written of a routed question: every tier's answer, scored by the task's own code."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from automix_eval.cascade.tier import Tier
from automix_eval.harness.task_view import TaskView
from automix_eval.types import CostModel, Question, Record, TierRecord


def records_of(
    view: TaskView, questions: Sequence[Question], done: Sequence[Sequence[TierRecord]]
) -> list[Record | None]:
    """A record of each question; None for those without a tier's record, which failed for good."""
    return [
        record_of(view, question, tiers) if tiers else None
        for question, tiers in zip(questions, done, strict=True)
    ]


def record_of(view: TaskView, question: Question, tiers: Sequence[TierRecord]) -> Record:
    """The record of a question, at least one tier asked, with the score of each answer."""
    scored = []
    for tier in tiers:
        score, metrics = view.score(question, tier.answer)
        scored.append(replace(tier, score=score, metrics=metrics))
    on_path = [t for t in scored if t.on_path]
    prompt = view.prompt_of(question)
    return Record(
        task=question.task,
        doc_id=question.doc_id,
        repeat=question.repeat,
        phase=question.phase,
        final=(on_path or scored)[-1].tier,
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
    return {
        "decision": f"tier {row.final} ({tiers[row.final].name})",
        "confidence": first.verification.confidence if first.verification else None,
        "cost": sum(costs),
        "escalation": float(row.final > 0),
    }
