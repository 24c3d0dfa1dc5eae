"""Figures in words: numbers with intervals, verdicts, and what a point tells."""

from __future__ import annotations

from dataclasses import dataclass

from automix_eval.analysis.figures import Figure
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.noninferiority import MIN_DOCUMENTS
from automix_eval.report.board_picture import Point
from automix_eval.report.page.svg import MINUS

DASH = "\u2013"


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a method pays.

    Attributes:
        kind: ``more``, ``less``, ``same`` or ``unknown``; names the colour and the sign.
        sign: A sign that tells it without colour.
        words: The same in words.
        reason: Why nothing can be concluded; empty otherwise.
    """

    kind: str
    sign: str
    words: str
    reason: str = ""


def verdict(delta: Figure, documents: int) -> Verdict:
    """What delta IBC and its interval allow to say; nothing of fewer documents than show it."""
    if delta.ends is None:
        why = reason(delta) or "delta IBC has no interval"
        return Verdict("unknown", "?", "nothing can be concluded", why)
    low, high = delta.ends
    if documents >= MIN_DOCUMENTS and low > 0:
        return Verdict("more", "\u25b2", "more quality per cost than always asking the LLM")
    if documents >= MIN_DOCUMENTS and high < 0:
        return Verdict("less", "\u25bc", "less quality per cost than always asking the LLM")
    return Verdict("same", "\u2248", "not distinguishable from always asking the LLM")


def show(value: float | Undefined, form: str) -> str:
    """A number in a format, with a real minus; an undefined one is a dash."""
    if isinstance(value, Undefined):
        return DASH
    text = format(value, form)
    if not any(c in "123456789" for c in text):
        text = format(0.0, form)  # rounding leaves no sign to a zero
    return text.replace("-", MINUS)


def interval(figure: Figure, form: str) -> str:
    """``[low, high]``; empty where there is none."""
    ends = figure.ends
    return "" if ends is None else f"[{show(ends[0], form)}, {show(ends[1], form)}]"


def reason(figure: Figure) -> str:
    """Why a figure or its interval is undefined; empty if neither is."""
    return figure.undefined.reason if figure.undefined else ""


def with_interval(figure: Figure, form: str) -> str:
    """Value and interval in one text."""
    return " ".join(filter(None, (show(figure.value, form), interval(figure, form))))


def point_tip(point: Point) -> str:
    """Title and lines for a point of the plane."""
    lines = [
        point.label,
        f"quality {with_interval(point.quality, '.3f')}",
        f"cost {with_interval(point.cost, '.4g')}",
        f"escalated {with_interval(point.escalation_rate, '.1%')}",
    ]
    if not isinstance(point.delta_ibc.value, Undefined):
        lines.append(f"\u0394IBC {with_interval(point.delta_ibc, '+.1%')}")
    return "\n".join(lines)


def many(count: int, noun: str) -> str:
    """A count and its noun."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
