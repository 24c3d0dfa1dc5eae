"""How long questions wait, in words and a table."""

from __future__ import annotations

from collections.abc import Iterator

from automix_eval.analysis.figures import Figure, TaskReport
from automix_eval.metrics.ibc import Undefined
from automix_eval.report.blocks import Block, Paragraph, Reasons, Table

NAMES = {
    "slm": "SLM",
    "verification": "verification",
    "llm": "LLM",
    "path": "the whole path",
}


def latency_blocks(task: TaskReport) -> list[Block]:
    """Median, 95th and 99th percentile of each part; one sentence where none is defined."""
    if not task.latency:
        return []
    reasons = Reasons()
    two = _cell(task.waits_for_two, ".1%", reasons)
    share = Paragraph(f"Questions that wait for two models or more: {two}.")
    if not any(_defined(task)):
        whole = task.latency["path"]["p50"].value
        text = whole.reason if isinstance(whole, Undefined) else ""
        return [share, *reasons.blocks(), Paragraph(f"Latency: undefined: {text}.")]
    rows = tuple(
        (NAMES[part], *(_cell(figure, ".3f", reasons) for figure in found.values()))
        for part, found in task.latency.items()
    )
    header = ("Latency, seconds", *next(iter(task.latency.values())))
    return [Table(header, rows), share, *reasons.blocks()]


def _defined(task: TaskReport) -> Iterator[bool]:
    for found in task.latency.values():
        yield from (not isinstance(f.value, Undefined) for f in found.values())


def _cell(figure: Figure, form: str, reasons: Reasons) -> str:
    text = reasons.show(figure.value, form)
    if isinstance(figure.value, Undefined) or figure.interval is None:
        return text
    if isinstance(figure.interval, Undefined):
        return f"{text} {reasons.mark(figure.interval)}"
    low, high = figure.interval
    return f"{text} [{low:{form}}, {high:{form}}]"
