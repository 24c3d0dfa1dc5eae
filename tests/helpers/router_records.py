"""Records and observations for the tests of meta-verifiers, built from bare numbers."""

from __future__ import annotations

from collections.abc import Sequence

from automix_eval.costs.paper import PaperCost
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.records.outcomes import Outcomes
from automix_eval.types import (
    Answer,
    Call,
    Observation,
    Prompt,
    Question,
    Record,
    TierRecord,
    Verification,
)

PAPER = PaperCost(tiers=(1.0, 50.0), verifier=1.0)


def call(tier: int, role: str) -> Call:
    """One call; the paper's prices need no counts."""
    return Call(tier, role, 10, 5, 0.1)  # type: ignore[arg-type]


def answer(tier: int) -> Answer:
    """An answer made by one call, with the token probabilities some routers read."""
    return Answer(tier, f"answer {tier}", (call(tier, "answer"),), (), (-0.5, -0.25), (0.25, 0.5))


def record(
    doc_id: int, scores: Sequence[float | None], confidences: Sequence[float | None]
) -> Record:
    """A record with one score a tier, and one confidence a tier but the last."""
    tiers = []
    for tier, score in enumerate(scores):
        verification = None
        if tier < len(scores) - 1:
            value = confidences[tier]
            verification = Verification(
                tier, value, "unparsable" if value is None else "ok", (call(tier, "verify"),)
            )
        tiers.append(TierRecord(tier, answer(tier), score, {}, verification))
    return Record("toy", doc_id, 0, "calibration", 0, tuple(tiers), question=f"question {doc_id}?")


def pair_records(rows: Sequence[tuple[float | None, float | None, float | None]]) -> list[Record]:
    """Two-tier records from (confidence, SLM score, LLM score)."""
    return [record(i, (slm, llm), (v,)) for i, (v, slm, llm) in enumerate(rows)]


def columns(records: Sequence[Record], cost: PaperCost = PAPER) -> Outcomes:
    """What a router is fitted on."""
    return Outcomes.from_records(records, cost)


def relive(router: MetaVerifier, record: Record) -> int:
    """The tier at which the decisions of a live run end a question of a record."""
    question = Question("toy", record.doc_id, Prompt("prompt"), "context", record.question)
    tier, last, confidences = -1, len(record.tiers) - 1, [None] * len(record.tiers)
    while tier < last:
        reached = record.tiers[tier].answer if tier >= 0 else None
        shown = tuple(confidences[: tier + 1])
        seen = Observation(tier, last + 1, shown, question, reached)
        (decision,) = router.decide([seen])
        if decision.to == tier:
            break
        tier = decision.to
        judged = record.tiers[tier].verification
        if judged and router.needs_verification:
            confidences[tier] = judged.confidence
    return tier


def observe(confidence: float | None, tier: int = 0, num_tiers: int = 2) -> Observation:
    """What a meta-verifier sees at a tier: the same confidence at every tier so far."""
    question = Question("toy", 7, Prompt("prompt"), "context", "question 7?")
    return Observation(tier, num_tiers, (confidence,) * (tier + 1), question, answer(tier))


# Confident answers are right, doubtful ones gain from the LLM; one row is better small.
TYPICAL = [
    *[(k / 8, 0.0, 1.0) for k in range(5)],
    *[(k / 8, 0.0, 0.0) for k in range(3)],
    *[(1 - k / 8, 1.0, 1.0) for k in range(4)] * 3,
    (0.75, 1.0, 0.0),
    (None, 0.0, 1.0),
]
GRID = [observe(k / 16) for k in range(17)] + [observe(None)]
