"""The whole cascade in the harness, with scripted models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from scripted import CALLS, SCRIPTS, gold_answers, knows, read_run, run_harness, scripted_args

from automix_eval.safety.errors import AutoMixError

TASK = "coqa_demo"


@pytest.fixture
def pair() -> dict[str, str]:
    """A small model that knows half of the sample and a large one that knows nine tenths."""
    answers = gold_answers(TASK)
    SCRIPTS["small"] = knows(answers, 0.5)
    SCRIPTS["large"] = knows(answers, 0.9)
    return answers


def made(model: str, kind: str = "generate") -> int:
    """Calls made of a scripted model."""
    return sum(1 for name, what, _ in CALLS if name == model and what == kind)


def verifications() -> int:
    """Verification samples drawn."""
    return sum(1 for _, _, prompt in CALLS if "AI Generated Answer" in prompt)


def test_only_escalated_questions_reach_the_llm(pair: dict[str, str], tmp_path: Path) -> None:
    """The LLM is asked once a escalated question and never otherwise."""
    results = run_harness(
        [TASK], scripted_args(meta_verifier="self_consistency"), tmp_path, limit=12
    )
    samples = results["samples"][TASK]
    escalated = [s for s in samples if s["escalation_rate"]]
    assert 0 < len(escalated) < 12
    assert made("large") == len(escalated)
    assert made("small") == 12 + 2 * 12
    for sample in samples:
        assert sample["cost"] == (52.0 if sample["escalation_rate"] else 2.0)
        assert sample["confidence"] == (0.0 if sample["escalation_rate"] else 1.0)


def test_a_folder_that_cannot_be_written_is_known_before_the_first_call(
    pair: dict[str, str], tmp_path: Path
) -> None:
    """A calibration is not paid for records that nobody can keep."""
    (tmp_path / "taken").write_text("a file")
    args = scripted_args(meta_verifier="threshold", records_dir=str(tmp_path / "taken"))
    with pytest.raises(AutoMixError, match=r"taken cannot be written.*records_dir"):
        run_harness([TASK], args, limit=2)
    assert CALLS == []


def test_no_answer_at_all_is_an_empty_one(pair: dict[str, str], tmp_path: Path) -> None:
    """A model that gives None has not answered with that word."""
    SCRIPTS["small"] = lambda *_: None  # type: ignore[assignment, return-value]
    run_harness([TASK], scripted_args(meta_verifier="always_slm"), tmp_path, limit=4)
    manifest, rows = read_run(tmp_path)
    assert {r.tiers[0].answer.text for r in rows} == {""}
    assert any("4 of 4 answers are empty" in w["text"] for w in manifest["warnings"])


def test_calibration_uses_the_train_split_alone(pair: dict[str, str], tmp_path: Path) -> None:
    """The meta-verifier is fitted on train rows; LLM calls are theirs plus the escalated ones."""
    args = scripted_args(meta_verifier="pomdp", **{"calibration.num_docs": 20})
    run_harness([TASK], args, tmp_path, limit=10)
    manifest, rows = read_run(tmp_path)
    calibration = [r for r in rows if r.phase == "calibration"]
    evaluation = [r for r in rows if r.phase == "evaluation"]
    assert {r.document for r in calibration}.isdisjoint({r.document for r in evaluation})
    assert all("train" in r.document for r in calibration)
    escalated = sum(r.final for r in evaluation)
    assert made("large") == len(calibration) + escalated
    counted = sum(c["made"] for c in manifest["calls"] if c["tier"] == 1)
    assert counted == made("large")


def test_routing_follows_a_truthful_verifier(pair: dict[str, str], tmp_path: Path) -> None:
    """With a verifier that is always right, the fitted router escalates what is wrong."""
    results = run_harness([TASK], scripted_args(meta_verifier="pomdp"), tmp_path)
    for sample in results["samples"][TASK]:
        assert bool(sample["escalation_rate"]) == (sample["confidence"] == 0.0)
    assert results["results"][TASK]["f1,none"] == pytest.approx(0.9, abs=0.1)


def test_a_question_is_left_without_an_answer_at_a_price(
    pair: dict[str, str], tmp_path: Path
) -> None:
    """Where an abstention is cheaper than the LLM, it is not asked, and records say so."""
    prices = {"objective": "loss", "error_price": 60, "meta_verifier.abstain_price": 30}
    results = run_harness([TASK], scripted_args(meta_verifier="threshold", **prices), tmp_path)
    left = [s["confidence"] == 0.0 for s in results["samples"][TASK]]
    assert 0 < sum(left) < len(left)
    assert [
        s["decision"].startswith("abstained at tier 0") for s in results["samples"][TASK]
    ] == left
    rows = [r for r in read_run(tmp_path)[1] if r.phase == "evaluation"]
    marked = [bool(r.tiers[0].decision and r.tiers[0].decision.abstains) for r in rows]
    assert sum(marked) == sum(left)
    assert all(len(r.tiers) == 1 and r.final == 0 for r in rows)


def test_always_slm_never_loads_or_calls_the_llm(pair: dict[str, str]) -> None:
    """An SLM-only run asks neither the verifier nor the LLM."""
    run_harness([TASK], scripted_args(meta_verifier="always_slm"), limit=5)
    assert (made("small"), made("large"), verifications()) == (5, 0, 0)


def test_always_llm_asks_the_llm_alone(pair: dict[str, str]) -> None:
    """An LLM-only run costs the LLM's price, without SLM or verifier."""
    results = run_harness([TASK], scripted_args(meta_verifier="always_llm"), limit=5)
    assert (made("small"), made("large")) == (0, 5)
    assert results["results"][TASK]["cost,none"] == 50.0


def test_full_recording_routes_alike(pair: dict[str, str], tmp_path: Path) -> None:
    """record=full asks every tier, marks what the routing did not need, and decides the same."""
    routed = run_harness([TASK], scripted_args(meta_verifier="self_consistency"), limit=8)
    full = run_harness(
        [TASK],
        scripted_args(meta_verifier="self_consistency", record="full"),
        tmp_path / "out",
        limit=8,
    )
    keys = ("filtered_resps", "escalation_rate", "cost")
    assert [[s[k] for k in keys] for s in routed["samples"][TASK]] == [
        [s[k] for k in keys] for s in full["samples"][TASK]
    ]
    _, rows = read_run(tmp_path / "out")
    assert all(len(r.tiers) == 2 for r in rows)
    assert all(r.tiers[1].on_path == (r.final == 1) for r in rows)


def test_a_second_run_repeats_no_call(pair: dict[str, str]) -> None:
    """Everything finished is in the store."""
    args = scripted_args(meta_verifier="self_consistency")
    first = run_harness([TASK], args, limit=6)
    CALLS.clear()
    second = run_harness([TASK], args, limit=6)
    assert CALLS == []
    assert first["results"] == second["results"]


def test_a_run_that_dies_resumes_where_it_was(pair: dict[str, str]) -> None:
    """A model that goes away costs no finished call, and the error says how to go on."""
    args = scripted_args(meta_verifier="always_slm")
    with pytest.raises(AutoMixError, match="run the same command to resume"):
        run_harness([TASK], args | {"slm.fail_after": 4}, limit=10)
    assert made("small") == 4
    # the argument of the fault is part of the model's identity, so the resumed run keeps it
    CALLS.clear()
    results = run_harness([TASK], args | {"slm.fail_after": 4, "slm.extra": None}, limit=8)
    assert made("small") == 4
    assert len(results["samples"][TASK]) == 8


def test_chat_templates_are_each_tiers_own(pair: dict[str, str]) -> None:
    """With --apply_chat_template each tier sees its own, for answers and verifications."""
    args = scripted_args(meta_verifier="self_consistency") | {
        "slm.lm": "scripted-chat",
        "llm.lm": "scripted-chat",
    }
    run_harness([TASK], args, limit=8, apply_chat_template=True, system_instruction="Be brief.")
    assert made("large") > 0
    for model, _, prompt in CALLS:
        assert prompt.endswith(f"<{model}:assistant>")
        assert ("<small:system>Be brief." in prompt) == (
            model == "small" and "AI Generated Answer" not in prompt
        )


def test_a_tier_without_template_says_so(pair: dict[str, str]) -> None:
    """A base model among chat models gets a clear error, and chat=false gives it plain text."""
    args = scripted_args(meta_verifier="always_llm") | {"slm.lm": "scripted-chat"}
    with pytest.raises(AutoMixError, match=r"llm\.chat=false"):
        run_harness([TASK], args, limit=2, apply_chat_template=True)
    run_harness([TASK], args | {"llm.chat": False}, limit=2, apply_chat_template=True)
    CALLS.clear()
    with pytest.raises(AutoMixError, match="no name chooses another"):
        run_harness([TASK], args | {"llm.chat": False}, limit=2, apply_chat_template="tool_use")
    assert not CALLS
    assert all("<" not in prompt for _, _, prompt in CALLS)


def test_multiple_choice_is_routed_by_document(tmp_path: Path) -> None:
    """All choices of a question come from one tier, and the harness's accuracy is that tier's."""
    task = tmp_path / "pick.yaml"
    rows = [
        {"q": f"{i} plus one?", "options": [str(i), str(i + 1), str(i + 2)], "gold": 1}
        for i in range(12)
    ]
    for split in ("train", "validation"):
        (tmp_path / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task.write_text(
        "task: pick\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{train: {tmp_path}/train.jsonl, "
        f"validation: {tmp_path}/validation.jsonl}}}}\n"
        "output_type: multiple_choice\ntraining_split: train\nvalidation_split: validation\n"
        "doc_to_text: '{{q}}'\ndoc_to_choice: '{{options}}'\ndoc_to_target: gold\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )

    def small(prompt: str, generation: dict[str, Any]) -> str:
        if "AI Generated Answer" in prompt:
            sure = int(prompt.rsplit("Question: ", 1)[1].split()[0]) < 6
            verdict = "Correct" if sure else "Incorrect"
            return f" The AI generated answer is {verdict}."
        number = int(prompt.split()[0])
        chosen = number + 1 if number < 6 else number
        return "-0.5" if generation["continuation"].strip() == str(chosen) else "-3"

    def large(prompt: str, generation: dict[str, Any]) -> str:
        return (
            "-0.1"
            if generation["continuation"].strip() == str(int(prompt.split()[0]) + 1)
            else "-9"
        )

    SCRIPTS["small"], SCRIPTS["large"] = small, large
    results = run_harness(
        [str(task)], scripted_args(meta_verifier="self_consistency"), tmp_path / "out"
    )
    assert results["results"]["pick"]["acc,none"] == 1.0
    _, rows_read = read_run(tmp_path / "out")
    assert [r.final for r in rows_read] == [0] * 6 + [1] * 6
    assert [t.score for t in rows_read[-1].tiers] == [0.0, 1.0]
    assert made("large", "loglikelihood") == 6 * 3


def test_routing_is_in_every_logged_sample_and_the_table(pair: dict[str, str]) -> None:
    """Samples carry decision, confidence and cost; results aggregate escalation rate and cost."""
    results = run_harness([TASK], scripted_args(meta_verifier="self_consistency"), limit=6)
    for sample in results["samples"][TASK]:
        assert {"decision", "confidence", "cost", "escalation_rate"} <= set(sample)
    shown = results["results"][TASK]
    assert shown["cost,none"] == pytest.approx(2 + 50 * shown["escalation_rate,none"])


def test_few_shot_demonstrations_never_come_from_the_calibrated_document(
    pair: dict[str, str],
) -> None:
    """A calibration question is not shown among its own demonstrations."""
    run_harness([TASK], scripted_args(meta_verifier="pomdp"), limit=2, num_fewshot=2)
    prompts = {p for m, _, p in CALLS if m == "large"}
    assert prompts
    for prompt in prompts:
        stories = [block.split("\n")[0] for block in prompt.split("Story")[1:]]
        assert len(stories) == 3
        question = prompt.rsplit("Question:", 1)[1]
        assert prompt.count(question.split("\n")[0]) == 1
