"""A run in the shared schema Every Eval Ever (arXiv 2606.14516): instances, and their aggregate.

Source: the project's eval.schema.json and instance_level_eval.schema.json, version 0.3.0 (read in
November 2026). Each model of the chain is an evaluation of its own, on the questions that it was
asked, and so is the cascade, whose tokens are those of its whole path.
"""

from __future__ import annotations

import hashlib
import json
import statistics
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automix_eval.metrics.calibration import right_above
from automix_eval.safety.files import safe_name
from automix_eval.types import Call, Record, TierRecord

SCHEMA_VERSION = "0.3.0"


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What one model did on one task.

    Attributes:
        task: Its name.
        model: The model's, or the cascade's.
        id: Of the evaluation.
        lines: JSON of each scored answer of the evaluation.
        scores: The score of each.
    """

    task: str
    model: str
    id: str
    lines: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)

    @property
    def instances(self) -> str:
        """The text of the file of instances."""
        return "\n".join(self.lines) + "\n"

    @property
    def path(self) -> str:
        """Where the schema has the files, without ``_samples.jsonl`` or ``.json``."""
        developer, _, name = self.model.rpartition("/")
        digest = hashlib.sha256(self.id.encode("utf-8", "replace")).digest()
        place = map(safe_name, (self.task, developer or "unknown", name))
        return "/".join(["data", *place, str(uuid.UUID(bytes=digest[:16], version=4))])

    def aggregate(self, manifest: Mapping[str, Any], written: Path, now: float) -> dict[str, Any]:
        """The JSON that stands beside the instances.

        Args:
            manifest: Of the run.
            written: The file of instances.
            now: Seconds since 1970.
        """
        about = manifest.get("tasks", {}).get(self.task, {})
        binary = set(self.scores) <= {0.0, 1.0}
        low, high = min(0.0, *self.scores), max(1.0, *self.scores)
        metric = str(about.get("metric") or "score")
        config: dict[str, Any] = {
            "evaluation_description": f"{metric}, higher is better",
            "lower_is_better": False,
            "score_type": "binary" if binary else "continuous",
        }
        if not binary:
            config |= {"min_score": low, "max_score": high}
        if (low, high) != (0.0, 1.0):
            config["additional_details"] = {"bounds": "of the scores seen"}
        result = {
            "evaluation_name": self.task,
            "source_data": {"dataset_name": self.task, "source_type": "other"},
            "metric_config": config,
            "score_details": {
                "score": statistics.fmean(self.scores),
                "uncertainty": {
                    "standard_deviation": statistics.pstdev(self.scores),
                    "num_samples": len(self.scores),
                },
            },
        }
        return {
            "schema_version": SCHEMA_VERSION,
            "evaluation_id": self.id,
            "evaluation_timestamp": str(manifest.get("created")),
            "retrieved_timestamp": str(now),
            "source_metadata": {
                "source_type": "evaluation_run",
                "source_organization_name": "unknown",
                "evaluator_relationship": "other",
            },
            "eval_library": {
                "name": "automix-eval",
                "version": str(manifest.get("automix_eval_version") or "unknown"),
            },
            "model_info": {
                "name": self.model,
                "id": self.model,
                "additional_details": {
                    "deployment_type": "unknown",
                    "model_availability": "unknown",
                },
            },
            "evaluation_results": [result],
            "detailed_evaluation_results": {
                "format": "jsonl",
                "file_path": f"{self.path}_samples.jsonl",
                "hash_algorithm": "sha256",
                "checksum": hashlib.sha256(written.read_bytes()).hexdigest(),
                "total_rows": len(self.lines),
            },
        }


def evaluations(records: Iterable[Record], manifest: Mapping[str, Any]) -> list[Evaluation]:
    """Every model's scored answers of the evaluation, and the cascade's, task by task.

    Args:
        records: Of one run; those of the calibration are passed over.
        manifest: Of the run; models of equal labels are told apart by their tier.
    """
    labels = [str(t.get("label") or t.get("name")) for t in manifest.get("tiers", [])]
    models = [n if labels.count(n) == 1 else f"{n} (tier {t})" for t, n in enumerate(labels)]
    cascade = f"automix/{manifest.get('model_label') or manifest.get('run_id')}"
    found: dict[str, Evaluation] = {}
    rows = [r for r in records if r.phase == "evaluation"]
    scores: dict[str, list[float]] = {}
    for record in rows:
        known = (t.score for t in record.tiers if t.score is not None)
        scores.setdefault(record.task, []).extend(known)
    bounds = {task: right_above(held) for task, held in scores.items()}
    for record in rows:
        for tier, model, calls in _answers(record, models, cascade):
            if tier.score is None:
                continue
            name = f"{record.task}/{model}/{manifest.get('run_id')}"
            one = found.setdefault(name, Evaluation(record.task, model, name))
            one.lines.append(_line(record, tier, one, calls, bounds[record.task]))
            one.scores.append(tier.score)
    return list(found.values())


def _answers(
    record: Record, models: Sequence[str], cascade: str
) -> Iterator[tuple[TierRecord, str, Sequence[Call]]]:
    for tier in record.tiers:
        yield tier, models[tier.tier], tier.answer.calls
    final = record.tier(record.final)
    assert final is not None  # records are checked where they are read
    path = [t for t in record.tiers if t.on_path or t.tier == record.final]
    yield final, cascade, [c for t in path for c in (*t.answer.calls, *_verifying(t))]


def _verifying(tier: TierRecord) -> Sequence[Call]:
    return tier.verification.calls if tier.verification else ()


def _line(
    record: Record, tier: TierRecord, evaluation: Evaluation, calls: Sequence[Call], bound: float
) -> str:
    assert tier.score is not None
    answer = tier.answer
    known = record.question + "".join(record.references)
    value: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "evaluation_id": evaluation.id,
        "model_id": evaluation.model,
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
        "evaluation": {"score": tier.score, "is_correct": tier.score > bound},
        "metadata": _metadata(record, tier),
    }
    if usage := _usage(calls):
        value["token_usage"] = usage
    return json.dumps(value, allow_nan=False)


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
