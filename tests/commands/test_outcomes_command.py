"""``automix-eval outcomes``: a run as tables of numbers."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from report_builder import ROWS, build_run, record

from automix_eval.commands.main import main
from automix_eval.records.importers.every_eval_ever import EveryEvalEver
from automix_eval.types import Record

AIM = ["objective=assured", "target=0.6"]


@pytest.fixture(params=[False, True], ids=["alone", "by document"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A run with record=full, of questions that stand alone or share documents."""

    def made(part: str, shift: int) -> list[Record]:
        names = [f"{part} {i * 5 % 13}" if request.param else "" for i in range(len(ROWS))]
        rows = [(*row[:2], None if i % 9 == 3 else (i * 7 + shift) % 11 / 11, row[3])
                for i, row in enumerate(ROWS)]  # fmt: skip
        return [
            replace(record(i, row, full=True, document=names[i]), question=f"{part} {i}?")
            for i, row in enumerate(rows)
        ]

    fitting = [replace(r, phase="calibration") for r in made("train", 3)]
    build_run(tmp_path / "run", records=[*fitting, *made("story", 0)])
    return tmp_path / "run"


def replayed(arguments: list[str], out: Path) -> dict[str, object]:
    """The figures of a replay."""
    assert main(["replay", *arguments, "meta_verifier=pomdp", *AIM, f"output={out}"]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    return {k: result[k] for k in ("performance", "cost", "escalation", "auc", "intervals",
                                   "cost_at", "apgr", "cpt", "curve", "references")}  # fmt: skip


def test_the_table_replays_like_the_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed command reads the table, and every figure equals that of the records.

    Mixtures draw by a question's identity, and folds go by the order of the documents' names.
    """
    assert main(["outcomes", str(run), "--out", str(tmp_path / "t")]) == 0
    _, command = capsys.readouterr().out.strip().splitlines()
    arguments = shlex.split(command)[2:]
    assert arguments == [f"table={tmp_path / 't' / 'coqa.csv'}"]  # the header says what it holds
    from_table = replayed(arguments, tmp_path / "a.json")
    from_run = replayed([f"records={run}"], tmp_path / "b.json")
    assert from_table == from_run


def test_no_text_is_in_the_table(run: Path, tmp_path: Path) -> None:
    """Questions, answers and references stay in the records."""
    assert main(["outcomes", str(run), "--out", str(tmp_path / "t")]) == 0
    (file,) = (tmp_path / "t").iterdir()
    rows = file.read_text(encoding="utf-8").splitlines()[1:]
    assert len(rows) == 80
    assert all(re.fullmatch(r"(test|train),coqa/\d+/0,[\d.,]+", row) for row in rows)


def test_a_run_that_did_not_ask_every_tier_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the setting that records every tier."""
    build_run(tmp_path / "run", full=False)
    assert main(["outcomes", str(tmp_path / "run"), "--out", str(tmp_path / "t")]) == 2
    assert "record=full" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()


def test_every_eval_ever_is_read_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Questions, answers, scores and tokens of both models and of the cascade, none for unasked."""
    build_run(tmp_path / "run", full=True)
    out = tmp_path / "shared"
    assert (
        main(["outcomes", str(tmp_path / "run"), "--as", "every-eval-ever", "--out", str(out)]) == 0
    )
    assert "(40 answers)" in capsys.readouterr().out
    assert EveryEvalEver().recognises(out)
    held = EveryEvalEver().read(out)
    place = {name: held.models.index(name) for name in ("small", "large", "automix/demo")}
    scores = {name: held.scores[:, i].tolist() for name, i in place.items()}
    assert scores["small"] == [slm for slm, *_ in ROWS]
    assert scores["large"] == [llm for _, llm, *_ in ROWS]
    assert scores["automix/demo"] == [llm if up else slm for slm, llm, _, up in ROWS]
    assert held.ids == tuple(f"coqa/{i}" for i in range(len(ROWS)))
    assert held.answers is not None
    assert held.answers[place["large"]][0] == "blue"
    assert held.prompt_tokens is not None
    spent = [100.0 * (1 + 8 + up) for *_, up in ROWS]  # the answer, eight samples, the LLM
    assert held.prompt_tokens[:, place["automix/demo"]].tolist() == spent
    assert held.prompt_tokens[:, place["small"]].tolist() == [100.0] * len(ROWS)


def test_every_eval_ever_keeps_which_questions_share_a_document(tmp_path: Path) -> None:
    """Intervals of what is read back draw the documents that those of the run draw."""
    names = ["" if i % 9 == 3 else f"story {i // 4}" for i in range(len(ROWS))]
    rows = [record(i, row, full=True, document=names[i]) for i, row in enumerate(ROWS)]
    build_run(tmp_path / "run", records=rows)
    command = ["outcomes", str(tmp_path / "run"), "--as", "every-eval-ever", "--out"]
    assert main([*command, str(tmp_path / "out")]) == 0
    held = EveryEvalEver().read(tmp_path / "out")
    assert held.documents == tuple(f"coqa/{n or i}" for i, n in enumerate(names))


def test_a_routed_run_gives_the_llm_what_it_was_asked(tmp_path: Path) -> None:
    """Only escalated questions have an instance of the LLM; each line has what the schema needs."""
    build_run(tmp_path / "run")
    command = ["outcomes", str(tmp_path / "run"), "--as", "every-eval-ever", "--out"]
    assert main([*command, str(tmp_path / "out")]) == 0
    files = {p.parent.name: p for p in (tmp_path / "out").rglob("*_samples.jsonl")}
    lines = {name: p.read_text().splitlines() for name, p in files.items()}
    assert len(lines["large"]) == sum(up for *_, up in ROWS)
    required = {
        "schema_version", "evaluation_id", "model_id", "evaluation_name", "sample_id",
        "interaction_type", "input", "output", "answer_attribution", "evaluation",
    }  # fmt: skip
    for line in (line for found in lines.values() for line in found):
        value = json.loads(line)
        assert required <= set(value)
        assert all(isinstance(v, str) for v in value["metadata"].values())
        assert value["evaluation"]["is_correct"] is (value["evaluation"]["score"] > 0.5)
    assert main([*command, str(tmp_path / "more"), "--task", "nope"]) == 2
    assert main([*command, str(tmp_path / "more"), "--costs", "paper:1,1,50"]) == 2


def test_the_aggregate_stands_beside_the_instances(tmp_path: Path) -> None:
    """Of each model: what the schema requires, the mean, and the checksum of the instances."""
    build_run(tmp_path / "run", full=True)
    command = ["outcomes", str(tmp_path / "run"), "--as", "every-eval-ever", "--out"]
    assert main([*command, str(tmp_path / "out")]) == 0
    means = {"small": 0, "large": 1}
    for file in (tmp_path / "out").rglob("*.json"):
        value = json.loads(file.read_text(encoding="utf-8"))
        assert {
            "schema_version", "evaluation_id", "retrieved_timestamp", "source_metadata",
            "model_info", "eval_library", "evaluation_results",
        } <= set(value)  # fmt: skip
        held = value["detailed_evaluation_results"]
        assert re.fullmatch(r"data/coqa/\w+/\w+/[0-9a-f-]{36}_samples\.jsonl", held["file_path"])
        instances = (tmp_path / "out" / held["file_path"]).read_bytes()
        assert hashlib.sha256(instances).hexdigest() == held["checksum"]
        lines = [json.loads(line) for line in instances.splitlines()]
        assert len(lines) == held["total_rows"] == len(ROWS)
        assert {line["evaluation_id"] for line in lines} == {value["evaluation_id"]}
        (result,) = value["evaluation_results"]
        score, config = result["score_details"]["score"], result["metric_config"]
        column = means.pop(value["model_info"]["id"], None)
        if column is not None:
            assert score == pytest.approx(np.mean([row[column] for row in ROWS]), abs=1e-12)
        assert config["score_type"] == "binary" or config["min_score"] <= score
    assert not means
