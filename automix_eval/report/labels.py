"""Where the names of points stand in a picture: beside them, covering nothing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

Box = tuple[float, float, float, float]
Point = tuple[float, float]

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
    points: Sequence[Point],
    texts: Sequence[str],
    bounds: Box,
    text_size: tuple[float, float],
    gap: float = 9.0,
) -> list[Label | None]:
    """Greedy placement: each name, in order, on the first side of its point that is free.

    A side is free where the name covers no point and no other name, stays within the bounds and
    is clearly nearer to its own point than to any other.

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
        box = next(free, None) if text else None
        if box is None:
            placed.append(None)
            continue
        taken.append(box)
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


def _apart(box: Box, point: Point) -> float:
    """Distance from a box to a point outside it."""
    across = max(box[0] - point[0], 0.0, point[0] - box[2])
    return math.hypot(across, max(box[1] - point[1], 0.0, point[1] - box[3]))


def _overlap(a: Box, b: Box) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]
