"""The jobs of a sweep as one table: on the screen and as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from automix_eval.report.fixed_width import aligned, cell
from automix_eval.safety.files import write_file
from automix_eval.safety.text import csv_text, printable

_LAST = ("output", "error")


def jobs_table(rows: Sequence[Mapping[str, Any]], hidden: Sequence[str] = ()) -> str:
    """The jobs as lines for the screen, without the columns that are too long for it."""
    names = [k for k in columns(rows) if k not in _LAST and k not in hidden]
    cells = [tuple(names), *(tuple(cell(row.get(k)) for k in names) for row in rows)]
    return "\n".join(printable(line, 1000) for line in aligned(cells)) + "\n"


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write the jobs; an AutoMixError says why the file cannot be written."""
    write_file(path, csv_text(columns(rows), rows))


def columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The keys of all rows in the order of their first appearance, long texts last."""
    keys = dict.fromkeys(key for row in rows for key in row)
    return [*(k for k in keys if k not in _LAST), *(k for k in _LAST if k in keys)]
