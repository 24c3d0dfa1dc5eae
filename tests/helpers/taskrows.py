"""Rows of our own in the real schemas of the five data sets, for the tests of the tasks."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _coqa() -> dict[str, Any]:
    def spoken(*given: str) -> dict[str, Any]:
        return {"input_text": list(given), "turn_id": [1, 2], "span_text": [None, None]}

    return {
        "id": "story-1",
        "source": "own",
        "story": "Ida found a red kite on the roof.",
        "questions": {"input_text": ["What did Ida find?", "Where?"], "turn_id": [1, 2]},
        "answers": spoken("a red kite", "on the roof"),
        "additional_answers": {
            "0": spoken("a kite", "the roof"),
            "1": spoken("a red kite", ""),
            # Training stories of the hub have one blank element here.
            "2": {"input_text": [""], "turn_id": [-1], "span_text": [""]},
        },
    }


def _quality() -> dict[str, Any]:
    return {
        "article": "Tom sold his boat and bought a bakery.",
        "question": "What did Tom buy?",
        "options": ["A boat.", "A bakery.", "A new job", "All of them"],
        "answer": 1,
        "hard": None,
    }


def _qasper() -> dict[str, Any]:
    def given(**answer: Any) -> dict[str, Any]:
        blank = {
            "unanswerable": False,
            "extractive_spans": [],
            "yes_no": None,
            "free_form_answer": "",
        }
        return blank | answer

    return {
        "id": "paper-1",
        "title": "Counting Gulls",
        "abstract": "We count gulls.",
        "full_text": {
            "section_name": ["Method", None],
            "paragraphs": [["By radar.", "By hand."], ["Thanks."]],
        },
        "qas": {
            "question": ["How do they count?", "Do they count crows?"],
            "question_id": ["q1", "q2"],
            "answers": [
                {"answer": [given(extractive_spans=["radar", "hand"]), given(yes_no=True)]},
                {
                    "answer": [
                        given(yes_no=False),
                        given(unanswerable=True),
                        given(free_form_answer="Gulls only"),
                    ]
                },
            ],
        },
    }


def _narrativeqa() -> dict[str, Any]:
    return {
        "document": {"id": "n1", "kind": None, "summary": {"text": "A fox outwits a crow."}},
        "question": {"text": "Who outwits the crow?"},
        "answers": [{"text": "A fox."}, {"text": "the fox"}],
    }


def _cnli() -> dict[str, Any]:
    return {
        "id": "1_nda-2",
        "pid": "1_nda-2_0",
        "input": "The parties may copy.\n\n1. No copies.\n\n2. Term: one year.",
        "output": "Contradiction",
    }


ROWS: dict[str, Callable[[], dict[str, Any]]] = {
    "coqa": _coqa,
    "quality": _quality,
    "qasper": _qasper,
    "narrativeqa": _narrativeqa,
    "cnli": _cnli,
}


def write_rows(root: Path, task: str, row: dict[str, Any]) -> None:
    """Write one row as both splits of a task under a data folder."""
    (root / task).mkdir(exist_ok=True)
    for split in ("train", "validation"):
        (root / task / f"{split}.jsonl").write_text(json.dumps(row), "utf-8")
