"""Raw rows and the uniform documents they become; shared by all places rows come from.

Raw rows keep the schema of their data set. A document is one question::

    {"id": str, "document_id": str, "context": str, "question": str, "answers": list[str], ...}

``id`` is unique in its split, ``document_id`` is shared by the questions of one document,
``question`` holds the options too where a question has some, ``answers`` are the references: at
least one, none blank, none twice.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from automix_eval.safety.errors import AutoMixError

DATA_DIR = "AUTOMIX_DATA_DIR"
SPLITS = ("train", "validation")

Row = Mapping[str, Any]
Doc = dict[str, Any]
Flatten = Callable[[Row], list[Doc]]
#: Where a row stands, for error messages, and the row.
Located = tuple[str, Row]
T = TypeVar("T")
log = logging.getLogger(__name__)


class TaskDataError(AutoMixError):
    """A task's rows cannot be had; the message names the cause and the ways out."""


class RowError(ValueError):
    """A row does not follow its data set's schema; :func:`load_rows` adds where it stands."""


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


def answered(question: str, references: Iterable[str]) -> bool:
    """Whether a question of a row of several has a reference; else a warning says: left out."""
    found = any(reference.strip() for reference in references)
    if not found:
        log.warning("question %s is left out, it has no answer to score against", question)
    return found


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


def text(row: Row, name: str) -> str:
    """Read a text that may be missing or null, which becomes "".

    Raises:
        RowError: The field is of another type.
    """
    return "" if row.get(name) is None else pick(row, name, str)


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
