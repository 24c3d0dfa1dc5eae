"""Short texts with questions, in Esperanto and again in English; written for this project."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from automix_eval.harness.tasks.load import Doc, Row, load_rows, make_doc, pick, texts
from automix_eval.harness.tasks.scoring import free_form as process_results

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["flatten", "load", "process_results"]


def load(source: str | None = None, language: str = "eo", **_: Any) -> DatasetDict:
    """Load the task's rows of a language; further arguments come from the harness, ignored."""
    return load_rows(
        "low_resource",
        source,
        lambda row: flatten(row) if pick(row, "language", str) == language else [],
    )


def flatten(row: Row) -> list[Doc]:
    """One document a question on the text."""
    name, text = pick(row, "id", str), pick(row, "text", str)
    return [
        make_doc(name, text, pick(q, "question", str), texts(q, "answers"), id=f"{name}-{turn}")
        for turn, q in enumerate(pick(row, "questions", list), start=1)
    ]
