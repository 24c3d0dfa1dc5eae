"""The samples that stand outside the demo group: two documents, and Esperanto beside English."""

from __future__ import annotations

import runpy
from typing import Any

import pytest
from lm_eval.tasks import TaskManager

from automix_eval.harness.tasks.load import TaskDataError, load_rows
from automix_eval.paths import tasks_dir

NAMES = ("multi_context_demo", "low_resource_demo", "low_resource_english_demo")


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    """All of them, as the harness loads them."""
    manager = TaskManager(include_path=str(tasks_dir()), include_defaults=False)
    loaded: dict[str, Any] = manager.load(list(NAMES))["tasks"]
    return loaded


@pytest.mark.parametrize("name", NAMES)
def test_samples_have_their_sizes_and_share_nothing(name: str, tasks: dict[str, Any]) -> None:
    """20 questions to fit on and 40 to score on, of different texts, each with a reference."""
    train, validation = tasks[name].training_docs(), tasks[name].validation_docs()
    assert (len(train), len(validation)) == (20, 40)
    assert not set(train["document_id"]) & set(validation["document_id"])
    assert len({*train["id"], *validation["id"]}) == 60
    questions = [(d["document_id"], d["question"]) for d in [*train, *validation]]
    assert len(set(questions)) == 60


@pytest.mark.parametrize("name", NAMES)
def test_prompts_are_whole_and_references_score_one(name: str, tasks: dict[str, Any]) -> None:
    """The context and the question stand before the cue, and each reference is right."""
    task = tasks[name]
    for doc in task.validation_docs():
        prompt = task.fewshot_context(doc, num_fewshot=2)
        assert doc["context"] in prompt
        assert prompt.endswith(f"{doc['question']}\n\nAnswer:")
        for reference in doc["answers"]:
            assert set(task.process_results(doc, [reference]).values()) == {1.0}
        assert set(task.process_results(doc, ["zzz"]).values()) == {0.0}


def test_english_and_esperanto_are_the_same_questions(tasks: dict[str, Any]) -> None:
    """Text by text and question by question, under the same prompt."""
    one, two = tasks["low_resource_demo"], tasks["low_resource_english_demo"]
    assert one.config.doc_to_text == two.config.doc_to_text
    for mine, theirs in (
        (one.training_docs(), two.training_docs()),
        (one.validation_docs(), two.validation_docs()),
    ):
        assert [i.replace("-eo-", "-en-") for i in mine["id"]] == theirs["id"]
        assert not set(mine["context"]) & set(theirs["context"])


def test_both_documents_are_in_the_context(tasks: dict[str, Any]) -> None:
    """They are joined under their titles, so that a verifier reads both."""
    for doc in tasks["multi_context_demo"].validation_docs():
        first, second = doc["context"].split("\n\n")
        assert first.startswith("Document 1: ")
        assert second.startswith("Document 2: ")


def test_one_document_is_not_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row with a single document is refused where it stands."""
    flatten = runpy.run_path(str(tasks_dir() / "multi_context" / "utils.py"))["flatten"]
    row = {"id": "x", "documents": [{"title": "t", "text": "t"}], "questions": []}
    monkeypatch.setattr(
        "automix_eval.harness.tasks.load._raw_splits", lambda *_: {"train": iter([("line 1", row)])}
    )
    with pytest.raises(TaskDataError, match=r"line 1.*at least two"):
        load_rows("multi_context", None, flatten)


def test_the_demo_group_is_as_it_was() -> None:
    """`make demo` runs the five samples of the paper's tasks, and no more."""
    text = (tasks_dir() / "automix_demo.yaml").read_text()
    assert not any(name in text for name in NAMES)
