"""Where task rows come from, and what is said when they cannot be had."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from huggingface_hub import constants

from automix_eval.harness.tasks import hub as taskhub
from automix_eval.harness.tasks.load import (
    DATA_DIR,
    Doc,
    Row,
    RowError,
    TaskDataError,
    digest,
    load_rows,
    make_doc,
    pick,
    texts,
)


def flatten(row: Row) -> list[Doc]:
    """Flatten a row of the toy schema used here."""
    return [make_doc("d", "context", pick(row, "question.text", str), texts(row, "answers"))]


@pytest.fixture
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with two well-formed splits of the task ``toy``."""
    monkeypatch.setenv(DATA_DIR, str(tmp_path))
    (tmp_path / "toy").mkdir()
    row = {"question": {"text": "Who?"}, "answers": ["she", " she ", "", "her"]}
    for split in ("train", "validation"):
        (tmp_path / "toy" / f"{split}.jsonl").write_text(json.dumps(row) + "\n\n", "utf-8")
    return tmp_path / "toy"


@pytest.fixture
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without a hub, whatever the network of the test machine is."""

    def fail() -> None:
        raise ConnectionError("no route")

    monkeypatch.delenv(DATA_DIR, raising=False)
    monkeypatch.setattr(taskhub, "_probe", fail)


@pytest.mark.usefixtures("data_dir")
def test_local_rows_become_uniform_documents() -> None:
    """Files under the data folder are read, flattened and their references cleaned."""
    loaded = load_rows("toy", None, flatten)
    assert set(loaded) == {"train", "validation"}
    assert loaded["train"][0] == {
        "id": f"d-{digest('Who?')}",
        "document_id": "d",
        "context": "context",
        "question": "Who?",
        "answers": ["she", "her"],
    }


def test_ids_are_unique_even_if_rows_repeat(data_dir: Path) -> None:
    """A repeated question gets an id of its own."""
    path = data_dir / "train.jsonl"
    path.write_text(path.read_text("utf-8") * 3, "utf-8")
    ids = load_rows("toy", None, flatten)["train"]["id"]
    assert len(set(ids)) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{not json", r"train\.jsonl, line 2: not JSON"),
        ("[1]", r"train\.jsonl, line 2: a list, not a JSON object"),
        ('{"answers": ["x"]}', r"line 2: field 'question\.text' is missing or null"),
        ('{"question": {"text": null}, "answers": ["x"]}', r"'question\.text' is missing or null"),
        (
            '{"question": {"text": 3}, "answers": ["x"]}',
            r"'question\.text' is of type int, not str",
        ),
        ('{"question": {"text": "q"}, "answers": [1]}', r"'answers' holds 1, which is no text"),
        ('{"question": {"text": "q"}, "answers": [""]}', "no reference answer"),
    ],
)
def test_a_malformed_row_names_file_line_and_field(data_dir: Path, line: str, message: str) -> None:
    """The error leads to the very row."""
    path = data_dir / "train.jsonl"
    path.write_text(path.read_text("utf-8").strip() + "\n" + line + "\n", "utf-8")
    with pytest.raises(TaskDataError, match=message) as caught:
        load_rows("toy", None, flatten)
    assert "row" in str(caught.value) or "JSON object" in str(caught.value)


@pytest.mark.usefixtures("data_dir")
def test_a_row_of_an_unforeseen_shape_is_reported_with_its_place() -> None:
    """An error inside flatten is not a bare traceback."""
    with pytest.raises(TaskDataError, match=r"line 1: KeyError\('nothing'\)") as caught:
        load_rows("toy", None, lambda row: row["nothing"])
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("content", [None, b"\xff\xfe{}"])
def test_an_unreadable_file_names_the_layout_and_the_sample(
    data_dir: Path, content: bytes | None
) -> None:
    """A missing file or one that is not UTF-8 leads to the expected layout."""
    path = data_dir / "validation.jsonl"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TaskDataError) as caught:
        load_rows("toy", None, flatten)
    for part in (str(path), DATA_DIR, "toy/train.jsonl", "toy_demo", "automix_demo"):
        assert part in str(caught.value)


def test_a_split_without_questions_is_an_error(data_dir: Path) -> None:
    """The harness would fail later with an index error."""
    (data_dir / "train.jsonl").write_text("", "utf-8")
    with pytest.raises(TaskDataError, match=r"toy \(train\) has no questions"):
        load_rows("toy", None, flatten)


def test_an_unknown_source_is_an_error() -> None:
    """Only the sample has a source's name."""
    with pytest.raises(TaskDataError, match="no source 'dmeo'"):
        load_rows("coqa", "dmeo", flatten)


@pytest.mark.usefixtures("no_hub")
@pytest.mark.parametrize("task", sorted(taskhub.SOURCES))
def test_an_unreachable_hub_names_every_way_out(task: str) -> None:
    """The message names the task, its places, the data folder's layout and the sample."""
    with pytest.raises(TaskDataError) as caught:
        load_rows(task, None, flatten)
    message = str(caught.value)
    places = [str(source) for source in taskhub.SOURCES[task]]
    for part in (
        *places,
        DATA_DIR,
        f"{task}/train.jsonl",
        f"{task}/validation.jsonl",
        f"{task}_demo",
        "automix_demo",
        "ConnectionError: no route",
    ):
        assert part in message
    assert isinstance(caught.value.__cause__, ConnectionError)


@pytest.mark.usefixtures("no_hub")
def test_an_empty_data_dir_variable_counts_as_unset(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exported but empty variable does not point at the working directory."""
    monkeypatch.setenv(DATA_DIR, "")
    with pytest.raises(TaskDataError, match="from the hub"):
        load_rows("coqa", None, flatten)


@pytest.mark.parametrize(
    ("task", "row", "field", "expected"),
    [
        ("coqa", {"questions": ["Who?"]}, "questions.input_text", ["Who?"]),
        ("cnli", {"premise": "P.", "hypothesis": "H.", "label": 2}, "input", "H.\n\nP."),
        ("cnli", {"premise": "P.", "hypothesis": "H.", "label": 2}, "output", "Not mentioned"),
        ("cnli", {"premise": "P.", "hypothesis": "H.", "label": 0}, "output", "Contradiction"),
    ],
)
def test_a_fallback_is_adapted_to_the_first_places_schema(
    monkeypatch: pytest.MonkeyPatch, task: str, row: Row, field: str, expected: object
) -> None:
    """If the first place fails the second is read, in the schema that flatten expects."""
    asked: list[str] = []

    def load_dataset(path: str, **_: Any) -> dict[str, list[Row]]:
        asked.append(path)
        if path == taskhub.SOURCES[task][0].path:
            raise FileNotFoundError(path)
        return {"train": [row], "validation": [row]}

    monkeypatch.setattr(taskhub, "_probe", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    ((where, adapted),) = taskhub.raw_splits(task)["validation"]
    assert asked == [source.path for source in taskhub.SOURCES[task]]
    assert where == f"{taskhub.SOURCES[task][1]} (validation), row 0"
    assert pick(adapted, field, type(expected)) == expected


def test_a_mirror_of_the_hub_serves_every_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """HF_ENDPOINT names it: no file of the hub is asked for at the hub's own address."""
    asked: list[str] = []

    def load_dataset(path: str, **options: Any) -> dict[str, list[Row]]:
        asked.append(f"{path} {options}")
        return {"train": [], "validation": []}

    monkeypatch.setattr(constants, "ENDPOINT", "http://mirror.example")
    monkeypatch.setattr(taskhub, "_probe", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    for task in taskhub.SOURCES:
        taskhub.raw_splits(task)
    assert not any("huggingface.co" in one for one in asked)
    assert sum("http://mirror.example/datasets/tau/scrolls/" in one for one in asked) == 1


def test_an_unlabelled_row_of_the_fallback_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Class -1, the hub's sign for "no label", is not read as the last class."""
    row = {"premise": "P.", "hypothesis": "H.", "label": -1}

    def load_dataset(path: str, **_: Any) -> dict[str, list[Row]]:
        if path == "json":
            raise ValueError("no such file")
        return {"train": [row], "validation": [row]}

    monkeypatch.setattr(taskhub, "_probe", lambda: None)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(TaskDataError, match="field 'label' is -1"):
        list(taskhub.raw_splits("cnli")["train"])


def test_pick_refuses_a_path_through_something_else() -> None:
    """A nested field of a text or a list is missing, not an attribute error."""
    with pytest.raises(RowError, match=r"'a\.b' is missing or null"):
        pick({"a": ["b"]}, "a.b", str)
