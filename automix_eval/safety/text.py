"""Texts made fit to be shown: printable, clipped, listed, with the nearest of known names."""

from __future__ import annotations

import csv
import difflib
import io
import re
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from automix_eval.safety.redaction import scrub


def did_you_mean(name: object, known: Iterable[str], most: int = 3) -> str:
    """The end of an error's first sentence: the nearest names, or a full stop."""
    near = difflib.get_close_matches(str(name), dict.fromkeys(known), most, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else "."


# Besides control characters: format characters (bidirectional overrides reorder what a terminal
# shows), surrogates (not encodable) and line separators.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ud800-\udfff\ufeff]"
)


_STRIPPED = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def printable(value: object, limit: int = 300) -> str:
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


def show(text: str) -> None:
    """Print a text without secrets, whatever the terminal's encoding."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(scrub(text).encode(encoding, "replace").decode(encoding))


def harmless_lines(text: str) -> str:
    """Text of several lines without the characters that a terminal obeys or that hide others."""
    return _OBEYED.sub("", text)


def clip(text: str, width: int) -> str:
    """The text in at most ``width`` characters, ``..`` marking what was cut."""
    return text if len(text) <= width else text[: max(0, width - 2)] + ".."[:width]


def csv_cell(value: object) -> object:
    """A cell of a CSV that no spreadsheet takes for a formula; numbers stay numbers.

    A text of one line, printable; a quote before it where it begins as formulas do, behind blanks
    and in full width as well.
    """
    if not isinstance(value, str):
        return "" if value is None else value
    if value[:1] in ("\t", "\r", "\n"):
        value = "'" + value
    text = printable(value, limit=10_000)
    begins = unicodedata.normalize("NFKC", text.lstrip()[:1])
    return f"'{text}" if begins[:1] in ("=", "+", "-", "@") and begins else text


def csv_text(columns: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """Rows as CSV with a header; a column that a row lacks is empty, see :func:`csv_cell`."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: csv_cell(v) for k, v in row.items()} for row in rows)
    return out.getvalue()


def questions(number: int) -> str:
    """So many questions."""
    return f"{number} question" + ("" if number == 1 else "s")


def listing(items: list[str], most: int = 5) -> str:
    """The first few items and how many more there are."""
    rest = len(items) - most
    return ", ".join(items[:most]) + (f" and {rest} more" if rest > 0 else "")
