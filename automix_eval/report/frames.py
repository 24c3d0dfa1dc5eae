"""A report, its runs and their records as pandas frames; the numbers are those of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd  # type: ignore[import-untyped]

from automix_eval.analysis.figures import Report
from automix_eval.analysis.question_sets import LLMPoint, QuestionSet
from automix_eval.analysis.routed_paths import ChainRouting
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import Outcomes
from automix_eval.records.record_columns import OUTCOMES
from automix_eval.records.repricing import Prices
from automix_eval.records.runs import Run
from automix_eval.report.formats import method_rows, point_rows

_NO_LLM = Undefined("it is not looked for")


def methods(report: Report) -> pd.DataFrame:
    """A row a leaderboard and method, with the columns of ``report.csv``; NaN where undefined."""
    return _table(method_rows(report))


def points(report: Report) -> pd.DataFrame:
    """A row an operating point, as ``report.csv`` has them; NaN where undefined."""
    return _table(point_rows(report))


def curves(report: Report) -> pd.DataFrame:
    """A row a policy in the range of a method: cost, quality, escalation rate, parameter."""
    return pd.DataFrame(
        {"leaderboard": board.key, "method": method.name, **asdict(point)}
        for board in report.boards
        for method in board.methods
        for point in method.curve
    )


def questions(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a question of a run: who answered it in the end, its score, what its path cost."""
    return _joined(_questions(held) for held in _sets(runs))


def tiers(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a question and tier that was asked: score, confidence, costs, tokens, seconds."""
    return _joined(_tier(held, tier) for held in _sets(runs) for tier in range(held.last + 1))


def texts(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a question and tier that was asked: question, references, answer; untrusted texts.

    They are read from the records file when this is called.

    Raises:
        RecordError: The file is gone, or was changed since the runs were read.
    """
    return pd.DataFrame(
        {
            "run": run.run_id, "task": task, "doc_id": record.doc_id, "repeat": record.repeat,
            "tier": tier.tier, "model": run.tiers[tier.tier].label,
            "final": tier.tier == record.final,
            "question": record.question, "references": record.references,
            "answer": tier.answer.text,
        }
        for run in runs
        for task, rows in run.records.items()
        for record in rows.read(range(len(rows)))
        for tier in record.tiers
    )  # fmt: skip


def chain_questions(outcomes: Outcomes) -> pd.DataFrame:
    """A row a question of a chain: its identity, document and text, as far as they are known."""
    columns: dict[str, Any] = {"id": outcomes.ids}
    columns |= {} if outcomes.documents is None else {"document": outcomes.documents}
    columns |= {} if outcomes.questions is None else {"question": outcomes.questions}
    return pd.DataFrame(columns)


def chain_tiers(outcomes: Outcomes) -> pd.DataFrame:
    """A row a question and tier of a chain: score, confidence, costs, and the answer if known."""
    return _joined(
        {
            "id": outcomes.ids,
            "tier": tier,
            "model": name,
            "score": outcomes.scores[:, tier],
            "confidence": outcomes.confidences[:, tier],
            "answer_cost": outcomes.answer_costs[:, tier],
            "verification_cost": outcomes.verification_costs[:, tier],
            **({} if outcomes.answers is None else {"answer": outcomes.answers[tier]}),
            **{f"signal_{s}": table[:, tier] for s, table in outcomes.signals.items()},
        }
        for tier, name in enumerate(outcomes.names)
    )


def _table(rows: Sequence[Mapping[str, object]]) -> pd.DataFrame:
    return pd.DataFrame({k: np.nan if v is None else v for k, v in row.items()} for row in rows)


def _sets(runs: Sequence[Run]) -> Iterator[QuestionSet]:
    for run in runs:
        for task in run.records:
            yield QuestionSet.of(run, task, LLMPoint(_NO_LLM, _NO_LLM))


def _identity(held: QuestionSet) -> dict[str, Any]:
    rows = held.rows
    return {
        "run": held.run.run_id,
        "label": held.run.label,
        "task": held.task,
        "doc_id": rows.doc_ids,
        "repeat": rows.repeats,
    }


def _questions(held: QuestionSet) -> dict[str, Any]:
    rows, path = held.rows, ChainRouting.live(held)
    every, lacking = np.arange(len(rows)), path.missing()
    return _identity(held) | {
        "document": rows.documents,
        "final": rows.final,
        "escalated": rows.final > 0,
        "abstained": rows.abstained,
        "score": rows.scores[every, rows.final],
        "cost": np.nan if "cost" in lacking else path.values("cost", every),
    }


def _tier(held: QuestionSet, tier: int) -> dict[str, Any]:
    rows = held.rows
    asked = rows.asked[:, tier]
    names = np.array([*OUTCOMES, ""], dtype=object)  # -1: the answer was not verified
    columns = _identity(held) | {
        "tier": tier,
        "model": held.run.tiers[tier].label,
        "on_path": rows.on_path[:, tier],
        "score": rows.scores[:, tier],
        "confidence": rows.confidences[:, tier],
        "outcome": names[rows.outcomes[:, tier]],
        "answer_cost": _costs(held.priced.answers[tier]),
        "verification_cost": _costs(held.priced.verifications[tier]),
        "prompt_tokens": rows.answers.prompt_tokens[:, tier],
        "generated_tokens": rows.answers.generated_tokens[:, tier],
        "seconds": rows.answers.seconds[:, tier],
        "verification_seconds": rows.verifications.seconds[:, tier],
        "latency": rows.answers.latency[:, tier],
        "verification_latency": rows.verifications.latency[:, tier],
        **{f"signal_{name}": table[:, tier] for name, table in rows.signals.items()},
    }
    return {k: v[asked] if isinstance(v, np.ndarray) else v for k, v in columns.items()}


def _costs(prices: Prices) -> Any:
    return np.nan if isinstance(prices, Undefined) else prices


def _joined(parts: Iterator[Mapping[str, Any]]) -> pd.DataFrame:
    frames = [pd.DataFrame(part) for part in parts]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
