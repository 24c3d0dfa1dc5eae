"""The report as Markdown, CSV, LaTeX and results of the harness."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from automix_eval.analysis.figures import Board, Figure, MethodFigures, Report
from automix_eval.analysis.point_figures import OperatingPoint, OperatingPoints
from automix_eval.metrics.ibc import Undefined
from automix_eval.report.blocks import Block, Heading, Table
from automix_eval.report.columns import Column, all_figures, shown_in
from automix_eval.report.fixed_width import markdown_table
from automix_eval.report.leaderboard_blocks import board_words
from automix_eval.report.point_blocks import LABELS
from automix_eval.safety.text import csv_text, printable

_OF_A_POINT = ("quality", "cost", "escalation_rate", "delta_ibc", "saved", "share", "kept")
_MARKUP = re.compile(r"([\\`*_{}\[\]<>|#~])")
_TEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#",
    "%": r"\%", "_": r"\_", "^": r"\textasciicircum{}", "~": r"\textasciitilde{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}",
}  # fmt: skip


def render_markdown(blocks: Sequence[Block]) -> str:
    """The blocks as Markdown; markup in labels and file names is shown, not obeyed."""
    parts = []
    for block in blocks:
        if isinstance(block, Heading):
            parts.append(f"{'#' * block.level} {_escape(block.text)}")
        elif isinstance(block, Table):
            rows = [[_escape(c) for c in row] for row in (block.header, *block.rows)]
            parts.append("\n".join(markdown_table(rows)))
        else:
            parts.append(_escape(block.hang + block.text))
    return "\n\n".join(parts) + "\n"


def render_csv(report: Report) -> str:
    """One row a leaderboard and method, then one an operating point.

    Undefined figures are empty, their reasons in one cell.
    """
    rows = [*method_rows(report), *point_rows(report)]
    return csv_text(list(dict.fromkeys(name for row in rows for name in row)) or ["task"], rows)


def method_rows(report: Report) -> list[dict[str, object]]:
    """A row a leaderboard and method: its figures by their names in the CSV, None if undefined."""
    return [_method_row(board, m) for board in report.boards for m in board.methods]


def point_rows(report: Report) -> list[dict[str, object]]:
    """A row an operating point of a task of a run, likewise."""
    return [_point_row(one, p) for one in report.operating_points for p in one.points]


def render_latex(report: Report) -> str:
    r"""A tabular a leaderboard, for ``\\input``; needs the package booktabs."""
    parts = ["% Written by automix-eval; needs \\usepackage{booktabs} and \\usepackage{textcomp}."]
    for board in report.boards:
        columns = shown_in("latex")
        head = ("Method", "Kind", *map(_tex_heading, columns))
        rows = [" & ".join(_tex_row(m)) + r" \\" for m in board.methods]
        parts += [
            "% " + " ".join(f"{tex(board.key)}: {tex(board_words(board))}".split()),
            rf"\begin{{tabular}}{{ll{'r' * len(columns)}}}",
            r"\toprule",
            " & ".join(head) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    return "\n".join(parts) + "\n"


def render_harness(report: Report) -> str:
    """The leaderboards in the harness's own results schema, IBC figures as metrics.

    ``lm_eval.utils.make_table`` prints them: one entry a task and method, named ``task/method``. An
    undefined figure is left out, as the schema has no place for its reason.
    """
    results: dict[str, dict[str, Any]] = {}
    size: dict[str, dict[str, int]] = {}
    higher: dict[str, dict[str, bool]] = {}
    for board in report.boards:
        for method in board.methods:
            key = f"{board.key}/{method.name}"
            results[key] = {"alias": f"{board.key}: {method.label}", **_metrics(method)}
            size[key] = {"original": board.num_questions, "effective": board.num_questions}
            higher[key] = {c.name: bool(c.higher) for c in shown_in("harness")}
    keys = list(results)
    value = {
        "results": results,
        "group_subtasks": {key: [] for key in keys},
        "configs": {key: {"task": key} for key in keys},
        "versions": dict.fromkeys(keys, "N/A"),
        "n-shot": dict.fromkeys(keys, "N/A"),
        "higher_is_better": higher,
        "n-samples": size,
        "config": {"model": "automix-eval report", "model_args": {}},
    }
    return json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False) + "\n"


def tex(text: str) -> str:
    """Text for LaTeX: its special characters are shown, not obeyed."""
    return "".join(_TEX.get(c, c) for c in printable(text, limit=2000))


def _escape(text: str) -> str:
    return _MARKUP.sub(r"\\\1", printable(text, limit=2000))


# --------------------------------------------------------------------------- one row


def _metrics(m: MethodFigures) -> dict[str, float]:
    found: dict[str, float] = {}
    for column in shown_in("harness"):
        figure = column.of(m)
        if not isinstance(figure.value, Undefined):
            found[f"{column.name},none"] = figure.value
            if figure.stderr is not None:
                found[f"{column.name}_stderr,none"] = figure.stderr
    return found


def _method_row(board: Board, m: MethodFigures) -> dict[str, object]:
    row: dict[str, object] = {
        "leaderboard": board.key,
        "task": board.task,
        "embedded_sample": board.sample,
        "metric": board.metric,
        "questions": board.num_questions,
        "documents": board.num_documents,
        "tiers": " -> ".join(board.tiers),
        "prices": board.cost,
        "method": m.name,
        "label": m.label,
        "kind": m.kind,
        "verifier": m.verifier,
        "runs": " ".join(printable(r) for r in m.runs),
        "seeds": " ".join(str(s) for s in m.seeds if s >= 0),
    }
    cells, undefined = _csv_figures(all_figures(m))
    row |= cells
    for name, spread in m.by_seed.items():
        parts = {"mean": spread.mean, "std": spread.std, "min": spread.low, "max": spread.high}
        row |= {f"{name}_seeds_{k}": v for k, v in parts.items()}
    return {**row, "note": m.note, "undefined": undefined}


def _csv_figures(figures: Mapping[str, Figure]) -> tuple[dict[str, object], str]:
    """Cells of figures and of the ends of their intervals, and the reasons of what is undefined."""
    row: dict[str, object] = {}
    reasons: dict[str, list[str]] = {}
    for name, figure in figures.items():
        row[name] = None if isinstance(figure.value, Undefined) else figure.value
        row[f"{name}_low"], row[f"{name}_high"] = figure.ends or (None, None)
        if missing := figure.undefined:
            reasons.setdefault(missing.reason, []).append(name)
    return row, "; ".join(f"{', '.join(names)}: {why}" for why, names in reasons.items())


def _point_row(one: OperatingPoints, point: OperatingPoint) -> dict[str, object]:
    cells, undefined = _csv_figures({name: getattr(point, name) for name in _OF_A_POINT})
    return {
        "task": one.task,
        "embedded_sample": one.sample,
        "metric": one.metric,
        "questions": one.num_questions,
        "documents": one.num_documents,
        "tiers": " -> ".join(one.tiers),
        "prices": one.cost,
        "method": f"point:{point.name}",
        "label": LABELS[point.name],
        "kind": "point",
        "runs": one.run_id,
        **cells,
        "shown": point.shown,
        "note": point.why or point.words,
        "undefined": undefined,
    }


def _tex_heading(column: Column) -> str:
    heading = column.short.replace("delta ", r"$\Delta$")
    return rf"{heading} (\%)" if column.form.endswith("%") else heading


def _tex_row(m: MethodFigures) -> tuple[str, ...]:
    return tex(m.label), m.kind, *(_tex_figure(c, m) for c in shown_in("latex"))


def _tex_figure(column: Column, m: MethodFigures) -> str:
    figure = column.of(m)
    if isinstance(figure.value, Undefined):
        return "--"

    def show(value: float) -> str:
        return "$" + format(value, column.form).removesuffix("%") + "$"

    if figure.ends is None:
        return show(figure.value)
    low, high = map(show, figure.ends)
    return f"{show(figure.value)} [{low}, {high}]"
