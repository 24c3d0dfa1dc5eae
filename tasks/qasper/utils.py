"""Qasper (Dasigi et al. 2021, arXiv 2105.03011): questions on the full text of a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from automix_eval.harness.tasks.load import Doc, Row, RowError, load_rows, make_doc, pick, texts
from automix_eval.harness.tasks.scoring import free_form as process_results

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["flatten", "load", "process_results"]


def load(source: str | None = None, **_: Any) -> DatasetDict:
    """Load the task; further arguments come from the harness and are ignored."""
    return load_rows("qasper", source, flatten)


def flatten(row: Row) -> list[Doc]:
    """One document a question of the paper; references: one an annotator."""
    paper = pick(row, "id", str)
    context = _full_text(row)
    questions = texts(row, "qas.question")
    ids = texts(row, "qas.question_id")
    groups = pick(row, "qas.answers", list)
    if not len(questions) == len(ids) == len(groups):
        raise RowError(f"{len(questions)} questions, {len(ids)} ids, {len(groups)} answer lists")
    return [
        make_doc(paper, context, question, map(_reference, pick(group, "answer", list)), id=name)
        for question, name, group in zip(questions, ids, groups, strict=True)
    ]


def _full_text(row: Row) -> str:
    names = texts(row, "full_text.section_name")
    sections = pick(row, "full_text.paragraphs", list)
    if len(names) != len(sections):
        raise RowError(f"{len(names)} section names but {len(sections)} sections")
    parts = [pick(row, "title", str), "Abstract", pick(row, "abstract", str)]
    for name, paragraphs in zip(names, sections, strict=True):
        parts += [name, *paragraphs]
    return "\n\n".join(part.strip() for part in parts if part and part.strip())


def _reference(answer: Row) -> str:
    # The order of the data set's own evaluator.
    if answer.get("unanswerable"):
        return "Unanswerable"
    if answer.get("extractive_spans"):
        return ", ".join(texts(answer, "extractive_spans"))
    if free_form := answer.get("free_form_answer"):
        return str(free_form)
    return "Yes" if pick(answer, "yes_no", bool) else "No"
