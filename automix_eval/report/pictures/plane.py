"""Pictures of a board: the cost-quality plane, quality against escalation, IBC by task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from automix_eval.analysis.figures import MethodFigures
from automix_eval.metrics.ibc import Undefined
from automix_eval.report.board_picture import (
    Across,
    BoardPicture,
    Point,
    defined,
    number,
    place_labels,
    role_of,
    sweep,
)
from automix_eval.report.pictures.style import ACCENT, COLUMN, INK, MARKERS, SOFT, figure
from automix_eval.safety.text import clip, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TEXT = (5.8, 10.0)  # mean width of a character and height of a line, in pixels at 100 dpi
# Names longer than this stand one above the other in a legend.
_BRIEF = 20
_LINE = 0.135  # inches that a line of the legend takes


def plane(drawn: BoardPicture) -> Figure | None:
    """Cost against quality of every method, with the line of always asking one model."""
    if not drawn.points:
        return None
    made, (axes,) = figure(below=_legend_height(drawn.points))
    axes.set_title(printable(drawn.board.task, 40))
    axes.set_xlabel("mean cost per question")
    axes.set_ylabel(f"quality ({printable(drawn.board.metric, 40)})")
    _line(axes, drawn, "cost")
    if oracle := sweep(drawn.board.oracle_curve, "cost"):
        _curve(axes, oracle, color=INK, linestyle=":", label="oracle")
    _sweeps(axes, drawn.points, "cost")
    # room to the right, so that the name of the dearest point is not at the frame
    axes.set_xlim(0.0, 1.08 * axes.get_xlim()[1])
    _points(axes, drawn.points, "cost")
    _legend(axes, drawn.points)
    return made


def escalation(drawn: BoardPicture) -> Figure | None:
    """Share of questions answered above the SLM against quality."""
    points = [m for m in drawn.points if defined(m.escalation_rate) and m.role != "plain"]
    if not points:
        return None
    made, (axes,) = figure(below=_legend_height(drawn.points))
    axes.set_title(printable(drawn.board.task, 40))
    axes.set_xlabel("share of questions escalated above the SLM")
    axes.set_ylabel(f"quality ({printable(drawn.board.metric, 40)})")
    _line(axes, drawn, "escalation_rate")
    _sweeps(axes, points, "escalation_rate")
    axes.set_xlim(-0.04, 1.12)
    axes.xaxis.set_major_formatter("{x:.0%}")
    _points(axes, points, "escalation_rate")
    _legend(axes, drawn.points)
    return made


def by_task(pictures: Sequence[BoardPicture]) -> Figure | None:
    """IBC beside that of always asking the LLM, and delta IBC with its interval, by task."""
    rows = [(s, m) for s in pictures for m in s.judged if defined(m.ibc) or defined(m.delta_ibc)]
    if not rows:
        return None
    names = [
        f"{clip(printable(d.board.task), 22)}\n{clip(printable(m.label), 22)}" for d, m in rows
    ]
    made, (left, right) = figure(rows=2, size=(COLUMN, 1.6 + 0.6 * len(rows)))
    made.subplots_adjust(left=1.35 / COLUMN, top=1 - 0.3 / made.get_figheight())
    for i, (drawn, method) in enumerate(rows):
        base = next((m for m in drawn.board.methods if role_of(m) == "llm"), None)
        if base is not None and defined(base.ibc):
            left.plot(number(base.ibc), i, "s", color=INK, label="always the LLM", zorder=2)
        if defined(method.ibc):
            _dot(left, method, method.ibc, i)
        if defined(method.delta_ibc):
            _dot(right, method, method.delta_ibc, i)
    for axes in (left, right):
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), names)
    left.axvline(0, color=SOFT, linewidth=0.8)
    right.axvline(0, color=SOFT, linestyle="--")
    left.set_xlabel("IBC")
    right.set_xlabel("delta IBC")
    for axes in (left, right):
        axes.locator_params(axis="x", nbins=3)
    right.xaxis.set_major_formatter("{x:+.0%}")
    handles, labels = left.get_legend_handles_labels()
    first = dict(zip(labels, handles, strict=True))
    made.legend(first.values(), first.keys(), loc="upper left", ncols=2, handletextpad=0.2)
    return made


def _legend_columns(points: Sequence[Point]) -> int:
    return 1 if any(len(_name(p)) > _BRIEF for p in points) else 2


def _legend_height(points: Sequence[Point]) -> float:
    """Inches below the axes for the names of all points, of the line and of the oracle."""
    return 0.1 + _LINE * math.ceil((len(points) + 2) / _legend_columns(points))


def _name(point: Point) -> str:
    return clip(printable(point.label), 40)


def _legend(axes: Axes, points: Sequence[Point]) -> None:
    held, names = axes.get_legend_handles_labels()
    figure = axes.get_figure()
    if held and figure is not None:
        figure.legend(
            held, names, loc="lower left", bbox_to_anchor=(0.0, 0.0), borderaxespad=0.3,
            ncols=_legend_columns(points), labelspacing=0.25, handlelength=1.8, columnspacing=1.0,
        )  # fmt: skip


def _dot(axes: Axes, method: MethodFigures, value: Any, place: int) -> None:
    at, ends = number(value), value.ends
    label = "the cascade" if method.kind == "live" else "replayed"
    if ends:
        axes.hlines(place, *ends, color=ACCENT, linewidth=1.6)
        axes.plot(ends, [place, place], "|", color=ACCENT, markersize=6)
    face = ACCENT if method.kind == "live" else "white"
    axes.plot(
        at, place, "o", color=ACCENT, markerfacecolor=face, markersize=5, label=label, zorder=3
    )


def _line(axes: Axes, drawn: BoardPicture, across: Across) -> None:
    slm, llm = drawn.end("slm"), drawn.end("llm")
    if slm is None or llm is None:
        return
    ends = (0.0, 1.0) if across == "escalation_rate" else (slm.at[0], llm.at[0])
    label = "random questions" if across == "escalation_rate" else "SLM\u2013LLM line"
    axes.plot(ends, (slm.at[1], llm.at[1]), "--", color=SOFT, linewidth=1.2, label=label)


def _sweeps(axes: Axes, points: Sequence[Point], across: Across) -> None:
    for point in points:
        if swept := point.sweep(across):
            _curve(axes, swept, **_sweep_style(point))


def _sweep_style(point: Point) -> dict[str, Any]:
    if point.role == "live":
        return {"color": ACCENT, "linewidth": 1.6}
    return {"color": SOFT, "linewidth": 0.7, "alpha": 0.6}


def _curve(axes: Axes, points: Sequence[tuple[float, float]], **style: Any) -> None:
    axes.plot([x for x, _ in points], [y for _, y in points], **style)


def _points(axes: Axes, points: Sequence[Point], across: Across) -> None:
    """All points with their intervals, and the names of those that have room for one."""
    from matplotlib.patheffects import withStroke

    places = []
    for point in points:
        at = number(getattr(point, across)), point.at[1]
        places.append(at)
        color = ACCENT if point.role == "live" else INK
        errors = [_error(getattr(point, across), at[0]), _error(point.quality, at[1])]
        axes.errorbar(
            *at,
            xerr=errors[0],
            yerr=errors[1],
            color=color,
            elinewidth=0.7,
            zorder=3.5 if point.role == "live" else 3,
            **_shape(point),
        )
    axes.autoscale_view()  # the limits that will be drawn, the intervals included
    pixels = axes.transData.transform(places)
    height = axes.figure.bbox.height
    box = axes.get_window_extent()
    labels = place_labels(
        [(x, height - y) for x, y in pixels],
        [_name(p) for p in points],
        (box.x0 + 2, height - box.y1 + 2, box.x1 - 2, height - box.y0 - 2),
        _TEXT,
        gap=7,
    )
    for point, label in zip(points, labels, strict=True):
        # The legend names every point, with the line of its other operating points.
        color = ACCENT if point.role == "live" else INK
        style = _sweep_style(point) if point.sweep(across) else {"linestyle": "", "color": color}
        shape = {"markeredgecolor": color, "markerfacecolor": color, "alpha": 1.0} | _shape(point)
        axes.plot([], [], label=_name(point), **(style | shape))
        if label is not None:
            left, top, _, bottom = label.box
            x, y = axes.transData.inverted().transform((left, height - (top + bottom) / 2))
            weight = "bold" if point.role != "replay" else "normal"
            axes.text(
                x, y, label.text, va="center", color=INK, fontsize=7, weight=weight, zorder=4,
                path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )  # fmt: skip


def _shape(point: Point) -> dict[str, Any]:
    if point.role == "live":
        shape = MARKERS[(point.kind - 1) % len(MARKERS)] if point.kind else "o"
        return {"marker": shape, "markersize": 6, "markeredgecolor": "white"}
    if point.role in ("slm", "llm"):
        return {"marker": "s", "markersize": 5}
    shape = MARKERS[point.kind % len(MARKERS)]
    return {"marker": shape, "markersize": 4.5, "markerfacecolor": "white"}


def _error(value: Any, at: float) -> list[list[float]] | None:
    ends = value.ends
    if ends is None or isinstance(value.value, Undefined):
        return None
    return [[max(0.0, at - ends[0])], [max(0.0, ends[1] - at)]]
