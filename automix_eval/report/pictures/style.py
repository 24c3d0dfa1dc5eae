"""The one style of all pictures: legible in print, and in black and white.

Nothing is told by colour alone: marks differ in shape and filling, lines in their dashes, areas in
their hatches.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK = "#1a1a1a"
SOFT = "#5f6670"
GRID = "#e4e7eb"
# Differ in lightness too, so that they stay apart in grey.
ACCENT = "#0b5fa5"
WARM = "#e39a35"
PALE = "#dde3ea"

DPI = 300
#: Width of one column of a paper, in inches.
COLUMN = 3.4
SIZE = (COLUMN, 2.6)
# The same shapes in the same order as on the page.
MARKERS = ("^", "D", "v", "P", "<", ">", "s")

# matplotlib types the names of its settings one by one; a misspelt one is an error when it is set.
_RC: Any = {
    "font.size": 7.5,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 8.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 7.0,
    "lines.linewidth": 1.2,
    "savefig.dpi": DPI,
    # A task's name is no formula; "$" in it is a dollar sign.
    "text.parse_math": False,
    "svg.fonttype": "path",
    # Names of elements in the SVG, the same in every run.
    "svg.hashsalt": "automix-eval",
    "xtick.color": SOFT,
    "ytick.color": SOFT,
}


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this style; the process's own settings are as they were afterwards."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def figure(
    columns: int = 1, size: tuple[float, float] = SIZE, below: float = 0.0, rows: int = 1
) -> tuple[Figure, list[Axes]]:
    """An empty figure and its axes, row by row; without pyplot, so nothing stays open.

    Args:
        columns: Number of axes side by side.
        size: Width and height in inches.
        below: Inches added at the bottom, for a legend.
        rows: Number of axes above each other.
    """
    from matplotlib.figure import Figure

    size = (size[0], size[1] + below)
    made = Figure(figsize=size, dpi=100)
    axes = made.subplots(rows, columns, squeeze=False)
    made.subplots_adjust(left=0.62 / size[0], right=1 - 0.13 / size[0], wspace=0.28, hspace=0.6)
    made.subplots_adjust(bottom=(0.42 + below) / size[1], top=1 - 0.26 / size[1])
    return made, list(axes.flat)


def save(made: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG and as SVG; the same figure gives the same bytes."""
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    made.savefig(paths[0], metadata={"Software": None})
    made.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths
