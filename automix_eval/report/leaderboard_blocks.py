"""The leaderboards in words and tables."""

from __future__ import annotations

from collections.abc import Sequence

from automix_eval.analysis.figures import Board, Comparison, Figure, MethodFigures
from automix_eval.metrics.ibc import Undefined
from automix_eval.report.blocks import Block, Heading, Paragraph, Table
from automix_eval.report.reasons import Reasons, interval_text, short_text

# Above this many pairs only those with a live method are shown; the JSON has all.
_MOST_PAIRS = 15
_WORDS = "not distinguishable"


def board_blocks(board: Board) -> list[Block]:
    """One leaderboard: quality and cost, what the cost buys, regions, seeds and paired tests."""
    reasons = Reasons()
    blocks: list[Block] = [
        Heading(f"Leaderboard {board.key}", 2),
        Paragraph(
            f"{board.num_questions} questions about {board.num_documents} documents; metric: "
            f"{board.metric}."
            + (f" Tiers: {' -> '.join(board.tiers)}; cost: {board.cost}." if board.tiers else "")
        ),
    ]
    if board.why_apart:
        blocks.append(Paragraph(f"A table of its own: {board.why_apart}.", "! "))
    blocks.append(
        Table(
            ("Method", "Kind", "Quality", "Cost", "Esc.", "delta IBC"),
            tuple(_quality_row(m, reasons) for m in board.methods),
        )
    )
    if board.tiers:
        routed = [m for m in board.methods if m.kind != "plain" and "@" not in m.name]
        header = ("Method", "IBC", "at 95%", "at 99%", "at 100%", "Area", "AUROC", "ECE", "Saved")
        blocks.append(Table(header, tuple(_value_row(m, reasons) for m in routed)))
        blocks += _regions(board.methods, reasons)
    blocks += _seeds(board.methods)
    blocks += reasons.blocks()
    notes = [f"{m.label}: {m.note}" for m in board.methods if m.note]
    blocks += [Paragraph(n, "! ") for n in notes]
    return [*blocks, *_comparisons(board)]


def board_legend() -> list[Block]:
    """What the leaderboard's words mean."""
    return [
        Paragraph(
            "live: calls were made by this router; replay: computed from records in which every "
            "tier was asked, no call was made; plain: one model, run by the harness alone.",
            "Kind: ",
        ),
        Paragraph(
            "cost per question that reaches this share of the LLM's quality on the curve of the "
            "method, which may draw lots between its policies, the SLM and the LLM.",
            "at 95%: ",
        ),
        Paragraph(
            "quality averaged along that curve over costs from the SLM's to the LLM's.", "Area: "
        ),
        Paragraph(
            "expected calibration error of the SLM's confidence (10 bins); Saved: share of "
            "questions on which the last tier was not asked.",
            "ECE: ",
        ),
        Paragraph(
            "a paired test by document, corrected by Holm over the pairs of a leaderboard.", "p: "
        ),
    ]


def _quality_row(m: MethodFigures, reasons: Reasons) -> tuple[str, ...]:
    steps = [t.escalated for t in m.tiers[:-1]]
    rate = (
        "/".join("-" if isinstance(f.value, Undefined) else f"{f.value:.0%}" for f in steps)
        if len(steps) > 1
        else reasons.show(m.escalation_rate.value, ".0%", "- ")
    )
    return (
        m.label + (f" (n={len(m.runs)})" if len(m.runs) > 1 else ""),
        m.kind,
        short_text(m.quality, ".3f", reasons),
        reasons.show(m.cost.value, ".4g", "- "),
        rate,
        short_text(m.delta_ibc, "+.0%", reasons),
    )


def _value_row(m: MethodFigures, reasons: Reasons) -> tuple[str, ...]:
    def show(figure: Figure, form: str) -> str:
        return reasons.show(figure.value, form, "- ")

    return (
        m.label,
        show(m.ibc, ".3g"),
        *(show(f, ".4g") for _, f in m.cost_at),
        show(m.area, ".3f"),
        show(m.auroc, ".3f"),
        show(m.calibration_error, ".3f"),
        show(m.calls_saved, ".0%"),
    )


def _regions(methods: Sequence[MethodFigures], reasons: Reasons) -> list[Block]:
    shown = [m for m in methods if len({r.parameter for r in m.regions}) > 1]
    if not shown:
        return []
    header = ("delta IBC by cost region", *map(str, range(1, 6)), "Mean")
    rows = tuple(
        (
            m.label,
            *(reasons.show(r.delta_ibc.value, "+.0%", "- ") for r in m.regions),
            reasons.show(m.regions_mean.value, "+.0%", "- "),
        )
        for m in shown
    )
    return [Table(header, rows)]


def _seeds(methods: Sequence[MethodFigures]) -> list[Block]:
    names = {"quality": ".4f", "cost": ".4g", "escalation_rate": ".1%", "delta_ibc": "+.1%"}
    rows = tuple(
        (
            f"{m.label}, {name.replace('_', ' ')}",
            *(format(v, form) for v in (s.mean, s.std, s.low, s.high)),
            str(s.number),
        )
        for m in methods
        if m.kind == "live"
        for name, form in names.items()
        if (s := m.by_seed.get(name))
    )
    if not rows:
        return []
    return [Table(("Over seeds", "Mean", "Std", "Min", "Max", "Seeds"), rows)]


def _comparisons(board: Board) -> list[Block]:
    labels = {m.name: m.label for m in board.methods}
    live = {m.name for m in board.methods if m.kind == "live"}
    pairs = board.comparisons
    if len(pairs) > _MOST_PAIRS:
        pairs = tuple(c for c in pairs if live & {c.first, c.second})
    if not pairs:
        return []
    reasons = Reasons()
    rows = tuple(_pair_row(c, labels, reasons) for c in pairs)
    header = ("Quality, first minus second", "Difference", "95% interval", "p (Holm)", "")
    alike = [c.words for c in pairs if _WORDS in c.words]
    words = [Paragraph(f"{'; '.join(alike)}.")] if alike else []
    return [Table(header, rows), *words, *reasons.blocks()]


def _pair_row(c: Comparison, labels: dict[str, str], reasons: Reasons) -> tuple[str, ...]:
    p = c.quality_holm.value
    if isinstance(p, Undefined):
        verdict = "not tested"
    else:
        verdict = _WORDS if _WORDS in c.words else "differ"
    return (
        f"{labels[c.first]} - {labels[c.second]}",
        reasons.show(c.quality.value, "+.4f", "- "),
        interval_text(c.quality, "+.3f", reasons),
        reasons.show(p, ".3g", "- "),
        verdict,
    )
