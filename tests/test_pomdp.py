"""The POMDP meta-verifier: labels, estimation, policies, undefined confidences, bad data."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router_records import GRID, PAPER, TYPICAL, columns, observe, pair_records

from automix_eval.meta_verifiers.pomdp import Pomdp
from automix_eval.meta_verifiers.pomdp_labels import COMPLEX, SIMPLE, UNSOLVABLE, label_states
from automix_eval.meta_verifiers.pomdp_problem import estimate
from automix_eval.meta_verifiers.pomdp_regression import ridge_logistic
from automix_eval.meta_verifiers.pomdp_rule import coins
from automix_eval.outcomes import Outcomes, Seen, follow
from automix_eval.types import AutoMixError, Observation

V1 = {
    "keep": {"fixed": [0, 0, -1], "per_r": [-1, 0, -1]},
    "escalate": {"fixed": [-100, -100, -100], "per_r": [0, 0, -1]},
}
COSTS = (1.0, 8.0, 50.0, 200.0)


def outcomes(scores, confidences, costs=COSTS, verification=0.0):
    """Columns from bare numbers, (n, N) each."""
    scores, confidences = np.array(scores, float), np.array(confidences, float)
    number, tiers = scores.shape
    return Outcomes(
        scores,
        np.tile(np.array(costs[:tiers], float), (number, 1)),
        confidences,
        np.full(scores.shape, float(verification)),
        tuple(f"tier {t}" for t in range(tiers)),
        tuple(f"toy/{i}/0" for i in range(number)),
    )


def chain(number, tiers=3, seed=0, undefined=0.0, shares=None, verification=0.0):
    """A chain whose tiers get better, with confidences that know something of the answers."""
    rng = np.random.default_rng(seed)
    skill = rng.normal(size=number)
    scores, held = [], []
    for tier in range(tiers):
        right = rng.random(number) < 1 / (1 + np.exp(-(skill + tier - 0.5)))
        value = 1 / (1 + np.exp(-(2.5 * right - 1.2 + 0.5 * skill + rng.normal(size=number))))
        if shares:
            value = np.round(value * shares) / shares
        value[rng.random(number) < undefined] = np.nan
        scores.append(right)
        held.append(value)
    return outcomes(np.stack(scores, 1), np.stack(held, 1), verification=verification)


def seen(confidences, tier=None, ids=None):
    """What reached a tier with these confidences."""
    table = np.array(confidences, float)
    reached = table.shape[1] - 1 if tier is None else tier
    return Seen(reached, 3, table, ids)


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
    """Cost and score rise along the sweep, both ends are there, no policy stands there twice."""
    data = chain(300, verification=0.5)
    router = Pomdp().fit(data)
    rules = [r.rule_ for _, r in router.sweep()]
    assert 20 <= len(rules) <= 130
    cost = np.array([r.cost for r in rules])
    score = np.array([r.score for r in rules])
    assert (np.diff(cost) >= 0).all()
    assert (np.diff(score) >= -1e-3).all()
    assert len(set(zip(cost.tolist(), score.tolist(), strict=True))) == len(rules)
    assert cost[0] == pytest.approx(1.5)
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
    assert "Complex" in some.describe()


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


def test_undefined_on_the_way_is_not_a_skipped_tier():
    """The second decision knows that an earlier tier was asked and gave no confidence."""
    data = chain(2000, undefined=0.3, seed=3)
    for _, router in Pomdp(mixtures=False).fit(data).sweep()[::5]:
        low, path = router.rule_.low, follow(router, data)
        rows = np.flatnonzero(
            path.visited[:, 0] & path.visited[:, 1] & np.isnan(data.confidences[:, 0])
        )
        if not len(rows):
            continue
        last = low[0, 1].shape[0] - 1
        held = np.searchsorted(router.rule_.edges[1], data.confidences[rows, 1], side="right")
        held[np.isnan(data.confidences[rows, 1])] = low[0, 1].shape[1] - 1
        assert (path.final[rows] == low[0, 1][last][held]).all()


def test_undefined_never_met_before_has_an_outcome():
    """All confidences defined in the fit, none later: the policy still decides."""
    router = Pomdp().fit(chain(100))
    to = router.choose(seen([[np.nan, np.nan]] * 3, ids=("a", "b", "c")))
    assert ((to >= 1) & (to <= 2)).all()


# --------------------------------------------------------------------------- few, odd and bad data


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([None, 0.0, 0.125, 0.5, 1.0, 0.9999]),
            st.sampled_from([0.0, 0.3, 1.0]),
            st.sampled_from([0.0, 0.3, 1.0]),
        ),
        min_size=2,
        max_size=40,
    ),
    st.sampled_from(["ibc", "budget", "target"]),
)
def test_any_data_give_a_finite_policy(rows, objective):
    """Ties, constants, one class, undefined values: everything learned is a finite number."""
    data = columns(pair_records(rows))
    router = Pomdp(objective=objective, budget=20.0, target=0.9).fit(data)
    json.dumps(router.get_learned(), allow_nan=False)
    assert "nan" not in router.describe().lower()
    for _, member in router.sweep():
        assert np.isfinite(follow(member, data).cost).all()
    if data.scores[:, 1].mean() <= data.scores[:, 0].mean() and objective == "ibc":
        assert (follow(router, data).final == 0).all()
        assert "delta IBC is undefined" in router.rule_.note


@pytest.mark.parametrize(
    "costs", [(1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.0, 1.0, 1.0), (5.0, 1.0, 9.0)]
)
def test_equal_zero_and_falling_costs(costs):
    """Whatever tiers cost there is a policy, and lambda 0 never scores below the best tier."""
    base = chain(200)
    data = outcomes(base.scores, base.confidences, costs)
    router = Pomdp(objective="target", target=1.0).fit(data)
    assert len(router.sweep()) >= 1
    json.dumps(router.get_learned(), allow_nan=False)
    assert Pomdp(lambda_=0).fit(data).rule_.score >= data.scores.mean(axis=0).max() - 1e-9


def test_scores_may_be_of_any_range():
    """Continuous scores, also beyond [0, 1] and negative, route as their rescaled selves."""
    base = chain(200, seed=4)
    rng = np.random.default_rng(0)
    scores = 0.7 * base.scores + 0.3 * rng.random(base.scores.shape)
    plain = Pomdp(lambda_=0.003).fit(outcomes(scores, base.confidences))
    scaled = Pomdp(lambda_=0.3).fit(outcomes(100 * scores - 30, base.confidences))
    for subset, table in plain.rule_.low.items():
        assert (table != scaled.rule_.low[subset]).mean() < 0.01


def test_a_verifier_the_wrong_way_round_is_understood():
    """High confidences of wrong answers: those are escalated."""
    rows = [(0.9, 0.0, 1.0)] * 40 + [(0.1, 1.0, 1.0)] * 40
    router = Pomdp().fit(columns(pair_records(rows)))
    assert [d.to for d in router.decide([observe(0.9), observe(0.1)])] == [1, 0]


def test_a_useless_verifier_is_noted():
    """A constant confidence cannot tell answers apart, and the note says at which tier."""
    rows = [(0.5, 0.0, 1.0), (0.5, 1.0, 1.0)] * 10
    assert "tier 0" in Pomdp().fit(columns(pair_records(rows))).rule_.note


def test_more_bins_than_rows():
    """Bins are as many as there are values."""
    router = Pomdp(num_bins=500).fit(columns(pair_records(TYPICAL)))
    assert len(router.rule_.edges[0]) < len(TYPICAL)


@pytest.mark.parametrize("rows", [24, 50])
def test_few_rows_do_little_harm(rows):
    """Fitted on so few, with 8 samples a verification, it loses little against many rows."""
    test = chain(4000, 2, seed=99, shares=8)
    many = Pomdp(lambda_=0.02).fit(chain(4000, 2, seed=98, shares=8))
    worth = lambda router: (lambda p: p.score.mean() - 0.02 * p.cost.mean())(follow(router, test))  # noqa: E731
    lost = [
        worth(many) - worth(Pomdp(lambda_=0.02).fit(chain(rows, 2, seed=s, shares=8)))
        for s in range(12)
    ]
    assert np.mean(lost) < 0.05


def test_the_order_of_the_rows_does_not_matter():
    """Three tiers with undefined values: shuffled rows give the same policy to the last bit."""
    data = chain(150, undefined=0.2, shares=8)
    order = np.random.default_rng(0).permutation(150)
    learned = [json.dumps(Pomdp().fit(d).get_learned()) for d in (data, data.take(order))]
    assert learned[0] == learned[1]


@pytest.mark.parametrize(
    "bad",
    [
        {"num_bins": 1}, {"num_bins": True}, {"bandwidth": "wide"}, {"bandwidth": 0}, {"ridge": 0},
        {"neighbours": -1}, {"lambda_": -1}, {"mixtures": 1}, {"undefined": "drop"},
        {"objective": "budget"}, {"budget": -1},
    ],
)  # fmt: skip
def test_bad_hyper_parameters_are_refused(bad):
    """Each at once, by an error that names it."""
    with pytest.raises(AutoMixError, match=next(iter(bad))):
        Pomdp(**bad)


# --------------------------------------------------------------------------- the policy as a file


def test_a_stored_policy_of_three_tiers_is_the_same():
    """Through JSON: every choice, undefined confidences and mixtures included."""
    data = chain(300, undefined=0.1)
    router = Pomdp(objective="budget", budget=12.3).fit(data)
    other = Pomdp()
    other.set_learned(json.loads(json.dumps(router.get_learned())))
    assert (follow(other, data).final == follow(router, data).final).all()
    assert other.describe() == router.describe()
    with pytest.raises(AutoMixError, match="fit it again to sweep"):
        other.sweep()


def test_neither_fitting_nor_deciding_needs_pomdp_py():
    """Without the library a policy is fitted, stored and used."""
    code = """
import json, sys
sys.modules["pomdp_py"] = None
from automix_eval.meta_verifiers.pomdp import Pomdp
from router_records import GRID, TYPICAL, columns, pair_records
print(json.dumps([d.to for d in Pomdp().fit(columns(pair_records(TYPICAL))).decide(GRID)]))
"""
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
    )  # fmt: skip
    expected = Pomdp().fit(columns(pair_records(TYPICAL))).decide(GRID)
    assert json.loads(run.stdout) == [d.to for d in expected]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("edges", [[0.5, 0.4]]), ("edges", "0,1"), ("edges", []), ("edges", [[0.1]]),
        ("low", "AAAA"), ("low", 3), ("low", "not base64!"), ("share", 1.5), ("share", True),
        ("cost", float("nan")), ("objective", "0.1"), ("note", 3), ("summary", []),
        ("summary", [{}]), ("more", 1),
    ],
)  # fmt: skip
def test_a_damaged_policy_is_refused(field, value):
    """Shapes, types and ranges of a stored policy are checked."""
    learned = copy.deepcopy(Pomdp().fit(columns(pair_records(TYPICAL))).get_learned())
    learned[field] = value
    with pytest.raises(AutoMixError, match="no policy of meta_verifier=pomdp"):
        Pomdp().set_learned(learned)


def test_a_chain_of_another_length_is_refused():
    """A policy of two tiers says so when it meets three."""
    router = Pomdp().fit(columns(pair_records(TYPICAL)))
    with pytest.raises(AutoMixError, match="fitted for 2 tiers"):
        router.decide([observe(0.5, 0, 3)])


def test_describe_shows_the_whole_policy():
    """States, beliefs and one action a group of bins; unfitted is an error."""
    with pytest.raises(AutoMixError, match="fit"):
        Pomdp().describe()
    router = Pomdp().fit(columns(pair_records(TYPICAL), PAPER))
    text = router.describe()
    for word in ("Simple", "Complex", "Unsolvable", "prior", "lambda", "starts at tier 0"):
        assert word in text
    summary = router.rule_.summary[0]
    assert sum(summary["counts"]) == len(TYPICAL)
    assert np.array(summary["belief"]).sum(axis=1) == pytest.approx(1.0)
    assert np.array(summary["observation"]).sum(axis=1) == pytest.approx(1.0)
    actions = [to for to in summary["next"] if to > 0]
    assert text.count("ask tier 1") == len(actions)
    reason = router.decide([observe(0.25)])[0].reason
    assert reason.startswith("v=0.25: Simple 0.")


def test_a_decision_is_quick():
    """One live decision, far below a model call; generous, as machines are busy."""
    router = Pomdp(mixtures=False).fit(chain(300))
    one = [Observation(1, 3, (0.3, 0.6))]
    router.decide(one)
    spent = []
    for _ in range(50):
        begun = time.perf_counter()
        router.decide(one)
        spent.append(time.perf_counter() - begun)
    assert min(spent) < 1e-3


def test_the_grid_of_a_long_chain_is_bounded():
    """Eight tiers with many values each: the bins become fewer, so memory and time stay small."""
    rng = np.random.default_rng(0)
    scores = rng.random((60, 8)) < np.linspace(0.3, 0.9, 8)
    held = np.clip(scores * 0.4 + 0.6 * rng.random((60, 8)), 0, 1)
    data = outcomes(scores, held, costs=np.arange(1.0, 9.0))
    problem, _ = estimate(data, 64, "scott", 10.0, 50.0)
    assert problem.mass.size <= 160_000
