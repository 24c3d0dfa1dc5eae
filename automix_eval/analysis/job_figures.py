"""The figures of one line a job, from the report on its run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from automix_eval.analysis.figures import Figure, Report, TaskReport
from automix_eval.analysis.gather import ReportAndRuns
from automix_eval.metrics.ibc import Undefined


def figures_of(report: Report) -> list[dict[str, Any]]:
    """One mapping a task; a figure without a value is None, with the reason as ``undefined``."""
    return [_of_task(task) for task in report.tasks]


def call_totals(assembled: ReportAndRuns) -> tuple[int, int]:
    """Model calls made and taken from the store by the runs of a report, calibration included."""
    rows = [row for task in assembled.report.tasks for row in task.figures.calls]
    made = sum(row.made + row.calibration_made for row in rows)
    return made, sum(row.stored + row.calibration_stored for row in rows)


def mean_figure(figures: Sequence[Mapping[str, Any]], calls_made: int, name: str) -> float | None:
    """A figure's mean over the tasks; None where it has no value for one of them."""
    if name == "calls_made":
        return float(calls_made)
    values = [found.get(name) for found in figures]
    known = [float(v) for v in values if v is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def _of_task(task: TaskReport) -> dict[str, Any]:
    figures, method = task.figures, task.figures.method
    low, high = figures.delta_ibc.ends or (None, None)
    verifier = figures.verifiers[0].auroc if figures.verifiers else None
    reasons = [f.reason for f in (figures.delta_ibc.value, method.ibc) if isinstance(f, Undefined)]
    return {
        "task": task.task,
        "quality": _value(method.quality),
        "cost": _value(method.cost),
        "escalation_rate": _value(method.escalation_rate),
        "ibc": None if isinstance(method.ibc, Undefined) else method.ibc,
        "delta_ibc": _value(figures.delta_ibc),
        "delta_ibc_low": low,
        "delta_ibc_high": high,
        "slm_quality": _value(figures.slm.quality),
        "llm_quality": _value(figures.llm.quality),
        "auroc": None if verifier is None else _value(verifier),
        "questions": figures.num_questions,
        **({"undefined": reasons[0]} if reasons else {}),
    }


def _value(figure: Figure) -> float | None:
    return None if isinstance(figure.value, Undefined) else float(figure.value)
