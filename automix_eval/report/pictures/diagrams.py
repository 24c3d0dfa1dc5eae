"""Pictures of a run: the verifier's reliability and confidences, and the fitted policy."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from automix_eval.analysis.figures import VerifierFigures
from automix_eval.report.pictures.style import ACCENT, COLUMN, INK, PALE, SOFT, WARM, figure
from automix_eval.report.policy_picture import STATES, PolicyPicture
from automix_eval.safety.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Legends stand above the axes: anywhere inside there may be points.
_ABOVE: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0.0, 1.0), "borderaxespad": 0.2}
_STRIP = (-0.17, 0.11)  # bottom and height of the strip of actions, in shares of the belief's axis


def verifier(figures: VerifierFigures, title: str) -> Figure | None:
    """Share of right answers against confidence; and the confidences of right and wrong answers."""
    if not any(b.count for b in figures.reliability):
        return None
    made, (left, right) = figure(rows=2, size=(COLUMN, 4.6))
    made.suptitle(printable(title, 48), x=0.02, ha="left", fontsize=8, fontweight="bold")
    made.subplots_adjust(top=0.85, hspace=0.5)
    _reliability(left, figures)
    _distribution(right, figures)
    return made


def policy(picture: PolicyPicture, title: str) -> Figure:
    """From confidence to action, above it the belief over the hidden states where there is one."""
    made, (axes,) = figure(size=(COLUMN, 2.8 if picture.belief else 1.3))
    axes.set_title(printable(title, 48), pad=18 if picture.belief else 6)
    if picture.belief:  # room for the legend below the title
        made.subplots_adjust(top=1 - 0.46 / made.get_figheight())
    edges = picture.edges
    widths = [b - a for a, b in pairwise(edges)]
    bottom, height = _STRIP if picture.belief else (0.0, 1.0)
    for low, width, to in zip(edges[:-1], widths, picture.actions, strict=True):
        axes.bar(
            low,
            height,
            width,
            bottom,
            align="edge",
            color=PALE if to == picture.tier else ACCENT,
            linewidth=0,
        )
    _name_actions(axes, picture, bottom + height / 2)
    if picture.belief:
        _belief(axes, picture, widths)
    axes.set_xlim(edges[0], edges[-1])
    axes.set_xlabel("confidence")
    axes.grid(visible=False)
    axes.set_ylim(min(bottom, 0.0) - 0.01, 1.0)
    if not picture.belief:
        axes.set_yticks([])
    return made


def _reliability(axes: Axes, figures: VerifierFigures) -> None:
    bins = [b for b in figures.reliability if b.count]
    axes.plot([0, 1], [0, 1], "--", color=SOFT, linewidth=1.2, label="as often right as confident")
    across, up = [b.confidence or 0.0 for b in bins], [b.accuracy or 0.0 for b in bins]
    most = max(b.count for b in bins)
    axes.plot(across, up, color=ACCENT, linewidth=1.2)
    areas = [12 + 110 * b.count / most for b in bins]
    axes.scatter(across, up, s=areas, color=ACCENT, zorder=3, label="answers (area: their number)")
    axes.set_xlim(-0.04, 1.04)
    axes.set_ylim(-0.04, 1.04)
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_xlabel("confidence")
    axes.set_ylabel(f"share right (score > {figures.right_above:.4g})")
    axes.legend(**_ABOVE, markerscale=0.6)


def _distribution(axes: Axes, figures: VerifierFigures) -> None:
    bins = figures.histogram
    lows, widths = [b.low for b in bins], [b.high - b.low for b in bins]
    right, wrong = [b.right for b in bins], [b.right - b.count for b in bins]
    edge: dict[str, Any] = {"align": "edge", "linewidth": 0.6}
    axes.bar(lows, right, widths, color=ACCENT, edgecolor="white", label="right", **edge)
    axes.bar(
        lows, wrong, widths, color="white", edgecolor=SOFT, hatch="////", label="wrong", **edge
    )
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.set_xlim(0, 1)
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):,.0f}")
    axes.set_xlabel("confidence")
    axes.set_ylabel("number of answers")
    axes.legend(**_ABOVE, ncols=2)


def _belief(axes: Axes, picture: PolicyPicture, widths: list[float]) -> None:
    looks: tuple[dict[str, Any], ...] = (
        {"color": PALE, "edgecolor": "white"},
        {"color": WARM, "edgecolor": "white"},
        {"color": "white", "edgecolor": SOFT, "hatch": "////"},
    )
    below = [0.0] * len(widths)
    for state, (name, look) in enumerate(zip(STATES, looks, strict=True)):
        heights = [triple[state] / (sum(triple) or 1.0) for triple in picture.belief]
        axes.bar(
            picture.edges[:-1], heights, widths, below, align="edge", linewidth=0.4, label=name,
            **look,
        )  # fmt: skip
        below = [b + h for b, h in zip(below, heights, strict=True)]
    axes.set_yticks([0, 0.25, 0.5, 0.75, 1.0])
    axes.yaxis.set_major_formatter("{x:.0%}")
    axes.set_ylabel("belief")
    axes.legend(loc="lower left", bbox_to_anchor=(0.0, 0.995), ncols=3, handlelength=1.2)


def _name_actions(axes: Axes, picture: PolicyPicture, middle: float) -> None:
    for to, low, high in picture.spans:
        if (high - low) / (picture.edges[-1] - picture.edges[0]) > 0.12:
            color = INK if to == picture.tier else "white"
            name = picture.action(to)
            axes.text((low + high) / 2, middle, name, ha="center", va="center", color=color)
