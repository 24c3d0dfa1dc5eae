"""A run in the shared schema Every Eval Ever (arXiv 2606.14516), instance by instance.

Source: the project's instance_level_eval.schema.json, version 0.2.1 (read in November 2026). Each
model of the chain is an evaluation of its own, on the questions that it was asked, and so is the
cascade, whose tokens are those of its whole path. The aggregate file that the project keeps beside
instances is not written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from automix_eval.metrics.calibration import is_correct
from automix_eval.types import Call, Record, TierRecord

SCHEMA_VERSION = "0.2.1"


def instances(
    records: Iterable[Record], models: Sequence[str], cascade: str, run_id: str
) -> Iterator[tuple[str, str, str]]:
    """(task, model, line of JSON) of every scored answer of the evaluation.

    Args:
        records: Of one run; those of the calibration are passed over.
        models: Name of each tier.
        cascade: Name of the cascade as a model.
        run_id: The run.
    """
    for record in records:
        if record.phase != "evaluation":
            continue
        path = [t for t in record.tiers if t.on_path or t.tier == record.final]
        for tier in record.tiers:
            calls = tier.answer.calls
            yield from _line(record, tier, models[tier.tier], run_id, calls)
        final = record.tier(record.final)
        assert final is not None  # records are checked where they are read
        spent = [c for t in path for c in (*t.answer.calls, *_verifying(t))]
        yield from _line(record, final, cascade, run_id, spent)


def _verifying(tier: TierRecord) -> Sequence[Call]:
    return tier.verification.calls if tier.verification else ()


def _line(
    record: Record, tier: TierRecord, model: str, run_id: str, calls: Sequence[Call]
) -> Iterator[tuple[str, str, str]]:
    if tier.score is None:
        return
    answer = tier.answer
    known = record.question + "".join(record.references)
    value: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": f"{record.task}/{model}/{run_id}",
        "model_id": model,
        "evaluation_name": record.task,
        "sample_id": str(record.doc_id),
        "sample_hash": hashlib.sha256(known.encode("utf-8", "replace")).hexdigest(),
        "interaction_type": "single_turn",
        "input": {"raw": record.question, "reference": list(record.references)},
        "output": {"raw": list(answer.repeats or (answer.text,))},
        "answer_attribution": [
            {
                "turn_idx": 0,
                "source": "output.raw",
                "extracted_value": answer.text,
                "extraction_method": "custom",
                "is_terminal": True,
            }
        ],
        "evaluation": {"score": tier.score, "is_correct": is_correct(tier.score)},
        "metadata": _metadata(record, tier),
    }
    if usage := _usage(calls):
        value["token_usage"] = usage
    yield record.task, model, json.dumps(value, allow_nan=False)


def _usage(calls: Sequence[Call]) -> dict[str, int] | None:
    """Tokens of all calls together; None where one was not counted."""
    read = [c.prompt_tokens for c in calls]
    made = [c.generated_tokens for c in calls]
    if not calls or None in read or None in made:
        return None
    both = sum(n or 0 for n in read), sum(n or 0 for n in made)
    cached = sum(c.cached_tokens or 0 for c in calls)
    held = {"input_tokens": both[0], "output_tokens": both[1], "total_tokens": sum(both)}
    return held | ({"input_tokens_cache_read": cached} if cached else {})


def _metadata(record: Record, tier: TierRecord) -> dict[str, str]:
    """What the schema has no place for; its values must be texts."""
    judged = tier.verification
    found = {"tier": str(tier.tier), "routed": str(tier.on_path).lower()}
    if record.document:
        found["document"] = record.document
    if judged is not None and judged.confidence is not None:
        found["confidence"] = repr(judged.confidence)
    return found
