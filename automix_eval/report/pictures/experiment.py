"""The picture of one part: lines over a number, or dots beside names, each with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automix_eval.analysis.experiments.cell_figures import CellFigure
from automix_eval.analysis.experiments.preset import Part
from automix_eval.analysis.experiments.sources import shown
from automix_eval.analysis.experiments.study import CellScore, Study
from automix_eval.report.pictures.style import (
    ACCENT,
    INK,
    MARKERS,
    SOFT,
    WARM,
    figure,
    save,
    styled,
)
from automix_eval.safety.text import clip, printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Drawing

NUMBERS = ("ratio", "verify_cost", "votes", "shuffled", "train", "auroc", "cost_ratio", "num_tiers")
WORDS = {
    "delta_ibc": "delta IBC", "quality": "quality", "cost": "mean cost of a question",
    "escalated": "share escalated", "ratio": "cost of the LLM's answer (SLM 1)",
    "verify_cost": "cost of a verification, in answers of its tier", "votes": "votes",
    "shuffled": "share of confidences shuffled", "train": "questions fitted on",
    "auroc": "AUROC of the verifier", "cost_ratio": "cost of the LLM's answer / the SLM's",
    "num_tiers": "tiers",
}  # fmt: skip
_SHARES = ("delta_ibc", "escalated")
_DASHES = ("-", "--", "-.", ":")
_INKS = (ACCENT, WARM, INK, SOFT)
_MOST = 6
_PANEL = 3.5  # width of a panel in inches
# More lines than these are explained once, below the panels.
_LEGEND = 6


def draw(study: Study, folder: Path, note: str) -> list[Path]:
    """Write ``PART.png`` and ``PART.svg``; nothing where no cell has the figure shown.

    At most six panels, one a source; the tables have the others too.

    Args:
        study: The cells.
        folder: Exists.
        note: What every picture must say, such as that the outcomes are simulated.
    """
    part = study.part
    rows = [
        r for r in study.rows if r.figures[part.y].value is not None and _at(r, part.x) is not None
    ]
    if not rows:
        return []
    with styled():
        return save(_drawing(study, rows, note), folder, part.name)


def _drawing(study: Study, rows: Sequence[CellScore], note: str) -> Drawing:
    part = study.part
    lines = part.x in NUMBERS
    panels: dict[str, list[CellScore]] = {}
    for row in rows:
        key = "" if part.together or part.x == "source" else str(row.labels["source"])
        panels.setdefault(key, []).append(row)
    dropped = len(panels) - _MOST
    shown_panels = dict(list(panels.items())[:_MOST])
    height = 3.6 if lines else 1.6 + 0.2 * max(map(len, shown_panels.values()))
    longest = max(len(_dot_name(part, row)) for some in shown_panels.values() for row in some)
    # inches that the names of rows, or the numbers of an axis, take beside each panel
    beside = 0.9 if lines else 0.35 + 0.06 * longest
    number = len(shown_panels)
    made, all_axes = figure(number, (number * (beside + _PANEL) + 0.2, min(height, 14.0)))
    made.subplots_adjust(left=beside / made.get_figwidth(), wspace=beside / _PANEL)
    styles = _styles(part.series, rows)
    for axes, (name, some) in zip(all_axes, shown_panels.items(), strict=True):
        (_lines if lines else _dots)(axes, study, some, styles)
        axes.set_title(clip(printable(name or part.title), 44), pad=14)
    tail = f"; {dropped} more sources are in the table" if dropped > 0 else ""
    made.text(0.005, 0.01, f"{note}{tail}", fontsize=7, color=SOFT)
    many = lines and len(styles) > _LEGEND
    made.subplots_adjust(bottom=(1.1 if many else 0.75) / made.get_figheight())
    if many:
        held = dict(zip(*all_axes[0].get_legend_handles_labels()[::-1], strict=True))
        made.legend(held.values(), held.keys(), loc="lower right", ncols=5, fontsize=7)
    return made


def _lines(axes: Axes, study: Study, rows: Sequence[CellScore], styles: Mapping[str, Any]) -> None:
    part = study.part
    groups: dict[str, list[CellScore]] = {}
    for row in rows:
        groups.setdefault(_series(part.series, row), []).append(row)
    for number, (name, some) in enumerate(groups.items()):
        points = sorted(some, key=lambda r: _at(r, part.x) or 0.0)
        # side by side, so that intervals at one place can be told apart
        spread = [_moved(_at(r, part.x) or 0.0, number, len(groups), part.log_x) for r in points]
        values = [r.figures[part.y].value or 0.0 for r in points]
        axes.plot(spread, values, label=clip(name, 40), markersize=5, **styles[name])
        for x, row in zip(spread, points, strict=True):
            _bar(axes, x, row.figures[part.y], styles[name]["color"])
    if part.log_x:
        axes.set_xscale("log")
    if part.log_x or part.x == "num_tiers":
        _plain_ticks(axes, {float(_at(r, part.x) or 0.0) for r in rows})
    axes.set_xlabel(WORDS[part.x])
    axes.set_ylabel(WORDS[part.y])
    if part.y in _SHARES:
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.axhline(0, color=SOFT, linewidth=0.8)
    if 1 < len(groups) <= _LEGEND:
        axes.legend(loc="best", fontsize=7)


def _plain_ticks(axes: Axes, places: set[float]) -> None:
    """The values themselves, as many as there is room for: a formula would stay unparsed."""
    from matplotlib.ticker import FixedLocator, NullLocator

    every = sorted(places)
    step = max(1, math.ceil(len(every) / 7))
    axes.xaxis.set_major_locator(FixedLocator(every[::step]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:.4g}")


def _moved(x: float, number: int, groups: int, log: bool) -> float:
    step = (number - (groups - 1) / 2) * 0.015
    return x * math.exp(2 * step) if log else x + step * max(1.0, abs(x)) / 2


def _bar(axes: Axes, x: float, found: CellFigure, color: str) -> None:
    if found.interval is not None:
        axes.vlines(x, *found.interval, color=color, linewidth=0.8, alpha=0.8)


def _dots(axes: Axes, study: Study, rows: Sequence[CellScore], styles: Mapping[str, Any]) -> None:
    part = study.part
    names = []
    for place, row in enumerate(rows):
        found, name = row.figures[part.y], _series(part.series, row)
        style = styles[name]
        if found.interval is not None:
            axes.hlines(place, *found.interval, color=style["color"], linewidth=1.4)
        mark = {k: style[k] for k in ("marker", "color")}
        axes.plot([found.value or 0.0], [place], linestyle="", **mark)
        names.append(_dot_name(part, row))
    axes.set_yticks(range(len(rows)), names, fontsize=7)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel(WORDS[part.y])
    axes.locator_params(axis="x", nbins=5)
    if part.y in _SHARES:
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.axvline(0, color=SOFT, linestyle="--", linewidth=0.8)


def _dot_name(part: Part, row: CellScore) -> str:
    series = [] if part.series == (part.x,) else [_series(part.series, row)]
    words = [str(_at(row, part.x)), *series]
    return clip(printable(", ".join(dict.fromkeys(w for w in words if w))), 70)


def _at(row: CellScore, x: str) -> Any:
    if x in row.labels:
        return row.labels[x] if x not in NUMBERS or row.labels[x] is not None else None
    if x in row.facts:
        return row.facts[x]
    found = row.figures.get(x)
    return None if found is None else found.value


def _series(keys: Sequence[str], row: CellScore) -> str:
    def word(key: str) -> str:
        value = row.labels[key] if key in row.labels else row.facts[key]
        text = value if isinstance(value, str) else shown(value).removesuffix("\n...").strip()
        return (
            text if key in ("router", "source", "test", "tiers", "objective") else f"{key} {text}"
        )

    return ", ".join(word(k) for k in keys)


def _styles(keys: Sequence[str], rows: Sequence[CellScore]) -> dict[str, dict[str, Any]]:
    """Colour, shape and dashes of each line; the same in every panel."""
    names = list(dict.fromkeys(_series(keys, r) for r in rows))
    return {
        name: {
            "color": _INKS[i % len(_INKS)],
            "marker": ("o", *MARKERS)[i % (len(MARKERS) + 1)],
            "linestyle": _DASHES[i // len(_INKS) % len(_DASHES)],
        }
        for i, name in enumerate(names)
    }
