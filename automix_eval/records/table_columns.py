"""Which columns of a table hold what, as the user or the table's header says."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from automix_eval.records.tables import TableError, column_names, read_table
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import did_you_mean, listing

MISSING = ("refuse", "drop", "zero")
# Header of a table that needs no description: TIER:KIND, and what a kind is of a tier.
_KINDS = {
    "score": "score",
    "correct": "score",
    "confidence": "confidence",
    "cost": "cost",
    "cost_usd": "cost",
    "verify_cost": "verify_cost",
    "answer": "answer",
}
# Names that a table with such a header may give its other columns.
_OWN_NAMES = {
    "split_column": ("split",),
    "id_column": ("id", "doc_id"),
    "question": ("question",),
    "document_column": ("document", "document_id"),
}
# Columns by which a table of several rows a question is known.
_MODEL_NAMES = ("model", "model_name", "model_id", "llm")
_QUESTION_NAMES = ("prompt_id", "question_id", "sample_id", "doc_id", "id", "prompt", "question")


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
        by: Column whose values part the questions into slices.
        missing: What becomes of a question with an empty score or cost: ``refuse`` the table,
            ``drop`` the question, or count the empty cells as ``zero``.
    """

    tiers: tuple[TierColumns, ...]
    split_column: str | None = None
    id_column: str | None = None
    question: str | None = None
    document_column: str | None = None
    by: str | None = None
    missing: str = "refuse"

    def __post_init__(self) -> None:
        if self.missing not in MISSING:
            raise AutoMixError(f"missing={self.missing!r} is unknown: {', '.join(MISSING)}")

    def required(self) -> list[str]:
        """Columns of scores and costs, which may not be empty."""
        named = [c for t in self.tiers for c in (t.score, t.cost)]
        named += [t.verify_cost for t in self.tiers[:-1]]
        return list(dict.fromkeys(c for c in named if isinstance(c, str)))

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
        named = [self.split_column, self.id_column, self.question, self.document_column, self.by]
        return [n for n in [*named, *(t.answer for t in self.tiers)] if n is not None]


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


def chain_of_header(path: Path) -> tuple[TierColumns, ...]:
    """The chain of a table whose columns are named TIER:score, TIER:confidence, TIER:cost.

    ``correct`` may stand for ``score`` and ``cost_usd`` for ``cost``; TIER:verify_cost is 0 where
    it is missing. Tiers come in the order of their first column.

    Raises:
        AutoMixError: The header describes no chain of at least two tiers.
    """
    names = column_names(path)
    found: dict[str, dict[str, str]] = {}
    for name in names:
        tier, _, kind = (part.strip() for part in name.rpartition(":"))
        if tier and kind.lower() in _KINDS:
            columns = found.setdefault(tier, {})
            if (role := _KINDS[kind.lower()]) in columns:
                both = f"both {columns[role]!r} and {name!r}: say which one with tiers="
                again = f"the column {name} more than once"
                what = again if name in columns.values() else both
                raise TableError(f"the table {path} has {what}")
            columns[role] = name
    chain = {tier: columns for tier, columns in found.items() if "score" in columns}
    if len(chain) < 2:
        refuse_long(path)
        if not names:
            raise TableError(f"the table {path} is empty")
        raise TableError(
            f"{path}: tiers is not set, and the header names no chain (TIER:score, TIER:confidence "
            "and TIER:cost of each tier, cheapest first). Say which columns hold what, as in "
            '"tiers=[{name: s, score: COL, confidence: COL, cost: 1, verify_cost: 1}, {name: l, '
            'score: COL, cost: 50}]", or name the format of a public table (format=NAME). The '
            f"columns are {listing(names, 40)}"
        )
    if unpriced := [tier for tier, columns in chain.items() if "cost" not in columns]:
        raise TableError(
            f"{path}: tiers is not set, and the header has no column {unpriced[0]}:cost"
        )
    return tuple(
        TierColumns(
            tier,
            columns["score"],
            columns["cost"],
            columns.get("confidence"),
            columns.get("verify_cost", 0.0),
            columns.get("answer"),
        )
        for tier, columns in chain.items()
    )


def columns_of_header(
    path: Path, given: Mapping[str, str | None], missing: str = "refuse"
) -> tuple[Columns, str]:
    """The chain that a header such as ``small:score,small:confidence,small:cost`` describes.

    The tiers have the order of the header. A column that is not ``given`` is taken by its usual
    name, in any case: ``split``, ``id`` (``doc_id``), ``question``, ``document`` (``document_id``).

    Args:
        path: The table.
        given: ``split_column``, ``id_column``, ``question``, ``document_column`` and ``by`` as the
            user set them.
        missing: See :class:`Columns`.

    Returns:
        The columns, and a sentence that says what was read as what.

    Raises:
        AutoMixError: The header describes no chain of at least two tiers.
    """
    names, tiers = column_names(path), chain_of_header(path)
    by_name = {n.lower(): n for n in reversed(names)} | {n: n for n in names}
    present = {
        key: [by_name[n] for n in usual if n in by_name] for key, usual in _OWN_NAMES.items()
    }
    taken = {k: n[0] for k, n in present.items() if n and given.get(k) is None}
    used = {key: taken.get(key, given.get(key)) for key in _OWN_NAMES}
    said = f"the tiers are those of the header, in its order: {', '.join(t.name for t in tiers)}"
    made = Columns(tiers, **used, by=given.get("by"), missing=missing)
    notes = [said, *(f"{key}={name}" for key, name in taken.items())]
    read: set[object] = {*made.texts(), *given.values()}
    read |= {c for t in tiers for c in (t.score, t.cost, t.confidence, t.verify_cost, t.answer)}
    if unread := [n for n in names if n.rpartition(":")[0].strip() and n not in read]:
        notes.append(f"not read: {listing(unread, 10)} (of a tier is read: {', '.join(_KINDS)})")
    return made, "; ".join(notes)


def refuse_long(path: Path, used: Collection[str] = (), id_column: str | None = None) -> None:
    """Refuse a table with a row for each question and model, whose rows are no questions.

    Args:
        path: The table.
        used: Columns that are something of a tier or a question.
        id_column: That of the questions' identities, where it is known.
    """
    names = column_names(path)
    model = next((n for n in _MODEL_NAMES if n in names and n not in used), None)
    asked = [id_column, *_QUESTION_NAMES]
    question = next((n for n in asked if n in names), None)
    if model is None or question is None:
        return
    table = read_table(path, [], [model, question])
    models, asked_of = table.texts(model), table.texts(question)
    if len(set(models)) > 1 and len(set(asked_of)) < len(asked_of):
        raise TableError(
            f"the table {path} has several rows a question: {len(asked_of)} rows, "
            f"{len(set(asked_of))} values of {question!r} and {len(set(models))} of {model!r}. A "
            "row must be a question, with columns for each tier (TIER:score, TIER:cost): reshape "
            "it, or name its format where it is a public table (automix-eval replay format=NAME)"
        )


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
