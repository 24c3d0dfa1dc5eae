"""Where the rows of the five tasks come from: the hub, local files or the embedded sample.

Each task's ``flatten(row)`` (``tasks/<task>/utils.py``) turns a raw row into documents, one a
question; :mod:`automix_eval.harness.tasks.rows` says what they hold.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from automix_eval.harness.tasks import hub as taskhub
from automix_eval.harness.tasks.rows import (
    DATA_DIR,
    SPLITS,
    Doc,
    Flatten,
    Located,
    Row,
    RowError,
    TaskDataError,
    answered,
    digest,
    make_doc,
    pick,
    text,
    texts,
)
from automix_eval.paths import tasks_dir
from automix_eval.safety.text import printable

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
    "answered",
    "digest",
    "load_rows",
    "make_doc",
    "make_splits",
    "pick",
    "text",
    "texts",
]


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
    return make_splits(task, _raw_splits(task, source), flatten)


def make_splits(task: str, raw: Mapping[str, Iterable[Located]], flatten: Flatten) -> DatasetDict:
    """Flatten the rows of every split to documents.

    Raises:
        TaskDataError: A row is malformed, or a split has none.
    """
    from datasets import Dataset, DatasetDict

    # No field of a document is ever null or an empty list, so the inferred schema depends on the
    # task alone and not on which rows a split happens to hold.
    return DatasetDict(
        {
            split: Dataset.from_list(_documents(f"{task} ({split})", rows, flatten))
            for split, rows in raw.items()
        }
    )


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
    except (ValueError, RecursionError) as error:
        place = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
        reason = getattr(error, "msg", None) or printable(error)
        raise TaskDataError(
            f"{path}, line {number}: not JSON ({reason}{place}). Each line must be one JSON object "
            "in the data set's own schema."
        ) from error
    if not isinstance(row, dict):
        raise TaskDataError(
            f"{path}, line {number}: a {type(row).__name__}, not a JSON object of named fields."
        )
    return row
