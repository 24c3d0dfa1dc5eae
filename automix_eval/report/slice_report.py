"""Slices as text, Markdown and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from automix_eval.analysis.slices import Slice, Slices
from automix_eval.metrics.bootstrap import LEVEL
from automix_eval.metrics.ibc import Undefined
from automix_eval.report.blocks import Block, Heading, Paragraph, Reasons, Table, interval_text
from automix_eval.report.fixed_width import render_text
from automix_eval.report.formats import render_markdown
from automix_eval.report.json_report import to_json
from automix_eval.safety.errors import AutoMixError

FORMATS = ("text", "md", "json")


def render_slices(found: Sequence[Slices], form: str) -> str:
    """All slices in a format of :data:`FORMATS`.

    Raises:
        AutoMixError: The format is another.
    """
    if form not in FORMATS:
        raise AutoMixError(f"slices are written as {', '.join(FORMATS)}, not as {form}")
    if form == "json":
        value = {"format": "automix-eval slices", "version": 1, "level": LEVEL}
        tasks = [to_json(one) for one in found]
        return json.dumps({**value, "slices": tasks}, indent=2, allow_nan=False) + "\n"
    blocks = [Heading("AutoMix by slices", 1), *(b for one in found for b in _blocks(one))]
    blocks.append(
        Paragraph(
            "the LLM's quality less the cascade's, with the 95% interval of a paired test by "
            "document; p (Holm): of that test, ties counted half, corrected over the slices that "
            "could show as much. Slices with a shown loss come first, then the others by falling "
            "loss.",
            "Loss: ",
        )
    )
    return render_markdown(blocks) if form == "md" else render_text(blocks, 120)


def _blocks(one: Slices) -> list[Block]:
    reasons = Reasons()
    header = (one.field, "n", "Documents", "Escalated", "Quality", "Loss", "95% interval",
              "p (Holm)", "delta IBC", "95% interval", "")  # fmt: skip
    blocks: list[Block] = [
        Heading(f"{one.about} by {one.field}", 2),
        Table(header, tuple(_row(s, reasons) for s in one.slices)),
    ]
    if one.num_lacking:
        named = list(one.lacking[:5])
        more = f" and {one.num_lacking - len(named)} more" if one.num_lacking > len(named) else ""
        blocks.append(
            Paragraph(
                f"{one.num_lacking} questions lack {one.field} and are in no slice: "
                f"{', '.join(named)}{more}.",
                "! ",
            )
        )
    return [*blocks, *reasons.blocks()]


def _row(s: Slice, reasons: Reasons) -> tuple[str, ...]:
    tested = not isinstance(s.loss_holm.value, Undefined)
    words = {True: "loses", False: "gains", None: "not distinguishable" if tested else "not tested"}
    return (
        s.label,
        str(s.num_questions),
        str(s.num_documents),
        reasons.show(s.escalation_rate.value, ".0%"),
        reasons.show(s.quality.value, ".3f"),
        reasons.show(s.loss.value, "+.3f"),
        interval_text(s.loss, "+.3f", reasons),
        reasons.show(s.loss_holm.value, ".3g"),
        reasons.show(s.delta_ibc.value, "+.0%"),
        interval_text(s.delta_ibc, "+.0%", reasons),
        words[s.loses],
    )
