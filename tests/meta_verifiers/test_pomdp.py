"""The POMDP meta-verifier: labels, estimation, policies, undefined confidences."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from pomdp_chains import COSTS, chain, outcomes, seen
from router_records import columns, observe, pair_records

from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.pomdp.chain_pomdp import _largest_price, within_budget
from automix_eval.meta_verifiers.pomdp.policy import coins
from automix_eval.meta_verifiers.pomdp.problem import (
    COMPLEX,
    SIMPLE,
    UNSOLVABLE,
    estimate,
    label_states,
    ridge_logistic,
)
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.records.outcomes import Seen
from automix_eval.safety.errors import AutoMixError

V1 = {
    "keep": {"fixed": [0, 0, -1], "per_r": [-1, 0, -1]},
    "escalate": {"fixed": [-100, -100, -100], "per_r": [0, 0, -1]},
}


def curve(router, data):
    """Scores and costs of the whole family on outcomes."""
    paths = [follow(r, data) for _, r in router.sweep()]
    return np.array([p.score.mean() for p in paths]), np.array([p.cost.mean() for p in paths])


# --------------------------------------------------------------------------- states


def test_the_three_states():
    """LLM higher is Complex, both zero Unsolvable, equal and not zero Simple."""
    slm, llm = np.array([0, 0, 1, 0.5, 1]), np.array([1, 0, 1, 0.5, 0.0])
    assert label_states(slm, llm).tolist() == [COMPLEX, UNSOLVABLE, SIMPLE, SIMPLE, SIMPLE]


def test_low_scores_of_both_are_unsolvable():
    """At or below the own 10th percentile of both tiers, though not zero."""
    slm, llm = np.array([0.1, *[0.8] * 10]), np.array([0.05, *[0.9] * 10])
    assert label_states(slm, llm).tolist() == [UNSOLVABLE, *[COMPLEX] * 10]


def test_an_always_right_tier_does_not_make_right_answers_unsolvable():
    """Where nine in ten are fully right, the 10th percentile is full marks, and yet Simple."""
    assert label_states(np.array([1] * 19 + [0]), np.ones(20)).tolist() == [SIMPLE] * 19 + [COMPLEX]


# --------------------------------------------------------------------------- estimation


def test_the_regression_finds_known_slopes():
    """Shares made by a logistic curve give its weights back, given next to no penalty."""
    rng = np.random.default_rng(0)
    features = np.column_stack([np.ones(200), rng.normal(size=(200, 2))])
    share = 1 / (1 + np.exp(-(features @ [0.3, -1.0, 2.0])))
    found, _ = ridge_logistic(features, np.full(200, 5.0), share, np.full(3, 1e-6))
    assert found == pytest.approx([0.3, -1.0, 2.0], abs=1e-3)


def test_separable_and_extreme_data_stay_finite():
    """A perfect verifier has finite slopes, thanks to the penalty."""
    features = np.column_stack([np.ones(20), np.linspace(-2, 2, 20)])
    right = (features[:, 1] > 0).astype(float)
    found, _ = ridge_logistic(features, np.ones(20), right, np.full(2, 10.0))
    assert np.isfinite(found).all()
    assert found[1] > 0
    for all_alike in (np.zeros(20), np.ones(20)):
        found, evidence = ridge_logistic(features, np.ones(20), all_alike, np.full(2, 10.0))
        assert np.isfinite([*found, evidence]).all()
        assert found[1] == pytest.approx(0.0, abs=1e-3)


@pytest.mark.parametrize("tiers", [2, 3, 4])
def test_the_model_keeps_every_mean_score(tiers):
    """Expected over the types each tier scores what it scores on the fitting questions."""
    data = chain(80, tiers, undefined=0.1)
    problem, cells = estimate(data, 12, "scott", None, 50.0)
    mean = (problem.mass * problem.scores).reshape(tiers, -1).sum(axis=1)
    assert mean == pytest.approx(data.scores.mean(axis=0))
    assert cells.counts.sum() == 80
    assert problem.states.sum(axis=1) == pytest.approx(
        np.ones(problem.states.shape[::2][:1] + problem.mass.shape)
    )


@pytest.mark.parametrize(("tiers", "undefined", "seed"), [(2, 0.0, 0), (2, 0.2, 1), (3, 0.2, 2)])
def test_expected_scores_are_a_regression_and_what_lies_nearby(tiers, undefined, seed):
    """Question by question: the residuals of those nearby count where they foretell a question."""
    data, rng = chain(90, tiers, seed, undefined), np.random.default_rng(seed)
    hump = np.exp(-(((np.nan_to_num(data.confidences[:, 0], nan=0.2) - 0.6) / 0.15) ** 2))
    scores = data.scores.copy()
    scores[:, -1] = 2.0 * (rng.random(90) < 0.02 + 0.96 * (hump > 0.5)) - 1
    data, ridge, neighbours = outcomes(scores, data.confidences), 3.0, 5.0
    problem, _ = estimate(data, 8, "scott", ridge, neighbours)
    grid = np.indices(problem.mass.shape).reshape(tiers - 1, -1).T
    shown = [a.symbols(data.confidences[:, t]) for t, a in enumerate(problem.axes)]
    at = np.ravel_multi_index(shown, problem.mass.shape)
    features, owner, power = [np.ones(len(grid))], [-1], [0]
    near = np.ones((len(grid), len(grid)))
    for t, axis in enumerate(problem.axes):
        place, missing = axis.centres[grid[:, t]], grid[:, t] == len(axis) - 1
        kinds = [place, np.where(missing, 0, place**2 - 1), missing.astype(float)]
        number = 3 if np.isnan(data.confidences[:, t]).any() else 2
        features, owner = features + kinds[:number], owner + [t] * number
        power += [1, 2, 0][:number]
        apart = (place[:, None] - place) / 90 ** (-1 / (tiers + 3))
        unlike = missing[:, None] != missing
        near *= np.where(unlike, 0, np.exp(-0.5 * apart**2))
    features, owner, power = np.stack(features, axis=1), np.array(owner), np.array(power)
    penalty, told = np.where(power == 2, 1e6, ridge), []

    def expected(values, own, slope):
        low, high = values.min(), values.max()
        share = (values - low) / (high - low)
        prior = np.where((owner == own) & (power == 1), slope, 0.0)
        weights, _ = ridge_logistic(features[at], np.ones(90), share, penalty, prior)
        fitted = 1 / (1 + np.exp(-features @ weights))
        rest = share - fitted[at]
        others = near[at][:, at] - np.eye(90)
        guess = others @ rest / (others.sum(axis=1) + neighbours)
        better = rest**2 - (rest - guess) ** 2
        told.append(bool(better.sum() > 1.645 * np.sqrt((better**2).sum())))
        near_by = near[:, at] @ rest / (near[:, at].sum(axis=1) + neighbours)
        found = (fitted + told[-1] * near_by).clip(0, 1) * (high - low) + low
        return found.reshape(problem.mass.shape)

    for tier, own in enumerate(data.scores.T):
        table = expected(own, tier, 1.0)
        table += own.mean() - (problem.mass * table).sum()
        assert problem.scores[tier] == pytest.approx(table, abs=1e-6)
    assert tiers > 2 or set(told) == {True, False}
    for tier in range(tiers - 1):
        label = label_states(data.scores[:, tier], data.scores[:, -1])
        tables = [expected((label == s).astype(float), tier, 0.0) for s in range(3)]
        assert problem.states[tier] == pytest.approx(tables / np.sum(tables, axis=0), abs=1e-6)
        assert problem.state_counts[tier].tolist() == np.bincount(label, minlength=3).tolist()


def test_one_tiers_confidence_tells_of_anothers_answers():
    """Two tiers that fail together: a doubtful first tier lowers what is expected of the second."""
    rng = np.random.default_rng(1)
    right = rng.random(400) < 0.5
    scores = np.stack([right, right, np.ones(400)], axis=1)
    held = np.stack([np.where(right, 0.9, 0.1), np.full(400, 0.5), np.full(400, np.nan)], axis=1)
    problem, _ = estimate(outcomes(scores, held), 64, "scott", None, 50.0)
    expected = problem.scores[1][:2, 0]
    assert expected[0] < 0.2
    assert expected[1] > 0.8


def test_a_peak_in_the_middle_is_routed_alone():
    """Gains at medium confidence only: no threshold can do it, the POMDP does."""
    rows = [(v, 0.0, 1.0) for v in (0.5, 0.5, 0.5, 0.625)] * 30
    rows += [(v, 0.0, 0.0) for v in (0.0, 0.125)] * 40
    rows += [(v, 1.0, 1.0) for v in (0.875, 1.0)] * 40
    router = Pomdp(bandwidth=0.1).fit(columns(pair_records(rows)))
    found = [d.escalates for d in router.decide([observe(v) for v in (0, 0.125, 0.5, 0.875, 1.0)])]
    assert found == [False, False, True, False, False]
    assert router.rule_.objective > 0


# --------------------------------------------------------------------------- policies


def test_a_given_lambda_is_the_price():
    """Lambda 0 asks the best tier at once; at a price no gain is worth, the cheapest stays."""
    data = chain(300)
    free, dear = Pomdp(lambda_=0).fit(data), Pomdp(lambda_=10.0).fit(data)
    assert follow(free, data).score.mean() >= data.scores[:, -1].mean() - 1e-9
    assert (follow(dear, data).final == 0).all()
    assert dear.rule_.parameter == 10.0


def test_small_tiers_can_be_skipped():
    """A first tier that is never right and tells nothing is not asked."""
    rng = np.random.default_rng(2)
    right = rng.random(300) < 0.7
    scores = np.stack([np.zeros(300), right, np.ones(300)], axis=1)
    held = np.stack([rng.random(300), np.where(right, 0.9, 0.2), np.full(300, np.nan)], axis=1)
    router = Pomdp(lambda_=0.005).fit(outcomes(scores, held))
    path = follow(router, outcomes(scores, held))
    assert not path.visited[:, 0].any()
    assert path.visited[:, 1].all()
    assert (path.final[right] == 1).all()
    assert (path.final[~right] == 2).all()


def test_the_sweep_reaches_from_the_cheapest_to_the_dearest():
    """Cost and score rise along the sweep, both ends are there, no policy stands there twice.

    Each tier alone is always there, not verified, even where a cheaper policy is better.
    """
    data = chain(300, verification=0.5)
    router = Pomdp().fit(data)
    rules = [r.rule_ for _, r in router.sweep()]
    assert 20 <= len(rules) <= 130
    cost = np.array([r.cost for r in rules])
    score = np.array([r.score for r in rules])
    alone = np.array([r.is_single for r in rules])
    assert (np.diff(cost) >= 0).all()
    assert (np.diff(score[~alone]) >= -1e-3).all()
    assert len(set(zip(cost.tolist(), score.tolist(), strict=True))) == len(rules)
    assert cost[0] == pytest.approx(1.0)
    assert score[-1] >= data.scores[:, -1].mean() - 1e-9


def test_the_stored_cost_is_that_of_a_replay():
    """Mean cost and escalation on the fitting questions, verifications and draws included."""
    data = chain(400, undefined=0.1, shares=8, verification=0.5)
    for _, router in Pomdp().fit(data).sweep():
        path = follow(router, data)
        exact = router.rule_.share == 0.0
        assert path.cost.mean() == pytest.approx(router.rule_.cost, rel=1e-9 if exact else 0.2)
        assert (path.final > 0).mean() == pytest.approx(
            router.rule_.escalation, abs=1e-9 if exact else 0.15
        )


def test_budget_and_target_are_met():
    """A budget is nearly used up and not exceeded; a target is met at less than the last tier."""
    data = chain(500, verification=0.2)
    within = Pomdp(objective="budget", budget=20.0).fit(data).rule_
    assert 18.0 <= within.cost <= 20.0
    enough = Pomdp(objective="target", target=0.97).fit(data).rule_
    assert enough.score >= 0.97 * data.scores[:, -1].mean() - 1e-9
    assert enough.cost < 50.0
    poor = Pomdp(objective="budget", budget=0.5).fit(data).rule_
    assert "no policy costs at most" in poor.note


@pytest.mark.parametrize(
    ("number", "budget", "expected"),
    [(100, 20.0, 10.0), (10_000, 20.0, 20.0), (10_000, 60.0, 50.0), (100, 0.5, 0.5),
     (100, 10.5, 1.0), (10_000, 10.5, 10.0)],
)  # fmt: skip
def test_a_budget_is_fitted_with_room_for_chance(number, budget, expected):
    """The dearest C with C + 1.28 sqrt((C - 1) (50 - C) / n) within 1.05 of it; if none, itself."""
    assert within_budget(np.array([50.0, 1.0, 10.0, 21.0, 20.0]), budget, number) == expected


@pytest.mark.parametrize(
    ("scores", "costs", "expected"),
    [([0.2, 0.7], [2.0, 8.0], 0.25), ([0.2, 0.7], [0.0, 8.0], 0.0625), ([0.5, 0.5], [2, 8], 0.5),
     ([0.2, 0.7], [0.0, 0.0], 1.0)],
)  # fmt: skip
def test_beyond_some_price_no_tier_is_worth_more(scores, costs, expected):
    """The whole span of scores for the least that is paid; 1 where there is neither."""
    problem = SimpleNamespace(scores=np.array(scores), costs=np.array(costs, dtype=float))
    assert _largest_price(problem) == pytest.approx(expected)


def test_better_than_any_threshold_on_a_known_chain():
    """On fresh questions the area below the family is above that of pairs with any threshold."""
    train, test = chain(2000, seed=1), chain(4000, seed=2)
    score, cost = curve(Pomdp().fit(train), test)
    axis = np.linspace(1.0, 50.0, 200)
    ours = np.array([score[cost <= c + 1e-9].max() for c in axis])
    best = np.zeros(200)
    for i, j in ((0, 1), (0, 2), (1, 2)):
        for t in np.quantile(test.confidences[:, i], np.linspace(0, 1, 60)):
            up = test.confidences[:, i] <= t
            paid = COSTS[i] + up.mean() * COSTS[j]
            got = np.where(up, test.scores[:, j], test.scores[:, i]).mean()
            best = np.where(axis >= paid, np.maximum(best, got), best)
    assert (ours - best).mean() > 0.002


def test_a_mixture_draws_by_the_identity():
    """The same question always follows the same policy, its share is met, and ids are needed."""
    drawn = coins([f"task/{i}/0" for i in range(20_000)])
    assert abs((drawn < 0.3).mean() - 0.3) < 0.01
    assert np.corrcoef(drawn[:-1], drawn[1:])[0, 1] == pytest.approx(0.0, abs=0.03)
    data = chain(300)
    mixed = next(r for _, r in Pomdp().fit(data).sweep() if r.rule_.share > 0)
    assert mixed.needs_texts
    first, again = (follow(mixed, d).final for d in (data, data.take(np.arange(300)[::-1])))
    assert (first == again[::-1]).all()
    differing = [s for s in mixed.rule_.low if (mixed.rule_.low[s] != mixed.rule_.high[s]).any()]
    assert differing
    if () in differing:
        with pytest.raises(AutoMixError, match="mixtures"):
            mixed.choose(Seen(-1, 3, np.empty((2, 0))))
    plain = Pomdp(mixtures=False).fit(data)
    assert all(r.rule_.share == 0 and not r.needs_texts for _, r in plain.sweep())


def test_the_first_versions_reward_table():
    """Large r escalates what is Complex, r = 0 nothing; the last tier follows at once."""
    data = chain(400, tiers=2)
    none, some = (Pomdp(lambda_=r, reward=V1).fit(data) for r in (0.0, 600.0))
    assert (follow(none, data).final == 0).all()
    final = follow(some, data).final
    assert 0 < final.mean() < 1
    held = data.confidences[:, 0]
    assert held[final == 1].max() <= held[final == 0].min()
    assert some.describe().startswith("POMDP of 2 tiers, r = 600\n")
    named = "POMDP of 2 tiers, lambda (quality per unit of cost) = 0.5\n"
    assert Pomdp(lambda_=0.5).fit(data).describe().startswith(named)


@pytest.mark.parametrize(
    "bad", [{}, {"keep": 1}, V1 | {"other": 1}, V1 | {"keep": {"fixed": [1, 2], "per_r": [1]}}]
)
def test_a_wrong_reward_table_is_refused(bad):
    """The error shows the form."""
    with pytest.raises(AutoMixError, match=r"meta_verifier\.reward"):
        Pomdp(reward=bad)


# --------------------------------------------------------------------------- what is not defined


def test_undefined_is_an_observation():
    """Questions without a confidence that gain from the LLM are sent there, others kept."""
    rows = [(None, 0.0, 1.0)] * 30 + [(0.9, 1.0, 1.0)] * 30 + [(0.2, 0.0, 0.0)] * 30
    router = Pomdp().fit(columns(pair_records(rows)))
    assert [d.to for d in router.decide([observe(v) for v in (None, 0.9, 0.2)])] == [1, 0, 0]
    rows = [(None, 1.0, 1.0)] * 30 + [(0.9, 1.0, 1.0)] * 30 + [(0.2, 0.0, 1.0)] * 30
    router = Pomdp().fit(columns(pair_records(rows)))
    assert [d.to for d in router.decide([observe(v) for v in (None, 0.9, 0.2)])] == [0, 0, 1]


@pytest.mark.parametrize(("undefined", "to"), [("escalate", 1), ("keep", 0), (0.9, 0), (0.2, 1)])
def test_undefined_as_the_user_says(undefined, to):
    """A fixed action, or a confidence that stands in."""
    rows = [(0.9, 1.0, 1.0)] * 30 + [(0.2, 0.0, 1.0)] * 30 + [(None, 0.0, 1.0)] * 2
    router = Pomdp(undefined=undefined, mixtures=False).fit(columns(pair_records(rows)))
    assert router.decide([observe(None)])[0].to == to


@pytest.mark.parametrize("priced", [True, False])
def test_undefined_on_the_way_is_not_a_skipped_tier(priced):
    """The second decision knows of an earlier tier that gave no confidence, prices or none."""
    data = chain(2000, undefined=0.3, seed=3)
    for _, router in Pomdp(mixtures=False).fit(data).sweep()[::5]:
        low, path = router.rule_.low, follow(router, data)
        rows = np.flatnonzero(
            path.visited[:, 0] & path.visited[:, 1] & np.isnan(data.confidences[:, 0])
        )
        if not len(rows):
            continue
        table = low[0, 1][0]
        held = np.searchsorted(router.rule_.edges[1], data.confidences[rows, 1], side="right")
        held[np.isnan(data.confidences[rows, 1])] = table.shape[1] - 1
        ids = tuple(data.ids[i] for i in rows)
        costs = data.answer_costs[rows, :2] if priced else None
        to = router.choose(Seen(1, 3, data.confidences[rows, :2], ids, costs=costs))
        assert (to == table[-1][held]).all()
        assert (path.final[rows] == to).all()


def test_undefined_never_met_before_has_an_outcome():
    """All confidences defined in the fit, none later: the policy still decides."""
    router = Pomdp().fit(chain(100))
    to = router.choose(seen([[np.nan, np.nan]] * 3, ids=("a", "b", "c")))
    assert ((to >= 1) & (to <= 2)).all()
