"""Rules for a whole chain, chosen jointly."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples
from router_records import columns, observe, record

from automix_eval.costs.paper import PaperCost
from automix_eval.meta_verifiers.base import Router
from automix_eval.meta_verifiers.baselines.token_margin import TokenMargin
from automix_eval.meta_verifiers.compiled import compile_policy
from automix_eval.meta_verifiers.double_threshold import DoubleThreshold
from automix_eval.meta_verifiers.follow import Follower, follow
from automix_eval.meta_verifiers.greedy import Greedy
from automix_eval.meta_verifiers.pairs import Pairs
from automix_eval.meta_verifiers.pomdp.chain_pomdp import ChainPomdp, _part
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.meta_verifiers.pomdp_v1 import PomdpV1
from automix_eval.meta_verifiers.rules import chain_search as chain
from automix_eval.meta_verifiers.rules import long_chains
from automix_eval.meta_verifiers.rules.cells import FittingData, exact_parts, sums
from automix_eval.meta_verifiers.rules.rule_router import Policy, RuleRouter
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.meta_verifiers.union import Union
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError

MAKERS = [Threshold, DoubleThreshold, Greedy, PomdpV1, Union]
QUARTER = st.integers(0, 4).map(lambda k: k / 4)
ROW = st.tuples(QUARTER, QUARTER, st.lists(QUARTER, min_size=3, max_size=3))
quick = settings(max_examples=examples(15))


def made(rows, prices=(1.0, 10.0, 50.0)):
    """Outcomes of three tiers from (confidence, confidence, scores)."""
    records = [record(i, scores, (first, second)) for i, (first, second, scores) in enumerate(rows)]
    return columns(records, PaperCost(prices))


def synthetic(tiers, rows=400, seed=0):
    """A chain of any length in which larger tiers are better and confidences tell something."""
    random = np.random.RandomState(seed)
    skill = random.random_sample(rows)
    strength = np.linspace(0.3, 1.0, tiers)
    scores = (random.random_sample((rows, tiers)) < skill[:, None] * 0.3 + strength * 0.6) * 1.0
    sure = np.clip(scores * 0.4 + 0.3 + random.normal(0, 0.25, (rows, tiers)), 0, 1)
    sure[:, -1] = np.nan
    return Outcomes(
        scores,
        np.tile(5.0 ** np.arange(tiers), (rows, 1)),
        sure,
        np.full((rows, tiers), 0.5),
        tuple(f"tier {t}" for t in range(tiers)),
        tuple(str(i) for i in range(rows)),
    )


@quick
@given(
    # bits below 2 ** -1000 are nothing to the parts
    st.lists(
        st.tuples(
            st.integers(0, 2), st.floats(-1e6, 1e6).filter(lambda x: not 0 < abs(x) < 1e-250)
        ),
        min_size=1,
        max_size=60,
    ),
    st.integers(0, 99),
)
def test_sums_are_exact_and_know_no_order(rows, seed):
    """Sums of a cell are the correctly rounded ones, to the last bits, in every order of rows."""
    codes, column = np.array([c for c, _ in rows]), np.array([x for _, x in rows])
    order = np.random.RandomState(seed).permutation(len(rows))
    found = sums(codes, exact_parts(column), 3)
    assert (found == sums(codes[order], exact_parts(column[order]), 3)).all()
    for code in range(3):
        exact = math.fsum(column[codes == code])
        assert found[code] == pytest.approx(exact, rel=1e-15, abs=1e-15 * np.abs(column).max())


def brute(router, outcomes, rules):
    """Replays of all combinations of tiers and rules."""
    found, number = [], outcomes.num_tiers
    for size in range(1, number + 1):
        for tiers in itertools.combinations(range(number), size):
            for chosen in itertools.product(rules, repeat=size - 1):
                router._hold(Policy(chosen, 0.0, 0.0, 0.0, tiers, number))
                path = follow(router, outcomes)
                found.append((path.score.mean(), path.cost.mean()))
    return np.array(found)


@quick
@given(rows=st.lists(ROW, min_size=2, max_size=20), budget=st.floats(2.0, 60.0))
def test_no_combination_is_better(rows, budget):
    """Replaying every combination of thresholds finds no better policy within the budget."""
    outcomes = made(rows)
    rules = ["never", 0.0, 0.25, 0.5, 0.75, 1.0, "always"]
    router = Threshold(rules[1:-1], objective="budget", budget=budget).fit(outcomes)
    score, cost = brute(Threshold(), outcomes, rules).T
    within = score[cost <= budget + 1e-9]
    assert router.policy_.score == pytest.approx(within.max() if len(within) else router.value_)
    assert router.policy_.cost <= budget + 1e-9 or not len(within)


@pytest.mark.parametrize("make", MAKERS)
def test_a_useless_middle_tier_does_not_block_the_chain(make):
    """Where tier 1 costs what tier 0 costs and adds nothing, tier 2 is still reached through it."""
    rows = [(k / 8, k / 8, (float(k > 3), float(k > 3), 1.0)) for k in range(9)] * 3
    outcomes = made(rows, (1.0, 1.0, 50.0))
    router = make(objective="ibc").fit(outcomes)
    assert (follow(router, outcomes).final == 2).any()
    assert router.value_ > 0.5
    assert router.note_ == ""


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("tiers", [3, 4])
def test_the_policy_is_worth_what_it_says(make, tiers):
    """Score, cost and escalation of every policy of the sweep are those of a replay."""
    outcomes = synthetic(tiers, 200)
    family = make(num_bins=4).fit(outcomes).sweep() if make is not Threshold else ()
    for cost, router in family or make().fit(outcomes).sweep():
        path = follow(router, outcomes)
        assert path.cost.mean() == pytest.approx(cost)
        assert path.score.mean() == pytest.approx(router.policy_.score)
        assert (path.final > 0).mean() == pytest.approx(router.policy_.escalation)


@pytest.mark.parametrize("make", MAKERS)
def test_the_sweep_is_a_front_and_holds_the_choice(make):
    """Along the sweep quality rises with cost; the chosen policy is one of it."""
    router = make(min_escalation=0.0).fit(synthetic(3))
    assert router.policy_ in router.family_
    rest = [p for p in router.family_ if p != router.policy_]
    assert all(a.cost <= b.cost for a, b in itertools.pairwise(router.family_))
    assert all(a.score < b.score for a, b in itertools.pairwise(rest))


@pytest.mark.parametrize("objective", [{}, {"objective": "budget", "budget": 20.0}])
@pytest.mark.parametrize("seed", range(4))
def test_the_ascent_comes_near_the_exact_search(monkeypatch, objective, seed):
    """Where both can be done, coordinate ascent loses next to nothing against all combinations."""
    outcomes = synthetic(3, seed=seed)
    exact = DoubleThreshold(**objective).fit(outcomes)
    monkeypatch.setattr(chain, "EXACT", 0)
    found = DoubleThreshold(**objective).fit(outcomes)
    assert found.value_ <= exact.value_ + 1e-9
    assert found.value_ >= exact.value_ - 0.02 * abs(exact.value_)


@pytest.mark.parametrize(("limit", "other"), [(100, "_ascend"), (99, "_every")])
def test_so_many_combinations_are_all_compared(monkeypatch, limit, other):
    """Two tiers of ten rules each: a hundred policies, the limit included."""
    rules = [k / 8 for k in range(8)]  # beside never and always
    monkeypatch.setattr(chain, "EXACT", limit)
    searched, search = [], getattr(chain, other)
    monkeypatch.setattr(chain, other, lambda *a: searched.append(len(a[1])) or search(*a))
    Threshold(rules).fit(synthetic(3, 50))
    assert 2 not in searched


@pytest.mark.parametrize("make", MAKERS)
def test_long_chains(make):
    """Six tiers are searched by coordinate ascent, and better than either end."""
    outcomes = synthetic(6, 200)
    router = make().fit(outcomes)
    assert len(router.policy_.rules) == 5
    assert router.value_ > 0.0
    assert len(json.loads(json.dumps(router.get_learned()))["family"]) == len(router.family_)


@pytest.mark.parametrize("objective", ["gain", "ibc"])
def test_pairs_ask_two_tiers_at_most(objective):
    """By every objective a pair is two tiers; by the papers' the first of them is the SLM."""
    router = Pairs(objective=objective).fit(synthetic(4))
    asked = [policy.tiers for policy in router.family_]
    assert max(map(len, asked)) == 2
    assert len(set(asked)) > 2
    assert objective == "gain" or {tiers[0] for tiers in asked} == {0}


def test_the_order_of_the_rows_does_not_matter_in_a_chain():
    """Shuffled rows of a chain give the same learned values, to the last bit."""
    outcomes = synthetic(3)
    shuffled = outcomes.take(np.random.RandomState(1).permutation(len(outcomes)))
    for make in MAKERS:
        learned = [json.dumps(make().fit(o).get_learned()) for o in (outcomes, shuffled)]
        assert learned[0] == learned[1]


def test_each_tier_has_its_own_rule():
    """Tier 0 is doubted up to a half, tier 1 from a half on: the rules differ."""
    rows = [
        (first / 8, second / 8, (float(first > 4), 1.0 if second < 4 else 0.0, 1.0))
        for first in range(9)
        for second in range(9)
    ]
    router = DoubleThreshold(objective="target", target=1.0).fit(made(rows))
    assert router.decide([observe(0.25, 0, 3)])[0].to == 1
    assert router.decide([observe(0.75, 0, 3)])[0].to == 0
    assert router.decide([observe(0.25, 1, 3)])[0].to == 1
    assert router.decide([observe(0.75, 1, 3)])[0].to == 2
    with pytest.raises(AutoMixError, match="fitted for 3 tiers and meets a chain of 2"):
        router.decide([observe(0.25)])


@pytest.mark.parametrize("make", MAKERS)
def test_a_tier_without_confidences_says_so(make):
    """A tier whose verifier never answers leaves the setting to decide, and the note names it."""
    rows = [(k / 8, None, (float(k > 3), 1.0, 1.0)) for k in range(9)]
    for undefined, expected in (("escalate", 2), ("keep", 1)):
        router = make(undefined=undefined, objective="budget", budget=1000.0).fit(made(rows))
        assert "0 of 9 fitting questions have a confidence at tier 1" in router.note_
        router.policy_ = Policy(("always", "undefined"), 0.0, 0.0, 0.0, (0, 1, 2), 3)
        assert router.decide([observe(None, 1, 3)])[0].to == expected
        assert router.decide([observe(0.5, 1, 3)])[0].to == 1


@pytest.fixture
def bounded(monkeypatch):
    """Every chain of more than four tiers counts as one of many questions."""
    monkeypatch.setattr(long_chains, "EVERY", 0)


@pytest.mark.parametrize("objective", [{}, {"objective": "budget", "budget": 60.0}])
@pytest.mark.parametrize("seed", range(2))
def test_a_long_chain_is_no_worse_than_pairs_and_near_every_sub_chain(monkeypatch, objective, seed):
    """Of five tiers four are asked: between the best pair and the search of every sub-chain."""
    outcomes = synthetic(5, 200, seed)
    every = Threshold(**objective).fit(outcomes)
    assert every.note_ == ""
    monkeypatch.setattr(long_chains, "EVERY", 0)
    found, pair = (make(**objective).fit(outcomes) for make in (Threshold, Pairs))
    assert max(0.0, pair.value_) - 1e-12 <= found.value_ <= every.value_ + 1e-12
    assert found.value_ >= 0.9 * every.value_
    asked = {t for policy in found.family_ if len(policy.tiers) > 2 for t in policy.tiers}
    assert len(asked) == 4
    assert (
        f"worth most together on the fitting questions, {str(sorted(asked))[1:-1]}" in found.note_
    )
    assert pair.note_ == ""


def test_four_tiers_are_searched_as_a_whole(bounded):
    """However many questions there are, no sub-chain of four tiers is left out."""
    router = Threshold().fit(synthetic(4))
    assert {len(policy.tiers) for policy in router.family_} == {1, 2, 3, 4}
    assert router.note_ == ""


def test_few_questions_are_searched_as_a_whole(monkeypatch):
    """Up to a number of questions times that of sub-chains, the limit included."""
    data = FittingData(synthetic(5, 40), "escalate", "")
    for limit, number in ((40 * 32, 5), (40 * 32 - 1, 4)):
        monkeypatch.setattr(long_chains, "EVERY", limit)
        assert len(long_chains.worth_asking(data, "gain")) == number


def test_the_tiers_of_a_long_chain_do_not_hang_on_the_order_of_its_rows(bounded):
    """Shuffled rows keep the same tiers, by either measure of their worth."""
    outcomes = synthetic(6)
    shuffled = outcomes.take(np.random.RandomState(1).permutation(len(outcomes)))
    for objective in ("gain", "target"):
        data = (FittingData(o, "escalate", "") for o in (outcomes, shuffled))
        first, second = (long_chains.worth_asking(one, objective) for one in data)
        assert first == second
        assert len(first) == long_chains.MOST


@pytest.mark.parametrize("make", [Threshold, Pomdp])
@pytest.mark.parametrize("tier", [0, 2, 5])
def test_a_policy_of_a_long_chain_comes_back_and_keeps_to_its_tiers(bounded, make, tier):
    """Stored policies decide the same and skip the others; a tier that is best is asked alone."""
    outcomes = synthetic(6, 200)
    scores = outcomes.scores / 2
    scores[:, tier] = 1.0
    fitted = make().fit(outcomes)
    alone = make(objective="loss", error_price=1e6).fit(replace(outcomes, scores=scores))
    assert (follow(alone, outcomes).final == tier).all()
    for router in (fitted, alone):
        again = make()
        again.set_learned(json.loads(json.dumps(router.get_learned())))
        path = follow(again, outcomes)
        assert (path.visited == follow(router, outcomes).visited).all()
        assert path.visited.any(axis=0).sum() <= long_chains.MOST
        assert "of 6 tiers a policy asks" in "".join(router.notes())
        assert again.describe() == router.describe()


def test_the_pomdp_of_a_long_chain_is_that_of_its_tiers(bounded):
    """Cost and escalation of its policies are those of a replay, and the tiers are told."""
    outcomes = synthetic(6, 200)
    router = Pomdp(mixtures=False).fit(outcomes)
    tiers = router.rule_.tiers
    for _, policy in router.sweep():
        path = follow(policy, outcomes)
        assert policy.rule_.cost == pytest.approx(path.cost.mean())
        assert policy.rule_.escalation == pytest.approx((path.final > 0).mean())
    assert f"starts at tier {tiers[0]}" in router.describe()
    assert f"states of the pair {tiers[0]}, {tiers[-1]}" in router.describe()
    compiled = compile_policy(router, 6)
    symbols = np.array([np.searchsorted(e, outcomes.confidences[:, t], "right")
                        for t, e in enumerate(compiled.edges)]).T  # fmt: skip
    final = follow(router, outcomes).final
    for row, end in zip(symbols.tolist(), final.tolist(), strict=True):
        asked = [compiled.first]
        while asked[-1] < 5:
            to = int(compiled.tables[tuple(asked)][(0, *(row[t] for t in asked))])
            if to == asked[-1]:
                break
            asked.append(to)
        assert asked[-1] == end


@pytest.mark.parametrize("tiers", [(0, 1, 2, 3), (0, 2), (1, 2), (0, 1, 3)])
def test_the_last_of_some_tiers_is_judged_unless_it_is_the_last_of_all(tiers):
    """Whoever could have gone on from it pays its verification, and the others' is as it was."""
    outcomes = synthetic(4, 20)
    outcomes = replace(outcomes, verification_costs=np.arange(80.0).reshape(20, 4))
    part, before = _part(outcomes, tiers), outcomes.answer_costs.copy()
    paid = before[:, list(tiers)]
    if tiers[-1] == 2:
        paid[:, -1] += outcomes.verification_costs[:, 2]
    assert (part.answer_costs == paid).all()
    assert (part.verification_costs == outcomes.verification_costs[:, list(tiers)]).all()
    assert (outcomes.answer_costs == before).all()


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"undefined": 0.4, "cost_levels": 1},
        {"undefined": "keep"},
        {"objective": "loss", "error_price": 90, "abstain_price": 40},
    ],
)
@pytest.mark.parametrize("tiers", [2, 3, 6])
def test_the_quick_way_of_the_pomdp_is_the_way_step_by_step(bounded, monkeypatch, tiers, settings):
    """Whole tables of moves lead every row where one decision after the other leads it."""
    random = np.random.RandomState(tiers)
    outcomes = synthetic(tiers, 150)
    spread = np.exp(random.normal(0, 0.5, (150, 1)))
    sure = np.where(random.random_sample((150, tiers)) < 0.1, np.nan, outcomes.confidences)
    outcomes = replace(outcomes, answer_costs=outcomes.answer_costs * spread, confidences=sure)
    family = [policy for _, policy in Pomdp(**settings).fit(outcomes).sweep()]
    quick = Follower(outcomes)
    found = [quick.follow(policy) for policy in family]
    assert len(family) > tiers
    assert {policy.needs_texts for policy in family} == {True, False}
    monkeypatch.setattr(ChainPomdp, "walk", Router.walk)
    for policy, path in zip(family, found, strict=True):
        slow = follow(policy, outcomes)
        for field in ("final", "score", "cost", "visited", "abstained"):
            assert (getattr(path, field) == getattr(slow, field)).all()


@pytest.mark.parametrize("make", [Threshold, Pairs, DoubleThreshold, Union, TokenMargin])
@pytest.mark.parametrize("undefined", ["escalate", "keep", 0.4])
def test_the_quick_way_of_rules_is_the_way_step_by_step(monkeypatch, make, undefined):
    """Columns of confidences lead every row where one decision after the other leads it."""
    random = np.random.RandomState(1)
    outcomes = synthetic(3, 150)
    sure = np.where(random.random_sample((150, 3)) < 0.1, np.nan, outcomes.confidences)
    signals = {"margin": np.where(random.random_sample((150, 3)) < 0.1, np.nan, sure**2)}
    outcomes = replace(outcomes, confidences=sure, signals=signals)
    router = make(undefined=undefined)
    family = [one for _, one in router.fit(outcomes).sweep()]
    quick = Follower(outcomes)
    found = [quick.follow(policy) for policy in family]
    assert {path.visited.any(axis=0).sum() for path in found} > {1}
    monkeypatch.setattr(RuleRouter, "walk", Router.walk)
    for policy, path in zip(family, found, strict=True):
        slow = follow(policy, outcomes)
        for field in ("final", "score", "cost", "visited", "abstained"):
            assert (getattr(path, field) == getattr(slow, field)).all()
