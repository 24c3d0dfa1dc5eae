"""Slices: a planted loss is found, chance is not, and what cannot be sliced is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_builder import PAPER, build_run, record

from automix_eval.analysis.slices import MOST_SLICES, Slices, by_slice
from automix_eval.commands.main import main
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.doc_fields import FieldValues
from automix_eval.safety.errors import AutoMixError

pytestmark = pytest.mark.all_folds

NULL, SIZE = 20, 60


def sliced(seed: int, planted: float, null: int = NULL) -> Slices:
    """Slices of 60 questions, in the last of which the cascade loses; in the others it is as good.

    Args:
        seed: Of the draws.
        planted: How much less often the answers that are kept are right in the last slice.
        null: Number of the others.
    """
    rng = np.random.default_rng(seed)
    labels = np.repeat([f"s{i:02d}" for i in range(null + 1)], SIZE)
    number = len(labels)
    llm, slm = ((rng.random(number) < p).astype(float) for p in (0.8, 0.5))
    up = rng.random(number) < 0.4
    kept = rng.random(number) < np.where(labels == f"s{null:02d}", 0.8 - planted, 0.8)
    columns = np.column_stack(
        [np.where(up, llm, kept), 2 + 50.0 * up, slm, np.ones(number), llm, np.full(number, 50.0)]
    )
    held = FieldValues(tuple(labels.tolist()), ())
    return by_slice("task", "kind", held, columns, up, np.arange(number), 50, seed)


def test_a_planted_slice_is_found() -> None:
    """It comes first, and is the only one; its loss is that of its questions."""
    found = sliced(0, 0.7)
    first, *others = found.slices
    assert (first.label, first.loses) == ("s20", True)
    assert isinstance(first.loss.value, float)
    assert first.loss.value == pytest.approx(0.6 * 0.7, abs=0.2)
    assert not any(s.loses for s in others)
    values = [s.loss.value for s in others]
    assert values == sorted(values, reverse=True)
    assert {s.num_questions for s in found.slices} == {SIZE}


@pytest.mark.slow
def test_of_null_slices_none_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """In 95 % of 100 simulations of 20, after Holm's correction."""
    # a fifth of the permutations, which leaves p-values down to .0005
    monkeypatch.setattr("automix_eval.metrics.significance._PERMUTATIONS", 1_999)
    made = (sliced(i, 0.0, NULL - 1).slices for i in range(100))
    assert sum(any(s.loses is not None for s in one) for one in made) <= 5


def test_slices_that_can_show_nothing_hide_no_other() -> None:
    """A loss of nine questions of nine is shown beside forty slices of three."""
    labels = np.repeat([f"s{i:02d}" for i in range(41)], [3] * 40 + [9])
    score, number = (labels != "s40").astype(float), len(labels)
    score[::3] = 0
    one, many = np.ones(number), np.full(number, 50.0)
    columns = np.column_stack([score, one, score, one, one, many])
    held = FieldValues(tuple(labels.tolist()), ())
    first, *others = by_slice(
        "t", "f", held, columns, np.zeros(number, bool), np.arange(number), 50, 0
    ).slices
    assert (first.label, first.loses) == ("s40", True)
    assert all(s.loss_holm.value == 1 for s in others)


def test_interval_and_p_of_a_slice_agree() -> None:
    """The loss of a slice has an interval without 0 just where its own p is below .05."""
    for s in sliced(3, 0.4).slices:
        assert isinstance(s.loss.interval, tuple)
        assert isinstance(s.loss_p.value, float)
        assert (s.loss.interval[0] <= 0 <= s.loss.interval[1]) == (s.loss_p.value >= 0.05)
        assert isinstance(s.loss_holm.value, float)
        assert s.loss_holm.value >= s.loss_p.value


def test_a_field_of_many_values_is_refused() -> None:
    """Slices of one question each tell nothing."""
    number = MOST_SLICES + 1
    held = FieldValues(tuple(map(str, range(number))), ())
    with pytest.raises(AutoMixError, match=f"{number} values"):
        by_slice(
            "t", "id", held, np.ones((number, 6)), np.zeros(number, bool), range(number), 50, 0
        )


# --------------------------------------------------------------------------- commands


def run_with_documents(folder: Path, docs: list[dict[str, Any]]) -> None:
    """A run with record=full and the harness's samples, which hold the documents."""
    rng = np.random.default_rng(1)
    rows = [
        (float(rng.random() < 0.4), float(rng.random() < 0.8), float(v), bool(v < 0.5))
        for v in rng.random(len(docs))
    ]
    build_run(
        folder, records=[record(i, row, full=True) for i, row in enumerate(rows)],
        config={"cost": PAPER}, samples=dict.fromkeys(range(len(docs)), 1.0),
    )  # fmt: skip
    (path,) = folder.glob("samples_*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps({**x, "doc": docs[x["doc_id"]]}) + "\n" for x in lines))


def test_a_report_by_a_field_of_the_documents(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Inner fields too; questions that lack the field are named, counted and left out."""
    docs = [{"meta": {"subject": ["law", "art"][i % 2]}, "tags": [1]} for i in range(40)]
    docs[7] = {"meta": {}, "tags": [1]}
    run_with_documents(tmp_path, docs)
    arguments = ["report", str(tmp_path), "--resamples", "200"]
    assert main([*arguments, "--by", "meta.subject"]) == 0
    out = capsys.readouterr().out
    assert "law" in out
    assert "1 questions lack meta.subject" in out
    assert "doc_id 7" in out
    assert main([*arguments, "--by", "meta.subject", "--format", "json"]) == 0
    (task,) = json.loads(capsys.readouterr().out)["slices"]
    counts = {s["label"]: s["num_questions"] for s in task["slices"]}
    assert counts == {"law": 20, "art": 19}
    for name, reason in (("tags", "several values"), ("colour", "there is meta, tags")):
        assert main([*arguments, "--by", name]) == 2
        assert reason in capsys.readouterr().err
    assert main([*arguments, "--by", "meta.subject", "--format", "html"]) == 2
    assert "text, md, json" in capsys.readouterr().err


def test_a_report_by_a_field_of_the_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without samples the records' own fields part the questions; others are refused."""
    row = (0.0, 1.0, 0.2, True)
    records = [record(i, row, full=True, document=f"text {i % 3}") for i in range(30)]
    build_run(tmp_path, records=records, config={"cost": PAPER})
    assert main(["report", str(tmp_path), "--by", "document", "--format", "md"]) == 0
    assert "text 2" in capsys.readouterr().out
    assert main(["report", str(tmp_path), "--by", "subject"]) == 2
    assert "--log_samples" in capsys.readouterr().err


def test_a_table_by_a_column(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Routers fitted in folds, by a column; a column that is not there is named."""
    rng = np.random.default_rng(5)
    table = tmp_path / "t.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["kind", "a:score", "a:confidence", "a:cost", "b:score", "b:cost"])
        for i in range(120):
            slm, llm = int(rng.random() < 0.4), int(rng.random() < 0.8)
            kind = "" if i == 5 else ["easy", "hard"][i % 2]
            writer.writerow([kind, slm, 0.3 + 0.4 * slm + 0.2 * rng.random(), 1, llm, 50])
    arguments = ["whatif", str(table), "--router", "threshold", "--resamples", "200"]
    assert main([*arguments, "--by", "kind", "--format", "json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["slices"]
    assert {s["label"]: s["num_questions"] for s in one["slices"]} == {"easy": 60, "hard": 59}
    assert (one["num_lacking"], one["lacking"]) == (1, ["row 6"])
    assert main([*arguments, "--by", "colour"]) == 2
    assert "colour" in capsys.readouterr().err


def test_a_public_table_by_data_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The data sets of RouterBench, one question left out; its columns want every row."""
    table = tmp_path / "rb.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["sample_id", "eval_name", "s", "s|total_cost", "l", "l|total_cost"])
        for i in range(80):
            score = "" if i == 3 else i % 2
            writer.writerow([f"q{i}", ["mbpp", "arc"][i % 4 > 1], score, 0.01, 1, 0.5])
    arguments = ["whatif", str(table), "--router", "always_slm", "--resamples", "200", "--missing"]
    assert main([*arguments, "drop", "--by", "task", "--format", "json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)["slices"]
    assert {s["label"]: s["num_questions"] for s in one["slices"]} == {"arc": 39, "mbpp": 40}
    assert main([*arguments, "drop", "--by", "eval_name"]) == 2
    assert "--missing zero" in capsys.readouterr().err


def test_slices_of_few_documents_are_not_tested() -> None:
    """A slice about one document has figures and no test."""
    columns = np.column_stack([np.ones(8), np.full(8, 52.0), np.zeros(8), np.ones(8), np.ones(8),
                               np.full(8, 50.0)])  # fmt: skip
    held = FieldValues(("a",) * 8, ())
    (only,) = by_slice("t", "f", held, columns, np.ones(8, bool), np.zeros(8), 50, 0).slices
    assert isinstance(only.loss_holm.value, Undefined)
    assert isinstance(only.loss.interval, Undefined)
    assert only.loses is None
