"""Laws of the baselines that read no texts."""

from __future__ import annotations

import functools
import itertools
import json
import warnings
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples
from router_records import TYPICAL, columns, observe, pair_records
from sklearn.neural_network import MLPRegressor

from automix_eval.meta_verifiers.always import AlwaysTier
from automix_eval.meta_verifiers.baselines import knn
from automix_eval.meta_verifiers.baselines.common import SWEEP, fold_of, thin
from automix_eval.meta_verifiers.baselines.features import Scaling, visits
from automix_eval.meta_verifiers.baselines.knn import Knn
from automix_eval.meta_verifiers.baselines.logistic import Logistic
from automix_eval.meta_verifiers.baselines.mlp import Mlp
from automix_eval.meta_verifiers.baselines.oracle import Oracle
from automix_eval.meta_verifiers.baselines.pricing import (
    _candidates,
    asking_costs,
    best,
    choose_price,
    play,
)
from automix_eval.meta_verifiers.baselines.random import Random
from automix_eval.meta_verifiers.baselines.token_margin import TokenMargin
from automix_eval.meta_verifiers.fixed_answer import FixedAnswer
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.objectives import Selection
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.metrics.calibration import scale_of
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Observation

LEARNERS = [Logistic, Knn, Mlp]
PRICES = {2: (1.0, 50.0), 3: (1.0, 10.0, 50.0), 4: (1.0, 5.0, 20.0, 50.0)}


def simulate(n: int, tiers: int = 2, seed: int = 0, informative: bool = True) -> Outcomes:
    """Questions of random difficulty; confidences that tell, or that tell nothing."""
    rng = np.random.default_rng(seed)
    ease = rng.normal(size=(n, 1)) * 2
    right = 1 / (1 + np.exp(-(ease + np.linspace(-1, 2.5, tiers))))
    told = right if informative else rng.random((n, tiers))
    confidences = np.clip(told + rng.normal(size=(n, tiers)) * 0.05, 0, 1)
    confidences[:, -1] = np.nan
    verification = np.ones((n, tiers))
    verification[:, -1] = 0
    return Outcomes(
        scores=(rng.random((n, tiers)) < right).astype(float),
        answer_costs=np.tile(PRICES[tiers], (n, 1)),
        confidences=confidences,
        verification_costs=verification,
        names=tuple(f"tier {t}" for t in range(tiers)),
        ids=tuple(f"q{i}" for i in range(n)),
    )


# --------------------------------------------------------------------------- one tier, random


@pytest.mark.parametrize(("tier", "expected"), [(0, 0), (1, 1), (2, 2), (-1, 2), (-3, 0)])
def test_one_tier_is_asked_alone(tier, expected):
    """Its cost and score are that tier's own."""
    data = simulate(20, 3)
    path = follow(AlwaysTier(tier), data)
    assert path.visited.sum(axis=1).tolist() == [1] * 20
    assert path.cost.tolist() == data.answer_costs[:, expected].tolist()
    assert path.score.tolist() == data.scores[:, expected].tolist()


@pytest.mark.parametrize("tier", [3, -4, True, 1.0])
def test_a_tier_that_is_not_there_is_refused(tier):
    """The message names the tiers there are, or that a number is wanted."""
    with pytest.raises(AutoMixError, match=r"meta_verifier\.tier"):
        follow(AlwaysTier(tier), simulate(5, 3))


def test_a_coin_depends_on_its_question_alone():
    """Neither order nor company of a question changes what happens to it."""
    data = simulate(200)
    order = np.random.default_rng(1).permutation(200)[:50]
    whole, part = follow(Random(0.3), data).final, follow(Random(0.3), data.take(order)).final
    assert part.tolist() == whole[order].tolist()
    assert follow(Random(0.3, seed=1), data).final.tolist() != whole.tolist()


@given(low=st.floats(0, 1), high=st.floats(0, 1))
@settings(max_examples=examples(30))
def test_coins_of_two_rates_are_nested(low, high):
    """A higher rate sends every question that a lower one sends, and more."""
    data = simulate(300)
    low, high = sorted((low, high))
    less, more = follow(Random(low), data).final, follow(Random(high), data).final
    assert (more >= less).all()
    assert abs(more.mean() - high) < 4 * np.sqrt(0.25 / 300)


@pytest.mark.parametrize("budget", [1.0, 7.3, 50.0])
def test_random_matches_any_cost(budget):
    """In the mean it costs the budget, on the line between both ends."""
    data = simulate(500)
    made = Random(objective="budget", budget=budget).fit(data)
    assert 1 + 49 * made.rate_ == pytest.approx(budget)
    wanted = Random(objective="target", target=0.9).fit(data)
    slm, llm = data.scores.mean(axis=0)
    assert slm + wanted.rate_ * (llm - slm) == pytest.approx(0.9 * llm)
    assert Random(objective="ibc").fit(data).rate_ == 0.05


def test_the_range_of_a_coin_is_every_rate_in_equal_steps():
    """From none to all, by the same coin; a price that is given is all there is of an oracle's."""
    family = Random(0.3, seed=5).sweep()
    assert [rate for rate, _ in family] == pytest.approx(np.arange(SWEEP) / (SWEEP - 1))
    assert [(p.rate_, p.seed) for _, p in family] == [(rate, 5) for rate, _ in family]
    ((price, policy),) = Oracle(0.25).sweep()
    assert (price, policy.price_) == (0.25, 0.25)


def test_random_needs_identities():
    """Without them all questions would share one coin."""
    with pytest.raises(AutoMixError, match="ids"):
        Random(0.5).decide([observe(0.5, -1).__class__(-1, 2, ())])


# --------------------------------------------------------------------------- oracle


@given(seed=st.integers(0, 50), price=st.floats(0, 0.1), tiers=st.integers(2, 4))
@settings(max_examples=examples(40))
def test_nothing_beats_the_oracle_at_its_price(seed, price, tiers):
    """No tier of a question has a better score - price * cost; verification is never paid."""
    data = simulate(30, tiers, seed)
    path = follow(Oracle(price), data)
    value = data.scores - price * data.answer_costs
    assert path.score - price * path.cost == pytest.approx(value.max(axis=1))


def test_the_oracle_is_above_every_router_at_the_same_cost():
    """Along its whole range."""
    data = simulate(400)
    family = [follow(policy, data) for _, policy in Oracle().fit(data).sweep()]
    cost = np.array([p.cost.mean() for p in family])
    score = np.array([p.score.mean() for p in family])
    for _, policy in Threshold("observed").fit(data).sweep()[::20]:
        path = follow(policy, data)
        assert np.interp(path.cost.mean(), cost, score) >= path.score.mean() - 1e-9


def test_equal_scores_go_to_the_cheaper_tier():
    """Also where the cheaper one is later in the chain."""
    data = simulate(4, 3)
    same = Outcomes(
        np.ones((4, 3)),
        np.tile([5.0, 2.0, 9.0], (4, 1)),
        data.confidences,
        data.verification_costs,
        data.names,
        data.ids,
    )
    assert follow(Oracle(0.0), same).final.tolist() == [1] * 4


# --------------------------------------------------------------------------- learners


@pytest.mark.parametrize("make", LEARNERS)
@pytest.mark.parametrize("tiers", [2, 3, 4])
def test_learners_beat_a_coin_on_new_questions(make, tiers):
    """At the same cost a learner that sees telling confidences scores more than the base line."""
    train, test = simulate(600, tiers), simulate(4000, tiers, seed=1)
    path = follow(make(objective="budget", budget=25.0).fit(train), test)
    slm, llm = test.scores[:, 0].mean(), test.scores[:, -1].mean()
    share = (path.cost.mean() - 1) / 49
    assert path.score.mean() > slm + share * (llm - slm) + 0.02


@pytest.mark.parametrize("make", [*LEARNERS, lambda **more: Knn(neighbors=1, **more)])
@pytest.mark.parametrize("informative", [True, False])
def test_a_budget_holds_on_new_questions(make, informative):
    """The price is chosen out of fold, so an overfitting learner does not overspend either."""
    budget = 20.0
    costs = [
        follow(
            make(objective="budget", budget=budget).fit(
                simulate(500, seed=s, informative=informative)
            ),
            simulate(2000, seed=100 + s, informative=informative),
        ).cost.mean()
        for s in range(4)
    ]
    assert np.mean(costs) < budget * 1.15


@pytest.mark.parametrize("make", LEARNERS)
def test_an_undefined_confidence_is_a_feature(make):
    """Answers without a confidence that are always wrong are sent on, and only those."""
    rng = np.random.default_rng(0)
    missing = rng.random(400) < 0.3
    data = Outcomes(
        np.stack([1.0 - missing, np.ones(400)], axis=1),
        np.tile([1.0, 50.0], (400, 1)),
        np.stack([np.where(missing, np.nan, 0.5), np.full(400, np.nan)], axis=1),
        np.tile([1.0, 0.0], (400, 1)),
        ("slm", "llm"),
        tuple(map(str, range(400))),
    )
    assert follow(make().fit(data), data).final.tolist() == missing.astype(int).tolist()


@pytest.mark.parametrize("make", LEARNERS)
def test_signals_are_read(make):
    """A signal that knows the answer makes a useless confidence good; leaving it out does not."""
    data = simulate(500, informative=False)
    signal = np.stack([data.scores[:, 0], np.full(500, np.nan)], axis=1)
    told = Outcomes(
        data.scores, data.answer_costs, data.confidences, data.verification_costs, data.names,
        data.ids, signals={"length": signal},
    )  # fmt: skip
    asked = {"objective": "budget", "budget": 25.0}
    with_it = follow(make(**asked).fit(told), told).score.mean()
    without = follow(make(signals=[], **asked).fit(told), told).score.mean()
    assert with_it > without + 0.03
    with pytest.raises(AutoMixError, match="length"):
        follow(make(**asked).fit(told), data)
    with pytest.raises(AutoMixError, match="nothing"):
        make(signals=["nothing"]).fit(told)
    with pytest.raises(AutoMixError, match=r"nothing, which .*\(length\)"):
        make(signals=["nothing"]).check_signals(["length"])


@pytest.mark.parametrize("make", [*LEARNERS, lambda **_: TokenMargin(signal="length")])
@pytest.mark.parametrize("around", [lambda r: r, lambda r: FixedAnswer(r, ["no"])])
def test_an_answer_that_no_verifier_could_judge_has_no_signals(make, around):
    """A live run may show such answers alone: their signals are unknown, as among others."""
    data = simulate(200)
    signal = np.stack([data.confidences[:, 0], np.full(200, np.nan)], axis=1)
    told = replace(data, signals={"length": signal}, answers=(("yes",) * 200,) * 2)
    router = around(make(objective="budget", budget=25.0)).fit(told)
    assert list(router.reads) == ["length"]
    answer = Answer(0, "yes")
    unjudged = Observation(0, 2, (None,), answer=answer, signals=({},))
    judged = Observation(0, 2, (0.7,), answer=answer, signals=({"length": 0.7},))
    decided = router.decide([judged, unjudged])
    for one, whole in zip((judged, unjudged), decided, strict=True):
        assert router.decide([one]) == [whole]
    assert router.decide([replace(unjudged, signals=())]) == [decided[1]]


@pytest.mark.parametrize("make", LEARNERS)
def test_scores_of_any_range_are_learned(make):
    """A metric from 0 to 100 gives the policies of the same metric from 0 to 1."""
    data = simulate(300)
    larger = Outcomes(
        100 * data.scores, data.answer_costs, data.confidences, data.verification_costs,
        data.names, data.ids,
    )  # fmt: skip
    asked = {"objective": "budget", "budget": 20.0}
    one, hundred = make(**asked).fit(data), make(**asked).fit(larger)
    assert (follow(one, data).final == follow(hundred, larger).final).mean() > 0.99


@pytest.mark.parametrize("make", LEARNERS)
def test_a_constant_score_is_no_obstacle(make):
    """A tier that is always, or never, right is learned as that, with a note."""
    data = simulate(60)
    flat = Outcomes(
        np.tile([0.0, 0.0], (60, 1)), data.answer_costs, data.confidences,
        data.verification_costs, data.names, data.ids,
    )  # fmt: skip
    made = make().fit(flat)
    assert follow(made, flat).final.tolist() == [0] * 60
    assert "delta IBC is undefined" in made.notes()[0]
    json.dumps(made.get_learned(), allow_nan=False)


@pytest.mark.parametrize("make", LEARNERS)
def test_more_rows_than_the_bound_are_thinned_alike(make):
    """The bound holds, and the sample is the same whatever the order of the rows."""
    data = simulate(500)
    order = np.random.default_rng(3).permutation(500)
    learned = [make(max_fit_rows=100).fit(d).get_learned() for d in (data, data.take(order))]
    assert json.dumps(learned[0]) == json.dumps(learned[1])
    assert len(thin(data, 100)) == 100


def test_neighbours_at_the_same_confidence_count_alike():
    """Every question at a confidence is averaged, however few neighbours are asked for."""
    rows = [(0.25, float(k < 3), 1.0) for k in range(10)] + [(0.75, 1.0, 1.0)] * 10
    made = Knn(neighbors=1).fit(columns(pair_records(rows)))
    scaled = made.learned_.tiers[0].predict(np.array([[0.25], [0.75]]))
    assert scaled[:, 0].tolist() == pytest.approx([0.3, 1.0])


@pytest.mark.parametrize(("low", "width"), [(0.0, 1.0), (-2.0, 7.0)])
def test_models_are_what_defines_them(low, width):
    """The regression's gradient is 0; the network is scikit-learn's, cut to the scores' range."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(60, 2))
    share = np.clip(0.5 + x @ [[0.3, -0.2, 0.1], [0.1, 0.2, 0.0]], 0, 1)
    share[:2] = [[0.0] * 3, [1.0] * 3]
    y = low + width * share
    found = (Logistic(strength=0.4)._learn(x, y).predict(x) - low) / width
    weights = Logistic(strength=0.4)._learn(x, y).weights
    assert x.T @ (found - share) + weights / 0.4 == pytest.approx(np.zeros((2, 3)), abs=1e-2)
    assert found.mean(axis=0) == pytest.approx(share.mean(axis=0), abs=1e-4)
    network = MLPRegressor(
        hidden_layer_sizes=(3, 2), activation="tanh", solver="lbfgs", alpha=0.01, max_iter=20,
        random_state=7,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = network.fit(x, share).predict(5 * x)
    model = Mlp((3, 2), penalty=0.01, max_iter=20, seed=7)._learn(x, y)
    assert model.predict(5 * x) == pytest.approx(low + width * theirs.clip(0, 1))
    assert ((theirs < 0) | (theirs > 1)).any()


@pytest.mark.parametrize("neighbors", [1, 4, 9, 99])
def test_the_nearest_points_are_averaged_until_they_hold_enough_rows(monkeypatch, neighbors):
    """By the rows that agree in three decimals; the last point counts as a whole."""
    rng = np.random.default_rng(neighbors)
    x = rng.integers(0, 4, (30, 2)) + rng.random((30, 2)) * 4e-4
    y = rng.random((30, 2))
    asked = rng.random((9, 2)) * 3
    points = {tuple(row) for row in np.round(x, 3).tolist()}
    expected = []
    for one in np.round(asked, 3):
        rows: list[int] = []
        for point in sorted(points, key=lambda p, one=one: np.hypot(*(np.array(p) - one))):
            rows += np.flatnonzero((np.round(x, 3) == point).all(axis=1)).tolist()
            if len(rows) >= neighbors:
                break
        expected.append(y[rows].mean(axis=0))
    model = Knn(neighbors)._learn(x, y)
    assert model.predict(asked) == pytest.approx(np.array(expected))
    monkeypatch.setattr(knn, "BATCH", 4)
    assert model.predict(asked) == pytest.approx(np.array(expected))
    assert model.predict(asked[[0, 0, 1, 1, 0]]) == pytest.approx(
        np.array(expected)[[0, 0, 1, 1, 0]]
    )


def test_the_simulation_is_the_replay():
    """Policies are compared on the paths that a replay takes, tiers skipped and all."""
    data = simulate(200, 4).canonical()
    made = Logistic(objective="budget", budget=60.0).fit(data)
    learned = made.learned_
    predicted = []
    for tier, model in enumerate(learned.tiers):
        raw = data.confidences[:, : tier + 1]
        predicted.append(np.stack([model.predict(raw * way) for way in visits(tier)]))
    family = made.sweep()
    for price, policy in family[1::5]:
        final, cost = play(predicted, learned.costs, price, data)
        path = follow(policy, data)
        assert final.tolist() == path.final.tolist()
        assert cost == pytest.approx(path.cost)
    assert follow(family[0][1], data).cost == pytest.approx(data.answer_costs[:, 0])


@pytest.mark.parametrize("kind", LEARNERS)
def test_predictions_that_say_nothing_cost_nothing(kind):
    """Where every question gains alike the first tier answers unverified, and by ibc verified."""
    rows = replace(simulate(60), scores=np.tile([0.4, 0.8], (60, 1)))
    made = kind().fit(rows)
    assert follow(made, rows).cost == pytest.approx(rows.answer_costs[:, 0])
    again = kind()
    again.set_learned(made.get_learned())
    for one in (made, again):
        assert (one.only_tier, one.needs_verification) == (0, False)
        assert one.describe() == "ask tier 0 alone, and verify nothing"
    papers = kind(objective="ibc").fit(rows)
    assert papers.only_tier is None
    assert papers.needs_verification


def test_between_two_prices_one_choice_changes():
    """As many policies as questions and one, from none that escalates to all; not too many."""
    for number in (7, SWEEP + 1):
        rows = columns(pair_records([(0.5, i % 2, 1.0) for i in range(number)]))
        costs = asking_costs(rows)
        table = np.column_stack([np.zeros(number), np.linspace(0.1, 0.9, number)])
        prices, _, _ = choose_price([table[None]], costs, rows, Selection(objective="gain"))
        escalated = sorted({int((best(table, costs, p) > 0).sum()) for p in prices.tolist()})
        assert (escalated[0], escalated[-1]) == (0, number)
        if number < SWEEP:
            assert escalated == list(range(number + 1))
        assert len(prices) <= SWEEP


@pytest.mark.parametrize("free", [0, 1, 2])
def test_prices_lie_between_those_at_which_a_choice_changes(free):
    """And one beyond either end; a tier that is free changes no choice at any price."""
    rng, costs = np.random.default_rng(free), np.array([1.0, 4.0, 16.0])
    costs[free] = 0.0
    predicted = [rng.random((1, 6, 3)), rng.random((2, 6, 2))]
    edges = [0.0]
    for tier, table in enumerate(predicted):
        for later in range(tier + 1, 3):
            if costs[later]:
                gain = table[-1, :, later - tier] - table[-1, :, 0]
                edges += (gain / costs[later]).tolist()
    edges, unit = sorted(edges), max(abs(e) for e in edges)
    between = [(a + b) / 2 for a, b in itertools.pairwise(edges)]
    expected = [edges[0] - unit, *between, edges[-1] + unit]
    assert _candidates(predicted, costs) == pytest.approx(np.array(expected[::-1]), rel=1e-6)


@pytest.mark.parametrize(
    ("scores", "scale"),
    [([0, 1], (0, 1)), ([0.2, 0.3], (0, 1)), ([-1, 3], (-1, 4)), ([0.5, 9], (0.5, 8.5)),
     ([5, 5], (5, 1)), ([-0.5, 0.5], (-0.5, 1.0))],
)  # fmt: skip
def test_scores_beyond_a_share_are_mapped_onto_it(scores, scale):
    """By the least and the range; a range of nothing is one."""
    assert scale_of(np.array(scores, dtype=float)) == scale


def test_columns_are_standardised_each_by_itself():
    """By its own mean and spread; a missing value is the mean, and a hole of that column alone."""
    raw = np.array([[1.0, np.nan, 5.0], [3.0, 10.0, 5.0], [5.0, 30.0, 5.0]])
    made = Scaling.of(raw)
    assert made.mean == pytest.approx([3.0, 20.0, 5.0])
    assert made.scale == pytest.approx([np.sqrt(8 / 3), 10.0, 1.0])
    assert made.holes == [1]


def test_ways_to_a_tier_are_numbered_by_the_tiers_visited():
    """Bit t - 1 of the number says whether tier t was visited."""
    seen = [[k for k in (1, 2) if way[k] == 1] for way in visits(3)]
    assert seen == [[], [1], [2], [1, 2]]
    assert [way.tolist() for way in visits(0)] == [[1.0]]
    assert [way.tolist() for way in visits(1)] == [[1.0, 1.0]]


def test_rows_of_a_document_share_a_fold():
    """Out of fold means out of the document."""
    data = simulate(40)
    documents = tuple(f"d{i % 8}" for i in range(40))
    grouped = Outcomes(
        data.scores, data.answer_costs, data.confidences, data.verification_costs, data.names,
        data.ids, documents=documents,
    )  # fmt: skip
    fold = fold_of(grouped, 5)
    assert sorted(set(fold.tolist())) == [0, 1, 2, 3, 4]
    assert all(
        len({f for f, d in zip(fold, documents, strict=True) if d == x}) == 1 for x in documents
    )
    one = Outcomes(
        data.scores, data.answer_costs, data.confidences, data.verification_costs, data.names,
        data.ids, documents=("d",) * 40,
    )  # fmt: skip
    assert sorted(set(fold_of(one, 5).tolist())) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("make", LEARNERS)
def test_a_damaged_policy_is_refused(make):
    """Every part of a policy is checked when it is loaded."""
    made = make().fit(columns(pair_records(TYPICAL)))
    text = json.dumps(made.get_learned())
    for damage in (
        lambda p: p.pop("price"),
        lambda p: p.update(price="cheap"),
        lambda p: p.update(price=float("nan")),
        lambda p: p.update(costs=[1.0]),
        lambda p: p["tiers"].append(p["tiers"][0]),
        lambda p: p["tiers"][0]["scaling"].update(scale=[0.0]),
        lambda p: p["tiers"][0]["scaling"].update(holes=[7]),
        lambda p: p["tiers"][0]["model"].popitem(),
        lambda p: p["tiers"][0].update(model=[]),
        lambda p: p.update(signals=["other"]),
    ):
        broken = json.loads(text)
        damage(broken)
        with pytest.raises(AutoMixError, match="fit it again"):
            make().set_learned(broken)


@pytest.mark.parametrize(
    ("make", "key", "ends", "beyond"),
    [
        (Random, "rate", (0.0, 1.0), (-1e-9, 1 + 1e-9)),
        (Oracle, "price", (0.0, 1e9), (-1e-9, float("inf"))),
        *((m, ("tiers", 0, "model", "width"), (0.0, 9.0), (-1e-9,)) for m in (Logistic, Mlp)),
        (Knn, ("tiers", 0, "model", "neighbors"), (1, 10**6), (0,)),
    ],
)
def test_the_ends_of_stored_numbers_are_taken(make, key, ends, beyond):
    """What lies outside is refused."""
    learned = make().fit(columns(pair_records(TYPICAL))).get_learned()
    *way, last = key if isinstance(key, tuple) else (key,)
    place = functools.reduce(lambda held, step: held[step], way, learned)
    for value in ends:
        place[last], made = value, make()
        made.set_learned(learned)
        assert made.get_learned() == learned
    for value in beyond:
        place[last] = value
        with pytest.raises(AutoMixError, match=r"fit it again|neighbors=0 must be an"):
            make().set_learned(learned)


@pytest.mark.parametrize("make", LEARNERS)
def test_a_chain_of_another_length_is_refused(make):
    """A policy of two tiers says so in a chain of three."""
    with pytest.raises(AutoMixError, match="fitted for 2 tiers"):
        follow(make().fit(simulate(30)), simulate(30, 3))


@pytest.mark.parametrize(
    ("make", "key"),
    [
        (lambda: Knn(neighbors=0), "neighbors"),
        (lambda: Mlp(hidden=[0]), "hidden"),
        (lambda: Mlp(penalty=0), "penalty"),
        (lambda: Logistic(strength=-1), "strength"),
        (lambda: Logistic(max_fit_rows=1), "max_fit_rows"),
        (lambda: Logistic(signals="margin"), "signals"),
        (lambda: Random(rate=2), "rate"),
        (lambda: Oracle(price=-1), "price"),
    ],
)
def test_a_bad_hyper_parameter_is_named(make, key):
    """The message names the key."""
    with pytest.raises(AutoMixError, match=rf"meta_verifier\.{key}"):
        make()


# --------------------------------------------------------------------------- token margin


def test_the_margin_is_the_signal_where_there_is_one():
    """The same policy as a threshold on that signal; without signals, on the confidence."""
    data = simulate(300)
    other = simulate(300, informative=False)
    told = Outcomes(
        data.scores, data.answer_costs, other.confidences, data.verification_costs, data.names,
        data.ids, signals={"margin": data.confidences},
    )  # fmt: skip
    plain = follow(Threshold("observed").fit(data), data)
    for rows in (told, data):
        assert follow(TokenMargin().fit(rows), rows).final.tolist() == plain.final.tolist()


def test_a_missing_margin_is_no_confidence():
    """Where verifiers left other signals only, the confidence is not taken for a margin."""
    data = simulate(30)
    told = Outcomes(
        data.scores, data.answer_costs, data.confidences, data.verification_costs, data.names,
        data.ids, signals={"length": data.confidences},
    )  # fmt: skip
    with pytest.raises(AutoMixError, match="signals margin"):
        TokenMargin().fit(told)
    named = TokenMargin(signal="length").fit(told)
    with pytest.raises(AutoMixError, match="signals length"):
        follow(named, data)
