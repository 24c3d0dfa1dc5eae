"""What a report is made of: its tasks, and the blocks that show them."""

from __future__ import annotations

from dataclasses import dataclass


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
