"""CoQA (Reddy et al. 2019, arXiv 1808.07042): one document a question, without the dialogue."""

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
    texts,
)
from automix_eval.harness.tasks.scoring import leave_one_out as process_results

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = ["flatten", "load", "process_results"]


def load(source: str | None = None, **_: Any) -> DatasetDict:
    """Load the task; further arguments come from the harness and are ignored."""
    return load_rows("coqa", source, flatten)


def flatten(row: Row) -> list[Doc]:
    """One document a question of the story; references: the answer and the additional ones."""
    story = pick(row, "story", str)
    questions = texts(row, "questions.input_text")
    answers = texts(row, "answers.input_text")
    if len(questions) != len(answers):
        raise RowError(f"{len(questions)} questions but {len(answers)} answers")
    groups = (row.get("additional_answers") or {}).values()
    said = [texts(group, "input_text") for group in groups if group and group.get("input_text")]
    # Training stories hold one blank additional answer instead of one a question.
    others = [given for given in said if len(given) == len(questions)]
    story_id = str(row.get("id") or digest(story))
    docs = []
    for turn, (question, *references) in enumerate(
        zip(questions, answers, *others, strict=True), start=1
    ):
        name = f"{story_id}-{turn}"
        if answered(name, references):
            # the official scorer counts people, who may have said the same
            given = [reference.strip() for reference in references if reference.strip()]
            docs.append(make_doc(story_id, story, question, references, id=name, references=given))
    return docs
