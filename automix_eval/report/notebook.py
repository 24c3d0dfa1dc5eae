"""The leaderboards as HTML for the output of a notebook's cell; no script, no style sheet."""

from __future__ import annotations

import base64
import io

from markupsafe import Markup, escape

from automix_eval.analysis.figures import Report
from automix_eval.report.blocks import Block, Heading, Table
from automix_eval.report.board_picture import board_pictures
from automix_eval.report.leaderboard_blocks import board_blocks
from automix_eval.report.page.visible import visible
from automix_eval.report.pictures import plane
from automix_eval.report.pictures.style import styled
from automix_eval.report.point_blocks import points_blocks


def as_html(report: Report) -> str:
    """Operating points, leaderboards with their planes, and warnings; texts are escaped."""
    drawn = board_pictures(report)
    parts: list[str] = [_html(block) for block in points_blocks(report)]
    with styled():
        for one in drawn:
            parts += map(_html, board_blocks(one.board))
            made = plane.plane(one)
            if made is not None:
                out = io.BytesIO()
                made.savefig(out, format="png", dpi=100)
                data = base64.b64encode(out.getvalue()).decode("ascii")
                label = _shown(f"{one.board.task}: quality against cost")
                parts.append(
                    Markup('<img alt="{}" src="data:image/png;base64,{}">').format(label, data)
                )
    about = dict.fromkeys([*report.warnings, *(w for t in report.tasks for w in t.warnings)])
    if about:
        rows = Markup("").join(Markup("<li>{}</li>").format(_shown(w)) for w in about)
        parts.append(
            Markup("<details><summary>{} warnings</summary><ul>{}</ul></details>").format(
                len(about), rows
            )
        )
    return "\n".join(parts)


def _html(block: Block) -> Markup:
    if isinstance(block, Heading):
        return Markup("<h4>{}</h4>").format(_shown(block.text))
    if isinstance(block, Table):
        head = _row("th", block.header)
        body = Markup("").join(_row("td", row) for row in block.rows)
        return Markup("<table><thead>{}</thead><tbody>{}</tbody></table>").format(head, body)
    return Markup("<p>{}</p>").format(_shown(block.hang + block.text))


def _row(tag: str, cells: tuple[str, ...]) -> Markup:
    made = (
        Markup('<{} style="text-align: {}">{}</{}>').format(
            Markup(tag), "right" if i else "left", _shown(cell), Markup(tag)
        )
        for i, cell in enumerate(cells)
    )
    return Markup("<tr>{}</tr>").format(Markup("").join(made))


def _shown(text: str) -> Markup:
    return escape(visible(text))
