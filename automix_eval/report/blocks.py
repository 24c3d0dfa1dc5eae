"""What a report is made of: headings, paragraphs, tables, and figures as texts in them."""

from __future__ import annotations

from dataclasses import dataclass, field

from automix_eval.analysis.figures import DASHES, Figure
from automix_eval.metrics.ibc import Undefined


@dataclass(frozen=True, slots=True)
class Heading:
    """A title; level 1 is the report's."""

    text: str
    level: int


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text; ``hang`` is what stands before its first line."""

    text: str
    hang: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as texts; the first column is aligned to the left, the others to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Heading | Paragraph | Table


@dataclass(slots=True)
class Reasons:
    """Numbers the reasons why figures are undefined, and other notes, equal ones once."""

    numbers: dict[str, int] = field(default_factory=dict)

    def show(self, value: float | Undefined, form: str, word: str = "undefined ") -> str:
        """A value, or the mark of the reason why there is none."""
        if value in DASHES:
            return "-"
        if isinstance(value, Undefined):
            return f"{word}{self.mark(value)}"
        return format(value, form)

    def mark(self, undefined: Undefined) -> str:
        """The number that stands for a reason."""
        return self.note(f"undefined: {undefined.reason}")

    def note(self, text: str) -> str:
        """The number that stands for a note."""
        return f"[{self.numbers.setdefault(text, len(self.numbers) + 1)}]"

    def blocks(self) -> list[Block]:
        """The reasons, for below the table."""
        return [Paragraph(text, f"[{n}] ") for text, n in self.numbers.items()]


def interval_text(figure: Figure, form: str, reasons: Reasons) -> str:
    """An interval as [low, high]."""
    if figure.interval is None or isinstance(figure.value, Undefined):
        return "-"
    if isinstance(figure.interval, Undefined):
        return f"undefined {reasons.mark(figure.interval)}"
    low, high = figure.interval
    return f"[{low:{form}}, {high:{form}}]"


def known_text(figure: Figure, form: str) -> str:
    """A value that exists, and its interval where there is one."""
    text = f"{figure.value:{form}}"
    if figure.ends is None:
        return text
    low, high = figure.ends
    return f"{text} [{low:{form}}, {high:{form}}]"


def value_text(figure: Figure, form: str, reasons: Reasons, word: str = "- ") -> str:
    """A value and its interval in one cell; ``word`` stands before the mark of an undefined one."""
    if isinstance(figure.value, Undefined):
        return reasons.show(figure.value, form, word)
    text = known_text(figure, form)
    none = figure.undefined
    return text if none is None else f"{text} {reasons.mark(none)}"
