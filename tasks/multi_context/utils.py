"""A sample of questions whose evidence lies in two documents; written for this project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from automix_eval.harness.tasks.load import Doc, Row, RowError, load_rows, make_doc, pick, texts
from automix_eval.harness.tasks.scoring import free_form as process_results

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["flatten", "load", "process_results"]


def load(source: str | None = None, **_: Any) -> DatasetDict:
    """Load the task; further arguments come from the harness and are ignored."""
    return load_rows("multi_context", source, flatten)


def flatten(row: Row) -> list[Doc]:
    """One document a question; its context is the two documents, joined under their titles."""
    documents = pick(row, "documents", list)
    if len(documents) < 2:
        raise RowError(f"field 'documents' has {len(documents)}, at least two are joined")
    name = pick(row, "id", str)
    context = "\n\n".join(
        f"Document {number}: {pick(one, 'title', str)}\n{pick(one, 'text', str)}"
        for number, one in enumerate(documents, start=1)
    )
    return [
        make_doc(name, context, pick(q, "question", str), texts(q, "answers"), id=f"{name}-{turn}")
        for turn, q in enumerate(pick(row, "questions", list), start=1)
    ]
