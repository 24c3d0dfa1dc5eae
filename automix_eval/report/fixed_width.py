"""Tables and text of fixed width: the report at most 100 columns, Markdown tables as wide."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

from automix_eval.report.blocks import Block, Heading, Paragraph, Table
from automix_eval.safety.text import clip, printable

WIDTH = 100
_GAP = "  "
_SHORTEST = 12


def render_text(blocks: Sequence[Block], width: int = WIDTH) -> str:
    """The blocks as lines of at most ``width`` printable characters."""
    lines: list[str] = []
    for block in blocks:
        if isinstance(block, Heading):
            lines += ["", *_heading(block, width)]
        elif isinstance(block, Table):
            lines += ["", *_table(block, width), ""]
        else:
            lines += _paragraph(block, width)
    lines = [one for one, before in zip(lines, ["", *lines], strict=False) if one or before]
    # The last line of defence: whatever a cell held, no control character reaches a terminal.
    return "\n".join(printable(line.rstrip()) for line in lines) + "\n"


def _heading(block: Heading, width: int) -> list[str]:
    lines = textwrap.wrap(block.text, width) or [""]
    return [*lines, ("=" if block.level == 1 else "-") * max(map(len, lines))]


def _paragraph(block: Paragraph, width: int) -> list[str]:
    return textwrap.wrap(
        block.text,
        width,
        initial_indent=block.hang,
        subsequent_indent=" " * min(len(block.hang), 4),
    )


def _table(block: Table, width: int) -> list[str]:
    rows = [block.header, *block.rows]
    widths = [max(len(row[i]) for row in rows) for i in range(len(block.header))]
    # Names go on in a second line, numbers do not: a table too wide for that is left wider than the
    # page.
    excess = sum(widths) + len(_GAP) * (len(widths) - 1) - width
    widths[0] = max(min(widths[0], _SHORTEST), widths[0] - max(0, excess))
    head, *others = [_row(row, widths) for row in rows]
    rule = "-" * (sum(widths) + len(_GAP) * (len(widths) - 1))
    return [*head, rule, *(line for lines in others for line in lines)]


def _row(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    name, *more = textwrap.wrap(row[0], widths[0], subsequent_indent="  ") or [""]
    return [*aligned([(name, *row[1:])], widths), *more]


def aligned(rows: Sequence[Sequence[str]], widths: Sequence[int] = ()) -> list[str]:
    """Lines of equal columns, the first to the left, the others to the right.

    Args:
        rows: Cells, as many in each row.
        widths: Characters of each column, a longer cell is cut; as wide as its cells by default.
    """
    widths = widths or [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        _GAP.join(
            clip(c, w).ljust(w) if i == 0 else clip(c, w).rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table that reads well as text too; the first row is its header.

    Args:
        rows: Cells in which no ``|`` is left to be obeyed.
    """
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    rule = [":".ljust(w, "-") if i == 0 else ":".rjust(w, "-") for i, w in enumerate(widths)]
    return [
        "| "
        + " | ".join(
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in [rows[0], rule, *rows[1:]]
    ]


def cell(value: Any) -> str:
    """A value as a cell of a table."""
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)
