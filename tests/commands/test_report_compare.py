"""Two methods compared: the paired difference, and the questions behind it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from report_builder import ROWS, Row, build_run, harness, llm_scores, reason, record

from automix_eval.analysis.compare import Compared, compare
from automix_eval.analysis.gather import Settings
from automix_eval.commands.main import main
from automix_eval.safety.errors import AutoMixError

FAST = Settings(resamples=200)


def one(first: object, second: object) -> Compared:
    """The only task compared."""
    (found,) = compare(str(first), str(second), FAST)
    return found


def test_difference_of_two_runs(tmp_path: Path) -> None:
    """The difference, its sign and the questions behind it are those counted by hand."""
    rows: list[Row] = [*ROWS]
    rows[2] = (0.0, 1.0, 0.875, False)  # the second run loses this one
    build_run(tmp_path / "a", full=True)
    build_run(tmp_path / "b", "r22", rows, full=True)
    found = one(tmp_path / "a", tmp_path / "b")
    assert found.result.quality.value == pytest.approx(1 / 40)
    assert (found.better, found.worse, found.num_questions) == (1, 0, 40)
    (difference,) = found.differences
    assert (difference.doc_id, difference.first, difference.second) == (2, 1.0, 0.0)
    assert (difference.tiers, difference.question) == ((0, 0), "q")
    assert "not distinguishable" in found.result.words


def test_order_turns_the_sign(tmp_path: Path) -> None:
    """Comparing B with A gives minus the difference of A with B, and the same p."""
    build_run(tmp_path / "a", full=True)
    build_run(tmp_path / "b", "r22", [(0.0, 1.0, 0.1, i % 3 == 0) for i in range(40)], full=True)
    ab, ba = (
        one(tmp_path / x, tmp_path / y).result for x, y in (("a", "b"), ("b", "a"))
    )  # fmt: skip
    assert ab.quality.value == pytest.approx(-float(ba.quality.value))  # type: ignore[arg-type]
    assert ab.quality_p == ba.quality_p


def test_methods_of_one_run(tmp_path: Path) -> None:
    """FOLDER::METHOD compares the live run with a replay of its own records."""
    build_run(tmp_path, full=True)
    found = one(f"{tmp_path}::pomdp", f"{tmp_path}::replay:always_llm")
    assert found.result.quality.value == pytest.approx(0.0)
    assert found.result.cost.value == pytest.approx(27 - 50)
    assert found.result.delta_ibc.value == pytest.approx(49 / 26 - 1)


def test_other_models_may_be_compared(tmp_path: Path) -> None:
    """Runs with other tiers and prices share no leaderboard, but their questions are the same."""
    build_run(tmp_path / "a", full=True)
    prices = {"cost": {"name": "paper", "tiers": [1, 100], "verifier": 1}}
    build_run(tmp_path / "b", "r22", full=True, labels=("tiny", "huge"), config=prices)
    found = one(tmp_path / "a", tmp_path / "b")
    assert found.result.cost.value == pytest.approx(27 - 52)


def test_common_questions_are_compared(tmp_path: Path) -> None:
    """Questions that only one side answered are left out and counted."""
    build_run(tmp_path / "a", full=True)
    build_run(tmp_path / "b", "r22", ROWS[:30], full=True)
    found = one(tmp_path / "a", tmp_path / "b")
    assert (found.num_questions, found.left_out) == (30, 10)


def test_plain_runs_compare_in_quality(tmp_path: Path) -> None:
    """A plain run has no delta IBC, and says so."""
    build_run(tmp_path / "a", full=True)
    harness(tmp_path / "b", llm_scores())
    found = one(tmp_path / "a", tmp_path / "b")
    assert found.result.quality.value == pytest.approx(0.0)
    assert reason(found.result.delta_ibc.value)


def test_other_prompts_are_refused(tmp_path: Path) -> None:
    """Runs whose hashes differ are not paired, and the message names both."""
    build_run(tmp_path / "a", full=True)
    records = [replace(record(i, r, full=True), prompt_hash="x") for i, r in enumerate(ROWS)]
    build_run(tmp_path / "b", "r22", records=records)
    with pytest.raises(AutoMixError, match=r"run r1 and run r22 asked 40 of 40.*hashes differ"):
        one(tmp_path / "a", tmp_path / "b")


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    """One side with itself, other tasks, several methods and unknown ones are refused by name."""
    build_run(tmp_path / "a", full=True)
    build_run(tmp_path / "b", "r22", full=True, task="other")
    build_run(tmp_path / "c", "r33", full=True)
    build_run(tmp_path / "c", "r44", full=True, policy="always_llm")
    a, b, c = (tmp_path / name for name in "abc")
    for first, second, words in (
        (a, a, "compared with itself"),
        (a, b, "no task in common"),
        (a, c, "say which"),
        (a, f"{c}::nothing", "has no method nothing. It has pomdp"),
        (a, f"{c}::always_slm", "or replay:always_slm or"),
    ):
        with pytest.raises(AutoMixError, match=words):
            one(first, second)
    with pytest.raises(AutoMixError, match=r"^coqa2 is no task that both have: .*\(coqa\)"):
        compare(str(a), f"{a}::replay:always_slm", Settings(), "coqa2")


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The sub-command prints text, Markdown and strict JSON."""
    build_run(tmp_path / "a", full=True)
    build_run(tmp_path / "b", "r22", full=True, policy="always_slm")
    sides = [str(tmp_path / "a"), str(tmp_path / "b"), "--resamples", "100"]
    for form, words in (("text", "first minus second"), ("md", "# AutoMix comparison")):
        assert main(["compare", *sides, "--format", form]) == 0
        assert words in capsys.readouterr().out
    assert main(["compare", *sides, "--format", "json", "--show", "3"]) == 0
    (task,) = json.loads(capsys.readouterr().out)["tasks"]
    assert task["result"]["quality"]["value"] == pytest.approx(0.5)
    assert len(task["differences"]) == 3


@pytest.mark.parametrize(
    "words", [["report", "."], ["compare", ".", "."], ["outcomes", ".", "--out", "made"]]
)
@pytest.mark.parametrize("given", ["paper", "paper:1", "paper:1,x", "tokens:absent.yaml", "flops:"])
def test_prices_that_are_none_are_one_line(
    words: list[str], given: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever is wrong with an option is an error of the command, and no traceback."""
    assert main([*words, "--costs", given]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("automix-eval: error: --costs ")
