"""Texts of result folders, made fit to be shown."""

from __future__ import annotations

import unicodedata

# Besides control characters: format characters (bidirectional overrides reorder what a terminal
# shows), surrogates (not encodable) and line separators.
_STRIPPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def plain(value: object, limit: int = 300) -> str:
    """One line of printable text; tabs and line ends become blanks, control characters vanish.

    Args:
        value: Anything; results folders come from other people.
        limit: Longest text returned, the rest is cut and marked.
    """
    text = "".join(
        " " if c in "\t\n\r\v\f" else "" if unicodedata.category(c) in _STRIPPED else c
        for c in str(value)[: 4 * limit]
    )
    return clip(text, limit)


def clip(text: str, width: int) -> str:
    """The text in at most ``width`` characters, ``..`` marking what was cut."""
    return text if len(text) <= width else text[: max(0, width - 2)] + ".."[:width]


def listing(items: list[str], most: int = 5) -> str:
    """The first few items and how many more there are."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")
