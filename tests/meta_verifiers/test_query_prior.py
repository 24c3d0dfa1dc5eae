"""The POMDP that looks at the nearest questions before the first tier."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from tiny_models import save_tiny_encoder

from automix_eval.backends import embeddings
from automix_eval.meta_verifiers.baselines.knn_query import KnnQuery
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.objectives import Ends, Selection
from automix_eval.meta_verifiers.pomdp.query_prior import (
    PomdpWithPrior,
    _chosen,
    _with_question,
    _WithQuestion,
)
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.metrics.curves import area_values
from automix_eval.records.outcomes import Outcomes, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Observation, Prompt, Question


@pytest.fixture(scope="module")
def prior(tmp_path_factory) -> dict[str, str]:
    """The settings of nearest questions with a random encoder."""
    return {"encoder": str(save_tiny_encoder(tmp_path_factory.mktemp("tiny")))}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache folder of the test's own, and an empty memory."""
    monkeypatch.setenv("AUTOMIX_CACHE_DIR", str(tmp_path / "cache"))
    embeddings._memory.clear()


SAID = {
    "knn": "The nearest questions decide alone.\nAsk the",
    "answers": "The nearest questions are not looked at.\nPOMDP of 2 tiers",
    "question": "Tier 0 of this table is the question: its confidence is what the last tier gains "
    "over the first on the nearest questions, 0.5 for nothing. Tier 1 is the first of the chain.\n"
    "POMDP of 3 tiers",
}
KEYS = ("knn", "span", "pomdp", "note", "kind", "score", "cost", "escalation")
WRONG = (
    ("span", -1e-9), ("span", None), ("note", None), ("kind", "other"), ("score", "1"),
    ("cost", float("nan")), ("escalation", None), ("more", 1),
)  # fmt: skip


def made(n: int, tiers: int = 2, seed: int = 0) -> Outcomes:
    """Ferries are hard for all but the last tier; a confidence tells a little of the piers."""
    rng = np.random.default_rng(seed)
    ferry = rng.random(n) < 0.4
    chance = np.where(ferry[:, None], 0.1, np.linspace(0.6, 0.9, tiers))
    chance[:, -1] = 0.9
    right = (rng.random((n, tiers)) < chance).astype(float)
    sure = np.clip(0.5 + 0.3 * (right - 0.5) + rng.normal(0, 0.2, (n, tiers)), 0, 1)
    sure[:, -1] = np.nan
    word = np.where(ferry, "a ferry in rain and wind", "the old pier of stone")
    return Outcomes(
        right, np.tile(10.0 ** np.arange(tiers), (n, 1)), sure, np.full((n, tiers), 0.5),
        tuple(f"tier {t}" for t in range(tiers)), tuple(str(i) for i in range(n)),
        questions=tuple(f"{w} {i % 9}" for i, w in enumerate(word)),
    )  # fmt: skip


def under(router, chain: Outcomes) -> float:
    """Area of a router's range."""
    paths = [follow(policy, chain) for _, policy in router.sweep()]
    ends = [chain.scores[:, t].mean() for t in (0, -1)]
    cost = [chain.answer_costs[:, t].mean() for t in (0, -1)]
    costs = [cost[0], *(p.cost.mean() for p in paths), cost[1]]
    scores = [ends[0], *(p.score.mean() for p in paths), ends[1]]
    return float(area_values(np.array([costs]), np.array([scores]))[0])


@pytest.mark.parametrize("tiers", [2, 3])
def test_it_is_as_good_as_either_of_its_halves(prior, tiers):
    """Where questions and confidences both tell something, it beats both."""
    fit, new = made(300, tiers), made(1500, tiers, seed=1)
    joint = under(Pomdp(prior=prior).fit(fit), new)
    knn = under(KnnQuery(prior["encoder"]).fit(fit), new)
    alone = under(Pomdp().fit(fit), new)
    assert joint >= max(knn, alone) - 0.002
    assert joint > alone + 0.01


def test_hard_questions_start_at_a_later_tier(prior):
    """Before an answer ferries go to the last tier, and piers to the first."""
    router = Pomdp(prior=prior, objective="budget", budget=6.0).fit(made(300))
    new = made(200, seed=1)
    path = follow(router, new)
    ferry = np.array([q.startswith("a ferry") for q in new.questions])
    assert path.visited[~ferry, 0].mean() > 0.8
    assert path.visited[ferry, 0].mean() < 0.5


@pytest.mark.parametrize("objective", [{}, {"objective": "budget", "budget": 6.0},
                                       {"objective": "assured", "target": 0.8}])  # fmt: skip
def test_it_survives_json_and_decides_live_as_in_a_replay(prior, objective):
    """Whatever family the policy is of: restored, it decides the same, one question at a time."""
    fit, new = made(120), made(30, seed=1)
    router = Pomdp(prior=prior, **objective).fit(fit)
    other = Pomdp(prior=prior, **objective)
    other.set_learned(json.loads(json.dumps(router.get_learned(), allow_nan=False)))
    assert other.describe() == router.describe()
    assert json.dumps(other.get_learned()) == json.dumps(router.get_learned())
    with pytest.raises(AutoMixError, match="hold the others: fit it again to sweep"):
        other.sweep()
    kind = router.policy_.kind
    assert router.describe().startswith(SAID[kind])
    (start,) = router.decide([Observation(-1, 2, (), Question("t", 0, Prompt("p"), "", "pier"))])
    like = kind != "answers"
    assert start.reason == f"{'questions like it start' if like else 'starts'} at tier {start.to}"
    rule = None if kind == "knn" else router.policy_.router.rule_
    if rule is None or rule.high is rule.low:
        # neither names nor costs are needed before the first tier
        bare = Seen(-1, 2, np.empty((30, 0)), questions=new.questions)
        assert router.choose(bare).tolist() == follow(router, new).visited.argmax(axis=1).tolist()
    for spoilt in (
        *({k: v for k, v in router.get_learned().items() if k != key} for key in KEYS),
        *({**router.get_learned(), key: value} for key, value in WRONG),
    ):
        with pytest.raises(AutoMixError, match=r"^this is no policy of meta_verifier=pomdp, prior"):
            Pomdp(prior=prior).set_learned(spoilt)
    path = follow(router, new)
    assert (follow(other, new).visited == path.visited).all()
    for i, text in enumerate(new.questions):
        question = Question("toy", i, Prompt("p"), "", text)
        asked, tier, shown = [], -1, (None,)
        while tier < 1:
            seen = Observation(
                tier, 2, () if tier < 0 else shown, question,
                Answer(tier, "a") if tier >= 0 else None, costs=(1.0,) if tier >= 0 else (),
            )  # fmt: skip
            (decision,) = other.decide([seen])
            if decision.to == tier:
                break
            tier = decision.to
            asked.append(tier)
            if other.needs_verification:
                shown = (float(new.confidences[i, 0]),)
        if router.policy_.kind != "answers" or router.policy_.router.rule_.high is None:
            assert asked == np.flatnonzero(path.visited[i]).tolist()


def test_the_question_is_a_step_that_costs_and_scores_nothing():
    """It shows the signal, and scores as badly as any; the chain's own columns stay."""
    rows, signal = made(40, 3), np.linspace(0, 1, 40)
    rows = replace(rows, scores=rows.scores - 2.0, documents=tuple(f"d{i // 2}" for i in range(40)))
    shown = _with_question(rows, signal)
    for name, first in (
        ("scores", -2.0), ("answer_costs", 0.0), ("confidences", signal), ("verification_costs", 0)
    ):  # fmt: skip
        table = getattr(shown, name)
        assert (table[:, 0] == first).all()
        assert np.array_equal(table[:, 1:], getattr(rows, name), equal_nan=True)
    assert (shown.names[1:], shown.ids, shown.documents) == (rows.names, rows.ids, rows.documents)


@pytest.mark.parametrize("tiers", [2, 3])
def test_policies_that_see_the_question_are_worth_what_a_replay_shows(tiers):
    """Cost and share above the chain's first tier; none ends at the question, alone or mixed."""
    rows = made(80, tiers)
    ferry = np.array([q.startswith("a ferry") for q in rows.questions])
    shown = _with_question(rows, np.where(ferry, 0.9, 0.4) + np.linspace(0, 0.05, 80))
    family = [policy for _, policy in _WithQuestion()._fit(shown).sweep()]
    family = [policy for policy in family if not policy.rule_.is_single]
    starts = set()
    for policy in family:
        rule, path = policy.rule_, follow(policy, shown)
        exact = rule.share == 0
        assert path.cost.mean() == pytest.approx(rule.cost, rel=1e-9 if exact else 0.3)
        above = (path.final > 1).mean()
        assert above == pytest.approx(rule.escalation, abs=1e-9 if exact else 0.2)
        assert (path.final > 0).all()
        starts |= set(path.visited[:, 1:].argmax(axis=1).tolist())
    assert len(family) > 5
    assert starts >= {0, tiers - 1}


@pytest.mark.parametrize(("undefined", "stays"), [("keep", True), ("escalate", False)])
def test_what_an_undefined_confidence_does_holds_with_the_question_in_front(undefined, stays):
    """A tier's answer without one is kept, or goes on, whatever the question looked like."""
    rows = made(60)
    rows.confidences[::3, 0] = np.nan
    shown = _with_question(rows, np.linspace(0, 1, 60))
    for _, policy in _WithQuestion(undefined=undefined, mixtures=False)._fit(shown).sweep():
        path = follow(policy, shown)
        blind = path.visited[:, 1] & np.isnan(rows.confidences[:, 0])
        if not policy.rule_.is_single:
            assert ((path.final[blind] == 1) == stays).all()


def test_without_an_objective_the_cheapest_policy_is_taken():
    """A last tier that is no better has no delta IBC; else what the objective takes is."""
    table = np.array([[0.5, 9.0, 1.0], [0.5, 2.0, 0.5], [0.5, 3.0, 0.6]])
    worse = Ends(0.5, 1.0, 0.4, 10.0)
    index, value, note = _chosen(table, worse, Selection(objective="ibc"), 100)
    assert (index, value) == (1, None)
    assert "delta IBC is undefined" in note
    better = Ends(0.3, 1.0, 0.9, 10.0)
    taken = _chosen(table, better, Selection(objective="budget", budget=3.5), 10_000)
    assert taken == (1, 0.5, "")


def test_the_signal_is_half_for_no_gain_and_a_share_of_the_span():
    """What the last tier gains over the first, whatever the range of scores, cut at both ends."""
    router = Pomdp(prior="knn")
    router.span_ = 4.0
    expected = np.array([[[1.0, 9, 2], [5, 0, 5], [7, 0, 3], [0, 0, 8]], np.ones((4, 3))])
    assert router._signal(expected).tolist() == [0.625, 0.5, 0.0, 1.0]


def test_the_order_of_the_rows_does_not_matter(prior):
    """Shuffled rows give the same learned values."""
    outcomes = made(80)
    shuffled = outcomes.take(np.random.default_rng(3).permutation(80))
    learned = [json.dumps(Pomdp(prior=prior).fit(o).get_learned()) for o in (outcomes, shuffled)]
    assert learned[0] == learned[1]


def test_bad_settings_are_errors(prior):
    """Other words, unknown settings, rewards of a table and rows without texts are refused."""
    for wrong in ("mlp", 3):
        with pytest.raises(AutoMixError, match="must be null, knn"):
            Pomdp(prior=wrong)
    with pytest.raises(AutoMixError, match="settings of knn_query"):
        Pomdp(prior={"neighbours": 3})
    with pytest.raises(AutoMixError, match="lambda_ null"):
        Pomdp(prior="knn", lambda_=0.1)
    bare = made(20)
    object.__setattr__(bare, "questions", None)
    with pytest.raises(AutoMixError, match="question=COL"):
        Pomdp(prior=prior).fit(bare)
    assert isinstance(Pomdp(prior=prior), PomdpWithPrior)
    fresh = Pomdp(prior=prior)
    before = [Observation(-1, 2, ())]
    for act in (fresh.sweep, fresh.describe, fresh.get_learned, lambda: fresh.decide(before)):
        with pytest.raises(AutoMixError, match=r"^meta_verifier=pomdp has learned nothing yet"):
            act()
    with pytest.raises(AutoMixError, match="fit it again"):
        Pomdp(prior=prior).set_learned({"rules": [3]})
