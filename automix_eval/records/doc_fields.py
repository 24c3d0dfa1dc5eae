"""A field of each question: of the harness's document, as its samples hold it, or of the record."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from automix_eval.records.harness_results import find_results, samples_of
from automix_eval.records.record_columns import RecordColumns
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import listing, printable
from automix_eval.safety.untrusted import lines_of

# Fields of a record that part questions; a document's field of the same name goes first.
RECORD_FIELDS = ("document", "repeat")
_WIDTH = 60


@dataclass(frozen=True, slots=True)
class FieldValues:
    """What a field says of each question.

    Attributes:
        labels: (n,) printable; None where a question lacks the field.
        lacking: The questions that lack it, named.
    """

    labels: tuple[str | None, ...]
    lacking: tuple[str, ...]

    @classmethod
    def of(cls, field: str, values: Iterable[Any], names: Sequence[str]) -> FieldValues:
        """Label questions by a field's values; None and empty texts are lacking.

        Args:
            field: Its name, for the reader.
            values: (n,) of them.
            names: (n,) what to call each question.

        Raises:
            AutoMixError: A value is a list or an object, or no question has the field.
        """
        labels = []
        for value, name in zip(values, names, strict=True):
            if isinstance(value, (list, tuple, Mapping)):
                raise AutoMixError(
                    f"{printable(field)} of {name} holds several values: name a field that holds "
                    "one text or number (outer.inner for one inside)"
                )
            text = "" if value is None else printable(str(value), _WIDTH)
            labels.append(text or None)
        lacking = tuple(n for n, label in zip(names, labels, strict=True) if label is None)
        if len(lacking) == len(labels):
            raise AutoMixError(f"no question has a value of the field {printable(field)}")
        return cls(tuple(labels), lacking)


def field_of(
    field: str, paths: Sequence[Path], run_id: str, task: str, rows: RecordColumns
) -> FieldValues:
    """A field of the questions of a task of a run.

    Args:
        field: Of the harness's document, ``outer.inner`` for one inside; else of the record.
        paths: Where the harness's samples lie, as the run's own paths.
        run_id: The run.
        task: The task.
        rows: Its questions.

    Raises:
        AutoMixError: No such field is known, or it holds no single values.
    """
    names = [f"doc_id {i}" for i in rows.doc_ids.tolist()]
    docs = _documents(paths, run_id, task)
    known = sorted({key for doc in docs.values() for key in doc})
    if docs and field.partition(".")[0] in known:
        picked = (_inner(docs.get(i), field) for i in rows.doc_ids.tolist())
        return FieldValues.of(field, picked, names)
    if field in RECORD_FIELDS:
        records = rows.read(range(len(rows)))
        return FieldValues.of(field, (getattr(r, field) for r in records), names)
    own = " or ".join(RECORD_FIELDS)
    if docs:
        raise AutoMixError(
            f"the documents of {printable(task)} have no field {printable(field)}: there is "
            f"{printable(listing(known, 30))}, and of the records {own}"
        )
    raise AutoMixError(
        f"run {printable(run_id)} has no samples of {printable(task)} that would hold "
        f"{printable(field)} of its documents (lm_eval writes them with --log_samples); of the "
        f"records one may name {own}"
    )


def _documents(paths: Sequence[Path], run_id: str, task: str) -> dict[int, Mapping[str, Any]]:
    """doc_id -> the document, of the first samples file of the run that there is."""
    path = samples_of(find_results(paths)[0], run_id, task)
    if path is None:
        return {}
    try:
        return dict(row for _, line in lines_of(path) if (row := _sample(line)) is not None)
    except (OSError, ValueError) as err:
        raise AutoMixError(f"cannot read {path}: {err}") from err


def _sample(line: bytes) -> tuple[int, Mapping[str, Any]] | None:
    """doc_id and document of a line of the harness's samples; a damaged line has none."""
    try:
        row = msgspec.json.decode(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, Mapping):
        return None
    doc_id, doc = row.get("doc_id"), row.get("doc")
    if not isinstance(doc_id, int) or not isinstance(doc, Mapping):
        return None
    return doc_id, doc


def _inner(doc: Any, field: str) -> Any:
    """The value at ``outer.inner``; a name with a dot of its own goes first."""
    if isinstance(doc, Mapping) and field in doc:
        return doc[field]
    for part in field.split("."):
        doc = doc.get(part) if isinstance(doc, Mapping) else None
    return doc
