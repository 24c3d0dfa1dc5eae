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

DPI = 160
SIZE = (6.4, 4.3)
# The same shapes in the same order as on the page.
MARKERS = ("^", "D", "v", "P", "<", ">", "s")

# matplotlib types the names of its settings one by one; a misspelt one is an error when it is set.
_RC: Any = {
    "font.size": 9.0,
    "axes.edgecolor": SOFT,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "hatch.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.5,
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
    columns: int = 1, size: tuple[float, float] = SIZE, beside: float = 0.0
) -> tuple[Figure, list[Axes]]:
    """An empty figure and its axes side by side; without pyplot, so nothing stays open.

    Args:
        columns: Number of axes.
        size: Width and height in inches.
        beside: Inches added at the right, for a legend.
    """
    from matplotlib.figure import Figure

    size = (size[0] + beside, size[1])
    made = Figure(figsize=size, dpi=100)
    axes = made.subplots(1, columns, squeeze=False)
    made.subplots_adjust(left=0.7 / size[0], right=1 - (0.15 + beside) / size[0], wspace=0.28)
    made.subplots_adjust(bottom=0.55 / size[1], top=1 - 0.35 / size[1])
    return made, list(axes[0])


def save(made: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as PNG and as SVG; the same figure gives the same bytes."""
    paths = [folder / f"{name}.png", folder / f"{name}.svg"]
    made.savefig(paths[0], metadata={"Software": None})
    made.savefig(paths[1], metadata={"Date": None, "Creator": None})
    return paths
