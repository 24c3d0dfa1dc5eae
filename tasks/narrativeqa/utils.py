"""NarrativeQA (Kočiský et al. 2018, arXiv 1712.07040): questions on the summary of a story."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from automix_eval.harness.tasks.load import Doc, Row, digest, load_rows, make_doc, pick
from automix_eval.harness.tasks.scoring import free_form as process_results

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["flatten", "load", "process_results"]


def load(source: str | None = None, **_: Any) -> DatasetDict:
    """Load the task; further arguments come from the harness and are ignored."""
    return load_rows("narrativeqa", source, flatten)


def flatten(row: Row) -> list[Doc]:
    """One document; the summary is the context, every given answer a reference."""
    summary = pick(row, "document.summary.text", str)
    return [
        make_doc(
            str(row["document"].get("id") or digest(summary)),
            summary,
            pick(row, "question.text", str),
            [pick(answer, "text", str) for answer in pick(row, "answers", list)],
        )
    ]
