"""The report on one screen: of each task the verdict, and what one may choose between."""

from __future__ import annotations

from automix_eval.analysis.figures import Report
from automix_eval.report.blocks import Block, Heading, Paragraph
from automix_eval.report.point_blocks import points_blocks
from automix_eval.safety.text import clip

# Longer warnings are whole in the full report, and in the log of the run.
_LENGTH = 180
_MORE = (
    "Of the same folder, `automix-eval report` prints every table with --full, and writes a page, "
    "pictures, CSV and JSON with --out DIR."
)


def brief_blocks(report: Report) -> list[Block]:
    """Verdict, operating points and warnings of every task."""
    blocks: list[Block] = [Heading("AutoMix report", 1), *points_blocks(report)]
    warnings = [*(w for task in report.tasks for w in task.warnings), *report.warnings]
    blocks += [Paragraph(clip(w, _LENGTH), "! ") for w in dict.fromkeys(warnings)]
    return [*blocks, Paragraph(_MORE)]
