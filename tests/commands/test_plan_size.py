"""``automix-eval plan --detect``: from a run, from a table, and what tells nothing."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from report_builder import PAPER, Row, build_run

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.commands.main import main

pytestmark = pytest.mark.all_folds


def rows(number: int, escalated: bool = True) -> list[Row]:
    """Questions of a router that does some good, one document each."""
    rng = np.random.default_rng(2)
    slm, llm = rng.random(number) < 0.4, rng.random(number) < 0.8
    confidence = np.clip(0.3 + 0.4 * slm + rng.normal(0, 0.2, number), 0, 1)
    return [
        (float(s), float(b), float(v), escalated and v < 0.5)
        for s, b, v in zip(slm, llm, confidence, strict=True)
    ]


def planned(out: str) -> dict[str, list[str]]:
    """What is to be found -> the cells before and after it."""
    found = {}
    for line in out.splitlines():
        for what in ("delta IBC 0.2", "loss 0.05"):
            if f" {what} " in line:
                found[what] = [c.replace(",", "") for c in line.replace(what, "").split()]
    return found


def test_a_run_is_a_pilot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its report says what it finds, and as many questions are planned for just that."""
    build_run(tmp_path, rows=rows(120), full=True, config={"cost": PAPER})
    (task,) = assemble([tmp_path], Settings(resamples=50)).report.tasks
    finds = task.detectable.delta_ibc.value, task.detectable.loss.value
    assert all(isinstance(value, float) for value in finds)
    arguments = [f"--detect={finds[0]}", f"--detect-loss={finds[1]}"]
    assert main(["plan", str(tmp_path), *arguments]) == 0
    lines = [x.split() for x in capsys.readouterr().out.splitlines() if "run r1" in x]
    assert [float(x[-2]) for x in lines] == [pytest.approx(120, abs=1)] * 2
    assert main(["report", str(tmp_path), "--resamples", "50"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"find a delta IBC of {finds[0]:.0%} or more, and a loss" in said


def test_a_table_is_a_pilot(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A router is fitted in folds on it."""
    table = tmp_path / "pilot.csv"
    with table.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["a:score", "a:confidence", "a:cost", "b:score", "b:cost"])
        writer.writerows([s, v, 1, b, 50] for s, b, v, _ in rows(150))
    assert main(["plan", "--detect", "0.2", "--detect-loss", "0.05", str(table)]) == 0
    out = capsys.readouterr().out
    found = planned(out)
    assert "threshold in folds" in out
    assert found["delta IBC 0.2"][-5:-3] == ["150", "150"]
    assert float(found["delta IBC 0.2"][-2]) > 150
    assert float(found["loss 0.05"][-2]) > 20


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--detect", "0"], "--detect 0 must be a number above 0"),
        (["--detect-loss", "nan"], "--detect-loss nan"),
        (["--detect", "0.2"], "name a folder with a run"),
        (["--detect", "0.2", "nowhere"], "there is no nowhere"),
        ([], "tasks is not set"),
    ],
)
def test_a_mistake_is_named(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line on stderr, exit code 2."""
    assert main(["plan", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line


@pytest.mark.parametrize(
    ("pilot", "named"),
    [
        (rows(40, escalated=False), "take a run whose router escalates, or a table"),
        (rows(1), "1 documents do not tell"),
        (rows(5), "5 documents do not tell"),
    ],
)
def test_a_pilot_that_tells_nothing_is_refused(
    pilot: list[Row], named: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No escalation, one document, few: with the reason."""
    build_run(tmp_path, rows=pilot, full=True, config={"cost": PAPER})
    assert main(["plan", "--detect", "0.2", str(tmp_path)]) == 2
    assert named in capsys.readouterr().err
