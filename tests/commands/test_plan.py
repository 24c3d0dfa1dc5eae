"""``automix-eval plan``: what a run will ask, without asking."""

from __future__ import annotations

from pathlib import Path

import pytest
from scripted import CALLS, SCRIPTS, gold_answers, knows, run_harness, scripted_args
from tiny_models import save_tiny

from automix_eval.commands.main import main
from automix_eval.commands.plan import Line, _blocks

TASK = "narrativeqa_demo"


def planned(
    capsys: pytest.CaptureFixture[str], *arguments: str
) -> dict[tuple[str, ...], list[str]]:
    """(phase, tier, role) -> the cells after them, of the only task."""
    assert main(["plan", "--tasks", TASK, *arguments]) == 0
    rows = {}
    for line in capsys.readouterr().out.splitlines():
        cells = line.split()
        if line.startswith("narr"):
            rows[tuple(cells[1:4])] = cells[4:]
        elif line.startswith("Expected cost:"):
            rows["total",] = [line.removeprefix("Expected cost: ").split(" ")[0].rstrip(",")]
    return rows


@pytest.mark.slow
def test_a_plan_makes_the_calls_of_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    """Call by call as many as a run in which the stated share escalates; itself it makes none."""
    gold = gold_answers(TASK)
    SCRIPTS["small"], SCRIPTS["large"] = knows(gold, 0.0), knows(gold, 1.0)
    arguments = scripted_args(meta_verifier="self_consistency")
    pairs = [f"{k}={v}" for k, v in arguments.items()]
    rows = planned(capsys, "--limit", "5", "--escalation_rate", "1", *pairs)
    assert CALLS == []
    run_harness([TASK], arguments, limit=5)
    verified = sum("AI Generated Answer" in prompt for _, _, prompt in CALLS)
    large = sum(script == "large" for script, *_ in CALLS)
    assert float(rows["evaluation", "slm", "verify"][1]) == verified == 10
    assert float(rows["evaluation", "llm", "answer"][1]) == large == 5
    # five answers and verifications of one unit, and five answers of fifty
    assert rows["total",] == ["260"]
    assert rows["evaluation", "slm", "answer"][2] == "unknown"


@pytest.mark.slow
def test_a_plan_counts_what_a_free_signal_may_leave_open(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Which answers only_if_open spares is not known beforehand, so all of them are counted."""
    arguments = scripted_args(verifier="ensemble", meta_verifier="self_consistency")
    del arguments["verifier.num_samples"]
    members = "[{option: few_shot, num_samples: 1}, {option: few_shot, num_samples: 3}]"
    rows = planned(
        capsys, "--limit", "5", *(f"{k}={v}" for k, v in arguments.items()),
        f"verifier.members={members}", "verifier.only_if_open=[0.2, 0.8]",
    )  # fmt: skip
    assert float(rows["evaluation", "slm", "verify"][1]) == 5 * 4


@pytest.mark.slow
def test_a_plan_counts_a_second_model(capsys: pytest.CaptureFixture[str]) -> None:
    """Three samples and one answer of another model are four calls a question."""
    arguments = scripted_args(verifier="consistency", meta_verifier="self_consistency") | {
        "verifier.num_samples": 3,
        "verifier.second": "{option: harness, lm: scripted, script: other}",
    }
    rows = planned(capsys, "--limit", "5", *(f"{k}={v}" for k, v in arguments.items()))
    assert float(rows["evaluation", "slm", "verify"][1]) == 5 * 4
    member = f"{{option: consistency, num_samples: 0, second: {arguments['verifier.second']}}}"
    arguments = scripted_args(verifier="ensemble", meta_verifier="self_consistency")
    del arguments["verifier.num_samples"]
    arguments["verifier.members"] = f"[{member}, {member}]"
    rows = planned(capsys, "--limit", "5", *(f"{k}={v}" for k, v in arguments.items()))
    assert float(rows["evaluation", "slm", "verify"][1]) == 5 * 2


@pytest.mark.slow
def test_tokens_come_from_the_tier_s_own_tokenizer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The calibration is planned too, and priced by the tokens; half of the questions go on."""
    folder = save_tiny(tmp_path / "tiny", "llama")
    rows = planned(
        capsys,
        "--limit",
        "4",
        "slm=hf",
        "llm=hf",
        f"slm.pretrained={folder}",
        f"llm.pretrained={folder}",
        "cost=flops",
        "cost.parameters=[1000, 1000000]",
        "calibration.num_docs=10",
        "calibration.min_docs=5",
    )

    def cells(*key: str) -> list[float]:
        return [float(cell.replace(",", "")) for cell in rows[key]]

    for key, size in ((("slm", "answer"), 1e3), (("llm", "answer"), 1e6)):
        for phase, number in (("calibration", 10), ("evaluation", 4)):
            share = 0.5 if (phase, key[0]) == ("evaluation", "llm") else 1.0
            questions, calls, prompt, made, cost = cells(phase, *key)
            assert questions == calls == number * share
            assert prompt > 100 * calls
            assert cost == pytest.approx(2 * size * (prompt + made), rel=1e-2)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--escalation_rate", "2"], "escalation_rate"),
        (["slm"], "KEY=VALUE"),
        (["slm=nothing"], "slm=nothing"),
        (["cost=tokens"], "cost.prices"),
    ],
)
def test_a_mistake_is_named(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line on stderr."""
    assert main(["plan", "--tasks", TASK, "--limit", "2", *arguments]) == 2
    assert named in capsys.readouterr().err


@pytest.mark.slow
def test_an_unknown_task_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """The harness's own complaint reaches the user."""
    assert main(["plan", "--tasks", "no_such_task"]) == 2
    assert "no_such_task" in capsys.readouterr().err


@pytest.mark.slow
def test_the_line_of_a_run_is_planned_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The run's folder is not made, and prices are written as for run."""
    monkeypatch.chdir(tmp_path)
    line = [f"{k}={v}" for k, v in scripted_args(meta_verifier="self_consistency").items()]
    prices = "cost.prices=[{prompt:0.1,generated:0.2},{prompt:3,generated:15}]"
    for more in ((), ("cost=tokens", prices)):
        assert main(["plan", f"tasks={TASK}", "limit=2", "output=out", *line, *more]) == 0
    assert not Path("out").exists()
    assert main(["plan", f"tasks={TASK}", *line, "cost=tokens", "cost.prices={a:1}"]) == 2
    assert "cost.prices is a list" in capsys.readouterr().err


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_share_that_goes_on_is_supposed_where_it_counts(share: float) -> None:
    """With record=full every tier is asked every question, however many are escalated."""
    line = Line("t", "evaluation", "llm", "answer", 10, share, 1, None, 9.0, 50.0)
    _, note = _blocks([line], 0.5, "paper")
    assert ("50% of the questions" in str(note)) == (share != 1)
