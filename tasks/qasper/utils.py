"""Qasper (Dasigi et al. 2021, arXiv 2105.03011): questions on the full text of a paper."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from automix_eval.harness.tasks.load import (
    Doc,
    Row,
    RowError,
    answered,
    digest,
    load_rows,
    make_doc,
    pick,
    text,
    texts,
)
from automix_eval.harness.tasks.scoring import free_form as process_results

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["flatten", "load", "process_results"]


def load(source: str | None = None, **_: Any) -> DatasetDict:
    """Load the task; further arguments come from the harness and are ignored."""
    return load_rows("qasper", source, flatten)


def flatten(row: Row) -> list[Doc]:
    """One document a question of the paper; references: one an annotator."""
    context = _full_text(row)
    paper = text(row, "id") or digest(context)
    questions = texts(row, "qas.question")
    ids = texts(row, "qas.question_id")
    groups = pick(row, "qas.answers", list)
    if not len(questions) == len(ids) == len(groups):
        raise RowError(f"{len(questions)} questions, {len(ids)} ids, {len(groups)} answer lists")
    docs = []
    for question, name, group in zip(questions, ids, groups, strict=True):
        references = [_reference(one) for one in (group or {}).get("answer") or [] if one]
        if answered(name or f"{question!r} of {paper}", references):
            docs.append(make_doc(paper, context, question, references, id=name))
    return docs


def _full_text(row: Row) -> str:
    names = texts(row, "full_text.section_name")
    sections = pick(row, "full_text.paragraphs", list)
    if len(names) != len(sections):
        raise RowError(f"{len(names)} section names but {len(sections)} sections")
    parts = [text(row, "title"), "Abstract", text(row, "abstract")]
    for name, paragraphs in zip(names, sections, strict=True):
        parts += [name, *(paragraphs or [])]
    return "\n\n".join(part.strip() for part in parts if part and part.strip())


def _reference(answer: Row) -> str:
    # The order of the data set's own evaluator; an annotation that holds no answer is none.
    if answer.get("unanswerable"):
        return "Unanswerable"
    if answer.get("extractive_spans"):
        return ", ".join(texts(answer, "extractive_spans"))
    if free_form := text(answer, "free_form_answer"):
        return free_form
    return "" if answer.get("yes_no") is None else "Yes" if pick(answer, "yes_no", bool) else "No"
