"""Per-task figures from records and prices: pure functions, no files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from automix_eval.metrics import intervals
from automix_eval.metrics.ibc import Undefined, delta_ibc, ibc
from automix_eval.report.diagnostics import (
    CallRow,
    Truncation,
    VerifierFigures,
    call_rows,
    truncations,
    verifier_figures,
)
from automix_eval.report.load import CallCount
from automix_eval.report.sources import LLMPoint, answer_costs
from automix_eval.report.text import plain
from automix_eval.types import AutoMixError, CostModel, Record, TierRecord

Values = tuple[float, ...] | Undefined


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its 95 % interval; either may be undefined, the interval also absent."""

    value: float | Undefined
    interval: intervals.Interval | None = None


@dataclass(frozen=True, slots=True)
class System:
    """One way of answering a task's questions.

    Attributes:
        quality: Mean score.
        cost: Mean cost per question, in the cost model's unit.
        escalation_rate: Share of questions answered by a tier above the first.
        ibc: Gain over the SLM per extra cost; None for the SLM itself.
    """

    quality: Figure
    cost: Figure
    escalation_rate: Figure
    ibc: float | Undefined | None = None


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """Everything the report says about one task of one run."""

    num_questions: int
    num_documents: int
    slm: System
    llm: System
    method: System
    delta_ibc: Figure
    final_tiers: tuple[int, ...]
    llm_answers_recorded: int
    calls: tuple[CallRow, ...]
    verifiers: tuple[VerifierFigures, ...]
    truncations: tuple[Truncation, ...]


def summarise(
    records: Sequence[Record],
    cost: CostModel,
    num_tiers: int,
    llm: LLMPoint,
    calls: Sequence[CallCount] = (),
    seed: int = 0,
) -> TaskFigures:
    """Figures of one task.

    Args:
        records: Its evaluation records, at least one.
        cost: Prices of calls.
        num_tiers: Length of the chain.
        llm: The LLM-only point, in the order of ``records``.
        calls: The manifest's counts for this task.
        seed: Seed of the bootstrap.

    Raises:
        ValueError: There are no records.
    """
    if not records:
        raise ValueError("a task without records has no figures")
    documents = [r.document or (r.doc_id,) for r in records]
    first = [r.tier(0) for r in records]
    final = [r.tier(r.final) for r in records]
    escalated = tuple(float(r.final > 0) for r in records)
    columns: dict[str, Values] = {
        "slm_quality": _scores(first, "the SLM"),
        "slm_cost": _slm_costs(first, cost),
        "llm_quality": llm.scores,
        "llm_cost": llm.costs,
        "quality": _scores(final, "the run"),
        "cost": _priced(lambda: tuple(path_cost(r, cost) for r in records)),
        "escalation_rate": escalated,
    }
    known = {k: v for k, v in columns.items() if not isinstance(v, Undefined)}
    ends = intervals.paired_intervals(known, documents, seed=seed)
    mean = {k: v if isinstance(v, Undefined) else float(np.mean(v)) for k, v in columns.items()}
    figure = {k: Figure(mean[k], ends.get(k)) for k in columns}
    six = [mean[name] for name in intervals.DELTA_IBC_COLUMNS]
    point, base = six[:4], six[4:] + six[2:4]
    lift = _apply(delta_ibc, six)
    return TaskFigures(
        num_questions=len(records),
        num_documents=len(set(documents)),
        slm=System(figure["slm_quality"], figure["slm_cost"], Figure(0.0)),
        llm=System(figure["llm_quality"], figure["llm_cost"], Figure(1.0), _apply(ibc, base)),
        method=System(
            figure["quality"], figure["cost"], figure["escalation_rate"], _apply(ibc, point)
        ),
        delta_ibc=Figure(lift, None if isinstance(lift, Undefined) else ends["delta_ibc"]),
        final_tiers=tuple(sum(r.final == t for r in records) for t in range(num_tiers)),
        llm_answers_recorded=sum(r.tier(num_tiers - 1) is not None for r in records),
        calls=call_rows(records, calls, num_tiers),
        verifiers=verifier_figures(records, num_tiers),
        truncations=truncations(records, num_tiers),
    )


def path_cost(record: Record, cost: CostModel) -> float:
    """Cost of the calls on the routed path of one question, verifications included.

    Raises:
        AutoMixError: A call has no price.
    """
    return sum(
        cost.answer_cost(t.answer)
        + (cost.verification_cost(t.verification) if t.verification else 0.0)
        for t in record.tiers
        if t.on_path
    )


def _scores(tiers: Sequence[TierRecord | None], who: str) -> Values:
    asked = [t for t in tiers if t is not None]
    if len(asked) < len(tiers):
        return Undefined(
            f"{who} was not asked {len(tiers) - len(asked)} of {len(tiers)} questions in this run"
        )
    scores = tuple(t.score for t in asked if t.score is not None)
    if len(scores) < len(tiers):
        return Undefined(f"the task gave no score to {len(tiers) - len(scores)} answers of {who}")
    return scores


def _slm_costs(first: Sequence[TierRecord | None], cost: CostModel) -> Values:
    answers = [t.answer for t in first if t is not None]
    if len(answers) < len(first):
        return Undefined(
            f"the SLM was not asked {len(first) - len(answers)} of {len(first)} questions in this "
            "run"
        )
    return answer_costs(answers, cost)


def _priced(price: Callable[[], tuple[float, ...]]) -> Values:
    try:
        return price()
    except AutoMixError as err:
        return Undefined(plain(err))


def _apply(function: Callable[..., float | Undefined], values: Sequence[float | Undefined]) -> (
    float | Undefined
):  # fmt: skip
    """The function's value, or the reason of its first undefined argument."""
    missing = next((v for v in values if isinstance(v, Undefined)), None)
    return function(*values) if missing is None else missing
