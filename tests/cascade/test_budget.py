"""Budgets: asked before each call; when spent, the run says so and loses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted import CALLS, SCRIPTS, gold_answers, knows, read_run, run_harness, scripted_args

from automix_eval.cascade.budget import Budget, total
from automix_eval.costs.paper import PaperCost
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Call, Prompt, Question

TASK = "narrativeqa_demo"


def question(choices: int = 0) -> Question:
    """A question, with options or without."""
    return Question(TASK, 0, Prompt("q"), "", "q", choices=((Prompt("q"), " a"),) * choices)


def answers(tier: int, number: int) -> list[Answer]:
    """Answers of one call each."""
    return [Answer(tier, "x", (Call(tier, "answer", 5, 1, 0.1),)) for _ in range(number)]


def spend(budget: Budget, tier: int, wanted: int) -> int:
    """Ask as the cascade does; how many of the questions were asked."""
    left: Sequence[Question] = [question()] * wanted
    while left and (admitted := budget.admit(tier, left)):
        budget.charge(tier, answers(tier, admitted), [None] * admitted)
        left = left[admitted:]
    return wanted - len(left)


@given(st.integers(0, 40), st.integers(0, 40))
def test_calls_of_the_llm_are_counted_exactly(limit: int, wanted: int) -> None:
    """As many questions as the limit allows, from the first on; the SLM goes on."""
    budget = Budget(max_llm_calls=limit)
    assert spend(budget, 0, wanted) == wanted
    assert spend(budget, 1, wanted) == min(limit, wanted)
    assert budget.llm_calls <= limit


@given(st.integers(0, 40), st.floats(0, 2000))
def test_the_cost_never_exceeds_its_limit_in_units(wanted: int, limit: float) -> None:
    """With one price a call, the limit is used as far as whole answers go."""
    budget = Budget(max_cost=limit, cost=PaperCost((1, 50), 1))
    asked = spend(budget, 1, wanted)
    assert asked == min(wanted, int(limit // 50))
    assert budget.cost_spent <= limit


@pytest.mark.parametrize(("when", "first"), [("keep", 3), ("stop", 0)])
def test_the_first_tier_answers_all_where_answers_are_kept(when: str, first: int) -> None:
    """A cost that is spent keeps later tiers from being asked, and the first where it stops."""
    budget = Budget(max_cost=0.5, cost=PaperCost((1, 50), 1), when_spent=when)
    assert budget.admit(0, [question()] * 3) == first
    assert budget.admit(1, [question()] * 3) == 0
    assert Budget(when_spent=when).admit(1, [question()] * 3) == 3


def test_half_of_what_is_left_is_admitted_at_a_time() -> None:
    """One question before the price is known, then as many as half of the rest pays, or one."""
    budget = Budget(max_cost=1000, cost=PaperCost((1, 50), 1))
    admitted = []
    while count := budget.admit(1, [question()] * 99):
        budget.charge(1, answers(1, count), [None] * count)
        admitted.append(count)
    assert admitted == [1, 9, 5, 2, 1, 1, 1]


def test_a_question_with_options_takes_a_call_an_option() -> None:
    """It is asked whole or not at all."""
    budget = Budget(max_llm_calls=7)
    assert budget.admit(1, [question(4), question(4)]) == 1
    call = Call(1, "choice", 5, 1, 0.1)
    budget.charge(1, [Answer(1, "x", (call,) * 4)], [None])
    assert budget.llm_calls == 4
    assert budget.admit(1, [question(4)]) == 0


@given(st.integers(1, 5), st.integers(0, 30), st.floats(0, 100))
def test_shares_of_processes_add_up(number: int, calls: int, cost: float) -> None:
    """No call more than the run may make."""
    whole = Budget(cost, calls, cost=PaperCost())
    parts = [whole.share(i, number).summary() for i in range(number)]
    added = total(parts)
    assert added["max_llm_calls"] == calls
    assert added["max_cost"] == pytest.approx(cost)


def test_what_the_processes_spent_is_added_up() -> None:
    """Costs, calls and refusals; without a limit, or a process, there is nothing to say."""
    parts = [Budget(6.0, when_spent="stop", cost=PaperCost()).share(i, 2) for i in range(2)]
    for part in parts:
        part.charge(1, answers(1, 2), [None, None])
        part.questions_refused += 3
    assert total([part.summary() for part in parts]) == {
        "max_cost": 6.0, "max_llm_calls": None, "when_spent": "stop", "cost_spent": 200.0,
        "llm_calls": 4, "questions_refused": 6,
    }  # fmt: skip
    counted = Budget(max_llm_calls=3)
    counted.charge(1, answers(1, 2), [None, None])
    assert total([counted.summary()])["cost_spent"] is None
    assert counted.reason() == "budget spent (2 of 3 LLM calls)"
    assert parts[0].reason() == "budget spent (cost 100 of 3)"
    assert total([]) == total([{}, counted.summary()]) == Budget().summary() == {}


@pytest.mark.parametrize(
    "limits",
    [
        {"max_cost": -1},
        {"max_cost": float("inf")},
        {"max_llm_calls": 2.5},
        {"max_llm_calls": "many"},
        {"max_llm_calls": True},
        {"when_spent": "explode"},
    ],
)
def test_unusable_limits_are_refused(limits: dict[str, Any]) -> None:
    """The error names the key, and the value."""
    ((key, value),) = limits.items()
    with pytest.raises(AutoMixError, match=rf"^budget\.{key}={value!r} (must be a|is unknown)"):
        Budget(**limits)


# ------------------------------------------------------------------- in the harness


def cascade(**more: Any) -> dict[str, Any]:
    """An SLM that knows nothing, an LLM that knows everything, and an escalation of all."""
    gold = gold_answers(TASK)
    SCRIPTS["small"] = knows(gold, 0.0)
    SCRIPTS["large"] = knows(gold, 1.0)
    return scripted_args(meta_verifier="self_consistency", **more)


def large_calls() -> int:
    """Calls of the LLM so far."""
    return sum(script == "large" for script, *_ in CALLS)


@pytest.mark.parametrize("limit", [0, 3])
def test_a_spent_budget_keeps_answers_and_says_so(limit: int, tmp_path: Path) -> None:
    """Each question has an answer; decisions, warnings and the summary name the budget."""
    results = run_harness([TASK], cascade(**{"budget.max_llm_calls": limit}), tmp_path, limit=8)
    _, records = read_run(tmp_path)
    assert large_calls() == limit
    assert [r.final for r in records] == [1] * limit + [0] * (8 - limit)
    reasons = [r.tiers[0].decision.reason for r in records if r.final == 0 and r.tiers[0].decision]
    assert len(reasons) == 8 - limit
    assert all(f"{limit} of {limit} LLM calls" in reason for reason in reasons)
    summary = results["config"]["automix"]
    assert summary["budget"]["questions_refused"] == 8 - limit
    assert any("budget spent" in w["text"] for w in summary["warnings"])


def test_the_store_does_not_stretch_a_budget(tmp_path: Path) -> None:
    """The same command gives the same result, though its calls are stored now."""
    arguments = cascade(**{"budget.max_cost": 150, "cost": "paper"})
    for run in ("a", "b"):
        run_harness([TASK], arguments, tmp_path / run, limit=8)
    first, second = (read_run(tmp_path / run)[1] for run in ("a", "b"))
    assert first == second
    # 8 answers and 8 verifications of one unit, and two answers of fifty
    assert sum(r.final for r in first) == 2


def test_without_escalation_every_answer_is_the_first_tier_s(tmp_path: Path) -> None:
    """A router that asks the LLM at once gets the SLM's answers when nothing may be spent."""
    arguments = cascade() | {"meta_verifier": "always_llm", "budget.max_llm_calls": 2}
    run_harness([TASK], arguments, tmp_path, limit=5)
    _, records = read_run(tmp_path)
    assert [r.final for r in records] == [1, 1, 0, 0, 0]


def test_stop_ends_the_run_and_keeps_what_is_finished(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The records of the finished questions are written before the error, which says it once."""
    arguments = cascade(**{"budget.max_llm_calls": 2, "budget.when_spent": "stop"})
    arguments["records_dir"] = str(tmp_path)
    with pytest.raises(AutoMixError, match=r"2 of 2 LLM calls.*the run stops"):
        run_harness([TASK], arguments, limit=6)
    manifest, records = read_run(tmp_path)
    assert [r.final for r in records] == [1, 1]
    assert manifest["budget"]["questions_refused"] == 4
    assert "the run stops" in " ".join(w["text"] for w in manifest["warnings"])
    assert "the run stops" not in caplog.text


def test_stop_keeps_the_questions_before_the_first_that_waits(tmp_path: Path) -> None:
    """Of those behind it only what the router kept is finished: figures of another mixture."""
    arguments = cascade(**{"budget.max_llm_calls": 2, "records_dir": str(tmp_path / "stop")})
    SCRIPTS["small"] = knows(gold_answers(TASK), 0.5)
    stop = {**arguments, "budget.when_spent": "stop"}
    with pytest.raises(AutoMixError, match="the run stops"):
        run_harness([TASK], stop, limit=8)
    run_harness([TASK], {**arguments, "records_dir": str(tmp_path / "keep")}, limit=8)
    stopped, whole = (read_run(tmp_path / folder)[1] for folder in ("stop", "keep"))
    refused = [r.doc_id for r in whole if "spent" in r.tiers[0].decision.reason]  # type: ignore[union-attr]
    assert any(r.doc_id > refused[0] for r in whole if r.doc_id not in refused)
    assert [r.doc_id for r in stopped] == list(range(refused[0]))


def test_a_budget_below_the_calibration_stops_before_any_call() -> None:
    """The remedy is named and nothing was spent."""
    arguments = cascade(**{"budget.max_llm_calls": 3}) | {
        "meta_verifier": "threshold",
        "calibration.num_docs": 10,
        "calibration.min_docs": 5,
    }
    with pytest.raises(AutoMixError, match=r"does not cover the calibration.*policy"):
        run_harness([TASK], arguments, limit=4)
    assert CALLS == []


def test_a_budget_pays_the_fits_of_all_tasks_first(tmp_path: Path) -> None:
    """What is left is for the evaluation; where they are not covered, nothing is asked."""
    gold = gold_answers(TASK) | gold_answers("coqa_demo")
    tasks = [TASK, "coqa_demo"]
    arguments = scripted_args(
        meta_verifier="threshold", **{"calibration.num_docs": 10, "budget.max_llm_calls": 22}
    )
    SCRIPTS["small"], SCRIPTS["large"] = knows(gold, 0.5), knows(gold, 1.0)
    run_harness(tasks, arguments, tmp_path, limit=6)
    manifest, _ = read_run(tmp_path)
    assert manifest["budget"]["llm_calls"] == 22
    assert "unfinished" not in manifest
    CALLS.clear()
    with pytest.raises(AutoMixError, match="asks the last tier 20 times"):
        run_harness(tasks, {**arguments, "budget.max_llm_calls": 19}, limit=6)
    assert CALLS == []


def test_a_full_record_says_what_it_lacks(tmp_path: Path) -> None:
    """record=full with a spent budget is marked incomplete."""
    arguments = cascade(**{"budget.max_llm_calls": 3, "record": "full"})
    results = run_harness([TASK], arguments, tmp_path, limit=6)
    texts = [w["text"] for w in results["config"]["automix"]["warnings"]]
    assert any("3 of 6 questions lack" in text for text in texts)
