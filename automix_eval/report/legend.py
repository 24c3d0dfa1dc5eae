"""How to read a report: what its words and columns mean."""

from __future__ import annotations

from automix_eval.analysis.figures import Report
from automix_eval.metrics.bootstrap import LEVEL, MIN_DOCUMENTS
from automix_eval.report.blocks import Block, Heading, Paragraph
from automix_eval.report.columns import shown_in

SAMPLE_NOTE = "an embedded sample for trying the tool, not a benchmark"


def legend(report: Report) -> list[Block]:
    """What the words of the tables and of the leaderboards mean."""
    blocks: list[Block] = [
        Heading("How to read this", 2),
        Paragraph("quality gained over the SLM alone per unit of extra cost.", "IBC: "),
        Paragraph(
            "IBC of AutoMix against IBC of always asking the LLM. Above 0%: AutoMix buys quality "
            "more cheaply; 0%: no better than sending random questions to the LLM unverified; "
            "below 0%: worse. Read it beside quality: escalating almost nothing can make it large.",
            "delta IBC: ",
        ),
        Paragraph(
            f"{LEVEL:.0%} intervals, paired bootstrap of whole documents (expanded percentiles, so "
            f"that few documents give wide ones, fewer than {MIN_DOCUMENTS} none), "
            f"{report.resamples} resamples, seed {report.seed}. An interval that holds 0 tells no "
            "difference from 0.",
            "[low, high]: ",
        ),
        Paragraph("mean per question; the SLM and LLM rows are without verification.", "Cost: "),
        Paragraph("share of questions answered by a tier above the SLM.", "Escalated: "),
    ]
    if any(t.sample for t in report.tasks):
        names = dict.fromkeys(t.task for t in report.tasks if t.sample)
        blocks.append(Paragraph(f"{', '.join(names)}: {SAMPLE_NOTE}.", "* "))
    blocks += [
        Paragraph(
            "live: calls were made by this router; replay: computed from records in which every "
            "tier was asked, no call was made; plain: one model, run by the harness alone.",
            "Kind: ",
        ),
        *(Paragraph(f"{c.meaning}.", f"{c.short}: ") for c in shown_in("text, further")),
        Paragraph(
            "a paired test by document, corrected by Holm over the pairs of a leaderboard. The "
            "interval beside it is of that pair and that test alone: the differences that it does "
            "not reject.",
            "p: ",
        ),
    ]
    return blocks
