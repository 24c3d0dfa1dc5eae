"""The leaderboards in words and tables."""

from __future__ import annotations

from collections.abc import Sequence

from automix_eval.analysis.figures import Board, Comparison, MethodFigures
from automix_eval.metrics.ibc import Undefined
from automix_eval.report.blocks import (
    Block,
    Heading,
    Paragraph,
    Reasons,
    Table,
    interval_text,
    value_text,
)
from automix_eval.report.columns import COLUMNS, Column, shown_in

# Above this many pairs only those with a live method are shown; the JSON has all.
_MOST_PAIRS = 15
_WORDS = "not distinguishable"
# The others' intervals stand in the table of the task; 100 columns hold no more.
_WITH_INTERVAL = ("quality", "delta_ibc")


def board_blocks(board: Board) -> list[Block]:
    """One leaderboard: quality and cost, what the cost buys, regions, seeds and paired tests."""
    reasons = Reasons()
    blocks: list[Block] = [
        Heading(f"Leaderboard {board.key}", 2),
        Paragraph(board_words(board)),
    ]
    if board.why_apart:
        blocks.append(Paragraph(f"A table of its own: {board.why_apart}.", "! "))
    blocks.append(
        Table(
            ("Method", "Kind", *(c.short for c in shown_in("text"))),
            tuple(_quality_row(m, reasons) for m in board.methods),
        )
    )
    if board.tiers:
        routed = [m for m in board.methods if m.kind != "plain" and "@" not in m.name]
        header = ("Method", *(c.short for c in shown_in("text, further")))
        blocks.append(Table(header, tuple(_value_row(m, reasons) for m in routed)))
        blocks += _regions(board.methods, reasons)
    blocks += _seeds(board.methods)
    blocks += reasons.blocks()
    notes = [f"{m.label}: {m.note}" for m in board.methods if m.note]
    blocks += [Paragraph(n, "! ") for n in notes]
    return [*blocks, *_comparisons(board)]


def board_words(board: Board) -> str:
    """What a leaderboard is about: questions, metric, chain and prices."""
    return (
        f"{board.num_questions} questions about {board.num_documents} document"
        f"{'s' * (board.num_documents != 1)}; metric: {board.metric}."
        + (f" Tiers: {' -> '.join(board.tiers)}; cost: {board.cost}." if board.tiers else "")
    )


def _quality_row(m: MethodFigures, reasons: Reasons) -> tuple[str, ...]:
    def show(column: Column) -> str:
        figure = getattr(m, column.field)
        if column.field == "escalation_rate" and len(m.tiers) > 2:
            steps = (t.escalated.value for t in m.tiers[:-1])
            return "/".join("-" if isinstance(v, Undefined) else f"{v:.0%}" for v in steps)
        if column.field in _WITH_INTERVAL:
            return value_text(figure, column.brief, reasons)
        return reasons.show(figure.value, column.brief, "- ")

    label = m.label + (f" (n={len(m.runs)})" if len(m.runs) > 1 else "")
    return label, m.kind, *map(show, shown_in("text"))


def _value_row(m: MethodFigures, reasons: Reasons) -> tuple[str, ...]:
    return m.label, *(reasons.show(c.of(m).value, c.brief, "- ") for c in shown_in("text, further"))


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
    rows = tuple(
        (
            f"{m.label}, {column.field.replace('_', ' ').replace('ibc', 'IBC')}",
            format(s.mean, column.fine),
            format(s.std, column.fine.lstrip("+")),
            *(format(v, column.fine) for v in (s.low, s.high)),
            str(s.number),
        )
        for m in methods
        if m.kind == "live"
        for column in COLUMNS
        if (s := m.by_seed.get(column.field))
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
