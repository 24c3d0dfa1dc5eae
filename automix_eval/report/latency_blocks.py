"""How long questions wait, in words and a table."""

from __future__ import annotations

from automix_eval.analysis.figures import TaskReport
from automix_eval.metrics.ibc import Undefined
from automix_eval.report.blocks import Block, Paragraph, Reasons, Table, value_text

NAMES = {"slm": "SLM", "verification": "verification", "llm": "LLM", "path": "the whole path"}


def latency_blocks(task: TaskReport) -> list[Block]:
    """Median, 95th and 99th percentile of each part; one sentence where none is defined."""
    if not task.latency:
        return []
    reasons = Reasons()
    two = value_text(task.waits_for_two, ".1%", reasons, "undefined ")
    share = Paragraph(f"Questions that wait for two models or more: {two}.")
    figures = [f for found in task.latency.values() for f in found.values()]
    if all(isinstance(f.value, Undefined) for f in figures):
        whole = task.latency["path"]["p50"].value
        text = whole.reason if isinstance(whole, Undefined) else ""
        return [share, *reasons.blocks(), Paragraph(f"Latency: undefined: {text}.")]
    rows = tuple(
        (NAMES[part], *(value_text(f, ".3f", reasons, "undefined ") for f in found.values()))
        for part, found in task.latency.items()
    )
    header = ("Latency, seconds", *next(iter(task.latency.values())))
    return [Table(header, rows), share, *reasons.blocks()]
