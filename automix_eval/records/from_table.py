"""From a table and a description of its columns to training and test outcomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from automix_eval.records.outcomes import ROUNDING, FloatArray, IntArray, Outcomes
from automix_eval.records.tables import Table, TableError, read_table
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import did_you_mean


@dataclass(frozen=True, slots=True)
class TierColumns:
    """Where a table holds what one tier did.

    Attributes:
        name: The tier's name.
        score: Column of the task's metric of the tier's answer.
        cost: Column of the cost of an answer, or one number for all.
        confidence: Column of the confidence, empty cells where it is undefined. Not read for the
            last tier, which is never verified.
        verify_cost: Column of the cost of a verification, or one number for all.
        answer: Column of the answer's text, for routers that read it.
        signals: (name, column) of raw signals of verifiers.
    """

    name: str
    score: str
    cost: str | float
    confidence: str | None = None
    verify_cost: str | float = 0.0
    answer: str | None = None
    signals: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """Where a table holds what; see hydra_conf/replay.yaml.

    Attributes:
        tiers: The chain, cheapest first.
        split_column: Column that says which split a row belongs to; None for one split.
        id_column: Column of the questions' identities; None: the row's number, from 1.
        question: Column of the questions' texts.
        document_column: Column of the document a question is about; None: each its own.
    """

    tiers: tuple[TierColumns, ...]
    split_column: str | None = None
    id_column: str | None = None
    question: str | None = None
    document_column: str | None = None

    def numbers(self) -> list[str]:
        """Columns read as numbers."""
        last = len(self.tiers) - 1
        names: list[str | float | None] = []
        for index, tier in enumerate(self.tiers):
            names += [tier.score, tier.cost]
            if index < last:
                names += [tier.confidence, tier.verify_cost, *(c for _, c in tier.signals)]
        return [n for n in names if isinstance(n, str)]

    def texts(self) -> list[str]:
        """Columns read as texts."""
        named = [self.split_column, self.id_column, self.question, self.document_column]
        return [n for n in [*named, *(t.answer for t in self.tiers)] if n is not None]


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """What a policy is fitted on and what it is scored on.

    Attributes:
        train: Rows to fit on; None where there are none.
        test: Rows to score on.
        about: What the result says of the input: files, hashes, splits.
        fitted_on: What the policy says it is valid for.
        grouped: Whether ``test.documents`` are documents, not the questions themselves.
    """

    train: Outcomes | None
    test: Outcomes
    about: Mapping[str, Any]
    fitted_on: Mapping[str, Any] = field(default_factory=dict)
    grouped: bool = False


def parse_tiers(entries: Any) -> tuple[TierColumns, ...]:
    """The chain as the user describes it, a list of mappings.

    Raises:
        AutoMixError: An entry has unknown or missing keys, or values of the wrong kind.
    """
    if not isinstance(entries, Sequence) or isinstance(entries, str) or len(entries) < 2:
        raise AutoMixError(
            f"tiers={entries!r} must list at least two tiers, cheapest first: "
            "[{name: s, score: COL, confidence: COL, cost: 1, verify_cost: 1}, "
            "{name: l, score: COL, cost: 50}]"
        )
    tiers = tuple(_parse_tier(i, entry) for i, entry in enumerate(entries))
    names = [t.name for t in tiers]
    if len(set(names)) < len(names):
        raise AutoMixError(f"the tiers' names {', '.join(names)} must differ")
    return tiers


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
    fitted_on = {"table": table.name, "sha256": held.sha256, "task": None, "verifier": None}
    fitted_on |= {"split": train_split if columns.split_column else None}
    return Source(train, test, about, fitted_on, columns.document_column is not None)


def sample_rows(number: int, size: int, seed: int) -> IntArray:
    """Rows of a random sample without replacement, ascending.

    Every row gets a 64-bit key, in order, from numpy's PCG64 bit generator seeded with ``seed``
    (its stream is guaranteed never to change, on any platform); the rows with the smallest keys
    are taken. So a smaller sample of the same seed is contained in a larger one.

    Args:
        number: Rows to choose from.
        size: Rows to choose; all where there are no more.
        seed: At least 0.
    """
    keys = np.random.PCG64(seed).random_raw(number)
    return np.sort(np.argsort(keys, kind="stable")[:size]).astype(np.intp)


# --------------------------------------------------------------------------- reading


class Held:
    """A table in memory, and the outcomes of the splits asked for so far."""

    def __init__(self, columns: Columns, table: Table) -> None:
        self.path, self.sha256 = table.path, table.sha256
        self._columns, self._table = columns, table
        self._made: dict[str | None, Outcomes | None] = {}
        self._names: list[str] = table.texts(columns.split_column) if columns.split_column else []

    def all(self) -> Outcomes:
        """Every row."""
        if None not in self._made:
            self._made[None] = outcomes(self._table, self._columns, np.arange(len(self._table)))
        made = self._made[None]
        assert made is not None
        return made

    def split(self, name: str) -> Outcomes | None:
        """The rows of a split; None where there are none."""
        if name not in self._made:
            rows = np.flatnonzero([n == name for n in self._names])
            made = outcomes(self._table, self._columns, rows) if len(rows) else None
            self._made[name] = made
        return self._made[name]

    def split_names(self) -> str:
        """The splits there are, for a message."""
        names = sorted(set(self._names))
        return ", ".join(map(repr, names[:10])) + (" and more" if len(names) > 10 else "")


@lru_cache(maxsize=4)
def load(columns: Columns, stamp: tuple[Path, int, int]) -> Held:
    """A table's columns; kept, so that the jobs of a sweep parse a file once."""
    return Held(columns, read_table(stamp[0], columns.numbers(), columns.texts()))


def outcomes(table: Table, columns: Columns, rows: IntArray) -> Outcomes:
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
    judged = [_cost(table, t.verify_cost, rows) for t in tiers[:-1]]
    picked = rows.tolist()

    def texts(name: str | None) -> tuple[str, ...] | None:
        if name is None:
            return None
        values = table.texts(name)
        return tuple(values[i] for i in picked)

    answers = [texts(t.answer) for t in tiers]
    return Outcomes(
        scores=np.stack([_score(table, t.score, rows) for t in tiers], axis=1),
        answer_costs=np.stack([_cost(table, t.cost, rows) for t in tiers], axis=1),
        confidences=np.stack(confidences, axis=1),
        verification_costs=np.stack([*judged, np.zeros(len(rows))], axis=1),
        names=tuple(t.name for t in tiers),
        ids=texts(columns.id_column) or tuple(str(i + 1) for i in picked),
        signals=_signals(table, tiers, rows),
        questions=texts(columns.question),
        answers=None if None in answers else tuple(a for a in answers if a is not None),
        documents=texts(columns.document_column),
    )


def _signals(table: Table, tiers: Sequence[TierColumns], rows: IntArray) -> dict[str, FloatArray]:
    names = dict.fromkeys(name for t in tiers[:-1] for name, _ in t.signals)
    made = {name: np.full((len(rows), len(tiers)), np.nan) for name in names}
    for index, tier in enumerate(tiers[:-1]):
        for name, column in tier.signals:
            values, empty = _picked(table, column, rows)
            what = "a finite number, or an empty cell where the signal is missing"
            table.refuse(~empty & ~np.isfinite(values), column, rows, what)
            made[name][:, index] = values
    return made


def _score(table: Table, name: str, rows: IntArray) -> FloatArray:
    values, _ = _picked(table, name, rows)
    what = "a finite number as the score: leave the question out, or mend the metric"
    table.refuse(~np.isfinite(values), name, rows, what)
    return values


def _cost(table: Table, cost: str | float, rows: IntArray) -> FloatArray:
    if not isinstance(cost, str):
        return np.full(len(rows), float(cost))
    values, _ = _picked(table, cost, rows)
    what = "a finite number of at least 0 as the cost"
    table.refuse(~(np.isfinite(values) & (values >= 0)), cost, rows, what)
    return values


def _confidence(table: Table, name: str, rows: IntArray) -> FloatArray:
    values, empty = _picked(table, name, rows)
    bad = ~empty & ~((values >= -ROUNDING) & (values <= 1 + ROUNDING))
    what = "a confidence in [0, 1], or an empty cell where it is undefined"
    table.refuse(bad, name, rows, what)
    return values


def _picked(table: Table, name: str, rows: IntArray) -> tuple[FloatArray, Any]:
    values, empty = table.numbers(name)
    return values[rows], empty[rows]


def _stamp(path: Path) -> tuple[Path, int, int]:
    """The file, and what tells that it was written anew."""
    try:
        status = path.stat()
    except OSError as err:
        raise TableError(f"the table {path} cannot be read: {err.strerror}") from err
    return path, status.st_mtime_ns, status.st_size


# --------------------------------------------------------------------------- the user's words


def _parse_tier(index: int, entry: Any) -> TierColumns:
    place = f"tiers[{index}]"
    if not isinstance(entry, Mapping):
        raise AutoMixError(f"{place} is {entry!r}, expected a mapping such as {{score: COL}}")
    known = [f.name for f in fields(TierColumns)]
    for key in entry:
        if key not in known:
            raise AutoMixError(
                f"{place} has the unknown key {key!r}{did_you_mean(key, known, 1)} "
                f"A tier has {', '.join(known)}"
            )
    signals = entry.get("signals") or {}
    if not isinstance(signals, Mapping):
        raise AutoMixError(f"{place}.signals is {signals!r}, expected {{NAME: COL}}")
    score = _column(place, "score", entry.get("score"))
    if score is None:
        raise AutoMixError(f"{place} has no score: name the column of this tier's scores")
    if entry.get("cost") is None:
        raise AutoMixError(f"{place} has no cost: give a number, or name the column of costs")
    return TierColumns(
        name=str(entry.get("name", f"tier {index}")),
        score=score,
        cost=_price(place, "cost", entry["cost"]),
        confidence=_column(place, "confidence", entry.get("confidence")),
        verify_cost=_price(place, "verify_cost", entry.get("verify_cost") or 0.0),
        answer=_column(place, "answer", entry.get("answer")),
        signals=tuple((str(k), str(_column(place, str(k), v))) for k, v in signals.items()),
    )


def _column(place: str, key: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    raise AutoMixError(
        f"{place}.{key}={value!r} must be the name of a column; quote a name that reads as a "
        f"number or a truth value: {key}: '{value}'"
    )


def _price(place: str, key: str, value: Any) -> str | float:
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise AutoMixError(f"{place}.{key}={value!r} must be a number or the name of a column")
    if not 0 <= value < float("inf"):
        raise AutoMixError(f"{place}.{key}={value!r} must be a finite number of at least 0")
    return float(value)
