"""One table of columns: every figure has a row, and every format shows what its row names."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import fields, replace
from typing import get_type_hints

import pytest
from page_builder import board, make_report, method

from automix_eval.analysis.figures import (
    CurvePoint,
    Figure,
    MethodFigures,
    Report,
    Spread,
    TierShare,
)
from automix_eval.report.blocks import Table
from automix_eval.report.board_picture import board_pictures
from automix_eval.report.columns import COLUMNS, MEANINGS, all_figures, shown_in
from automix_eval.report.formats import render_csv, render_harness, render_latex
from automix_eval.report.gate import GatedRun, GateError
from automix_eval.report.json_report import render_json, render_schema
from automix_eval.report.leaderboard_blocks import board_blocks
from automix_eval.report.legend import legend
from automix_eval.report.page import page_tables

# A curve and the spreads over seeds are lists of points, shown as drawings and in tables of theirs.
SERIES = ("curve", "by_seed")


def numeric(kind: object) -> bool:
    """Whether a field of this type holds figures."""
    return any(c.__name__ in str(kind) for c in (Figure, TierShare, CurvePoint, Spread)) or (
        "Region" in str(kind)
    )


def rich() -> MethodFigures:
    """A method with a value for everything, tiers included."""
    shares = [TierShare(t, *(Figure(0.5 - 0.1 * t),) * 3) for t in range(3)]
    return method("pomdp", 0.55, 9.3, 0.15, "live", tiers=tuple(shares))


def one_row() -> Report:
    """A report on one board with one method."""
    return replace(make_report(), boards=(replace(board(), methods=(rich(),)),))


def test_every_figure_has_a_row() -> None:
    """A numeric field of a method's figures without a row would be in no table."""
    held = {f for f, kind in get_type_hints(MethodFigures).items() if numeric(kind)}
    assert {c.field for c in COLUMNS} == held - set(SERIES)
    assert {f.name for f in fields(MethodFigures)} >= {c.field for c in COLUMNS}


def test_names_and_meanings_are_distinct() -> None:
    """No two rows share a name or a heading, and each says what it is, without a full stop."""
    for part in ("name", "heading", "meaning"):
        values = [getattr(c, part) for c in COLUMNS]
        assert len(set(values)) == len(values)
    assert all(c.meaning and not c.meaning.endswith(".") for c in COLUMNS)


def test_csv_holds_every_figure() -> None:
    """The CSV has value and interval of each figure of each row, and no other."""
    made = one_row()
    (row,) = csv.DictReader(io.StringIO(render_csv(made)))
    found = {k.removesuffix("_low") for k in row if k.endswith("_low")}
    assert found == set(all_figures(rich()))
    assert {f"{name}_high" for name in found} | found <= set(row)


def test_harness_results_hold_their_columns() -> None:
    """The harness's results have the figures named for them, and say which way is better."""
    value = json.loads(render_harness(one_row()))
    (key,) = value["results"]
    found = [k.removesuffix(",none") for k in value["results"][key] if k != "alias"]
    known = {c.name for c in shown_in("harness") if isinstance(c.of(rich()).value, float)}
    assert {k for k in found if not k.endswith("_stderr")} == known
    assert value["higher_is_better"][key] == {c.name: c.higher for c in shown_in("harness")}


def test_latex_shows_its_columns() -> None:
    """The tabular has a column for each row that names it, beside the two that tell the method."""
    text = render_latex(one_row())
    head, row = (line for line in text.splitlines() if " & " in line)
    assert head.count("&") == row.count("&") == 1 + len(shown_in("latex"))
    assert all(c.short.removeprefix("delta ") in head for c in shown_in("latex"))
    about = next(line for line in text.splitlines() if " questions about " in line)
    assert about.startswith("% ")  # a table says of how many questions, and of which metric
    assert "metric: " in about


def test_text_shows_its_columns() -> None:
    """The two tables of a leaderboard have the columns that name them, and the legend says what."""
    found = [b.header for b in board_blocks(board()) if isinstance(b, Table)]
    assert found[0] == ("Method", "Kind", *(c.short for c in shown_in("text")))
    assert found[1] == ("Method", *(c.short for c in shown_in("text, further")))
    meanings = {getattr(b, "hang", "") for b in legend(make_report())}
    assert {f"{c.short}: " for c in shown_in("text, further")} <= meanings


def test_page_shows_its_columns() -> None:
    """Both tables of the page have a cell for each column that names them."""
    (drawn,) = board_pictures(make_report())
    for made, table, beside in (
        (page_tables.leaderboard(drawn), "page", 1),
        (page_tables.further(drawn), "page, further", 3),
    ):
        columns = shown_in(table)  # type: ignore[arg-type]
        assert [h for h, numeric, _ in made.head if numeric and h != "Runs"] == [
            c.heading for c in columns
        ]
        assert {len(row.cells) for row in made.rows} == {len(columns) + beside}


def test_json_holds_and_describes_every_field() -> None:
    """A figure's description in the schema is the meaning of its row."""
    (row,) = json.loads(render_json(one_row()))["boards"][0]["methods"]
    assert {c.field for c in COLUMNS} <= set(row)
    described = json.loads(render_schema())["$defs"]["MethodFigures"]["properties"]
    for name, meaning in MEANINGS.items():
        assert described[name]["description"] == meaning


def test_gate_knows_every_single_figure() -> None:
    """A gate asks for a figure by its field; another name is refused with the nearest one."""
    made = make_report()
    run = GatedRun("r1", "", {"coqa": replace(made.tasks[0], methods=(rich(),))})
    for name in MEANINGS:
        gate = getattr(run, name)("coqa")
        assert gate.figure == getattr(rich(), name)
        assert name in dir(run)
    with pytest.raises(AttributeError, match="did you mean quality"):
        run.qualty("coqa")
    with pytest.raises(GateError, match="knows the shares"):
        run.cost_at("coqa", 0.5)
