"""The page's tables: cells with a number to sort by, and the reasons of what is undefined."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup

from automix_eval.analysis.figures import DASHES, Figure, MethodFigures, TaskReport
from automix_eval.analysis.point_figures import OperatingPoint, OperatingPoints
from automix_eval.metrics.ibc import Undefined
from automix_eval.report import columns
from automix_eval.report.board_picture import BoardPicture, role_of, tier_name
from automix_eval.report.page import board_drawings
from automix_eval.report.page.words import DASH, interval, many, reason, show, verdict
from automix_eval.report.point_blocks import labelled
from automix_eval.report.task_blocks import NAMES

_NO_GLYPH = Markup("")
_KINDS = {"live": "ran", "replay": "replayed", "plain": "plain run"}
_WHAT = {"slm": "always the SLM", "llm": "always the LLM", "bound": "for comparison"}


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell.

    Attributes:
        text: What stands in it.
        aside: A smaller second part, such as an interval.
        sort: The number to sort by, as text; empty where undefined, None to sort by the text.
        note: Number of the reason below the table; 0 for none.
        css: Class of the cell.
    """

    text: str
    aside: str = ""
    sort: str | None = None
    note: int = 0
    css: str = ""


@dataclass(frozen=True, slots=True)
class PageRow:
    """One row; ``key`` joins it with a point of the plane, ``glyph`` is that point."""

    cells: tuple[Cell, ...]
    key: str = ""
    css: str = ""
    glyph: Markup = _NO_GLYPH


@dataclass(frozen=True, slots=True)
class PageTable:
    """A sortable table.

    Attributes:
        head: (label, whether it holds numbers, what it means) of each column.
        notes: Reasons, in the order of their numbers.
    """

    title: str
    head: tuple[tuple[str, bool, str], ...]
    rows: tuple[PageRow, ...]
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class Notes:
    """Numbers the reasons of a table, equal reasons once."""

    numbers: dict[str, int] = field(default_factory=dict)

    def cell(self, figure: Figure, form: str, css: str = "") -> Cell:
        """A figure with its interval, or a dash and the number of its reason."""
        return Cell(
            show(figure.value, form), interval(figure, form), _sort(figure.value),
            0 if figure.value in DASHES else self.of(reason(figure)), css,
        )  # fmt: skip

    def of(self, text: str) -> int:
        """The number of a reason, 0 for an empty one."""
        return self.numbers.setdefault(text, len(self.numbers) + 1) if text else 0


def leaderboard(drawn: BoardPicture) -> PageTable:
    """The main table of a board."""
    notes = Notes()
    head = (("Method", False, ""), *_heads("page"))
    # Safe: a Drawing's markup comes from ElementTree, which escapes every text.
    glyphs = {m.name: Markup(board_drawings.glyph(m)) for m in drawn.points}
    rows = [
        _method_row(drawn, m, notes, glyphs.get(m.name, _NO_GLYPH)) for m in drawn.board.methods
    ]
    return PageTable("Leaderboard", head, tuple(rows), tuple(notes.numbers))


def points(one: OperatingPoints) -> PageTable:
    """What one may choose between on a task."""
    notes = Notes()
    head = (
        ("Operating point", False, ""),
        ("Quality", True, "mean score, with its 95 % interval"),
        ("Cost", True, "mean cost per question, verification included"),
        ("Saved", True, "share of the LLM's cost that is saved"),
        ("Escalated", True, "share of questions answered by a tier above the SLM"),
        ("\u0394IBC", True, "lift of quality per cost over always asking the LLM"),
        ("Shown", False, "a gain over a random choice of the same cost, or the share that is kept"),
    )
    rows = []
    for label, p in labelled(one):
        shown = {None: DASH, True: "shown", False: "not shown"}[p.shown]
        cells = (
            Cell(label, css="name"),
            notes.cell(p.quality, ".3f"),
            _value_cell(p.cost, ".4g"),
            _value_cell(p.saved, ".0%"),
            _value_cell(p.escalation_rate, ".0%"),
            _delta(p),
            Cell(shown, note=notes.of(p.why)),
        )
        rows.append(PageRow(cells))
    return PageTable("Operating points", head, tuple(rows), tuple(notes.numbers))


def _delta(point: OperatingPoint) -> Cell:
    if (figure := point.own_delta_ibc) is None:
        return Cell(DASH, sort="")
    return Cell(show(figure.value, "+.0%"), interval(figure, "+.0%"), _sort(figure.value))


def further(drawn: BoardPicture) -> PageTable:
    """What else is known of the methods of a board."""
    notes = Notes()
    head = (
        ("Method", False, ""),
        *_heads("page, further"),
        ("Runs", True, "runs pooled in this row"),
        ("\u0394IBC over seeds", False, "mean (standard deviation), least to largest"),
    )
    rows = tuple(PageRow(_further_cells(drawn, m, notes), m.name) for m in drawn.board.methods)
    return PageTable("Further figures", head, rows, tuple(notes.numbers))


def comparisons(drawn: BoardPicture) -> PageTable | None:
    """Paired tests between the methods of a board; None if there are none."""
    if not drawn.board.comparisons:
        return None
    notes, names = Notes(), {m.name: m.label for m in drawn.board.methods}
    head = (
        ("Method", False, ""),
        ("against", False, ""),
        ("Quality", True, "difference of mean scores, with its 95 % interval"),
        ("p", True, "paired test on quality, after Holm's correction"),
        ("Cost", True, "difference of mean costs"),
        ("\u0394IBC", True, "difference of delta IBC"),
        ("p", True, "paired test on delta IBC, after Holm's correction"),
        ("In words", False, ""),
    )
    rows = tuple(
        PageRow(
            (
                Cell(names.get(c.first, c.first)),
                Cell(names.get(c.second, c.second)),
                notes.cell(c.quality, "+.3f"),
                notes.cell(c.quality_holm, ".3f"),
                notes.cell(c.cost, "+.4g"),
                notes.cell(c.delta_ibc, "+.1%"),
                notes.cell(c.delta_ibc_holm, ".3f"),
                Cell(c.words, css="words"),
            )
        )
        for c in drawn.board.comparisons
    )
    return PageTable("Paired comparisons", head, rows, tuple(notes.numbers))


def overall(pictures: Sequence[BoardPicture]) -> PageTable:
    """One row a task and judged method."""
    notes = Notes()
    head = (
        ("Task", False, ""),
        ("Verdict", False, ""),
        ("\u0394IBC", True, "lift of quality per cost over always asking the LLM"),
        ("Method", False, ""),
        ("SLM", True, "quality of the SLM alone"),
        ("Method's quality", True, ""),
        ("LLM", True, "quality of the LLM alone"),
        ("Cost", True, "mean cost per question"),
        ("LLM's cost", True, "mean cost per question of always asking the LLM"),
        ("Escalated", True, ""),
    )
    rows = [_overall_row(s, m, notes) for s in pictures for m in s.judged]
    return PageTable("All tasks", head, tuple(rows), tuple(notes.numbers))


def calls(task: TaskReport) -> PageTable:
    """Calls of one run on one task."""
    head = (
        ("Calls", False, ""),
        ("on the path", True, "needed by the routed answers"),
        ("made", True, "made by this run for the evaluation"),
        ("from store", True, "taken from the store of an earlier run"),
        ("calibration", True, "made for the calibration"),
        ("its store", True, "taken from the store for the calibration"),
    )
    rows = tuple(
        PageRow(
            (
                Cell(f"{tier_name(c.tier, len(task.tiers))}, {c.role}"),
                *(
                    Cell(f"{n:,}", sort=str(n))
                    for n in (c.on_path, c.made, c.stored, c.calibration_made, c.calibration_stored)
                ),
            )
        )
        for c in task.figures.calls
    )
    return PageTable("Calls", head, rows)


def latency(task: TaskReport) -> PageTable | None:
    """How long the questions of one run waited; None where nothing is defined."""
    figures = [f for found in task.latency.values() for f in found.values()]
    if all(isinstance(f.value, Undefined) for f in figures):
        return None
    notes = Notes()
    head = (
        ("Latency, seconds", False, ""),
        *((name, True, "") for name in next(iter(task.latency.values()))),
    )
    rows = tuple(
        PageRow((Cell(NAMES[part]), *(notes.cell(f, ".3f") for f in found.values())))
        for part, found in task.latency.items()
    )
    return PageTable("Latency", head, rows, tuple(notes.numbers))


def _method_row(drawn: BoardPicture, method: MethodFigures, notes: Notes, glyph: Markup) -> PageRow:
    role = role_of(method)
    about = _WHAT.get(role) or " \u00b7 ".join(filter(None, (_KINDS[method.kind], method.verifier)))
    cells = (
        Cell(method.label, about, note=notes.of(method.note), css="name"),
        *_figure_cells("page", method, notes, drawn.board.num_documents),
    )
    return PageRow(cells, method.name, f"role-{role}", glyph)


def _heads(table: columns.TableName) -> Iterator[tuple[str, bool, str]]:
    return ((c.heading, True, c.meaning) for c in columns.shown_in(table))


def _figure_cells(
    table: columns.TableName, method: MethodFigures, notes: Notes, documents: int
) -> Iterator[Cell]:
    judged = role_of(method) in ("live", "replay")
    for column in columns.shown_in(table):
        figure = column.of(method)
        css = verdict(figure, documents).kind if judged and column.field == "delta_ibc" else ""
        yield notes.cell(figure, column.form, css)


def _further_cells(drawn: BoardPicture, method: MethodFigures, notes: Notes) -> tuple[Cell, ...]:
    spread = method.by_seed.get("delta_ibc")
    seeds = (
        f"{show(spread.mean, '+.1%')} ({show(spread.std, '.1%')}), {show(spread.low, '+.1%')} to "
        f"{show(spread.high, '+.1%')}, {spread.number} seeds"
        if spread
        else DASH
    )
    return (
        Cell(method.label, css="name"),
        *_figure_cells("page, further", method, notes, drawn.board.num_documents),
        Cell(str(len(method.runs)), sort=str(len(method.runs))),
        Cell(seeds),
    )


def _overall_row(drawn: BoardPicture, method: MethodFigures, notes: Notes) -> PageRow:
    judged = verdict(method.delta_ibc, drawn.board.num_documents)
    slm, llm = drawn.end("slm"), drawn.end("llm")
    none = Figure(Undefined("it was neither asked every question in a run nor named with --llm"))
    cells = (
        Cell(
            drawn.board.task + ("*" if drawn.board.sample else ""),
            many(drawn.board.num_questions, "question"),
            css="name",
        ),
        Cell(f"{judged.sign} {_BRIEF[judged.kind]}", css=judged.kind),
        notes.cell(method.delta_ibc, "+.1%", judged.kind),
        Cell(method.label),
        notes.cell(slm.quality if slm else none, ".3f"),
        notes.cell(method.quality, ".3f"),
        notes.cell(llm.quality if llm else none, ".3f"),
        notes.cell(method.cost, ".4g"),
        notes.cell(llm.cost if llm else none, ".4g"),
        notes.cell(method.escalation_rate, ".1%"),
    )
    return PageRow(cells)


_BRIEF = {
    "more": "pays",
    "less": "does not pay",
    "same": "no difference told",
    "unknown": "undefined",
}


def _value_cell(figure: Figure, form: str) -> Cell:
    return Cell(show(figure.value, form), sort=_sort(figure.value))


def _sort(value: float | Undefined) -> str:
    return "" if isinstance(value, Undefined) else f"{value:.12g}"
