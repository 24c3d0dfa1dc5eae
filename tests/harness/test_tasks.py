"""The ten tasks as the harness loads, prompts and scores them."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager
from taskrows import ROWS, write_rows

from automix_eval.harness.tasks.load import DATA_DIR, TaskDataError
from automix_eval.paths import tasks_dir

# as the user set it: tests see none
GIVEN = os.environ.get(DATA_DIR, "")
TASKS = ("coqa", "quality", "qasper", "narrativeqa", "cnli")
FREE_FORM = ("coqa", "qasper", "narrativeqa")
#: What the composite model's arguments look like when the harness hands them to a data loader.
MODEL_ARGS = {"slm": {"path": "small"}, "samples": 8, "model": "label"}


def _load(name: str) -> dict[str, Any]:
    manager = TaskManager(
        include_path=str(tasks_dir()), include_defaults=False, metadata=dict(MODEL_ARGS)
    )
    loaded: dict[str, Any] = manager.load([name])["tasks"]
    return loaded


@pytest.fixture(scope="module")
def tasks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """All ten tasks: the five on rows in the real schemas, the five samples."""
    root = tmp_path_factory.mktemp("rows")
    for task, row in ROWS.items():
        write_rows(root, task, row())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(DATA_DIR, str(root))
        yield _load("automix") | _load("automix_demo")


@pytest.fixture(params=[*TASKS, *(f"{task}_demo" for task in TASKS)])
def task(request: pytest.FixtureRequest, tasks: dict[str, Any]) -> Any:
    """Each of the ten tasks."""
    return tasks[request.param]


def _main_metric(task: Any) -> str:
    return str(task.config.metadata["automix"]["metric"])


def test_prompts_hold_context_and_question_and_end_with_the_cue(task: Any) -> None:
    """Zero-shot and few-shot prompts of every document are complete."""
    for doc in task.validation_docs():
        for shots in (0, 2 if task.config.task.endswith("_demo") else 1):
            prompt = task.fewshot_context(doc, num_fewshot=shots)
            assert prompt.endswith("\n\nAnswer:")
            assert prompt.count("\n\nAnswer:") == shots + 1
            assert doc["context"] in prompt
            assert f"{doc['question']}\n\nAnswer:" in prompt


def test_demonstrations_end_with_a_reference(task: Any) -> None:
    """A few-shot demonstration shows the training document's first reference after one space."""
    shown = [f"\n\nAnswer: {doc['answers'][0]}\n\n" for doc in task.training_docs()]
    prompt = task.fewshot_context(task.validation_docs()[0], num_fewshot=1)
    assert any(answer in prompt for answer in shown)


def test_documents_are_uniform(task: Any) -> None:
    """Ids are unique, and every document has a context, a question and clean references."""
    for docs in (task.training_docs(), task.validation_docs()):
        assert len(set(docs["id"])) == len(docs)
        for doc in docs:
            assert doc["context"]
            assert doc["question"]
            assert doc["document_id"]
            assert doc["answers"] == list(dict.fromkeys(doc["answers"]))
            assert all(answer.strip() for answer in doc["answers"])


def test_splits_share_no_document_in_the_samples(tasks: dict[str, Any]) -> None:
    """No passage of a sample's training split is asked about in its validation split."""
    for name in TASKS:
        task = tasks[f"{name}_demo"]
        train, validation = (set(d["document_id"]) for d in (task.training_docs(), task.eval_docs))
        assert not train & validation


def test_gold_scores_one_and_anything_else_zero(task: Any) -> None:
    """Each reference scores 1, but where it is left out itself; rubbish and nothing score 0."""
    for doc in task.validation_docs():
        for reference in doc["answers"]:
            found = task.process_results(doc, [reference])
            least = 1.0
            if "f1_max" in found:  # CoQA: of n people n - 1 are met by their own answer
                assert found.pop("f1_max") == 1.0
                number = len(doc["references"])
                least = 1.0 if number == 1 else (number - 1) / number
            assert all(least - 1e-9 <= value <= 1.0 for value in found.values())
        for wrong in ("zzz qqq", "", " ", "?!"):
            assert set(task.process_results(doc, [wrong]).values()) == {0.0}


def test_an_unparsable_choice_is_wrong(tasks: dict[str, Any]) -> None:
    """Hedging between options, or a word that begins like a label, earns no accuracy."""
    wrong = {
        "quality": ["A or B, C or D", "All of the above", "Definitely", "(A) (B) (C) (D)"],
        "cnli": ["Entailment or Contradiction", "Contradiction, Not mentioned", "Entailed"],
    }
    for name, answers in wrong.items():
        for task in (tasks[name], tasks[f"{name}_demo"]):
            for doc in task.validation_docs():
                assert all(task.process_results(doc, [a])["acc"] == 0.0 for a in answers)


def test_label_f1_is_token_f1_and_option_f1_is_accuracy(tasks: dict[str, Any]) -> None:
    """The paper's F1: by tokens for CNLI, by parsed option for QuALITY."""
    cnli, quality = tasks["cnli"], tasks["quality"]
    partly = cnli.process_results(cnli.validation_docs()[0], ["Contradiction, it says"])
    assert partly == {"acc": 1.0, "f1": 0.5}
    by_text = quality.process_results(quality.validation_docs()[0], ["a bakery"])
    assert by_text == {"acc": 1.0, "f1": 1.0}


def test_references_follow_the_data_sets(tasks: dict[str, Any]) -> None:
    """Each real schema flattens to the documents it should."""

    def answers(name: str) -> list[list[str]]:
        return list(tasks[name].validation_docs()["answers"])

    assert answers("coqa") == [["a red kite", "a kite"], ["on the roof", "the roof"]]
    assert answers("quality") == [["B"]]
    assert answers("qasper") == [["radar, hand", "Yes"], ["No", "Unanswerable", "Gulls only"]]
    assert answers("narrativeqa") == [["A fox.", "the fox"]]
    assert answers("cnli") == [["Contradiction"]]
    assert tasks["coqa"].validation_docs()["id"] == ["story-1-1", "story-1-2"]
    assert tasks["qasper"].validation_docs()["context"][0] == (
        "Counting Gulls\n\nAbstract\n\nWe count gulls."
        "\n\nMethod\n\nBy radar.\n\nBy hand.\n\nThanks."
    )
    cnli = tasks["cnli"].validation_docs()[0]
    assert cnli["question"] == "The parties may copy."
    assert cnli["context"] == "1. No copies.\n\n2. Term: one year."
    assert "\n(B) A bakery.\n(C)" in tasks["quality"].validation_docs()[0]["question"]


def test_generation_is_greedy_and_stops_at_a_newline(task: Any) -> None:
    """Every task asks for the paper's generation: at most 100 tokens of one line."""
    assert task.OUTPUT_TYPE == "generate_until"
    assert task.config.generation_kwargs == {
        "do_sample": False,
        "until": ["\n"],
        "max_gen_toks": 100,
    }
    assert task.config.num_fewshot is None


def test_metadata_names_the_main_metric_and_marks_samples(task: Any) -> None:
    """The main metric is one of the task's own, and only samples say so."""
    is_sample = task.config.task.endswith("_demo")
    name = task.config.task.removesuffix("_demo")
    assert _main_metric(task) == ("f1" if name in FREE_FORM else "acc")
    assert _main_metric(task) in task.aggregation()
    assert task.config.metadata.get("sample", False) is is_sample
    assert (task.config.task_alias is not None) is is_sample
    assert not is_sample or "not a benchmark" in task.config.task_alias


@pytest.mark.parametrize(
    ("task", "changes", "message"),
    [
        ("quality", {"answer": None}, "the gold option must be an index from 0, not None"),
        ("quality", {"answer": 4}, "gold option 4 is not an index of 4 options"),
        ("cnli", {"output": "Neutral"}, "gold label 'Neutral' is none of"),
        ("cnli", {"input": "no contract"}, "no blank line between hypothesis and contract"),
        ("coqa", {"story": None}, "field 'story' is missing or null"),
        ("coqa", {"answers": {"input_text": ["one"]}}, "2 questions but 1 answers"),
        ("narrativeqa", {"document": {"text": "book"}}, "'document.summary.text' is missing"),
        ("qasper", {"full_text": {"section_name": [], "paragraphs": [["x"]]}}, "0 section names"),
    ],
)
def test_a_row_that_cannot_be_scored_is_an_error(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    task: str,
    changes: dict[str, Any],
    message: str,
) -> None:
    """A broken gold or passage stops the run with file and line instead of scoring nonsense."""
    write_rows(tmp_path, task, ROWS[task]() | changes)
    monkeypatch.setenv(DATA_DIR, str(tmp_path))
    with pytest.raises(TaskDataError, match=message) as caught:
        _load(task)
    assert "train.jsonl, line 1" in str(caught.value)


def test_a_question_nobody_answered_is_left_out_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A CoQA turn with blank answers only cannot be scored; the others stay."""
    row = ROWS["coqa"]() | {"additional_answers": None}
    row["answers"]["input_text"][0] = " "
    write_rows(tmp_path, "coqa", row)
    monkeypatch.setenv(DATA_DIR, str(tmp_path))
    with caplog.at_level(logging.WARNING):
        docs = _load("coqa")["coqa"].validation_docs()
    assert docs["id"] == ["story-1-2"]
    assert "story-1-1 is left out" in caplog.text


def _nothing(row: dict[str, Any], *path: str | int) -> dict[str, Any]:
    held: Any = row
    for name in path[:-1]:
        held = held[name]
    held[path[-1]] = None
    return row


@pytest.mark.parametrize(
    ("task", "path"),
    [
        ("qasper", ("id",)),
        ("qasper", ("title",)),
        ("qasper", ("abstract",)),
        ("qasper", ("full_text", "section_name", 0)),
        ("qasper", ("full_text", "paragraphs", 1)),
        ("qasper", ("full_text", "paragraphs", 0, 0)),
        ("qasper", ("qas", "question_id", 0)),
        ("qasper", ("qas", "answers", 0)),
        ("qasper", ("qas", "answers", 0, "answer")),
        ("qasper", ("qas", "answers", 1, "answer", 0)),
        ("qasper", ("qas", "answers", 1, "answer", 0, "yes_no")),
        ("qasper", ("qas", "answers", 1, "answer", 2, "free_form_answer")),
        ("qasper", ("qas", "answers", 0, "answer", 0, "extractive_spans")),
        ("coqa", ("id",)),
        ("coqa", ("additional_answers", "1")),
        ("coqa", ("additional_answers", "1", "input_text")),
        ("coqa", ("additional_answers", "1", "input_text", 0)),
        ("coqa", ("answers", "input_text", 0)),
        ("narrativeqa", ("document", "id")),
        ("narrativeqa", ("answers", 0)),
        ("narrativeqa", ("answers", 0, "text")),
        ("quality", ("hard",)),
        ("cnli", ("id",)),
        ("cnli", ("pid",)),
    ],
)
def test_what_may_be_empty_may_be_null(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, path: tuple[str | int, ...]
) -> None:
    """A null id, heading or annotation refuses no data set: the other questions are read."""
    write_rows(tmp_path, task, _nothing(ROWS[task](), *path))
    monkeypatch.setenv(DATA_DIR, str(tmp_path))
    for doc in _load(task)[task].validation_docs():
        assert all(doc["answers"])
        assert doc["id"]
        assert "None" not in doc["context"]


@pytest.mark.skipif(not GIVEN, reason=f"{DATA_DIR} is not set")
def test_real_rows_flatten_prompt_and_score(monkeypatch: pytest.MonkeyPatch) -> None:
    """The laws of the samples hold on the user's copy of the data sets, where there is one."""
    root = Path(GIVEN).expanduser()
    monkeypatch.setenv(DATA_DIR, str(root))
    present = [name for name in TASKS if (root / name / "validation.jsonl").is_file()]
    if not present:
        pytest.skip(f"{DATA_DIR} holds none of the five data sets")
    for name in present:
        task = _load(name)[name]
        for doc in task.validation_docs():
            prompt = task.fewshot_context(doc, num_fewshot=0)
            assert doc["context"] in prompt
            assert prompt.endswith(f"{doc['question']}\n\nAnswer:")
            for reference in doc["answers"]:
                found = task.process_results(doc, [reference])
                # by CoQA's own metric a reference may be worth less where it is left out itself
                assert found.get("f1_max", found[_main_metric(task)]) == 1.0
            assert set(task.process_results(doc, [""]).values()) == {0.0}
