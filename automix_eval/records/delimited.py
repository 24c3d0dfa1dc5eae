"""Tables of text whose cells are parted by a sign: CSV as spreadsheets and programs write it.

A file whose header is parted by semicolons has decimal commas or decimal points, never both. A row
without any cell is none.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from automix_eval.records.outcomes import BoolArray
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import listing

DELIMITERS = {".csv": ",", ".tsv": "\t"}
CHUNK = 1 << 20


class TableError(AutoMixError):
    """A table that cannot be read, or a cell that cannot be used; names file, row and column."""


def found_columns(path: Path, wanted: Sequence[str], raw: Sequence[str]) -> dict[str, str]:
    """The names that the file has for the wanted columns, by theirs."""
    present = [name.strip() for name in raw]
    missing = [name for name in wanted if name not in present]
    if missing:
        raise TableError(
            f"the table {path} lacks the column{'s' if len(missing) > 1 else ''} "
            f"{', '.join(map(repr, missing))}; it has {listing(list(present), 40) or 'none'}"
        )
    twice = sorted({name for name in wanted if present.count(name) > 1})
    if twice:
        raise TableError(f"the table {path} has the column {', '.join(twice)} more than once")
    return {name: raw[present.index(name)] for name in wanted}


def read_csv(
    path: Path, wanted: Sequence[str], texts: Sequence[str], delimiter: str
) -> dict[str, Any]:
    """Columns of a file by name, as pyarrow's.

    Args:
        path: The file, which may be compressed.
        wanted: Names of the columns.
        texts: Those that are read as texts, whatever they look like.
        delimiter: What parts cells, unless the header tells otherwise.

    Raises:
        TableError: A column is missing, or numbers have commas and points.
    """
    import pyarrow as pa  # type: ignore[import-untyped]
    from pyarrow import csv as arrow

    header, delimiter, skipped = header_of(path, delimiter)
    named = found_columns(path, wanted, header)

    def read(names: Sequence[str], as_text: Iterable[str]) -> Any:
        with pa.input_stream(str(path), compression="detect") as stream:
            return arrow.read_csv(
                stream,
                # a block must hold the widest row; texts may have lines
                read_options=arrow.ReadOptions(block_size=8 * CHUNK, skip_rows=skipped),
                parse_options=arrow.ParseOptions(delimiter=delimiter, newlines_in_values=True),
                convert_options=arrow.ConvertOptions(
                    include_columns=list(names),
                    column_types=dict.fromkeys(as_text, pa.string()),
                    null_values=[""],
                    decimal_point="," if delimiter == ";" else ".",
                ),
            )

    table = read(list(named.values()), [named[name] for name in texts])
    if (blank := _blank(table)).any():
        others = [n for n in header if header.count(n) == 1 and n not in named.values()]
        blank &= _blank(read(others, others)) if others else True
        table = table.filter(pa.array(~blank))  # what a spreadsheet leaves below its rows
    columns = {name: table.column(raw) for name, raw in named.items()}
    if delimiter == ";":
        _refuse_mixed_points(path, {n: c for n, c in columns.items() if n not in texts})
    return columns


def _blank(table: Any) -> BoolArray:
    """(n,) rows whose cells are all empty."""
    from pyarrow import compute

    blank = np.ones(len(table), dtype=np.bool_)
    for column in table.columns:
        if not blank.any():
            break
        length = compute.binary_length(column) if "string" in str(column.type) else None
        empty = column.is_null() if length is None else compute.equal(length.fill_null(0), 0)
        blank &= empty.to_numpy().astype(np.bool_)
    return blank


def _refuse_mixed_points(path: Path, numbers: Mapping[str, Any]) -> None:
    """Refuse 5.846 beside 0,95: is it nearly six, or five thousand?"""
    import pyarrow as pa
    from pyarrow import compute

    commas = next(
        (
            name
            for name, column in numbers.items()
            if pa.types.is_floating(column.type)
            and compute.any(compute.not_equal(column, compute.floor(column))).as_py()
        ),
        None,
    )
    for name, column in numbers.items():
        if commas is None or not pa.types.is_string(column.type):
            continue
        pointed = column.filter(compute.match_substring_regex(column, r"^\s*[-+]?\d+\.\d"))
        if len(pointed):
            raise TableError(
                f"{path}: column {commas!r} has decimal commas and column {name!r} points, as in "
                f"{pointed[0].as_py()!r}: write all with commas, and none with a sign for thousands"
            )


def header_of(path: Path, delimiter: str) -> tuple[list[str], str, int]:
    """A text table's columns, what parts them, and how many lines come before them.

    A semicolon or tab parts them where it finds more of them, a bar where nothing else does, and
    what the line ``sep=`` of Excel names.
    """
    import pyarrow as pa

    with pa.input_stream(str(path), compression="detect") as stream:
        head = stream.read(CHUNK)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise TableError(f"the table {path} is UTF-16: save it as UTF-8")
    lines = head.decode("utf-8-sig", errors="replace").splitlines(keepends=True)
    if lines and (named := re.fullmatch(r'"?sep=(.)"?\s*', lines[0])):
        return next(csv.reader(lines[1:], delimiter=named[1]), []), named[1], 1
    parted = {d: next(csv.reader(lines, delimiter=d), []) for d in (delimiter, ";", "\t", "|")}
    if max(len(parted[d]) for d in (delimiter, ";", "\t")) > 1:
        del parted["|"]  # which names of columns may hold
    best = max(parted, key=lambda d: len(parted[d]))
    return parted[best], best, 0
