"""Texts of result folders, made fit to be shown."""

from __future__ import annotations

from automix_eval.safety.text import clip, csv_cell, plain

__all__ = ["clip", "csv_cell", "listing", "plain", "questions"]


def questions(number: int) -> str:
    """So many questions."""
    return f"{number} question" + ("" if number == 1 else "s")


def listing(items: list[str], most: int = 5) -> str:
    """The first few items and how many more there are."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")
