"""The picture of one part: lines over a number, or dots beside names, each with its interval."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automix_eval.analysis.experiments.cell_figures import CellFigure
from automix_eval.analysis.experiments.preset import Part
from automix_eval.analysis.experiments.sources import shown
from automix_eval.analysis.experiments.study import CellScore, Study
from automix_eval.report.pictures.style import (
    ACCENT,
    COLUMN,
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
# inches: height of a panel of lines, and between two panels for ticks and a title
_LINES, _BETWEEN = 1.5, 0.46


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
    """One column of a paper wide; its panels stand one above the other, on one legend."""
    part = study.part
    lines = part.x in NUMBERS
    panels: dict[str, list[CellScore]] = {}
    for row in rows:
        key = "" if part.together or part.x == "source" else str(row.labels["source"])
        panels.setdefault(key, []).append(row)
    dropped = len(panels) - _MOST
    shown_panels = dict(list(panels.items())[:_MOST])
    styles = _styles(part.series, [row for some in shown_panels.values() for row in some])
    names = {name: _names(part, some) for name, some in shown_panels.items()}
    widest = max(len(line) for some in names.values() for text in some for line in text.split("\n"))
    left = 0.78 if lines else 0.2 + 0.052 * widest
    heights = [_LINES if lines else _dots_height(some) for some in names.values()]
    named = [] if part.series == (part.x,) or len(styles) == 1 else list(styles)
    columns = max(1, min(len(named), int(COLUMN / (0.35 + 0.048 * max(map(len, named or [""]))))))
    below = 0.6 + 0.155 * math.ceil(len(named) / columns)
    top = 0.3
    height = top + sum(heights) + _BETWEEN * (len(heights) - 1) + below
    made, all_axes = figure(1, (COLUMN, height), rows=len(heights))
    up = height - top
    for axes, tall, (name, some) in zip(all_axes, heights, shown_panels.items(), strict=True):
        axes.set_position(
            (left / COLUMN, (up - tall) / height, 1 - (left + 0.18) / COLUMN, tall / height)
        )
        up -= tall
        if lines:
            _lines(axes, study, some, styles)
        else:
            _dots(axes, study, some, styles, names[name])
        title = clip(printable(name or part.title), 48)
        made.text(0.02, (up + tall + 0.07) / height, title, fontweight="bold")
        up -= _BETWEEN
    all_axes[-1].set_xlabel(WORDS[part.x if lines else part.y])
    tail = f"; {dropped} more sources are in the table" if dropped > 0 else ""
    made.text(0.02, 0.04 / height, f"{note}{tail}", fontsize=6, color=SOFT)
    if named:
        from matplotlib.lines import Line2D

        looks = [
            Line2D([], [], markersize=4, **(styles[n] if lines else _mark(styles[n])))
            for n in named
        ]
        words = [clip(name, 40) for name in named]
        where: Any = {"loc": "lower left", "bbox_to_anchor": (0.0, 0.16 / height)}
        made.legend(looks, words, ncols=columns, columnspacing=1.0, handletextpad=0.4, **where)
    return made


def _lines(axes: Axes, study: Study, rows: Sequence[CellScore], styles: Mapping[str, Any]) -> None:
    part = study.part
    groups: dict[str, list[CellScore]] = {}
    for row in rows:
        groups.setdefault(_series(part.series, row), []).append(row)
    for number, (name, some) in enumerate(groups.items()):
        points = sorted(some, key=lambda r: _at(r, part.x) or 0.0)
        places = [_at(r, part.x) or 0.0 for r in points]
        # side by side, so that intervals at one place can be told apart
        spread = [_moved(x, number, len(groups), part.log_x) for x in places]
        values = [r.figures[part.y].value or 0.0 for r in points]
        # Several cells at one place are of unlike models: no line leads from one to the next.
        apart = len({f"{x:.2g}" for x in places}) == len(places)
        look = styles[name] if apart else _mark(styles[name])
        axes.plot(spread, values, markersize=4, **look)
        for x, row in zip(spread, points, strict=True):
            _bar(axes, x, row.figures[part.y], styles[name]["color"])
    if part.log_x:
        axes.set_xscale("log")
    if part.log_x or part.x == "num_tiers":
        _plain_ticks(axes, {float(_at(r, part.x) or 0.0) for r in rows}, part.log_x)
    axes.set_ylabel(WORDS[part.y])
    if part.y in _SHARES:
        axes.yaxis.set_major_formatter("{x:.0%}")
        axes.axhline(0, color=SOFT, linewidth=0.8)


def _plain_ticks(axes: Axes, places: set[float], log: bool) -> None:
    """The values themselves where there is room for them: a formula would stay unparsed."""
    from matplotlib.ticker import FixedLocator, NullLocator

    def across(x: float) -> float:
        return math.log(x) if log else x

    every = sorted(places)
    room = 0.14 * (across(every[-1]) - across(every[0]))
    ticks = every[:1]
    for place in every[1:]:
        if across(place) - across(ticks[-1]) >= room:
            ticks.append(place)
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}" if x >= 1000 else f"{x:.3g}")


def _moved(x: float, number: int, groups: int, log: bool) -> float:
    step = (number - (groups - 1) / 2) * 0.015
    return x * math.exp(2 * step) if log else x + step * max(1.0, abs(x)) / 2


def _bar(axes: Axes, x: float, found: CellFigure, color: str) -> None:
    if found.interval is not None:
        axes.vlines(x, *found.interval, color=color, linewidth=0.8, alpha=0.8)


def _dots(
    axes: Axes,
    study: Study,
    rows: Sequence[CellScore],
    styles: Mapping[str, Any],
    names: Sequence[str],
) -> None:
    part = study.part
    places = list(dict.fromkeys(names))
    left = Counter(names)
    for row, written in zip(rows, names, strict=True):
        found, name = row.figures[part.y], _series(part.series, row)
        # one below the other beside their name
        many = names.count(written)
        down = places.index(written) + 0.7 * ((many - left[written] + 0.5) / many - 0.5)
        left[written] -= 1
        if found.interval is not None:
            axes.hlines(down, *found.interval, color=styles[name]["color"], linewidth=1.0)
        axes.plot([found.value or 0.0], [down], markersize=3.5, **_mark(styles[name]))
    axes.set_yticks(range(len(places)), places, fontsize=6.5)
    axes.set_ylim(len(places) - 0.5, -0.5)
    axes.locator_params(axis="x", nbins=5)
    if part.y in _SHARES:
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.axvline(0, color=SOFT, linestyle="--", linewidth=0.8)


def _mark(style: Mapping[str, Any]) -> dict[str, Any]:
    return {**style, "linestyle": ""}


def _dots_height(names: Sequence[str]) -> float:
    """Inches for a panel: each name has one or more lines of text, and some dots beside it."""
    rows = Counter(names).items()
    return sum(max(0.07 + 0.11 * len(t.split("\n")), 0.075 * dots) for t, dots in rows) + 0.05


def _names(part: Part, rows: Sequence[CellScore]) -> list[str]:
    """What stands beside each row, in lines of at most 26 characters."""
    words = [clip(printable(str(_at(row, part.x))), 70) for row in rows]
    return ["\n".join(textwrap.wrap(word, 26)) for word in words]


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
