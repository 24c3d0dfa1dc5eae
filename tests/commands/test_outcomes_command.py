"""``automix-eval outcomes``: a run as tables of numbers."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from report_builder import ROWS, build_run, record

from automix_eval.commands.main import main


@pytest.fixture(params=[False, True], ids=["alone", "by document"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A run with record=full, of questions that stand alone or share documents."""
    names = [f"the story {i % 7}" if request.param else "" for i in range(len(ROWS))]
    rows = [record(i, row, full=True, document=names[i]) for i, row in enumerate(ROWS)]
    build_run(tmp_path / "run", records=rows)
    return tmp_path / "run"


def replayed(arguments: list[str], out: Path) -> dict[str, object]:
    """The result of a replay, without what names its input."""
    assert main(["replay", *arguments, "meta_verifier=always_slm", f"output={out}"]) == 0
    result = json.loads(out.read_text(encoding="utf-8"))
    return {k: result[k] for k in ("performance", "cost", "escalation", "auc", "intervals")}


def test_the_table_replays_like_the_run(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed command reads the table, and every figure equals that of the records."""
    assert main(["outcomes", str(run), "--out", str(tmp_path / "t")]) == 0
    _, command = capsys.readouterr().out.strip().splitlines()
    arguments = shlex.split(command)[2:]
    from_table = replayed(arguments, tmp_path / "a.json")
    from_run = replayed([f"records={run}"], tmp_path / "b.json")
    assert from_table == from_run


def test_no_text_is_in_the_table(run: Path, tmp_path: Path) -> None:
    """Questions, answers and references stay in the records."""
    assert main(["outcomes", str(run), "--out", str(tmp_path / "t")]) == 0
    (file,) = (tmp_path / "t").iterdir()
    rows = file.read_text(encoding="utf-8").splitlines()[1:]
    assert len(rows) == 40
    assert all(re.fullmatch(r"test,coqa/\d+/0,[\d.,]+", row) for row in rows)


def test_a_run_that_did_not_ask_every_tier_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the setting that records every tier."""
    build_run(tmp_path / "run", full=False)
    assert main(["outcomes", str(tmp_path / "run"), "--out", str(tmp_path / "t")]) == 2
    assert "record=full" in capsys.readouterr().err
    assert not (tmp_path / "t").exists()
