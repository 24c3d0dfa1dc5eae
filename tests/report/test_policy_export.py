"""Policies for services: loaded, as a module of Python, and as the configuration of a gateway."""

from __future__ import annotations

import functools
import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from router_records import columns, record

import automix_eval
from automix_eval.commands.main import main
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.config.policy_files import load_policy
from automix_eval.costs.tokens import TokenCost
from automix_eval.meta_verifiers.compiled import compile_policy
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.served_policy import ServedPolicy
from automix_eval.paths import hydra_conf_dir
from automix_eval.records import policies
from automix_eval.records.outcomes import Outcomes, Seen
from automix_eval.report.policy_export import export
from automix_eval.safety.errors import AutoMixError

NAMES = sorted(p.stem for p in (hydra_conf_dir() / "meta_verifier").glob("*.yaml"))
REFUSED = {"random", "oracle", "logistic", "mlp", "knn", "frugal_gpt", "hybrid_llm", "token_margin"}
MARGIN = {"name": "margin", "statistic": "mean_probability"}


@functools.cache
def outcomes(num_tiers: int) -> Outcomes:
    """200 questions whose confidences tell right from wrong; one in twenty has none."""
    rng, rows = random.Random(4), []
    for i in range(200):
        sure = [round(rng.random(), 3) for _ in range(num_tiers - 1)]
        right = [float(rng.random() < 0.2 + 0.6 * v) for v in sure]
        shown = [None if rng.random() < 0.05 else v for v in sure]
        rows.append(record(i, [*right, float(rng.random() < 0.8)], shown))
    table = columns(rows, _prices(num_tiers))
    costs = table.answer_costs * np.array([[1 + i % 5] for i in range(200)])
    return Outcomes(
        table.scores, costs, table.confidences, table.verification_costs, table.names, table.ids,
        questions=table.questions, answers=table.answers, documents=table.documents,
    )  # fmt: skip


def _prices(num_tiers: int) -> Any:
    return TokenCost([{"prompt": 10.0**t, "generated": 10.0**t} for t in range(num_tiers)])


def fitted(name: str, num_tiers: int = 2, verifier: Any = MARGIN, **given: Any) -> ServedPolicy:
    """A policy as its file holds it, restored."""
    values = config.build({"meta_verifier": name, **given})
    router = parts.make_meta_verifier(values)
    router = router.fit(outcomes(num_tiers)) if router.needs_fit else router
    about = {
        "task": "toy",
        "tiers": [{"label": f"model-{t}"} for t in range(num_tiers)],
        "verifier": verifier,
    }
    held = policies.make(name, parts.router_parameters(values), router.get_learned(), about)
    return ServedPolicy(parts.restore(held), held)


def decider(text: str) -> dict[str, Any]:
    """The names of an exported module, run in an interpreter's own namespace."""
    names: dict[str, Any] = {}
    exec(compile(text, "policy.py", "exec"), names)
    return names


def confidences(policy: ServedPolicy, number: int = 1000) -> list[float | None]:
    """Random ones, the ends, none, and every edge of the policy with both its neighbours."""
    rng = random.Random(1)
    found = compile_policy(policy.router, len(policy.tiers))
    edges = [e for cuts in found.edges for e in cuts]
    close = [math.nextafter(e, to) for e in edges for to in (0.0, 1.0)]
    return [None, 0.0, 1.0, *edges, *close, *(rng.random() for _ in range(number))]


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_module_decides_as_the_policy_or_is_refused(
    name: str, number: int, fast_routers: dict[str, dict[str, Any]]
) -> None:
    """Equal on 1,000 records for every router that reads confidences and costs; else the reason."""
    small = {f"meta_verifier.{k}": v for k, v in fast_routers.get(name, {}).items()}
    if name == "pomdp":
        small["meta_verifier.mixtures"] = False
    if name == "oracle":
        router = parts.make_meta_verifier(config.build({"meta_verifier": name}))
        with pytest.raises(AutoMixError, match="more than confidences"):
            compile_policy(router, number)
        return
    policy = fitted(name, number, **small)
    if name in REFUSED or policy.router.needs_texts:
        with pytest.raises(AutoMixError, match="cannot be written as python"):
            export(policy, "python")
        return
    made = decider(export(policy, "python"))
    assert made["FIRST"] == policy.first
    assert made["TIERS"] == policy.tiers
    values, rng = confidences(policy), random.Random(2)
    escalated = 0
    for confidence in values:
        cost = rng.choice([1e-4, 2e-4, 4e-4, 1e-3, 1e-2])
        asked, paid = {made["FIRST"]: confidence}, {made["FIRST"]: cost}
        while True:
            ours = policy.decide(asked, paid)
            assert made["decide"](asked, cost) == ours.to
            escalated += ours.escalates
            if not ours.escalates:
                break
            asked[ours.to], paid[ours.to] = rng.choice(values), cost
    if not name.startswith("always"):
        assert escalated > 10


@pytest.mark.parametrize("name", ["logistic", "isotonic", "auto"])
@pytest.mark.parametrize("predicts", ["score", "benefit"])
def test_a_module_calibrates_as_the_policy(name: str, predicts: str) -> None:
    """Signals of every kind, missing ones too: 1,000 decisions are equal."""
    rng = np.random.default_rng(3)
    table = outcomes(2)
    held = table.confidences
    noise = rng.normal(size=held.shape)
    signals = {"entropy": 3 - 2 * held + noise, "margin": np.clip(held + noise / 9, 0, 1)}
    values = config.build(
        {
            "meta_verifier": "pomdp", "meta_verifier.mixtures": False, "calibrator": name,
            "meta_verifier.cost_levels": 1, "calibrator.predicts": predicts,
        }
    )  # fmt: skip
    router = parts.make_meta_verifier(values).fit(replace(table, signals=signals))
    about = {"tiers": [{"label": "small"}, {"label": "large"}], "verifier": MARGIN}
    made = policies.make("pomdp", parts.router_parameters(values), router.get_learned(), about)
    policy = ServedPolicy(parts.restore(made), made)
    module = decider(export(policy, "python"))
    ups = 0
    for v, e, m in zip(rng.random(1000), rng.normal(2, 1, 1000), rng.random(1000), strict=True):
        said = {k: float(x) for k, x in (("entropy", e), ("margin", m)) if rng.random() < 0.9}
        confidence = float(v) if rng.random() < 0.9 else None
        ours = policy.decide(confidence=confidence, signals=said)
        shown = module["calibrate"](0, {**said, "confidence": confidence})
        assert module["decide"](shown) == ours.to
        ups += ours.escalates
    assert 10 < ups < 990


def test_signals_of_every_tier_asked_reach_the_calibrators() -> None:
    """In a longer chain earlier tiers had none, so that a router of whole paths decided anew."""
    table, rng = outcomes(3), np.random.default_rng(6)
    held = np.where(np.isnan(table.confidences), 0.5, table.confidences)
    rows = replace(table, signals={"entropy": 3 - 2 * held + rng.random(held.shape)})
    values = config.build(
        {"meta_verifier": "pomdp", "calibrator": "logistic", "meta_verifier.cost_levels": 1}
    )
    router = parts.make_meta_verifier(values).fit(rows)
    about = {"tiers": [{"label": n} for n in "abc"], "verifier": MARGIN, "task": "toy"}
    learned = policies.make("pomdp", parts.router_parameters(values), router.get_learned(), about)
    policy = ServedPolicy(parts.restore(learned), learned)
    path = follow(router, rows)
    ends = []
    for row, (name, known) in enumerate(zip(rows.ids, rows.confidences.tolist(), strict=True)):
        known = [None if math.isnan(v) else v for v in known]
        seen: dict[int, float | None] = {policy.first: known[policy.first]}
        while True:
            said = {t: float(rows.signals["entropy"][row, t]) for t in seen}
            to = policy.decide(seen, identity=name, signals={"entropy": said}).to
            if to in seen or to == 2:
                break
            seen[to] = known[to]
        ends.append(to)
    assert ends == path.final.tolist()
    assert len(set(ends)) == 3
    with pytest.raises(AutoMixError, match="entropy of tier 1 is missing"):
        policy.decide({0: 0.5, 1: 0.5}, identity="x", signals={"entropy": 1.0})


def test_what_a_policy_decides_is_what_its_router_chooses() -> None:
    """``load_policy(...).decide`` asks the very router, one question at a time."""
    policy = fitted("threshold", **{"meta_verifier.candidates": "observed"})
    values = [v for v in confidences(policy) if v is not None]
    table = np.array(values)[:, None]
    chosen = policy.router.choose(Seen(0, 2, table)).tolist()
    assert [policy.decide(confidence=v).to for v in values] == chosen
    assert 0 < sum(chosen) < len(chosen)


def test_a_policy_file_is_loaded_from_the_package(tmp_path: Path) -> None:
    """The public name reads a file; a decision escalates or keeps."""
    policies.save(tmp_path / "p.json", dict(fitted("threshold").held))
    policy = automix_eval.load_policy(tmp_path / "p.json")
    assert (policy.tiers, policy.first) == (("model-0", "model-1"), 0)
    assert repr(policy) == "<policy threshold: model-0 -> model-1>"
    assert policy.needs_verification
    assert policy.verifier == MARGIN
    assert policy.decide(confidence=0.0).escalates
    assert not policy.decide(confidence=1.0).escalates
    with pytest.raises(AutoMixError, match="cannot be read"):
        load_policy(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"confidence": 1.5}, r"\[0, 1\]"),
        ({"confidence": "0.5"}, r"\[0, 1\]"),
        ({"confidence": True}, r"\[0, 1\]"),
        ({"confidence": math.nan}, r"\[0, 1\]"),
        ({"confidence": {}}, "name the tier"),
        ({"confidence": {5: 0.5}}, "the tiers are 0 to 1"),
        ({"confidence": 0.5, "cost": -1.0}, "0 or more"),
    ],
)
def test_what_is_no_confidence_is_refused(given: dict[str, Any], problem: str) -> None:
    """A decision rests on numbers in range alone."""
    with pytest.raises(AutoMixError, match=problem):
        fitted("threshold").decide(**given)


def test_a_policy_that_needs_more_says_what() -> None:
    """Costs, an identity, a text: what is missing is named; with it the policy decides."""
    costly = fitted("pomdp", **{"meta_verifier.mixtures": False})
    if any(compile_policy(costly.router, 2).levels):
        with pytest.raises(AutoMixError, match="first answer has cost"):
            costly.decide(confidence=0.5)
        with pytest.raises(ValueError, match="first answer has cost"):
            decider(export(costly, "python"))["decide"](0.5)
    ruled = fitted("threshold", **{"fixed_answer.answers": ["unanswerable"]})
    with pytest.raises(AutoMixError, match="reads answers"):
        ruled.decide(confidence=1.0)
    assert ruled.decide(confidence=1.0, answer="Unanswerable.").escalates
    assert not ruled.decide(confidence=1.0, answer="Paris").escalates


def test_a_module_needs_nothing_and_names_are_no_code(tmp_path: Path) -> None:
    """It is short, runs in a bare interpreter, and a policy's texts stay texts."""
    policy = fitted("threshold")
    about = {**policy.held["fitted_on"], "task": '"""\nimport os\nos.abort()\n"""'}
    policy = ServedPolicy(policy.router, {**policy.held, "fitted_on": about})
    text = export(policy, "python")
    assert len(text.splitlines()) < 75
    (tmp_path / "policy.py").write_text(text)
    code = "import policy; print(policy.decide(0.0), policy.decide(1.0), policy.ABOUT['task'])"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, '.'); {code}"],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.startswith('1 0 """ import os')


def accepted(settings: dict[str, Any], confidence: float) -> bool:
    """Whether vLLM Semantic Router keeps an answer, as its documentation says."""
    seen = confidence
    if settings["confidence_method"] == "avg_logprob":
        seen = min(max((math.log(confidence) + 3.0) / 3.0, 0.0), 1.0) if confidence else 0.0
    return seen >= settings["threshold"]


@pytest.mark.parametrize("verifier", [MARGIN, {"name": "few_shot", "k": 8}])
def test_one_threshold_is_a_configuration_of_the_semantic_router(verifier: dict[str, Any]) -> None:
    """The same decisions on 1,000 records, the threshold's own value among them."""
    policy = fitted("threshold", verifier=verifier, **{"meta_verifier.candidates": [0.45]})
    text = export(policy, "vllm-semantic-router", "http://127.0.0.1:9000")
    value = yaml.safe_load(text)
    settings = value["algorithm"]["confidence"]
    assert value["algorithm"]["type"] == "confidence"
    assert [ref["model"] for ref in value["modelRefs"]] == ["model-0", "model-1"]
    assert settings["escalation_order"] == "declared"
    assert 0 < settings["threshold"] <= 1
    assert ("verifier_server_url" in settings) == (verifier["name"] == "few_shot")
    for confidence in [0.45, 0.4500001, *(random.Random(3).random() for _ in range(1000))]:
        assert accepted(settings, confidence) != policy.decide(confidence=confidence).escalates


@pytest.mark.parametrize(
    ("name", "verifier", "given", "problem"),
    [
        ("always_slm", MARGIN, {}, "one model for every question"),
        ("threshold", {"name": "p_true"}, {}, "no signal like that of verifier=p_true"),
        ("threshold", {"name": "margin", "statistic": "first_margin"}, {}, "first_margin"),
        ("threshold", None, {}, "verifier=unknown"),
        ("threshold", {"name": "few_shot"}, {}, "--verifier-url"),
        ("threshold", MARGIN, {"calibrator": "logistic"}, "calibrator"),
        ("threshold", MARGIN, {"meta_verifier.undefined": "keep"}, "not one threshold"),
        ("threshold", MARGIN, {"fixed_answer.answers": ["no"]}, "reads answers"),
    ],
)
def test_what_the_semantic_router_cannot_say_is_refused(
    name: str, verifier: Any, given: dict[str, Any], problem: str
) -> None:
    """The reason is named, and nothing is approximated."""
    with pytest.raises(AutoMixError, match=problem):
        export(fitted(name, verifier=verifier, **given), "vllm-semantic-router")


def test_two_bounds_are_not_one_threshold() -> None:
    """A rule that keeps hopeless answers too is refused, and one from 0 on is a threshold."""
    policy = fitted("double_threshold")
    learned = policy.router.get_learned()
    for rule, good in (([0.0, 0.5], True), ([0.25, 0.5], False)):
        policy.router.set_learned(
            {**learned, "policy": {**learned["policy"], "rules": [rule], "tiers": [0, 1]}}
        )
        if good:
            assert "avg_logprob" in export(policy, "vllm-semantic-router")
        else:
            with pytest.raises(AutoMixError, match="not one threshold"):
                export(policy, "vllm-semantic-router")


def test_litellm_takes_one_model_and_no_cascade() -> None:
    """Its routers see the request alone: one model for all questions is a list, else the reason."""
    value = yaml.safe_load(export(fitted("always_llm"), "litellm"))
    assert value["model_list"][0]["litellm_params"] == {"model": "model-1"}
    with pytest.raises(AutoMixError, match="before any has answered"):
        export(fitted("threshold"), "litellm")


def test_the_command_writes_a_module(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``--as`` prints or writes; what does not go together is refused in one line."""
    path, out = tmp_path / "p.json", tmp_path / "policy.py"
    policies.save(path, dict(fitted("threshold").held))
    assert main(["policy", str(path), "--as", "python"]) == 0
    printed = capsys.readouterr().out
    assert main(["policy", str(path), "--as", "python", "--out", str(out)]) == 0
    assert out.read_text() == printed
    assert decider(printed)["decide"](0.0) == 1
    capsys.readouterr()
    for wrong in (["--out", str(out)], [str(path), "--as", "python"], ["--as", "litellm"]):
        assert main(["policy", str(path), *wrong]) == 2
        assert len(capsys.readouterr().err.splitlines()) == 1
