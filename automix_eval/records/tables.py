"""Tables of stored outcomes: CSV, JSON lines and Parquet files as checked columns.

Files are read by pyarrow, the wanted columns only; a field of a nested column has the dotted name
``column.field``. White space around a column's name is no part of it. An empty cell (null) is a
missing value; the word NaN is a damaged one, and so is an infinite number. A CSV file whose header
is parted by semicolons has decimal commas or decimal points, never both.
"""

from __future__ import annotations

import codecs
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

from automix_eval.records.outcomes import BoolArray, FloatArray, IntArray
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import version_of
from automix_eval.safety.text import listing, printable
from automix_eval.safety.untrusted import why_no_json

_DELIMITERS = {".csv": ",", ".tsv": "\t"}
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".parquet")
_UNREAD = (".xz", ".lzma", ".zip", ".7z", ".rar", ".tar", ".z")
_CHUNK = 1 << 20
_LARGEST = 2**31 - 2  # bytes that pyarrow reads as one block


class TableError(AutoMixError):
    """A table that cannot be read, or a cell that cannot be used; names file, row and column."""


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
                values[row] = float(cell)
            except ValueError:
                bad = np.arange(len(self)) == row
                self.refuse(bad, name, np.arange(len(self)), "a number or an empty cell")
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
        raise TableError(f"the table {path} is damaged: {printable(err)}") from err
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
        if suffix in _DELIMITERS:
            names = _header(path, _DELIMITERS[suffix])[0]
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
            ".gz, .zst or .bz2 after it where the file is compressed"
        )
    return suffix


def _reader(path: Path) -> Callable[[Path, Sequence[str], Sequence[str]], Mapping[str, Any]]:
    suffix = _suffix(path)
    if suffix in _DELIMITERS:
        return lambda p, wanted, texts: _csv(p, wanted, texts, _DELIMITERS[suffix])
    return _parquet if suffix == ".parquet" else _jsonl


def _csv(path: Path, wanted: Sequence[str], texts: Sequence[str], delimiter: str) -> dict[str, Any]:
    import pyarrow as pa
    from pyarrow import csv as arrow

    header, delimiter = _header(path, delimiter)
    named = _found(path, wanted, header)
    with pa.input_stream(str(path), compression="detect") as stream:
        table = arrow.read_csv(
            stream,
            # a block must hold the widest row; texts may have lines
            read_options=arrow.ReadOptions(block_size=8 * _CHUNK),
            parse_options=arrow.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=arrow.ConvertOptions(
                include_columns=list(named.values()),
                column_types={named[name]: pa.string() for name in texts},
                null_values=[""],
                decimal_point="," if delimiter == ";" else ".",
            ),
        )
    columns = {name: table.column(raw) for name, raw in named.items()}
    if delimiter == ";":
        _refuse_mixed_points(path, {n: c for n, c in columns.items() if n not in texts})
    return columns


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


def _header(path: Path, delimiter: str) -> tuple[list[str], str]:
    """A text table's columns, and what parts them: a semicolon or tab that finds more of them."""
    import pyarrow as pa

    with pa.input_stream(str(path), compression="detect") as stream:
        head = stream.read(_CHUNK)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise TableError(f"the table {path} is UTF-16: save it as UTF-8")
    lines = head.decode("utf-8-sig", errors="replace").splitlines(keepends=True)
    parted = {d: next(csv.reader(lines, delimiter=d), []) for d in (delimiter, ";", "\t")}
    best = max(parted, key=lambda d: len(parted[d]))
    return parted[best], best


def _jsonl(path: Path, wanted: Sequence[str], _texts: Sequence[str]) -> dict[str, Any]:
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
    named = _found(path, wanted, table.column_names)
    return {name: table.column(raw) for name, raw in named.items()}


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
            _each_line(path, io.BufferedReader(stream, _CHUNK), lambda fields: note(fields, ""))
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
                raise TableError(f"the table {path} is damaged: line {number}: {why}") from err


def _parquet(path: Path, wanted: Sequence[str], _texts: Sequence[str]) -> dict[str, Any]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        named = _found(path, wanted, _names(file.schema_arrow))
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


def _found(path: Path, wanted: Sequence[str], raw: Sequence[str]) -> dict[str, str]:
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


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
