"""Chains of any length, ensembles and calibrators in the harness, with scripted models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted import CALLS, SCRIPTS, gold_answers, knows, read_run, run_harness, scripted_args

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.meta_verifiers.base import Router
from automix_eval.metrics.answers import token_f1
from automix_eval.records.repricing import price
from automix_eval.records.runs import find_runs
from automix_eval.safety.errors import AutoMixError

TASK = "coqa_demo"
MODELS = ("small", "middle", "large")


@pytest.fixture
def three() -> dict[str, str]:
    """Three models that know 40, 70 and 95 % of the sample."""
    answers = gold_answers(TASK)
    for name, share in zip(MODELS, (0.4, 0.7, 0.95), strict=True):
        SCRIPTS[name] = knows(answers, share)
    return answers


def chain_args(**more: Any) -> dict[str, Any]:
    """Model arguments of a cascade of three scripted models."""
    return {
        "tiers": [
            {"option": "harness", "lm": "scripted", "script": name, "name": name} for name in MODELS
        ],
        "cost.tiers": [1.0, 10.0, 50.0],
        "verifier": "few_shot",
        "verifier.num_samples": 1,
        "progress": False,
        **more,
    }


def answered(model: str) -> int:
    """Answers asked of a scripted model."""
    return sum(n == model and "AI Generated Answer" not in p for n, _, p in CALLS)


def judged(model: str) -> int:
    """Verification samples drawn from a scripted model."""
    return sum(n == model and "AI Generated Answer" in p for n, _, p in CALLS)


def test_each_tier_verifies_unless_it_is_the_last(three: dict[str, str], tmp_path: Path) -> None:
    """A wrong answer climbs tier by tier; every tier it meets is asked and verified once."""
    results = run_harness([TASK], chain_args(meta_verifier="self_consistency"), tmp_path)
    _, rows = read_run(tmp_path)
    finals = [r.final for r in rows]
    assert set(finals) == {0, 1, 2}
    beyond = [sum(f >= t for f in finals) for t in range(3)]
    assert [answered(m) for m in MODELS] == beyond
    assert [judged(m) for m in MODELS] == [beyond[0], beyond[1], 0]
    costs = {0: 2.0, 1: 2.0 + 11.0, 2: 2.0 + 11.0 + 50.0}
    for sample, record in zip(results["samples"][TASK], rows, strict=True):
        assert sample["cost"] == costs[record.final]


class Skipping(Router):
    """From the first tier straight to the last, for every second question from the last."""

    def choose(self, seen: Any) -> Any:
        if seen.tier < 0:
            assert seen.questions is not None
            return np.array([2 * (len(q) % 2) for q in seen.questions])
        return np.full(len(seen), seen.num_tiers - 1)


def test_a_skipped_tier_makes_no_call(
    three: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a tier that is jumped over nor one the router starts beyond is asked anything."""
    monkeypatch.setattr(parts, "make_meta_verifier", lambda _: Skipping())
    run_harness([TASK], chain_args(meta_verifier="self_consistency"), tmp_path, limit=12)
    _, rows = read_run(tmp_path)
    direct = sum([t.tier for t in r.tiers] == [2] for r in rows)
    assert 0 < direct < 12
    assert {tuple(t.tier for t in r.tiers) for r in rows} == {(2,), (0, 2)}
    assert [answered(m) for m in MODELS] == [12 - direct, 0, 12]
    assert sum(judged(m) for m in MODELS) == 0


@pytest.mark.parametrize("name", ["pomdp", "threshold"])
def test_a_fitted_router_uses_the_whole_chain(
    three: dict[str, str], tmp_path: Path, name: str
) -> None:
    """With a truthful verifier the fitted policy keeps right answers and sends wrong ones on."""
    results = run_harness([TASK], chain_args(meta_verifier=name), tmp_path)
    manifest, rows = read_run(tmp_path)
    assert [t["name"] for t in manifest["tiers"]] == list(MODELS)
    evaluation = [r for r in rows if r.phase == "evaluation"]
    assert results["results"][TASK]["f1,none"] > 0.6
    for record in evaluation:
        first = record.tiers[0]
        if first.tier == 0 and first.verification and first.verification.confidence == 1.0:
            assert record.final == 0


def test_the_ensemble_gives_signals_to_the_calibrator(tmp_path: Path) -> None:
    """Two verifiers run on each answer; one reversed verifier is turned, and the report's
    warnings say so.
    """
    answers = gold_answers(TASK)
    truthful = knows(answers, 0.5)

    def liar(prompt: str, generation: dict[str, Any]) -> str:
        text = truthful(prompt, generation)
        if "is Correct" in text:
            return text.replace("is Correct", "is Incorrect")
        return text.replace("is Incorrect", "is Correct")

    SCRIPTS["small"], SCRIPTS["large"] = liar, knows(answers, 0.9)
    members = [
        {"option": "few_shot", "num_samples": 1, "name": "one"},
        {"option": "few_shot", "num_samples": 2, "name": "two"},
    ]
    args = scripted_args(verifier="ensemble", meta_verifier="self_consistency")
    del args["verifier.num_samples"]
    run_harness([TASK], {**args, "verifier.members": members}, tmp_path)
    manifest, rows = read_run(tmp_path)
    assert manifest["config"]["calibrator"]["name"] == "logistic"
    signals = {k for r in rows for t in r.tiers if t.verification for k in t.verification.signals}
    assert signals == {"one", "two", "answer_length"}
    wrong = [r for r in rows if r.phase == "evaluation" and r.tiers[0].score == 0]
    right = [r for r in rows if r.phase == "evaluation" and r.tiers[0].score == 1]
    assert all(r.final == 1 for r in wrong)
    assert all(r.final == 0 for r in right)
    assert any("wrong way round" in w["text"] for w in manifest["warnings"])


def test_a_policy_with_a_calibrator_is_used_again(three: dict[str, str], tmp_path: Path) -> None:
    """A saved policy holds its calibrator; without that calibrator it is refused."""
    args = chain_args(meta_verifier="threshold", calibrator="isotonic")
    run_harness([TASK], args, tmp_path / "first", limit=8)
    (policy,) = (tmp_path / "first").rglob("automix_policy_*.json")
    CALLS.clear()
    given = {**args, "meta_verifier.policy": str(policy)}
    run_harness([TASK], given, tmp_path / "second", limit=8)
    assert answered("large") <= 8
    with pytest.raises(AutoMixError, match="calibrator"):
        run_harness([TASK], {**given, "calibrator": "none"}, limit=2)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"tiers": "smollm2"}, "at least two tiers"),
        ({"tiers": "smollm2+gema3"}, "did you mean gemma3"),
        ({"tiers": "smollm2+gemma3", "slm": "hf"}, "two-tier shorthand"),
        ({"tiers": ["gemma3", {"pretrained": "x"}]}, r"tiers\.1 names no option"),
        ({"tiers": ["gemma3", {"option": "hf", "_target_": "x"}]}, "may not be set"),
        ({"tiers": "hf+gemma3"}, "pretrained is not set"),
        ({"tiers": "smollm2+gemma3", "tiers.4.dtype": "auto"}, "numbered 0 to 1"),
        ({"tiers": ["gemma3", {"option": "gemma3", "pretrained": "x"}]}, "embedded model"),
        (
            {"tiers": [{"option": "gemma3", "name": "a"}, {"option": "gemma3", "name": "a"}]},
            "must differ",
        ),
        ({"verifier": "ensemble", "verifier.members": ["ensemble"]}, "cannot hold an ensemble"),
        ({"verifier": "ensemble", "verifier.members": ["margin", "margin"]}, "twice"),
        ({"verifier": "ensemble", "verifier.members": [{"option": "margin", "k": 1}]}, "no value"),
        ({"verifier": "ensemble", "verifier.members": ["marginn"]}, "did you mean margin"),
        ({"verifier": "consistency", "verifier.second": "slm"}, "second=slm is a tier"),
        (
            {"tiers": "smollm2+gemma3", "verifier": "consistency", "verifier.second": "tier1"},
            "second=tier1 is a tier",
        ),
        ({"verifier": "consistency", "verifier.second": "gema3"}, "did you mean gemma3"),
        ({"verifier": "consistency", "verifier.second": "hf"}, r"second=\{option: hf, pretrained"),
        ({"verifier": "consistency", "verifier.second": {"lm": "hf"}}, "second names no option"),
    ],
)
def test_a_chain_that_cannot_be_is_refused(args: dict[str, Any], message: str) -> None:
    """Each mistake in a chain or an ensemble is named before anything loads."""
    with pytest.raises(AutoMixError, match=message):
        config.build(args)


def test_further_answers_come_from_the_answer_s_own_prompt(tmp_path: Path) -> None:
    """verifier=consistency asks k more answers to each question; those it disagrees with go on."""
    answers = gold_answers(TASK)
    firm = knows(answers, 0.5)
    said: list[str] = []

    def wavers(prompt: str, generation: dict[str, Any]) -> str:
        text = firm(prompt, generation)
        if not generation.get("do_sample") or text != " nothing of the kind":
            return text
        said.append(text)
        return f" word{len(said)}"

    SCRIPTS["small"], SCRIPTS["large"] = wavers, knows(answers, 0.9)
    args = scripted_args(verifier="consistency", meta_verifier="self_consistency")
    CALLS.clear()
    run_harness([TASK], {**args, "verifier.num_samples": 3}, tmp_path, limit=10)
    _, rows = read_run(tmp_path)
    for record in rows:
        first = record.tiers[0]
        assert first.verification is not None
        assert len(first.verification.calls) == 3
        assert first.verification.confidence == pytest.approx(first.score)
        assert record.final == (0 if first.score == 1 else 1)
    prompts = [prompt for script, _, prompt in CALLS if script == "small"]
    assert {prompts.count(p) for p in prompts} == {4}


def second_args(**more: Any) -> dict[str, Any]:
    """Model arguments of a cascade whose small model's answers a second one compares its own to."""
    second = {"option": "harness", "lm": "scripted", "script": "other"}
    args = scripted_args(verifier="consistency", meta_verifier="self_consistency", **more)
    return {**args, "verifier.num_samples": 0, "verifier.second": second}


def test_a_second_model_answers_for_the_verifier(tmp_path: Path) -> None:
    """Where both agree the answer is kept; its answers are recorded, and taken from the store."""
    answers = gold_answers(TASK)
    SCRIPTS["small"], SCRIPTS["large"] = knows(answers, 0.5), knows(answers, 0.9)
    SCRIPTS["other"] = knows(answers, 0.8, " something else")
    CALLS.clear()
    run_harness([TASK], second_args(), tmp_path / "first", limit=10)
    assert sum(script == "other" for script, *_ in CALLS) == 10
    manifest, rows = read_run(tmp_path / "first")
    assert manifest["verifier"]["second"] == "scripted"
    for record in rows:
        first = record.tiers[0]
        assert first.verification is not None
        assert [(c.role, c.tier) for c in first.verification.calls] == [("verify", 2)]
        assert record.final == (0 if first.score == 1 else 1)
    made = {(c["tier"], c["role"]): c["made"] for c in manifest["calls"]}
    assert made[0, "verify"] == 10
    CALLS.clear()
    run_harness([TASK], second_args(), tmp_path / "again", limit=10)
    assert CALLS == []


def test_a_question_that_the_second_model_cannot_answer_is_left_out(tmp_path: Path) -> None:
    """Its failures are those of the verification: tolerated and named, or the run stops."""
    answers = gold_answers(TASK)
    SCRIPTS["small"] = SCRIPTS["large"] = SCRIPTS["other"] = knows(answers, 0.9)
    args = second_args(fail_on_error=0.9)
    args["verifier.second"]["fail_after"] = 3
    run_harness([TASK], args, tmp_path, limit=8)
    manifest, rows = read_run(tmp_path)
    assert len(rows) == 3
    assert {f["role"] for f in manifest["failed"]} == {"verify"}


def test_a_second_model_that_is_a_tier_or_has_no_price_is_refused() -> None:
    """By what it is, whatever it is called: before the first call."""
    SCRIPTS["small"] = SCRIPTS["large"] = knows(gold_answers(TASK), 0.5)
    CALLS.clear()
    args = second_args()
    args["verifier.second"] = {"option": "harness", "lm": "scripted", "script": "large"}
    with pytest.raises(AutoMixError, match="is the model of llm"):
        run_harness([TASK], args, limit=2)
    args = second_args(cost="seconds", **{"cost.prices": [1, 2]})
    with pytest.raises(AutoMixError, match=r"no price for tier 2.*verifier\.second"):
        run_harness([TASK], args, limit=2)
    args = two_second_args(cost="seconds", **{"cost.prices": [1, 2, 3]})
    with pytest.raises(
        AutoMixError, match=r"no price for tier 3.*tier 2 is scripted, 3 is scripted"
    ):
        run_harness([TASK], args, limit=2)
    args["verifier.members"] = [
        dict(args["verifier.members"][0], num_samples=n + 2) for n in range(17)
    ]
    with pytest.raises(AutoMixError, match="17 models beside the tiers, of at most 16"):
        run_harness([TASK], args, limit=2)
    assert CALLS == []


def two_second_args(**more: Any) -> dict[str, Any]:
    """Model arguments of a cascade whose verifier has two members, each with a model of its own."""
    args = scripted_args(verifier="ensemble", meta_verifier="self_consistency", **more)
    del args["verifier.num_samples"]
    members = [
        {"option": "consistency", "num_samples": 0, "second": second}
        for script in ("other", "another")
        for second in [{"option": "harness", "lm": "scripted", "script": script}]
    ]
    return {**args, "verifier.members": members}


def test_each_member_s_second_model_has_a_price_of_its_own(tmp_path: Path) -> None:
    """In the order of the members, after those of the tiers; in the record and in its price."""
    for script in ("small", "large", "other", "another"):
        SCRIPTS[script] = knows(gold_answers(TASK), 0.9)
    prices = [0, 0, 1, 1000]
    args = two_second_args(cost="seconds", **{"cost.prices": prices})
    run_harness([TASK], args, tmp_path, limit=4)
    _, rows = read_run(tmp_path)
    for record in rows:
        judged = record.tiers[0].verification
        assert judged is not None
        assert [c.tier for c in judged.calls] == [2, 3]
    (run,) = find_runs([tmp_path])
    found = price(run.records[TASK], run.cost).verifications[0]
    calls = [r.tiers[0].verification.calls for r in rows if r.phase == "evaluation"]
    own = [sum(prices[c.tier] * (c.seconds or 0) for c in spent) for spent in calls]
    assert np.allclose(found, own)


def test_a_later_tier_compares_with_what_an_earlier_one_said(
    three: dict[str, str], tmp_path: Path
) -> None:
    """Its answer is there and costs no call; the first tier has its own samples alone."""
    SCRIPTS["small"] = lambda prompt, generation: (
        f" guess {len(CALLS)}" if generation.get("do_sample") else knows(three, 0.4)(prompt, {})
    )
    args = chain_args(verifier="consistency", meta_verifier="self_consistency")
    args |= {"verifier.num_samples": 2, "verifier.second": "small"}
    CALLS.clear()
    run_harness([TASK], args, tmp_path)
    _, rows = read_run(tmp_path)
    for record in rows:
        (first, middle, *_) = record.tiers
        assert first.verification is not None
        assert middle.verification is not None
        assert "second_f1" not in first.verification.signals
        same = token_f1(first.answer.text, [middle.answer.text])
        assert middle.verification.signals["second_f1"] == pytest.approx(same)
        assert middle.verification.confidence == pytest.approx((2 + same) / 3)
        assert len(middle.verification.calls) == 2
    assert answered("middle") == 3 * len(rows)
    assert answered("small") == 3 * len(rows)
