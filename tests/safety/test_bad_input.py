"""Bad input: a clear outcome, or an error that names cause and remedy; nothing computed is lost."""

from __future__ import annotations

import json
import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from lm_eval.models.dummy import DummyLM
from scripted import (
    CALLS,
    SCRIPTS,
    ScriptedLM,
    gold_answers,
    knows,
    read_run,
    run_harness,
    scripted_args,
)

from automix_eval.backends.harness_lm import HarnessBackend
from automix_eval.backends.hook import FaultError, raise_failed
from automix_eval.commands.main import main
from automix_eval.harness.model import AutoMixLM
from automix_eval.safety.errors import AutoMixError, CallsFailedError
from automix_eval.types import ScoreRequest, Scores

TASK = "coqa_demo"


@pytest.fixture
def pair() -> dict[str, str]:
    """Scripted models that know a half and nine tenths of the sample."""
    answers = gold_answers(TASK)
    SCRIPTS["small"] = knows(answers, 0.5)
    SCRIPTS["large"] = knows(answers, 0.9)
    return answers


def write_stories(folder: Path, stories: dict[str, list[dict[str, Any]]]) -> None:
    """CoQA files with one question a story."""
    (folder / "coqa").mkdir(parents=True)
    for split, rows in stories.items():
        lines = []
        for i, row in enumerate(rows):
            told = {"input_text": [row["answer"]], "turn_id": [1]}
            lines.append(
                {
                    "id": f"{split}-{i}",
                    "source": "own",
                    "story": row["story"],
                    "questions": {"input_text": [row["question"]], "turn_id": [1]},
                    "answers": told,
                    "additional_answers": {"0": told, "1": told, "2": told},
                }
            )
        (folder / "coqa" / f"{split}.jsonl").write_text("\n".join(map(json.dumps, lines)))


def test_empty_context_question_and_answer_are_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is recorded under its own name, undefined in confidence, and escalated by default."""
    good = {"story": "Ida is at the pier.", "question": "Where is Ida?", "answer": "the pier"}
    rows = [good, good | {"story": ""}, good | {"question": ""}, good | {"question": "Mute?"}]
    write_stories(tmp_path / "data", {"train": [good], "validation": rows})
    monkeypatch.setenv("AUTOMIX_DATA_DIR", str(tmp_path / "data"))

    def small(prompt: str, generation: dict[str, Any]) -> str:
        if "AI Generated Answer" in prompt:
            return "The AI generated answer is Correct."
        return "" if "Mute?" in prompt else " the pier"

    SCRIPTS["small"] = SCRIPTS["large"] = small
    run_harness(["coqa"], scripted_args(meta_verifier="self_consistency"), tmp_path / "out")
    _, records = read_run(tmp_path / "out")
    outcomes = [r.tiers[0].verification.outcome for r in records]  # type: ignore[union-attr]
    assert outcomes == ["ok", "empty_context", "empty_question", "empty_answer"]
    assert [r.final for r in records] == [0, 1, 1, 1]


def test_samples_that_never_parse_are_said(pair: dict[str, str], tmp_path: Path) -> None:
    """The manifest warns that the routing rests on meta_verifier.undefined alone."""
    knowing = SCRIPTS["small"]
    SCRIPTS["small"] = lambda p, g: "hm" if "AI Generated Answer" in p else knowing(p, g)
    run_harness([TASK], scripted_args(meta_verifier="self_consistency"), tmp_path, limit=4)
    manifest, records = read_run(tmp_path)
    assert any(
        "unparsable" in w["text"] and "verifier=p_true" in w["text"] for w in manifest["warnings"]
    )
    assert all(r.tiers[0].verification.num_unparsable == 2 for r in records)  # type: ignore[union-attr]
    assert all(r.final == 1 for r in records)


def test_a_model_that_fails_to_load_names_its_settings(tmp_path: Path) -> None:
    """The error comes before any call and names tier, setting and cause."""
    args = {"slm": "hf", "slm.pretrained": str(tmp_path / "nothing"), "meta_verifier": "always_slm"}
    with pytest.raises(AutoMixError, match=r"(?s)slm \(hf\) cannot be loaded.*slm\.pretrained="):
        AutoMixLM(**args)


def test_a_tokenizer_that_is_loaded_when_first_asked_for_is_loaded_with_its_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Some of the harness's models fetch it late: what goes wrong is said before any call too."""

    def gone(_: DummyLM) -> None:
        raise OSError("no connection")

    monkeypatch.setattr(DummyLM, "tokenizer", property(gone))
    args = {"slm": "harness", "slm.lm": "dummy", "meta_verifier": "always_slm"}
    with pytest.raises(AutoMixError, match=r"slm \(dummy\) cannot be loaded: OSError: no c"):
        AutoMixLM(**args)


def _lacking(*_: Any) -> None:
    raise NotImplementedError("nothing of the kind")


def _raises(error: type[Exception]) -> property:
    def gone(_: ScriptedLM) -> None:
        raise error("nothing of the kind")

    return property(gone)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("tokenizer", _raises(NotImplementedError), ""),
        ("tokenizer", object(), ""),  # and no tok_encode
        ("max_length", _raises(NotImplementedError), ""),
        ("tokenizer", _raises(KeyError), "cannot be loaded: KeyError"),
        ("max_length", _raises(AssertionError), "cannot be loaded: AssertionError"),
        ("max_length", float("inf"), "cannot be loaded: OverflowError"),
        ("generate_until", lambda _, r: ["a"] * (len(r) - 1), "expected 2 results in a list"),
        ("generate_until", lambda *_: None, "returned None, expected 2 results"),
        ("generate_until", lambda _, r: (("a",) for _ in r), "expected 2 results in a list"),
        ("generate_until", lambda _, r: [("a", 1)] * len(r), "('a', 1), expected a text"),
        ("generate_until", _lacking, "has no generate_until (nothing of"),
        ("generate_until", lambda _, r: [None] * len(r), ""),
    ],
)
def test_a_class_of_the_harness_that_lacks_something_runs_or_is_named(
    pair: dict[str, str], monkeypatch: pytest.MonkeyPatch, name: str, value: Any, said: str
) -> None:
    """Classes that others wrote: what a cascade does without is absent, the rest one sentence."""
    monkeypatch.setattr(ScriptedLM, name, value, raising=False)
    if name == "max_length":
        monkeypatch.setattr(ScriptedLM, "tokenizer", object(), raising=False)
        monkeypatch.setattr(ScriptedLM, "tok_encode", lambda _, text: text.split(), raising=False)
    args = scripted_args(meta_verifier="always_slm")
    with pytest.raises(AutoMixError, match=re.escape(said)) if said else nullcontext():
        run_harness([TASK], args, limit=2)


def test_scores_of_another_shape_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A triple has what is read; a number alone, and a text, have not."""
    backend = HarnessBackend("scripted", script="small")
    request = ScoreRequest("q", (" a",))
    for raw, said in (((-1.0, True, 3), ""), (-1.0, "returned -1.0"), (("x", 1), "('x', 1)")):
        monkeypatch.setattr(ScriptedLM, "loglikelihood", lambda _, r, raw=raw: [raw] * len(r))
        found: list[Scores] = []
        with pytest.raises(AutoMixError, match=re.escape(said)) if said else nullcontext():
            backend.loglikelihood([request], lambda _, scores: found.append(scores))  # noqa: B023
        assert [s.logprobs for s in found] == ([] if said else [(-1.0,)])


def test_a_class_makes_its_model_as_the_harness_has_it_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One that reads its arguments in a method of its own is given them there."""

    def made(cls: type[ScriptedLM], arg_dict: dict[str, Any]) -> ScriptedLM:
        return cls(arg_dict["script"].upper())

    monkeypatch.setattr(ScriptedLM, "create_from_arg_obj", classmethod(made))
    lm: Any = HarnessBackend("scripted", script="small").lm
    assert lm.script == "SMALL"


def test_several_failed_requests_are_named_after_the_first() -> None:
    """Whichever of them ended first."""
    with pytest.raises(CallsFailedError, match="first") as caught:
        raise_failed({5: FaultError("later"), 1: FaultError("first")})
    assert caught.value.reasons == {5: "later", 1: "first"}


def test_a_port_that_refuses_names_the_address() -> None:
    """Nothing is asked before the server answers."""
    args = scripted_args(meta_verifier="always_llm") | {
        "llm": "local_completions",
        "llm.base_url": "http://127.0.0.1:9/v1/completions",
        "llm.model": "m",
    }
    del args["llm.lm"], args["llm.script"]
    with pytest.raises(AutoMixError, match=r"127\.0\.0\.1:9.*llm\.base_url"):
        AutoMixLM(**args)


def test_a_dead_tier_is_found_before_any_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The LLM's server is missed before the SLM, which is tried first otherwise, is loaded."""
    loaded: list[str] = []
    monkeypatch.setattr(HarnessBackend, "load", lambda self: loaded.append(self.tier))
    args = scripted_args(meta_verifier="self_consistency") | {
        "llm": "local_completions",
        "llm.base_url": "http://127.0.0.1:9/v1/completions",
        "llm.model": "m",
        "store.path": str(tmp_path / "calls.sqlite"),
    }
    del args["llm.lm"], args["llm.script"]
    with pytest.raises(AutoMixError, match=r"llm: nothing answers at 127\.0\.0\.1:9.*Start"):
        AutoMixLM(**args)
    assert loaded == []


@pytest.mark.parametrize(
    ("args", "named"),
    [
        (
            {"cost": "tokens", "cost.prices": [{"prompt": 1, "generated": 2}] * 2},
            "cost=tokens cannot price calls .answer. of tier 0.*slm.tokenizer",
        ),
        (
            {
                "tiers": [
                    {"option": "harness", "lm": "scripted", "script": script}
                    for script in ("small", "small", "large")
                ],
                "cost.tiers": [1, 2, 3],
                "meta_verifier": "pomdp",
                "meta_verifier.solver": "pomdp_py",
                "calibrator": "logistic",
                "fixed_answer.answers": ["none"],
            },
            "plans chains of 2 tiers, and this one has 3.*solver=exact",
        ),
        (
            {"meta_verifier": "knn", "meta_verifier.signals": ["f1"]},
            "no model has been asked.* reads the signals f1, .* verifier gives .none.",
        ),
        (
            {
                "verifier": "consistency",
                "meta_verifier": "token_margin",
                "calibrator": "logistic",
                "fixed_answer.answers": ["none"],
            },
            "no model has been asked.* the signals margin, .*among_samples, entropy, exact, f1",
        ),
        (
            {"meta_verifier": "threshold", "budget.max_cost": 300},
            "max_cost=300 does not cover the calibration.*cost at least",
        ),
    ],
)
def test_what_no_fit_could_mend_is_refused_before_the_calibration(
    pair: dict[str, str], args: dict[str, Any], named: str
) -> None:
    """Calls that no price is known of, and a chain that the router cannot route."""
    CALLS.clear()
    cascade = args if "tiers" in args else scripted_args() | args
    with pytest.raises(AutoMixError, match=named):
        run_harness([TASK], cascade, limit=2)
    assert CALLS == []


@pytest.mark.parametrize(
    ("task", "settings", "options", "named"),
    [
        ("coqa_demo", {}, {"apply_chat_template": True}, "llm .scripted. has no chat template"),
        ("choice", {}, {}, "slm .scripted-chat. has no loglikelihood .not this one."),
        ("choice", {"meta_verifier": "always_llm"}, {}, "has no loglikelihood"),
        (
            "coqa_demo",
            {"verifier": "margin", "verifier.num_samples": None},
            {},
            "slm .scripted-chat. gives none.*few_shot or consistency",
        ),
    ],
)
def test_what_a_later_model_cannot_do_is_said_before_the_first_is_paid(
    pair: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    task: str,
    settings: dict[str, Any],
    options: dict[str, Any],
    named: str,
) -> None:
    """Of every task of the run, so that the others can be run without it."""

    def gone(self: ScriptedLM, requests: list[Any], disable_tqdm: bool = False) -> Any:
        raise NotImplementedError("not this one")

    monkeypatch.setattr(ScriptedLM, "loglikelihood", gone)
    rows = [{"q": f"{i}?", "options": ["a", "b"], "gold": 1} for i in range(12)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "choice.yaml").write_text(
        f"task: choice\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{train: {tmp_path}/rows.jsonl, "
        f"test: {tmp_path}/rows.jsonl}}}}\n"
        "output_type: multiple_choice\ntraining_split: train\ntest_split: test\n"
        "doc_to_text: '{{q}}'\ndoc_to_choice: '{{options}}'\ndoc_to_target: gold\n"
        "metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]\n"
    )
    args = scripted_args(meta_verifier="threshold", **{"calibration.num_docs": 10}) | settings
    args = {k: v for k, v in args.items() if v is not None} | {"slm.lm": "scripted-chat"}
    CALLS.clear()
    asked = [str(tmp_path / "choice.yaml") if task == "choice" else task]
    with pytest.raises(AutoMixError, match=f"no model has been asked.*{named}"):
        run_harness(asked, args, limit=2, **options)
    assert CALLS == []
    if task == "choice":
        run_harness(["coqa_demo", *asked], args | {"skip_unsupported": True}, limit=2)
        assert CALLS


def test_calls_without_a_price_end_a_calibration_with_the_first_answers(
    pair: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that counts no tokens is known by its replies: a calibration asks no other tier."""
    monkeypatch.setattr(HarnessBackend, "counts_tokens", True)
    CALLS.clear()
    prices = {"cost": "tokens", "cost.prices": [{"prompt": 1, "generated": 2}] * 2}
    with pytest.raises(AutoMixError, match=r"cannot price calls .answer. of tier 0"):
        run_harness([TASK], scripted_args(meta_verifier="threshold") | prices, limit=3)
    assert {script for script, *_ in CALLS} == {"small"}


def test_a_policy_serves_what_it_was_fitted_for(pair: dict[str, str], tmp_path: Path) -> None:
    """Same task, tiers and verifier: taken as it is, without a calibration call."""
    run_harness([TASK], scripted_args(meta_verifier="pomdp"), tmp_path, limit=4)
    (file,) = tmp_path.rglob("automix_policy_*.json")
    CALLS.clear()
    args = scripted_args(meta_verifier="pomdp", **{"meta_verifier.policy": str(file)})
    run_harness([TASK], args, tmp_path / "again", limit=4)
    assert CALLS == []
    _, records = read_run(tmp_path / "again")
    assert {r.phase for r in records} == {"evaluation"}


@pytest.mark.parametrize(
    ("task", "change", "named"),
    [
        ("narrativeqa_demo", {}, "task"),
        (TASK, {"slm.script": "other"}, "tiers"),
        (TASK, {"verifier.num_samples": 3}, "verifier"),
        (TASK, {"meta_verifier": "threshold"}, "meta_verifier"),
    ],
)
def test_a_policy_fitted_for_something_else_is_refused(
    pair: dict[str, str], tmp_path: Path, task: str, change: dict[str, Any], named: str
) -> None:
    """Before the first call, with the difference and both remedies; transfer=true accepts it."""
    SCRIPTS["other"] = SCRIPTS["small"]
    run_harness([TASK], scripted_args(meta_verifier="pomdp"), tmp_path, limit=2)
    (file,) = tmp_path.rglob("automix_policy_*.json")
    args = scripted_args(meta_verifier="pomdp", **{"meta_verifier.policy": str(file)}) | change
    if task != TASK:
        SCRIPTS["small"] = SCRIPTS["large"] = knows(gold_answers(task), 0.5)
    CALLS.clear()
    with pytest.raises(AutoMixError, match=rf"{named}: fitted.*transfer=true"):
        run_harness(sorted({TASK, task}), args, limit=2)
    assert CALLS == []
    if named != "meta_verifier":
        run_harness([task], args | {"meta_verifier.transfer": True}, tmp_path / "transfer", limit=2)
        manifest, _ = read_run(tmp_path / "transfer")
        assert any("fitted for something else" in w["text"] for w in manifest["warnings"])


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"gen_kwargs": "max_gen_toks=3"}, "generation_kwargs"),
        ({"system_instruction": "Be brief."}, "system_instruction"),
    ],
)
def test_a_policy_fitted_on_other_prompts_is_refused(
    pair: dict[str, str], tmp_path: Path, given: dict[str, Any], named: str
) -> None:
    """Also one that a replay fitted on the run's records."""
    args = scripted_args(meta_verifier="threshold")
    run_harness([TASK], args | {"record": "full"}, tmp_path, limit=2)
    (file,) = tmp_path.rglob("automix_policy_*.json")
    out = tmp_path / "out.json"
    assert (
        main(["replay", f"records={file.parent}", "meta_verifier=threshold", f"output={out}"]) == 0
    )
    (tmp_path / "replayed.json").write_text(json.dumps(json.loads(out.read_text())["policy"]))
    for policy in (file, tmp_path / "replayed.json"):
        with pytest.raises(AutoMixError, match=rf"another {named} than it was fitted on"):
            run_harness([TASK], args | {"meta_verifier.policy": str(policy)}, limit=2, **given)


def test_a_policy_that_was_edited_is_refused(pair: dict[str, str], tmp_path: Path) -> None:
    """A policy's hash covers what it learned."""
    run_harness([TASK], scripted_args(meta_verifier="threshold"), tmp_path, limit=2)
    (file,) = tmp_path.rglob("automix_policy_*.json")
    policy = json.loads(file.read_text())
    policy["fitted_on"]["num_questions"] = 1000
    file.write_text(json.dumps(policy))
    with pytest.raises(AutoMixError, match="was changed after it was written"):
        AutoMixLM(**scripted_args(meta_verifier="threshold", **{"meta_verifier.policy": str(file)}))


def test_a_calibration_question_without_a_score_is_left_out_by_name(
    pair: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NaN in calibration is named with its document, and the others are fitted on."""
    from lm_eval.api.task import ConfigurableTask

    original = ConfigurableTask.process_results

    def broken(self: Any, doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        found: dict[str, Any] = original(self, doc, results)
        return found | {"f1": float("nan")} if "train-0" in doc["id"] else found

    monkeypatch.setattr(ConfigurableTask, "process_results", broken)
    run_harness([TASK], scripted_args(meta_verifier="pomdp"), tmp_path, limit=2)
    manifest, rows = read_run(tmp_path)
    failed = {f["doc_id"]: f for f in manifest["failed"]}
    assert 0 in failed
    assert {f["phase"] for f in failed.values()} == {"calibration"}
    assert "nan" in json.dumps(failed[0])
    fitted = {r.doc_id for r in rows if r.phase == "calibration"}
    assert fitted
    assert not fitted & failed.keys()


@pytest.mark.parametrize("limit", [0, 0.0, -1])
def test_limit_zero_is_refused(pair: dict[str, str], limit: float) -> None:
    """The harness would take it for no limit."""
    with pytest.raises(AutoMixError, match="--limit"):
        run_harness([TASK], scripted_args(meta_verifier="always_slm"), limit=limit)
    assert CALLS == []


def test_fewer_train_questions_than_asked_is_said(pair: dict[str, str], tmp_path: Path) -> None:
    """All of them are used, with a warning; below min_docs it is an error."""
    args = scripted_args(meta_verifier="pomdp", **{"calibration.num_docs": 500})
    run_harness([TASK], args, tmp_path, limit=2)
    manifest, records = read_run(tmp_path)
    assert sum(r.phase == "calibration" for r in records) == 20
    assert any("500" in w["text"] and "20" in w["text"] for w in manifest["warnings"])
    with pytest.raises(AutoMixError, match=r"calibration\.min_docs"):
        run_harness([TASK], args | {"calibration.min_docs": 21}, limit=2)


def test_a_task_without_a_train_split_names_two_ways_out(tmp_path: Path) -> None:
    """A policy file, or a meta-verifier that needs no fit."""
    rows = [{"q": f"word {i}", "a": "yes"} for i in range(4)]
    (tmp_path / "v.jsonl").write_text("\n".join(map(json.dumps, rows)))
    task = tmp_path / "bare.yaml"
    task.write_text(
        "task: bare\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{validation: {tmp_path}/v.jsonl}}}}\n"
        "output_type: generate_until\nvalidation_split: validation\n"
        "doc_to_text: '{{q}}'\ndoc_to_target: '{{a}}'\ngeneration_kwargs: {until: ['\\n']}\n"
        "metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]\n"
    )
    SCRIPTS["small"] = SCRIPTS["large"] = lambda p, g: (
        "The AI generated answer is Correct." if "AI Generated" in p else "yes"
    )
    with pytest.raises(AutoMixError, match=r"meta_verifier\.policy=.*needs no fit"):
        run_harness([str(task)], scripted_args(meta_verifier="pomdp"))
    results = run_harness([str(task)], scripted_args(meta_verifier="self_consistency"))
    assert results["results"]["bare"]["exact_match,none"] == 1.0


def test_use_cache_is_refused_with_the_reason(pair: dict[str, str], tmp_path: Path) -> None:
    """Its key is the prompt alone; our own store does its work."""
    with pytest.raises(AutoMixError, match="--use_cache"):
        run_harness(
            [TASK],
            scripted_args(meta_verifier="always_slm"),
            limit=2,
            use_cache=str(tmp_path / "cached"),
        )


def test_a_verifier_without_its_probabilities_stops_before_any_call(
    pair: dict[str, str],
) -> None:
    """The margin on a tier that gives none is named at once, with the ways out."""
    args = scripted_args(verifier="margin", meta_verifier="threshold")
    del args["verifier.num_samples"]
    with pytest.raises(AutoMixError, match="few_shot or consistency, or slm=hf"):
        run_harness([TASK], args)
    assert CALLS == []


def test_unknown_token_prices_are_an_error_before_any_call(pair: dict[str, str]) -> None:
    """An unknown price is never 0."""
    with pytest.raises(AutoMixError, match=r"cost\.prices"):
        run_harness([TASK], scripted_args(meta_verifier="always_slm", cost="tokens"), limit=2)
    assert CALLS == []


def test_the_model_called_outside_the_harness_says_so(pair: dict[str, str]) -> None:
    """Without the harness's run there is no task to route."""
    from lm_eval.api.instance import Instance

    model = AutoMixLM(**scripted_args(meta_verifier="always_slm"))
    with pytest.raises(AutoMixError, match="lm_eval"):
        model.generate_until([Instance("generate_until", {}, ("p", {}), 0, ("t", 0, 1))])


@pytest.mark.parametrize("router", ["pomdp", "threshold"])
def test_a_calibration_without_any_confidence_does_not_end_the_run(
    pair: dict[str, str], tmp_path: Path, router: str
) -> None:
    """By ibc the policy says what it could not learn, and meta_verifier.undefined decides.

    The POMDP need not ask a tier whose answers it cannot judge: it starts at the last one.
    """
    knowing = SCRIPTS["small"]
    SCRIPTS["small"] = lambda p, g: "hm" if "AI Generated Answer" in p else knowing(p, g)
    for undefined, final in (("escalate", 1), ("keep", int(router == "pomdp"))):
        out = tmp_path / undefined
        undefined_is = {"meta_verifier.undefined": undefined}
        args = scripted_args(meta_verifier=router, objective="ibc", **undefined_is)
        run_harness([TASK], args, out, limit=4)
        manifest, records = read_run(out)
        assert [r.final for r in records if r.phase == "evaluation"] == [final] * 4
        (file,) = out.rglob("automix_policy_*.json")
        learned = json.loads(file.read_text())["learned"]
        assert "0 of 20 fitting questions have a confidence" in learned["note"]
        assert any("no verification gave a confidence" in w["text"] for w in manifest["warnings"])


@pytest.mark.parametrize("router", ["pomdp", "threshold"])
def test_without_any_confidence_the_slm_answers_alone(
    pair: dict[str, str], tmp_path: Path, router: str
) -> None:
    """By gain nothing is paid for verifications that tell nothing, and the policy says why."""
    knowing = SCRIPTS["small"]
    SCRIPTS["small"] = lambda p, g: "hm" if "AI Generated Answer" in p else knowing(p, g)
    run_harness([TASK], scripted_args(meta_verifier=router), tmp_path, limit=4)
    _, records = read_run(tmp_path)
    evaluated = [r for r in records if r.phase == "evaluation"]
    assert [(r.final, r.tiers[0].verification) for r in evaluated] == [(0, None)] * 4
    (file,) = tmp_path.rglob("automix_policy_*.json")
    note = json.loads(file.read_text())["learned"]["note"]
    assert "0 of 20 fitting questions have a confidence" in note
