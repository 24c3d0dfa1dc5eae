"""Drawings of a board: the cost-quality plane, quality against escalation, delta IBC by task."""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree.ElementTree import Element

from automix_eval.analysis.figures import MethodFigures
from automix_eval.report.board_picture import (
    Across,
    BoardPicture,
    Point,
    Role,
    defined,
    number,
    place_labels,
    sweep,
)
from automix_eval.report.page.svg import SHAPES, Drawing, Place, Scale, shape_points, spread
from automix_eval.report.page.words import interval, point_tip, show, verdict

_LAYERS: tuple[Role, ...] = ("plain", "bound", "replay", "slm", "llm", "live")
_TEXT = (7.7, 15.0)  # mean width of a character and height of a line of 12.5 units


def plane(drawn: BoardPicture) -> str:
    """Cost against quality, with the line of always asking one model; empty without points."""
    if not drawn.points:
        return ""
    costs = [*_extent(drawn.points, "cost"), *(p.cost for p in drawn.board.oracle_curve), 0.0]
    costs += [c for m in drawn.points for c, _ in m.sweep("cost")]
    qualities = [*_extent(drawn.points, "quality"), *(p.quality for p in drawn.board.oracle_curve)]
    qualities += [q for m in drawn.points for _, q in m.sweep("cost")]
    drawing = Drawing(f"{drawn.board.task}: quality against cost of every method")
    x = drawing.x_scale(*_from_zero(costs))
    y = drawing.y_scale(*spread(qualities))
    drawing.x_axis(x, "mean cost per question")
    drawing.y_axis(y, f"quality ({drawn.board.metric})")
    slm, llm = drawn.end("slm"), drawn.end("llm")
    if slm and llm:
        ends = [(x.at(m.at[0]), y.at(m.at[1])) for m in (slm, llm)]
        drawing.line("base", ends)
    oracle = [(x.at(c), y.at(q)) for c, q in sweep(drawn.board.oracle_curve, "cost")]
    if oracle:
        drawing.line("curve oracle", oracle)
    _sweeps(drawing, drawn.points, (x, y), "cost")
    _points(drawing, drawn.points, [(x.at(m.at[0]), y.at(m.at[1])) for m in drawn.points], (x, y))
    return drawing.markup()


def escalation(drawn: BoardPicture) -> str:
    """Share of questions escalated against quality; empty where no point has both."""
    points = [m for m in drawn.points if defined(m.escalation_rate) and m.role != "plain"]
    if not points:
        return ""
    swept = [q for m in points for _, q in m.sweep("escalation_rate")]
    qualities = [*_extent(points, "quality"), *swept]
    drawing = Drawing(f"{drawn.board.task}: quality against the share of questions escalated")
    x, y = drawing.x_scale(-0.03, 1.03), drawing.y_scale(*spread(qualities))
    drawing.x_axis(x, "questions answered by a tier above the SLM", percent=True)
    drawing.y_axis(y, f"quality ({drawn.board.metric})")
    slm, llm = drawn.end("slm"), drawn.end("llm")
    if slm and llm:
        drawing.line("base", [(x.at(0), y.at(slm.at[1])), (x.at(1), y.at(llm.at[1]))])
    _sweeps(drawing, points, (x, y), "escalation_rate")
    places = [(x.at(number(m.escalation_rate)), y.at(m.at[1])) for m in points]
    _points(drawing, points, places, (x, y), across="escalation_rate")
    return drawing.markup()


def glyph(point: Point) -> str:
    """A point alone, for the row of a table that tells its figures."""
    drawing = Drawing(point.label, (20, 20), (0, 0, 0, 0))
    drawing.root.set("aria-hidden", "true")
    drawing.root.set("class", "glyph")
    _shape(drawing, drawing.add("g", f"mark-point {point.role}"), point, (10.0, 10.0))
    return drawing.markup()


def forest(pictures: Sequence[BoardPicture]) -> str:
    """Delta IBC of the judged methods by task, with intervals; empty where none is defined."""
    rows = [(s, m) for s in pictures for m in s.judged if defined(m.delta_ibc)]
    if not rows:
        return ""
    values = [number(m.delta_ibc) for _, m in rows]
    values += [v for _, m in rows for v in m.delta_ibc.ends or ()]
    step = 40
    drawing = Drawing("delta IBC by task", (560, 64 + step * len(rows)), margins=(196, 10, 80, 52))
    # One wild interval must not squeeze all others into a line.
    x = drawing.x_scale(*spread([max(-3.0, min(v, 5.0)) for v in [*values, 0.0]], 0.05))
    drawing.x_axis(x, "delta IBC against always asking the LLM", percent=True)
    drawing.line("zero", [(x.at(0), drawing.top), (x.at(0), drawing.bottom)])
    for i, (drawn, method) in enumerate(rows):
        _lift(drawing, drawn, method, x, drawing.top + step * (i + 0.5))
    return drawing.markup()


def _lift(
    drawing: Drawing, drawn: BoardPicture, method: MethodFigures, x: Scale, place: float
) -> None:
    """A row of the forest: name, interval, and a dot, or an arrow for what lies beyond the axis."""
    kind = verdict(method.delta_ibc, drawn.board.num_documents)
    value = number(method.delta_ibc)
    group = drawing.add("g", f"forest {kind.kind}")
    for ends in filter(None, [method.delta_ibc.ends]):
        tips = [(x.at(v), place) for v in ends]
        drawing.line("whisker", tips, group)
        for at, inside in zip((t[0] for t in tips), map(x.holds, ends), strict=True):
            if inside:
                drawing.line("whisker", [(at, place - 5), (at, place + 5)], group)
    beyond = not x.holds(value)
    shown = show(value, "+.1%")
    if beyond:
        arrow = shape_points("right" if value > 0 else "left", x.at(value), place, 7)
        drawing.add("polygon", "dot", parent=group, points=arrow)
        anchor, side = ("start", 10) if value > 0 else ("end", -10)
        drawing.add(
            "text", "tick", show(value, "+.0%"), group, x=x.at(value) + side, y=place + 4,
            text_anchor=anchor,
        )  # fmt: skip
    else:
        drawing.add("circle", "dot", parent=group, cx=x.at(value), cy=place, r=6)
    lines = [
        f"{drawn.board.task}: {method.label}",
        f"\u0394IBC {shown} {interval(method.delta_ibc, '+.1%')}",
        *(["it lies beyond the axis"] if beyond else []),
        kind.words,
    ]
    drawing.tip(group, "\n".join(lines))
    for text, css, down in ((drawn.board.task, "label", -4), (method.label, "tick", 13)):
        drawing.add(
            "text", css, _short(text, 28), x=drawing.left - 12, y=place + down, text_anchor="end"
        )


def _short(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "\u2026"


def _extent(points: Sequence[Point], name: str) -> list[float]:
    figures = [getattr(m, name) for m in points]
    return [number(f) for f in figures] + [v for f in figures for v in f.ends or ()]


def _from_zero(costs: Sequence[float]) -> tuple[float, float]:
    """An axis that begins at zero, where a cost begins."""
    high = max(costs)
    return (0.0, high * 1.1) if high > 0 else (0.0, 1.0)


def _sweeps(
    drawing: Drawing, points: Sequence[Point], scales: tuple[Scale, Scale], across: Across
) -> None:
    for point in points:
        if swept := point.sweep(across):
            places = [(scales[0].at(c), scales[1].at(q)) for c, q in swept]
            drawing.line(f"curve sweep {point.role}", places)


def _points(
    drawing: Drawing,
    points: Sequence[Point],
    places: Sequence[Place],
    scales: tuple[Scale, Scale],
    across: Across = "cost",
) -> None:
    bounds = (drawing.left + 2.0, drawing.top + 2.0, drawing.right - 2.0, drawing.bottom - 2.0)
    labels = place_labels(places, [_short(m.label, 30) for m in points], bounds, _TEXT)
    # What ran is drawn last, on top, and the ends of the line before it.
    layers = sorted(
        zip(points, places, labels, strict=True), key=lambda m: _LAYERS.index(m[0].role)
    )
    for point, (cx, cy), label in layers:
        group = drawing.add("g", f"mark-point {point.role}")
        _whiskers(drawing, group, point, (cx, cy), scales, across)
        drawing.add("circle", "reach", parent=group, cx=cx, cy=cy, r=14)
        _shape(drawing, group, point, (cx, cy))
        if label:
            left, top, right, bottom = label.box
            # Anchored at the side of the point, so that a wide font grows away from it.
            anchor, x = (
                ("start", left) if left > cx else ("end", right) if right < cx else ("middle", cx)
            )
            y = (top + bottom) / 2 + 4.5
            drawing.add("text", "label", label.text, group, x=x, y=y, text_anchor=anchor)
        drawing.tip(group, point_tip(point), point.name)


def _shape(drawing: Drawing, group: Element, point: Point, place: Place) -> None:
    if point.role == "live" and not point.kind:
        drawing.add("circle", "dot", parent=group, cx=place[0], cy=place[1], r=7)
        return
    # A circle is kept for what ran; of several that ran, the others have filled shapes.
    kind = point.kind - 1 if point.role == "live" else point.kind
    shape = "square" if point.role in ("slm", "llm") else SHAPES[kind % len(SHAPES)]
    size = 6.5 if point.role == "live" else 5.5
    drawing.add("polygon", "dot", parent=group, points=shape_points(shape, *place, size))


def _whiskers(
    drawing: Drawing,
    group: Element,
    point: Point,
    place: Place,
    scales: tuple[Scale, Scale],
    across: Across,
) -> None:
    if ends := point.quality.ends:
        drawing.line("whisker", [(place[0], scales[1].at(v)) for v in ends], group)
    if ends := getattr(point, across).ends:
        drawing.line("whisker", [(scales[0].at(v), place[1]) for v in ends], group)
