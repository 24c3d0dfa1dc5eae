"""``automix-eval init``: what it writes runs as it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml
from scripted import SCRIPTS, knows

from automix_eval.commands.main import main
from automix_eval.config import compose as config
from automix_eval.config import described


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with a new task in it."""
    monkeypatch.chdir(tmp_path)
    assert main(["init", "mine"]) == 0
    return tmp_path / "mine"


def rows(folder: Path, split: str) -> list[dict[str, object]]:
    """The rows of a split."""
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


def test_the_task_runs_with_any_pair_and_passes_its_gate(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows, prompt, metric, configuration and fitting belong together."""
    gold = {r["question"]: r["answers"][0] for s in ("train", "test") for r in rows(folder, s)}
    SCRIPTS["small"], SCRIPTS["large"] = knows(gold, 0.5), knows(gold, 1.0)
    pair = ["slm=harness", "slm.lm=scripted", "slm.script=small",
            "llm=harness", "llm.lm=scripted", "llm.script=large",
            "verifier=few_shot", "verifier.num_samples=2"]  # fmt: skip
    values = yaml.safe_load((folder / "pair.yaml").read_text())
    common = {k: v for k, v in values.items() if k.partition(".")[0] not in ("slm", "llm")}
    (folder / "pair.yaml").write_text(yaml.safe_dump(common | {"verifier": "few_shot"}))
    line = ["run", "tasks=mine", "include_path=mine", "config=mine/pair.yaml", "output=out", *pair]
    assert main([*line, "bootstrap_iters=0", "progress=false"]) == 0
    said = capsys.readouterr().out
    assert "Task mine" in said or "mine" in said
    (manifest,) = Path("out").glob("automix_run_*.json")
    held = json.loads(manifest.read_text())
    assert held["tasks"]["mine"]["metric"] == "f1"
    assert held["tasks"]["mine"]["num_questions"] == 60
    assert [w["text"] for w in held["warnings"] if "score 0" in w["text"]] == []


@pytest.mark.parametrize("models", ["hf", "servers", "embedded"])
def test_every_pair_composes_and_every_key_exists(models: str, tmp_path: Path) -> None:
    """What is written is taken by --model_args config=FILE."""
    assert main(["init", str(tmp_path / "mine"), "--models", models]) == 0
    made = config.build({"config": str(tmp_path / "mine" / "pair.yaml")})
    assert config.name_of(made, "slm") in described.options("tier")
    assert made.record == "full"


def test_no_question_is_in_both_splits(folder: Path) -> None:
    """A router must not be fitted on what is evaluated."""
    train, test = rows(folder, "train"), rows(folder, "test")
    assert len(train) == len(test) == 60
    assert not {r["document_id"] for r in train} & {r["document_id"] for r in test}


@pytest.mark.parametrize("name", ["Mine", "my task", "1st"])
def test_a_name_that_is_no_task_is_refused(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is written."""
    assert main(["init", str(tmp_path / name)]) == 2
    assert "cannot name a task" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_holds_something_is_left_alone(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is overwritten."""
    (folder / "train.jsonl").write_text("mine")
    assert main(["init", "mine"]) == 2
    assert (folder / "train.jsonl").read_text() == "mine"
    assert "not empty" in capsys.readouterr().err
