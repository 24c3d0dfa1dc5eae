"""Drawings of the page: scales, axes and marks as SVG elements, styled by the page's style sheet.

Elements are built with ElementTree, so that every text is escaped where it is written out. Nothing
has a ``style`` attribute: the page's content-security policy forbids it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from xml.etree import ElementTree as Tree

from automix_eval.report.page.visible import visible

Place = tuple[float, float]
MINUS = "\u2212"


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps numbers from ``low .. high`` to ``start .. end`` of the drawing."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """Where a number lies, clipped to the drawing's edges."""
        share = (value - self.low) / (self.high - self.low)
        return self.start + min(max(share, 0.0), 1.0) * (self.end - self.start)

    def holds(self, value: float) -> bool:
        """Whether a number lies on the axis; another is drawn at its end."""
        return self.low <= value <= self.high

    def ticks(self, count: int = 6) -> list[float]:
        """About ``count`` round numbers (1, 2 or 5 times a power of ten apart)."""
        rough = (self.high - self.low) / max(count, 1)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [k * step for k in range(first, last + 1)]


def spread(values: Sequence[float], pad: float = 0.08) -> tuple[float, float]:
    """Ends of an axis that shows all values with a margin; never of length zero."""
    low, high = min(values), max(values)
    margin = (high - low) * pad or max(abs(high), 1.0) * 0.05
    return low - margin, high + margin


class Drawing:
    """One figure with a plot area between its margins.

    Args:
        label: What the figure shows, for readers who cannot see it.
        size: Width and height in units of the view box.
        margins: Left, top, right and bottom.
    """

    def __init__(
        self,
        label: str,
        size: tuple[int, int] = (600, 380),
        margins: tuple[int, int, int, int] = (64, 16, 20, 52),
    ) -> None:
        self.width, self.height = size
        self.left, self.top = margins[0], margins[1]
        self.right, self.bottom = size[0] - margins[2], size[1] - margins[3]
        self.root = Tree.Element(
            "svg",
            {"viewBox": f"0 0 {size[0]} {size[1]}", "role": "group", "aria-label": visible(label)},
        )

    def x_scale(self, low: float, high: float) -> Scale:
        """A scale over the plot area's width."""
        return Scale(low, high, self.left, self.right)

    def y_scale(self, low: float, high: float) -> Scale:
        """A scale over the plot area's height, upwards."""
        return Scale(low, high, self.bottom, self.top)

    def add(
        self, tag: str, css: str, text: str | None = None, parent: Tree.Element | None = None,
        **attributes: float | str,
    ) -> Tree.Element:  # fmt: skip
        """Append an element; underscores in attribute names stand for hyphens."""
        named = {
            k.replace("_", "-"): v if isinstance(v, str) else f"{v:.6g}"
            for k, v in attributes.items()
        }
        node = Tree.SubElement(
            self.root if parent is None else parent, tag, {"class": css, **named}
        )
        if text is not None:
            node.text = visible(text)
        return node

    def line(self, css: str, points: Sequence[Place], parent: Tree.Element | None = None) -> None:
        """A line through points."""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.add("polyline", css, parent=parent, points=path)

    def x_axis(self, scale: Scale, label: str, percent: bool = False, grid: bool = True) -> None:
        """Ticks, title and grid of the horizontal axis."""
        ticks = scale.ticks()
        for value, text in zip(ticks, tick_texts(ticks, percent), strict=True):
            place = scale.at(value)
            if grid:
                self.line("grid", [(place, self.top), (place, self.bottom)])
            self.add("text", "tick", text, x=place, y=self.bottom + 18, text_anchor="middle")
        self.line("axis", [(self.left, self.bottom), (self.right, self.bottom)])
        middle = (self.left + self.right) / 2
        self.add("text", "title", label, x=middle, y=self.height - 8, text_anchor="middle")

    def y_axis(
        self, scale: Scale, label: str, percent: bool = False, both_ways: bool = False
    ) -> None:
        """Ticks, title and grid of the vertical axis; ``both_ways`` counts up and down from 0."""
        ticks = scale.ticks()
        shown = [abs(v) for v in ticks] if both_ways else ticks
        for value, text in zip(ticks, tick_texts(shown, percent), strict=True):
            place = scale.at(value)
            self.line("grid", [(self.left, place), (self.right, place)])
            self.add("text", "tick", text, x=self.left - 8, y=place + 4, text_anchor="end")
        self.line("axis", [(self.left, self.top), (self.left, self.bottom)])
        self.y_title(label)

    def y_title(self, label: str) -> None:
        """The title of the vertical axis."""
        middle = (self.top + self.bottom) / 2
        turn = f"rotate(-90 16 {middle:.0f})"
        self.add("text", "title", label, x=16, y=middle, text_anchor="middle", transform=turn)

    def tip(self, node: Tree.Element, text: str, row: str = "") -> None:
        """What the page shows when the element is hovered over; first line is its title."""
        node.set("data-tip", visible(text))
        node.set("role", "img")
        if row:
            node.set("data-row", visible(row))
        Tree.SubElement(node, "title").text = visible(text)

    def markup(self) -> str:
        """The drawing as markup in which all texts are escaped."""
        return Tree.tostring(self.root, encoding="unicode")


def tick_texts(ticks: Sequence[float], percent: bool = False) -> list[str]:
    """Numbers of an axis with as many decimals as tell them apart."""
    scale = 100 if percent else 1
    apart = [abs(b - a) * scale for a, b in pairwise(ticks) if a != b]
    step = min(apart, default=1.0)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    sign = "%" if percent else ""
    return [f"{v * scale:,.{decimals}f}".replace("-", MINUS) + sign for v in ticks]


_SHAPES = {
    "square": ((-1, -1), (1, -1), (1, 1), (-1, 1)),
    "diamond": ((0, -1.35), (1.35, 0), (0, 1.35), (-1.35, 0)),
    "up": ((0, -1.3), (1.2, 0.9), (-1.2, 0.9)),
    "down": ((0, 1.3), (1.2, -0.9), (-1.2, -0.9)),
    "left": ((-1.3, 0), (0.9, -1.2), (0.9, 1.2)),
    "right": ((1.3, 0), (-0.9, -1.2), (-0.9, 1.2)),
    "cross": (
        (-0.4, -1.2), (0.4, -1.2), (0.4, -0.4), (1.2, -0.4), (1.2, 0.4), (0.4, 0.4), (0.4, 1.2),
        (-0.4, 1.2), (-0.4, 0.4), (-1.2, 0.4), (-1.2, -0.4), (-0.4, -0.4),
    ),
}  # fmt: skip
#: Shapes of methods in the order they are given out; a circle is kept for the method that ran.
SHAPES = ("up", "diamond", "down", "cross", "left", "right", "square")


def shape_points(shape: str, x: float, y: float, size: float) -> str:
    """Corners of a mark of one of :data:`SHAPES` around a point."""
    return " ".join(f"{x + size * dx:.1f},{y + size * dy:.1f}" for dx, dy in _SHAPES[shape])
