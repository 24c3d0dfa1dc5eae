"""What the pictures of a board show, the same on paper and on the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from automix_eval.analysis.figures import (
    Board,
    CurvePoint,
    Figure,
    MethodFigures,
    Report,
    System,
    TaskReport,
)
from automix_eval.analysis.reference_methods import ZERO
from automix_eval.metrics.ibc import Undefined

Role = Literal["slm", "llm", "live", "replay", "bound", "plain"]
Across = Literal["cost", "escalation_rate"]
_ENDS: dict[str, Role] = {"always_slm": "slm", "always_llm": "llm"}
_LINE = ("slm", "llm")
# Not methods one could use: they say how bad and how good a router could be.
_BOUNDS = ("random", "oracle")
_MODELS = (ZERO, "always_tier")
_ORDER: tuple[Role, ...] = ("slm", "llm", "live", "replay", "bound", "plain")


@dataclass(frozen=True, slots=True)
class Point:
    """One point of the cost-quality plane.

    Attributes:
        name: Key of the method's row on the board; empty for an end of the line that has none.
        role: ``slm`` and ``llm`` are the ends of the line of always asking one model.
        kind: Running number for its shape: among those that ran, or among all others.
    """

    name: str
    label: str
    role: Role
    kind: int
    quality: Figure
    cost: Figure
    escalation_rate: Figure
    delta_ibc: Figure
    curve: tuple[CurvePoint, ...] = ()

    @property
    def at(self) -> tuple[float, float]:
        """(cost, quality), both defined for every point of a picture."""
        return number(self.cost), number(self.quality)

    def sweep(self, across: Across) -> list[tuple[float, float]]:
        """Operating points of the method, ascending; empty if there is only its own."""
        return sweep(self.curve, across) if len(self.curve) > 1 else []


@dataclass(frozen=True, slots=True)
class BoardPicture:
    """A board with the runs behind it.

    Attributes:
        points: Those with a cost and a quality; SLM and LLM first, then what ran, then replays.
        tasks: The report's entries of the runs on this board.
    """

    board: Board
    points: tuple[Point, ...]
    tasks: tuple[TaskReport, ...]

    def end(self, role: Role) -> Point | None:
        """The SLM's or the LLM's own point; None where it has no figures."""
        return next((m for m in self.points if m.role == role), None)

    @property
    def judged(self) -> tuple[MethodFigures, ...]:
        """The methods a verdict is passed on: what ran, or the replays if nothing did.

        A replayed model alone, or a mixture of such, is no cascade that could pay.
        """
        routers = [m for m in self.board.methods if role_of(m) in ("live", "replay")]
        live = tuple(m for m in routers if m.kind == "live")
        return live or tuple(m for m in routers if _option(m).split(":")[0] not in _MODELS)


def board_pictures(report: Report) -> tuple[BoardPicture, ...]:
    """One picture a board."""
    return tuple(_picture(board, report) for board in report.boards)


def role_of(method: MethodFigures) -> Role:
    """What a method is in a picture."""
    if method.kind == "plain":
        return "plain"
    name = _option(method)
    if name.split("@")[0] in _BOUNDS:
        return "bound"
    return _ENDS.get(name, method.kind)


def _option(method: MethodFigures) -> str:
    return method.name.removeprefix("replay:")


def tier_name(index: int, number: int) -> str:
    """What a tier of a chain of so many is called in words."""
    return {0: "SLM", number - 1: "LLM"}.get(index, f"tier {index}")


def number(figure: Figure) -> float:
    """The value of a figure that is known to be defined.

    Raises:
        ValueError: It is not.
    """
    if isinstance(figure.value, Undefined):
        raise ValueError(f"the figure is undefined: {figure.value.reason}")
    return figure.value


def sweep(curve: Sequence[CurvePoint], across: Across) -> list[tuple[float, float]]:
    """(cost or escalation rate, quality) of the points of a curve that have both, ascending."""
    pairs = [(p.cost if across == "cost" else p.escalation_rate, p.quality) for p in curve]
    return sorted((x, y) for x, y in pairs if x is not None)


def defined(figure: Figure) -> bool:
    """Whether a figure has a value."""
    return not isinstance(figure.value, Undefined)


def _picture(board: Board, report: Report) -> BoardPicture:
    runs = {run for method in board.methods for run in method.runs}
    tasks = tuple(t for t in report.tasks if t.task == board.task and t.run_id in runs)
    points = _points(board.methods)
    for role, label in (("slm", "SLM"), ("llm", "LLM")):
        if tasks and not any(m.role == role for m in points):
            figures = tasks[0].figures
            points.append(_end(label, figures.slm if role == "slm" else figures.llm))
    shown = [m for m in points if defined(m.cost) and defined(m.quality)]
    shown.sort(key=lambda m: _ORDER.index(m.role))
    return BoardPicture(board, tuple(shown), tasks)


def _points(methods: Sequence[MethodFigures]) -> list[Point]:
    points: list[Point] = []
    for method in methods:
        role = role_of(method)
        if role in _LINE and any(m.role == role for m in points):
            continue  # the same point again, as a run of its own
        if "@" in method.name:
            continue  # at the cost of another point: the line and the oracle's curve show it
        label = role.upper() if role in _LINE else method.label
        kind = sum((m.role == "live") == (role == "live") for m in points if m.role not in _LINE)
        points.append(
            Point(
                method.name, label, role, kind, method.quality, method.cost,
                method.escalation_rate, method.delta_ibc, method.curve,
            )
        )  # fmt: skip
    return points


def _end(label: str, system: System) -> Point:
    role: Role = "slm" if label == "SLM" else "llm"
    none = Figure(Undefined("it is an end of the line that delta IBC is measured from"))
    return Point("", label, role, 0, system.quality, system.cost, system.escalation_rate, none)


# --------------------------------------------------------------------------- names of points

Box = tuple[float, float, float, float]
Place = tuple[float, float]

# The corners first, because the arms of intervals run to the sides; to the right before the left,
# as a reader expects it.
_SIDES = ((1, -1), (1, 1), (-1, -1), (-1, 1), (1, 0), (-1, 0), (0, -1), (0, 1))
_CLEAR = 1.5  # how much farther than its own point every other point must be
_CORNER = 0.65  # share of the gap that a corner keeps in each direction


@dataclass(frozen=True, slots=True)
class Label:
    """A placed name: its box (left, top, right, bottom), y growing downwards."""

    text: str
    box: Box


def place_labels(
    points: Sequence[Place],
    texts: Sequence[str],
    bounds: Box,
    text_size: tuple[float, float],
    gap: float = 9.0,
) -> list[Label | None]:
    """Greedy placement: each name, in order, on the first side of its point that is free.

    A side is free where the name covers no point and no other name, stays within the bounds and
    is clearly nearer to its own point than to any other. Of points at one place the first is named.

    Args:
        points: Where the points are, in the units of the drawing, y growing downwards.
        texts: Their names, the most important first; an empty one is not placed.
        bounds: Left, top, right and bottom within which names must stay.
        text_size: Mean width of a character and height of a line.
        gap: Distance from a point to its name.

    Returns:
        A label a point; None where no side is free (such a point has its name elsewhere).
    """
    taken: list[Box] = [
        (x - gap * _CORNER, y - gap * _CORNER, x + gap * _CORNER, y + gap * _CORNER)
        for x, y in points
    ]
    placed: list[Label | None] = []
    named: list[Place] = []
    for (x, y), text in zip(points, texts, strict=True):
        width, height = text_size[0] * len(text), text_size[1]
        boxes = (_box(x, y, dx, dy, width, height, gap) for dx, dy in _SIDES)
        free = (
            b
            for b in boxes
            if _inside(b, bounds)
            and not any(_overlap(b, t) for t in taken)
            and all(_apart(b, p) >= _CLEAR * _apart(b, (x, y)) for p in points if p != (x, y))
        )
        box = next(free, None) if text and (x, y) not in named else None
        if box is None:
            placed.append(None)
            continue
        taken.append(box)
        named.append((x, y))
        placed.append(Label(text, box))
    return placed


def _box(x: float, y: float, dx: int, dy: int, width: float, height: float, gap: float) -> Box:
    reach = gap if dx == 0 or dy == 0 else gap * _CORNER
    left = x + dx * reach - (width if dx < 0 else width / 2 if dx == 0 else 0)
    top = y + dy * reach - (height if dy < 0 else height / 2 if dy == 0 else 0)
    return left, top, left + width, top + height


def _inside(box: Box, bounds: Box) -> bool:
    return (
        box[0] >= bounds[0] and box[1] >= bounds[1] and box[2] <= bounds[2] and box[3] <= bounds[3]
    )


def _apart(box: Box, point: Place) -> float:
    """Distance from a box to a point outside it."""
    across = max(box[0] - point[0], 0.0, point[0] - box[2])
    return math.hypot(across, max(box[1] - point[1], 0.0, point[1] - box[3]))


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
