"""Tables of stored outcomes: CSV, JSON lines and Parquet files as checked columns.

Files are read by pyarrow, the wanted columns only; a field of a nested column has the dotted name
``column.field``. White space around a column's name is no part of it. An empty cell (null) is a
missing value; the word NaN is a damaged one, and so is an infinite number.
"""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from automix_eval.records.delimited import CHUNK, DELIMITERS, found_columns, header_of, read_csv
from automix_eval.records.delimited import TableError as TableError
from automix_eval.records.outcomes import BoolArray, FloatArray, IntArray
from automix_eval.safety.files import version_of
from automix_eval.safety.text import printable
from automix_eval.safety.untrusted import why_no_json

SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_UNREAD = (".xz", ".lzma", ".zip", ".7z", ".rar", ".tar", ".z")
_LARGEST = 2**31 - 2  # bytes that pyarrow reads as one block


@dataclass(frozen=True, slots=True, eq=False)
class StoredTable:
    """Some columns of a file.

    Attributes:
        path: The file, as the user named it.
        columns: pyarrow's columns by name.
        sha256: Of the file's bytes.
    """

    path: Path
    columns: Mapping[str, Any]
    sha256: str

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def numbers(self, name: str) -> tuple[FloatArray, BoolArray]:
        """A column as (n,) numbers, and (n,) whether the cell is empty (its number is NaN).

        Raises:
            TableError: A cell is no number.
        """
        import pyarrow as pa  # type: ignore[import-untyped]

        column = _decoded(self.columns[name])
        empty = np.asarray(column.is_null().to_numpy(), dtype=np.bool_)
        kind = column.type
        if pa.types.is_boolean(kind):
            column = column.cast(pa.uint8())
        if pa.types.is_string(kind) or pa.types.is_large_string(kind):
            return self._parsed(name), empty
        try:
            values = column.cast(pa.float64(), safe=False).to_numpy()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as err:
            raise TableError(
                f"{self.path}: column {name!r} holds {kind} values, not numbers"
            ) from err
        return np.where(empty, np.nan, np.asarray(values, dtype=np.float64)), empty

    def texts(self, name: str) -> list[str]:
        """A column as texts; an empty cell is the empty text."""
        import pyarrow as pa

        values = _decoded(self.columns[name])
        if not pa.types.is_string(values.type):
            try:
                values = values.cast(pa.string())
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as err:
                raise TableError(
                    f"{self.path}: column {name!r} holds {values.type} values, not texts"
                ) from err
        return ["" if v is None else v for v in self._python(values, name)]

    def refuse(self, bad: BoolArray, name: str, rows: IntArray, problem: str) -> None:
        """Raise for the first bad one of some rows, naming its row and its value.

        Args:
            bad: (len(rows),) which of them are.
            name: The column.
            rows: Numbers of the rows in the file, from 0.
            problem: What is expected, and what to do.
        """
        if not bad.any():
            return
        row = int(rows[np.flatnonzero(bad)[0]])
        (value,) = self._python(self.columns[name].slice(row, 1), name)
        shown = "empty" if value is None else repr(value)[:200]
        raise TableError(
            f"{self.path}, row {row + 1}, column {name!r}: {shown}, expected {problem}"
        )

    def _python(self, column: Any, name: str) -> list[Any]:
        try:
            values: list[Any] = column.to_pylist()
        except (UnicodeDecodeError, ValueError, OverflowError) as err:
            raise TableError(f"{self.path}: column {name!r} is damaged: {err}") from err
        return values

    def _parsed(self, name: str) -> FloatArray:
        values = np.full(len(self), np.nan)
        for row, cell in enumerate(self._python(self.columns[name], name)):
            if cell is None or not cell.strip():
                continue
            try:
                if "_" in cell:  # which Python reads as a sign for thousands
                    raise ValueError(cell)
                plain = cell.strip().lower()
                values[row] = plain == "true" if plain in ("true", "false") else float(cell)
            except ValueError:
                bad, rows = np.arange(len(self)) == row, np.arange(len(self))
                self.refuse(bad, name, rows, "a number, true or false, or an empty cell")
        return values


def read_table(path: Path, numbers: Iterable[str], texts: Iterable[str] = ()) -> StoredTable:
    """Read some columns of a file.

    Args:
        path: A file with one of :data:`SUFFIXES`; text files may be compressed (``.csv.gz``).
        numbers: Columns to be read as numbers.
        texts: Columns to be read as texts, whatever they look like.

    Raises:
        TableError: The file is missing, empty or damaged, or lacks a column.
    """
    as_text = list(dict.fromkeys(texts))
    wanted = list(dict.fromkeys([*numbers, *as_text]))
    read = _reader(path)
    import pyarrow as pa

    try:
        _ordinary(path)
        digest = _sha256(path)
        columns = read(path, wanted, as_text)
    except OSError as err:
        raise TableError(f"the table {path} cannot be read: {printable(err)}") from err
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as err:
        raise TableError(f"the table {path} is damaged: {printable(err)}{_remedy(err)}") from err
    table = StoredTable(path, columns, digest)
    if not len(table):
        raise TableError(f"the table {path} has no rows")
    return table


def column_names(path: Path) -> list[str]:
    """The names of a file's columns, in its order; of a JSON lines file those that any line has.

    Raises:
        TableError: As :func:`read_table`.
    """
    import pyarrow as pa

    suffix = _suffix(path)
    try:
        _ordinary(path)
        if suffix in DELIMITERS:
            names = header_of(path, DELIMITERS[suffix])[0]
        elif suffix == ".parquet":
            from pyarrow import parquet

            with parquet.ParquetFile(path) as file:
                names = _names(file.schema_arrow)
        else:
            names = list(_json_names(path, version_of(path)))
        return [name.strip() for name in names]
    except OSError as err:
        raise TableError(f"the table {path} cannot be read: {printable(err)}") from err
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as err:
        raise TableError(f"the table {path} is damaged: {printable(err)}") from err


def _remedy(err: Exception) -> str:
    said = str(err)
    if "invalid UTF8" in said:
        return ": save it as UTF-8"
    return ": write all values of a column in one type" if "changed from" in said else ""


def _ordinary(path: Path) -> None:
    """Refuse a pipe: a table is read more than once, and one without a writer for ever."""
    if not path.exists():
        raise TableError(f"the table {path} does not exist")
    if not path.is_file():
        raise TableError(f"the table {path} is no ordinary file: write it to one")


def _suffix(path: Path) -> str:
    found = [s.lower() for s in path.suffixes]
    if pickled := next((s for s in found if s in (".pkl", ".pickle")), None):
        raise TableError(
            f"the table {path} is a pickle, which runs code when it is read. If you trust it, "
            'convert it once: python -c "import pandas; pandas.read_pickle('
            f'{path.name!r}).to_parquet({path.name.replace(pickled, ".parquet")!r})"'
        )
    suffix = next((s for s in reversed(found) if s in SUFFIXES), None)
    if suffix is None or found[-1] in _UNREAD:
        raise TableError(
            f"the table {path} has no suffix of one that can be read: {', '.join(SUFFIXES)}, and "
            ".gz, .zst or .bz2 after it where the file is compressed. A spreadsheet is saved as "
            "CSV UTF-8, and a JSON array turned into lines: jq -c '.[]' t.json > t.jsonl"
        )
    return suffix


def _reader(path: Path) -> Callable[[Path, Sequence[str], Sequence[str]], Mapping[str, Any]]:
    suffix = _suffix(path)
    if suffix in DELIMITERS:
        return lambda p, wanted, texts: read_csv(p, wanted, texts, DELIMITERS[suffix])
    return _parquet if suffix == ".parquet" else _jsonl


def _jsonl(path: Path, wanted: Sequence[str], texts: Sequence[str]) -> dict[str, Any]:
    import pyarrow as pa
    from pyarrow import json as arrow

    with pa.input_stream(str(path), compression="detect") as stream:
        data = stream.read(_LARGEST + 1)
    if len(data) > _LARGEST:
        raise TableError(f"the table {path} is larger than 2 GiB: convert it to Parquet")
    _each_line(path, io.BytesIO(data), len)
    # the types of a column are settled block by block, so that the file is one block
    options = arrow.ReadOptions(block_size=max(1, len(data)) + 1)
    table = _flat(arrow.read_json(pa.BufferReader(data), read_options=options))
    named = found_columns(path, wanted, table.column_names)
    columns = {name: table.column(raw) for name, raw in named.items()}
    for name in texts:
        if pa.types.is_floating(columns[name].type) and _rounded(columns[name]):
            columns[name] = _as_written(path, data, named[name])
    return columns


def _rounded(column: Any) -> bool:
    """Whether some number is beyond the integers that a float tells apart, as hashes are."""
    from pyarrow import compute

    return bool(compute.any(compute.greater_equal(compute.abs(column), 2.0**53)).as_py())


def _as_written(path: Path, data: bytes, name: str) -> Any:
    """A field of numbers of every line as the texts that stand there."""
    import pyarrow as pa

    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    found: list[str | None] = []

    def cell(fields: Mapping[str, msgspec.Raw], name: str) -> str | None:
        key, _, rest = name.partition(".")
        held = bytes(fields.get(name, fields.get(key, b"null") if rest else b"null"))
        if held == b"null":
            return None
        return held.decode() if name in fields else cell(decode(held), rest)

    _each_line(path, io.BytesIO(data), lambda fields: found.append(cell(fields, name)))
    return pa.chunked_array([found], pa.string())


@lru_cache(maxsize=16)
def _json_names(path: Path, _version: tuple[int, ...]) -> tuple[str, ...]:
    """The names that any line has, dotted where objects are nested, in the order of first use."""
    import pyarrow as pa

    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    found: dict[str, bool] = {}  # whether it holds an object

    def note(fields: Mapping[str, msgspec.Raw], within: str) -> None:
        for name, value in fields.items():
            if bytes(value)[:1] == b"{":
                found[within + name] = True  # also where it is null in other lines
                note(decode(value), f"{within}{name}.")
            else:
                found.setdefault(within + name, False)

    try:
        with pa.input_stream(str(path), compression="detect") as stream:
            _each_line(path, io.BufferedReader(stream, CHUNK), lambda fields: note(fields, ""))
    except TableError:
        if not found:
            raise
        # reading it tells what is wrong with the other lines
    return tuple(name for name, nested in found.items() if not nested)


def _each_line(
    path: Path, lines: Iterable[bytes], see: Callable[[Mapping[str, msgspec.Raw]], object]
) -> None:
    """Refuse what is no JSON object a line: pyarrow ends the process over a line of ``null``."""
    decode = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                see(decode(line))
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
                why = why_no_json(line, err)
                remedy = ": a row is one object on one line" if line.strip()[:1] in b"[]" else ""
                raise TableError(
                    f"the table {path} is damaged: line {number}: {why}{remedy}"
                ) from err


def _parquet(path: Path, wanted: Sequence[str], _texts: Sequence[str]) -> dict[str, Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        named = found_columns(path, wanted, _names(file.schema_arrow))
        table = _flat(file.read(columns=list(named.values())))
    return {name: table.column(raw) for name, raw in named.items()}


def _flat(table: Any) -> Any:
    """A table whose nested columns are columns of their own, with dotted names."""
    import pyarrow as pa

    while any(pa.types.is_struct(field.type) for field in table.schema):
        table = table.flatten()
    return table


def _names(schema: Any) -> list[str]:
    return list(_flat(schema.empty_table()).column_names)


def _decoded(column: Any) -> Any:
    """A column of categories as one of its values."""
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
