"""What one may choose between, a table a task with its verdict: the first part of a report."""

from __future__ import annotations

from collections import Counter

from automix_eval.analysis.figures import Report, TaskReport
from automix_eval.analysis.point_figures import OperatingPoint, OperatingPoints
from automix_eval.metrics.noninferiority import MIN_DOCUMENTS
from automix_eval.report.aim_lines import abstention_words, aim_words, detectable_words, kept_words
from automix_eval.report.blocks import (
    Block,
    Heading,
    Paragraph,
    Reasons,
    Table,
    known_text,
    value_text,
)
from automix_eval.report.legend import SAMPLE_NOTE
from automix_eval.safety.text import printable

# Below this few differences can be shown at all.
FEW_DOCUMENTS = 30

LABELS = {
    "slm": "SLM",
    "live": "Live policy",
    "gain": "Largest gain",
    "keeps_95": "Keeps 95% of LLM",
    "keeps_99": "Keeps 99% of LLM",
    "llm": "LLM",
}


_HOW_TO_READ = (
    "What you can choose between, task by task: quality with its 95% interval, mean cost of a "
    "question, share of the LLM's cost that is saved, share of the questions escalated above the "
    "SLM, delta IBC (quality per cost against always asking the LLM), and whether the data show "
    "it: a gain over a random choice of the same cost, or the share of quality that is kept."
)


def points_blocks(report: Report) -> list[Block]:
    """The operating points of every task: verdict, table, and what is not shown."""
    tasks = {(t.run_id, t.task): t for t in report.tasks}
    blocks: list[Block] = [Paragraph(_HOW_TO_READ)] if report.operating_points else []
    runs = Counter(one.task for one in report.operating_points)
    for one in report.operating_points:
        task = tasks.get((one.run_id, one.task))
        label = task.label if task else ""
        named = f", {run_words(one.run_id, label)}" if runs[one.task] > 1 else ""
        blocks += task_points(one, task, named)
    return blocks


def run_words(run_id: str, label: str) -> str:
    """A run by its id, and by its label where it has one."""
    return f"run {run_id}" + (f" ({printable(label, 200)})" if label else "")


def task_points(one: OperatingPoints, task: TaskReport | None = None, run: str = "") -> list[Block]:
    """The operating points of one task, and what else is said of the run that made them.

    Args:
        one: The points.
        task: The run's part of the report.
        run: What the title names beside the task, where several runs did it.
    """
    reasons = Reasons()
    title = f"Task {one.task}" + (f" ({SAMPLE_NOTE})" if one.sample else "") + run
    entries, scored = labelled(one), Paragraph(scored_words(one))
    header = ("", "Quality", "Cost", "Saved", "Esc.", "delta IBC", "Shown")
    blocks: list[Block] = [
        Heading(title, 2),
        Paragraph(one.verdict.words),
        Table(header, tuple(_row(*entry, reasons) for entry in entries)),
        scored,
    ]
    if task and task.aim and task.aim.of is not None:
        blocks.append(Paragraph(aim_words(task.aim, lambda u: u.reason)))
    if task and task.abstention:
        blocks.append(Paragraph(abstention_words(task.abstention)))
    live = next((p for p in one.points if p.name == "live"), None)
    if live and one.num_documents >= MIN_DOCUMENTS:
        who = "The live policy" if one.run_id else "This policy"
        blocks.append(Paragraph(kept_words(live.kept, who)))
    if task and one.num_documents >= MIN_DOCUMENTS:
        blocks.append(Paragraph(detectable_words(task.detectable, lambda u: u.reason)))
    blocks += [*(Paragraph(n) for n in one.notes), *reasons.blocks()]
    if MIN_DOCUMENTS <= one.num_documents < FEW_DOCUMENTS:
        blocks.append(
            Paragraph(
                f"Only {one.size}: the intervals are rough; ask more before believing a difference."
            )
        )
    return blocks


def labelled(one: OperatingPoints) -> list[tuple[str, OperatingPoint]]:
    """The points with their labels; where the live policy has the largest gain, one of both."""
    live = LABELS["live"] if one.run_id else "This policy"
    same = {p.name for p in one.points if p.name == "gain" and p.same_as == "live"}
    found = []
    for point in one.points:
        label = live if point.name == "live" else LABELS[point.name]
        if same and point.name == "live":
            label += ": largest gain"
        label += "*" * point.from_calibration
        if point.name not in same:
            found.append((label, point))
    return found


def scored_words(one: OperatingPoints) -> str:
    """On how many questions, by which router, fitted on what; what the costs are."""
    about = f"{one.size}; metric: {one.metric}; tiers: {' -> '.join(one.tiers)}; cost: {one.cost}."
    if not one.router:
        return about
    mark = "*: policies" if any(p.from_calibration for p in one.points) else "Policies"
    return f"{about} {mark} of {one.router}, fitted {one.fitted}."


def _row(label: str, point: OperatingPoint, reasons: Reasons) -> tuple[str, ...]:
    shown = "-" if point.shown is None else "shown"
    if point.shown is False:
        shown = f"not shown {reasons.note(point.why)}"
    return (
        label,
        value_text(point.quality, ".4f", reasons),
        reasons.show(point.cost.value, ".4g", ""),
        reasons.show(point.saved.value, ".0%", ""),
        reasons.show(point.escalation_rate.value, ".0%", ""),
        _delta(point),
        shown,
    )


def _delta(point: OperatingPoint) -> str:
    figure = point.own_delta_ibc
    return "-" if figure is None else known_text(figure, "+.0%")
