"""From a table and a description of its columns to training and test outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from automix_eval.records.outcomes import ROUNDING, BoolArray, FloatArray, IntArray, Outcomes
from automix_eval.records.table_columns import Columns, TierColumns, refuse_long
from automix_eval.records.tables import StoredTable, TableError, read_table
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import version_of

_SUMS = ("total", "sum", "average", "avg", "mean", "overall")


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What a policy is fitted on and what it is scored on.

    Attributes:
        train: Rows to fit on; None where there are none.
        test: Rows to score on.
        about: What the result says of the input: files, hashes, splits.
        fitted_on: What the policy says it is valid for.
        grouped: Whether ``test.documents`` are documents, not the questions themselves.
        notes: What the reader should know of the input, a sentence each.
        labels: (n,) what the column ``by`` says of each test row; None without one.
    """

    train: Outcomes | None
    test: Outcomes
    about: Mapping[str, Any]
    fitted_on: Mapping[str, Any] = field(default_factory=dict)
    grouped: bool = False
    notes: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None


def from_tables(
    columns: Columns, table: Path, test_table: Path | None, train_split: str, test_split: str
) -> Source:
    """Training and test rows of a table, or of two (out of domain).

    Without ``split_column`` all rows of ``table`` are training rows if there is a ``test_table``,
    and all are test rows, nothing being left to fit on, if there is none.

    Raises:
        AutoMixError: A file, column or cell cannot be used, or the test rows are none.
    """
    if columns.split_column and test_table is None and train_split == test_split:
        raise AutoMixError(
            f"train_split and test_split are both {test_split!r}: a policy is scored on questions "
            "it was not fitted on. Name another split, or a test_table"
        )
    held = load(columns, _stamp(table))
    other = held if test_table is None else load(columns, _stamp(test_table))
    about = {"table": str(table), "sha256": held.sha256}
    if test_table is not None:
        if columns.split_column is None:
            refuse_same(table, test_table, held.sha256 == other.sha256)
        about |= {"test_table": str(test_table), "test_sha256": other.sha256}
    train: Outcomes | None
    if columns.split_column is None:
        train = None if test_table is None else held.all()
        test = other.all()
    else:
        about |= {"train_split": train_split, "test_split": test_split}
        train = held.split(train_split)
        found = other.split(test_split)
        if found is None:
            raise TableError(
                f"the split {test_split!r} (test_split) is empty: column "
                f"{columns.split_column!r} of {other.path} has {other.split_names()}"
            )
        test = found
    prices = [{"name": t.name, "cost": t.cost, "verify_cost": t.verify_cost} for t in columns.tiers]
    fitted_on = {
        "table": table.name,
        "sha256": held.sha256,
        "task": None,
        "verifier": None,
        "split": train_split if columns.split_column else None,
        "cost": prices,
    }
    notes = tuple(h.note for h in dict.fromkeys((held, other)) if h.note)
    return Source(
        train, test, about, fitted_on, columns.document_column is not None, notes,
        other.labels(None if columns.split_column is None else test_split),
    )  # fmt: skip


def refuse_same(one: Path, other: Path, equal: bool = False) -> None:
    """Refuse to score on what is fitted on: one path, or files of equal bytes."""
    if equal or one.resolve() == other.resolve():
        raise AutoMixError(
            f"{one} and {other} are the same questions: nothing that is scored is fitted on. Fit "
            "on others, or name it once, to fit and score in folds"
        )


# --------------------------------------------------------------------------- reading


class Held:
    """A table in memory, and the outcomes of the splits asked for so far."""

    def __init__(self, columns: Columns, table: StoredTable) -> None:
        self.path, self.sha256 = table.path, table.sha256
        self._columns, self._table = columns, table
        self._made: dict[str | None, Outcomes | None] = {}
        self._names: list[str] = table.texts(columns.split_column) if columns.split_column else []
        self._usable, self.note = _usable(table, columns)

    def all(self) -> Outcomes:
        """Every row."""
        if None not in self._made:
            self._made[None] = outcomes(self._table, self._columns, np.flatnonzero(self._usable))
        made = self._made[None]
        assert made is not None
        return made

    def split(self, name: str) -> Outcomes | None:
        """The rows of a split; None where there are none."""
        if name not in self._made:
            rows = self._rows(name)
            made = outcomes(self._table, self._columns, rows) if len(rows) else None
            self._made[name] = made
        return self._made[name]

    def labels(self, split: str | None) -> tuple[str, ...] | None:
        """What the column ``by`` says of the rows of a split, or of all; None without one."""
        if self._columns.by is None:
            return None
        values = self._table.texts(self._columns.by)
        rows = np.flatnonzero(self._usable) if split is None else self._rows(split)
        return tuple(values[i] for i in rows.tolist())

    def _rows(self, split: str) -> IntArray:
        return np.flatnonzero(self._usable & [n == split for n in self._names])

    def split_names(self) -> str:
        """The splits there are, for a message."""
        names = sorted(set(self._names))
        return ", ".join(map(repr, names[:10])) + (" and more" if len(names) > 10 else "")


@lru_cache(maxsize=4)
def load(columns: Columns, stamp: tuple[Path, tuple[int, ...]]) -> Held:
    """A table's columns; kept, so that the jobs of a sweep parse a file once."""
    used = {*columns.numbers(), *columns.texts()}
    refuse_long(stamp[0], used, columns.id_column)
    table = read_table(stamp[0], columns.numbers(), columns.texts())
    _refuse_sums(table, columns)
    return Held(columns, table)


def _refuse_sums(table: StoredTable, columns: Columns) -> None:
    """Refuse a last row that sums up the others, as of a sheet: it would count as a question."""
    for name in filter(None, (columns.id_column, columns.question, columns.document_column)):
        last = table.texts(name)[-1] if len(table) else ""
        if last.strip(" :").casefold() in _SUMS:
            raise TableError(
                f"the last row of {table.path} is no question: its {name!r} is {last!r}, as of a "
                "row that sums up the others. Leave it out"
            )


def _usable(table: StoredTable, columns: Columns) -> tuple[BoolArray, str]:
    """(rows,) which rows are read, and a note on those with empty scores or costs."""
    empty = np.zeros(len(table), dtype=np.bool_)
    for name in columns.required():
        empty |= table.numbers(name)[1]
    count = int(empty.sum())
    if not count or columns.missing == "refuse":
        return np.ones(len(table), dtype=np.bool_), ""
    said = f"{count} of {len(table)} rows of {table.path} lack a score or a cost"
    if columns.missing == "zero":
        return np.ones(len(table), dtype=np.bool_), f"{said}: counted as 0 (missing=zero)"
    if count == len(table):
        raise TableError(f"{said}: missing=drop leaves none")
    return ~empty, f"{said}: left out (missing=drop)"


def outcomes(table: StoredTable, columns: Columns, rows: IntArray) -> Outcomes:
    """Outcomes of some rows of a table.

    Raises:
        TableError: A score or cost is missing or not finite, a cost is negative, or a confidence
            is NaN or outside [0, 1]; names row and column.
    """
    tiers, last = columns.tiers, len(columns.tiers) - 1
    none = np.full(len(rows), np.nan)
    confidences = [
        none if t.confidence is None or i == last else _confidence(table, t.confidence, rows)
        for i, t in enumerate(tiers)
    ]
    judged = [_cost(table, columns, t.verify_cost, rows) for t in tiers[:-1]]
    picked = rows.tolist()

    def texts(name: str | None) -> tuple[str, ...] | None:
        if name is None:
            return None
        values = table.texts(name)
        return tuple(values[i] for i in picked)

    answers = [texts(t.answer) for t in tiers]
    return Outcomes(
        scores=np.stack([_score(table, columns, t.score, rows) for t in tiers], axis=1),
        answer_costs=np.stack([_cost(table, columns, t.cost, rows) for t in tiers], axis=1),
        confidences=np.stack(confidences, axis=1),
        verification_costs=np.stack([*judged, np.zeros(len(rows))], axis=1),
        names=tuple(t.name for t in tiers),
        ids=_named(texts(columns.id_column), picked) or tuple(str(i + 1) for i in picked),
        signals=_signals(table, tiers, rows),
        questions=texts(columns.question),
        answers=None if None in answers else tuple(a for a in answers if a is not None),
        documents=_named(texts(columns.document_column), picked),
    )


def _named(named: tuple[str, ...] | None, rows: Sequence[int]) -> tuple[str, ...] | None:
    """Identities or documents; a row without a name is one of its own."""
    if named is None:
        return None
    return tuple(n if n.strip() else f"row {i + 1}" for n, i in zip(named, rows, strict=True))


def _signals(
    table: StoredTable, tiers: Sequence[TierColumns], rows: IntArray
) -> dict[str, FloatArray]:
    names = dict.fromkeys(name for t in tiers[:-1] for name, _ in t.signals)
    made = {name: np.full((len(rows), len(tiers)), np.nan) for name in names}
    for index, tier in enumerate(tiers[:-1]):
        for name, column in tier.signals:
            values, empty = _picked(table, column, rows)
            what = "a finite number, or an empty cell where the signal is missing"
            table.refuse(~empty & ~np.isfinite(values), column, rows, what)
            made[name][:, index] = values
    return made


def _score(table: StoredTable, columns: Columns, name: str, rows: IntArray) -> FloatArray:
    values = _filled(table, columns, name, rows)
    bad = ~np.isfinite(values)
    if bad.any():
        what = "a finite number as the score: leave the question out, or mend the metric"
        table.refuse(bad, name, rows, what + _remedy(table, columns))
    return values


def _cost(table: StoredTable, columns: Columns, cost: str | float, rows: IntArray) -> FloatArray:
    if not isinstance(cost, str):
        return np.full(len(rows), float(cost))
    values = _filled(table, columns, cost, rows)
    bad = ~(np.isfinite(values) & (values >= 0))
    if bad.any():
        what = "a finite number of at least 0 as the cost"
        table.refuse(bad, cost, rows, what + _remedy(table, columns))
    return values


def _filled(table: StoredTable, columns: Columns, name: str, rows: IntArray) -> FloatArray:
    values, empty = _picked(table, name, rows)
    return np.where(empty, 0.0, values) if columns.missing == "zero" else values


def _remedy(table: StoredTable, columns: Columns) -> str:
    """What can be done about empty scores and costs, where there are some."""
    empty = [table.numbers(name)[1] for name in columns.required()]
    count = int(np.logical_or.reduce(empty).sum()) if empty else 0
    if not count or columns.missing != "refuse":
        return ""
    return (
        f". {count} of {len(table)} rows lack a score or a cost: missing=drop leaves these "
        "questions out, missing=zero counts their empty cells as 0"
    )


def _confidence(table: StoredTable, name: str, rows: IntArray) -> FloatArray:
    values, empty = _picked(table, name, rows)
    bad = ~empty & ~((values >= -ROUNDING) & (values <= 1 + ROUNDING))
    what = "a confidence in [0, 1], or an empty cell where it is undefined"
    table.refuse(bad, name, rows, what)
    return values


def _picked(table: StoredTable, name: str, rows: IntArray) -> tuple[FloatArray, Any]:
    values, empty = table.numbers(name)
    return values[rows], empty[rows]


def _stamp(path: Path) -> tuple[Path, tuple[int, ...]]:
    """The file, and what tells that it was written anew."""
    try:
        return path, version_of(path)
    except OSError as err:
        raise TableError(f"the table {path} cannot be read: {err.strerror}") from err
