"""Where the rows of the five tasks come from, and the uniform documents they become.

Raw rows keep the schema of their data set. Each task's ``flatten(row)`` (``tasks/<task>/utils.py``)
turns one into documents, one a question::

    {"id": str, "document_id": str, "context": str, "question": str, "answers": list[str], ...}

``id`` is unique in its split, ``document_id`` is shared by the questions of one document,
``question`` holds the options too where a question has some, ``answers`` are the references: at
least one, none blank, none twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from automix_eval.paths import tasks_dir
from automix_eval.types import AutoMixError

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = [
    "DATA_DIR",
    "SPLITS",
    "Doc",
    "Flatten",
    "Located",
    "Row",
    "RowError",
    "TaskDataError",
    "digest",
    "load_rows",
    "make_doc",
    "pick",
    "texts",
]

DATA_DIR = "AUTOMIX_DATA_DIR"
SPLITS = ("train", "validation")

Row = Mapping[str, Any]
Doc = dict[str, Any]
Flatten = Callable[[Row], list[Doc]]
#: Where a row stands, for error messages, and the row.
Located = tuple[str, Row]
T = TypeVar("T")


class TaskDataError(AutoMixError):
    """A task's rows cannot be had; the message names the cause and the ways out."""


class RowError(ValueError):
    """A row does not follow its data set's schema; :func:`load_rows` adds where it stands."""


def load_rows(task: str, source: str | None, flatten: Flatten) -> DatasetDict:
    """Load a task's rows and flatten them to documents.

    Args:
        task: Name of the task.
        source: "demo" for the embedded sample. None for the user's data: the files
            ``$AUTOMIX_DATA_DIR/<task>/{train,validation}.jsonl`` if that variable is set, else
            the Hugging Face hub.
        flatten: Turns a raw row into documents; raises ValueError for a row it cannot read.

    Returns:
        The splits "train" and "validation".

    Raises:
        TaskDataError: The hub or a file cannot be read, or a row is malformed.
    """
    from datasets import Dataset, DatasetDict

    # No field of a document is ever null or an empty list, so the inferred schema depends on the
    # task alone and not on which rows a split happens to hold.
    return DatasetDict(
        {
            split: Dataset.from_list(_documents(f"{task} ({split})", rows, flatten))
            for split, rows in _raw_splits(task, source).items()
        }
    )


def make_doc(
    document_id: str,
    context: str,
    question: str,
    answers: Iterable[str],
    *,
    id: str | None = None,
    **extras: Any,
) -> Doc:
    """Build one uniform document; see the module's docstring for its fields.

    Args:
        document_id: Identity of the passage.
        context: The passage.
        question: The question, with its options where it has some.
        answers: References; blank and repeated ones are left out, their order is kept.
        id: Identity of the question; by default made from the document's and the text.
        extras: Fields of the task's own; neither null nor empty.

    Raises:
        RowError: No reference is left.
    """
    references = list(dict.fromkeys(text for a in answers if (text := a.strip())))
    if not references:
        raise RowError("the question has no reference answer")
    return {
        "id": id or f"{document_id}-{digest(question)}",
        "document_id": document_id,
        "context": context.strip(),
        "question": question.strip(),
        "answers": references,
        **extras,
    }


def digest(text: str) -> str:
    """Twelve hexadecimal digits that identify a text, for rows that carry no id."""
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def pick(row: Row, path: str, kind: type[T]) -> T:
    """Read a required field of a row.

    Args:
        row: The raw row.
        path: Names of nested fields, joined by dots.
        kind: The type that the value must have.

    Raises:
        RowError: The field is missing, null or of another type.
    """
    value: Any = row
    for name in path.split("."):
        value = value.get(name) if isinstance(value, Mapping) else None
        if value is None:
            raise RowError(f"field {path!r} is missing or null")
    if not isinstance(value, kind):
        raise RowError(f"field {path!r} is of type {type(value).__name__}, not {kind.__name__}")
    return value


def texts(row: Row, path: str) -> list[str]:
    """Read a required field that is a list of texts; a null element becomes "".

    Raises:
        RowError: The field is missing, null or no list, or an element is no text.
    """
    values = pick(row, path, list)
    for value in values:
        if not isinstance(value, str | None):
            raise RowError(f"field {path!r} holds {value!r}, which is no text")
    return [value or "" for value in values]


def _raw_splits(task: str, source: str | None) -> dict[str, Iterator[Located]]:
    if source not in (None, "demo"):
        raise TaskDataError(
            f"Task {task!r} has no source {source!r}: leave it out for the data set itself, or "
            "use 'demo' for the embedded sample."
        )
    if source == "demo":
        folder = tasks_dir() / task / "demo"
    elif root := os.environ.get(DATA_DIR):
        folder = Path(root).expanduser() / task
    else:
        from automix_eval import taskhub

        return taskhub.raw_splits(task)
    return {split: _read_jsonl(task, folder / f"{split}.jsonl") for split in SPLITS}


def _documents(what: str, rows: Iterable[Located], flatten: Flatten) -> list[Doc]:
    docs: list[Doc] = []
    seen: dict[str, int] = {}
    for where, row in rows:
        try:
            flat = flatten(row)
        # What indexing a row of an unforeseen shape raises, next to RowError itself.
        except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
            reason = str(error) if isinstance(error, ValueError) else repr(error)
            raise TaskDataError(
                f"{where}: {reason}. Rows must follow the data set's own schema; mend or remove "
                "this one."
            ) from error
        for doc in flat:
            seen[doc["id"]] = repeat = seen.get(doc["id"], 0) + 1
            docs.append(doc if repeat == 1 else {**doc, "id": f"{doc['id']}-{repeat}"})
    if not docs:
        raise TaskDataError(f"{what} has no questions; at least one row is needed.")
    return docs


def _read_jsonl(task: str, path: Path) -> Iterator[Located]:
    # Not datasets' JSON reader: it infers types block by block and fails on fields that are null in
    # one block and filled in the next.
    try:
        with path.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    yield f"{path}, line {number}", _parse(path, number, line)
    except (OSError, UnicodeDecodeError) as error:
        raise TaskDataError(
            f"Task {task!r}: {path} cannot be read ({error}). ${DATA_DIR} must hold "
            f"{task}/train.jsonl and {task}/validation.jsonl, UTF-8, one JSON object a line in the "
            f"data set's own schema. Unset it to load from the hub, or run the embedded sample: "
            f"--tasks {task}_demo, or automix_demo for all five."
        ) from error


def _parse(path: Path, number: int, line: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise TaskDataError(
            f"{path}, line {number}: not JSON ({error.msg}, column {error.colno}). Each line must "
            "be one JSON object in the data set's own schema."
        ) from error
    if not isinstance(row, dict):
        raise TaskDataError(
            f"{path}, line {number}: a {type(row).__name__}, not a JSON object of named fields."
        )
    return row
