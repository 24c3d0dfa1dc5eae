"""Laws of the meta-verifiers."""

from __future__ import annotations

import dataclasses
import itertools
import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples
from router_records import GRID, TYPICAL, columns, observe, pair_records
from scipy.ndimage import gaussian_filter1d

from automix_eval.costs.paper import PaperCost
from automix_eval.meta_verifiers.always import AlwaysLLM, AlwaysSLM
from automix_eval.meta_verifiers.double_threshold import DoubleThreshold
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.greedy import Greedy, greediest
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.meta_verifiers.pomdp_v1 import (
    COMPLEX,
    SIMPLE,
    UNSOLVABLE,
    PomdpV1,
    label_states,
    policies,
)
from automix_eval.meta_verifiers.rules.bins import middles, nearest, points
from automix_eval.meta_verifiers.self_consistency import SelfConsistency
from automix_eval.meta_verifiers.threshold import EIGHTHS, Threshold
from automix_eval.meta_verifiers.union import Union
from automix_eval.safety.errors import AutoMixError

LEARNERS = [
    Threshold,
    lambda **given: Threshold(candidates="observed", **given),
    DoubleThreshold,
    Greedy,
    PomdpV1,
    Union,
]
MAKERS = [Threshold, DoubleThreshold, Greedy, PomdpV1, Union]
EIGHTH = st.integers(0, 8).map(lambda k: k / 8)
SCORE = st.sampled_from([0.0, 0.5, 1.0])
ROWS = st.lists(st.tuples(EIGHTH, SCORE, SCORE), min_size=2, max_size=25)
quick = settings(max_examples=examples(30))


def routes(router, observations=GRID):
    """Which observations a router escalates."""
    return [d.escalates for d in router.decide(observations)]


def ruled(router, *rules):
    """The router with other rules."""
    router.policy_ = dataclasses.replace(router.policy_, rules=rules)
    return router


# --------------------------------------------------------------------------- laws


@pytest.mark.parametrize("make", [*LEARNERS, Pomdp])
@quick
@given(rows=ROWS, seed=st.integers(0, 99))
def test_the_order_of_the_records_does_not_matter(make, rows, seed):
    """Shuffled records give the same learned values, to the last bit."""
    records = pair_records(rows)
    shuffled = random.Random(seed).sample(records, len(records))
    learned = [json.dumps(make().fit(columns(r)).get_learned()) for r in (records, shuffled)]
    assert learned[0] == learned[1]


@pytest.mark.parametrize("make", LEARNERS)
@quick
@given(rows=ROWS, times=st.integers(2, 4))
def test_replicated_records_leave_the_policy(make, rows, times):
    """Every record several times over is the same evidence."""
    records = pair_records(rows)
    once, again = (
        make(objective="ibc").fit(columns(records)),
        make(objective="ibc").fit(columns(records * times)),
    )
    assert routes(once) == routes(again)


@pytest.mark.parametrize("make", LEARNERS)
@quick
@given(rows=ROWS)
def test_the_policy_is_worth_what_it_says(make, rows):
    """Score, cost and escalation of every policy of the sweep are those of a replay."""
    outcomes = columns(pair_records(rows))
    for cost, router in make().fit(outcomes).sweep():
        path = follow(router, outcomes)
        assert path.cost.mean() == pytest.approx(cost)
        assert path.score.mean() == pytest.approx(router.policy_.score)
        assert (path.final > 0).mean() == pytest.approx(router.policy_.escalation)


@pytest.mark.parametrize("make", MAKERS)
@quick
@given(rows=ROWS)
def test_no_policy_beats_the_oracle(make, rows):
    """Whoever knows both scores pays no more for the same quality, whatever is learned."""
    outcomes = columns(pair_records(rows))
    gain = np.sort(outcomes.scores[:, 1] - outcomes.scores[:, 0])[::-1]
    best = np.r_[0.0, np.maximum.accumulate(np.cumsum(gain))] + outcomes.scores[:, 0].sum()
    for _, router in make().fit(outcomes).sweep():
        path = follow(router, outcomes)
        assert path.score.sum() <= best[int((path.final > 0).sum())] + 1e-9


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("ver", [0.0, 1.0, 40.0])
def test_the_unit_of_cost_does_not_matter(make, ver):
    """All prices times the same number leave the policy and its delta IBC."""
    records = pair_records(TYPICAL)
    one, cents = (
        make().fit(columns(records, PaperCost((1.0 * k, 50.0 * k), ver * k))) for k in (1.0, 100.0)
    )
    assert one.policy_.rules == cents.policy_.rules
    assert one.value_ == pytest.approx(cents.value_)


@quick
@given(rows=ROWS, v=EIGHTH)
def test_thresholds_nest(rows, v):
    """Whoever escalates v escalates every lower confidence, and what never and always say holds."""
    router = Threshold(objective="ibc").fit(columns(pair_records(rows)))
    lower = [observe(u / 8) for u in range(9) if u / 8 <= v]
    if routes(router, [observe(v)])[0]:
        assert all(routes(router, lower))
    previous = -1
    for t in ("never", *[k / 8 for k in range(9)], "always"):
        count = sum(routes(ruled(router, t)))
        assert count > previous or t == "always"
        previous = count


@quick
@given(rows=ROWS)
def test_no_candidate_is_better_than_the_fitted_threshold(rows):
    """Brute force over all thresholds finds no larger delta IBC."""
    records = pair_records(rows)
    router = Threshold(min_escalation=0.0, objective="ibc").fit(columns(records))
    slm, llm = (np.mean([r.tier(t).score for r in records]) for t in (0, 1))
    if llm <= slm:
        assert router.policy_.rules == ("never",)
        return
    best = -np.inf
    for t in (-1, *[k / 8 for k in range(9)]):
        up = [r.tier(0).verification.confidence <= t for r in records]
        score = np.mean([r.tier(int(u)).score for r, u in zip(records, up, strict=True)])
        best = max(best, (score - slm) / (1 + 50 * np.mean(up)) / ((llm - slm) / 49) - 1)
    assert router.value_ == pytest.approx(best)


@quick
@given(rows=ROWS)
def test_the_union_is_no_worse_than_its_parts(rows):
    """On the fitting data none of the four has a larger delta IBC.

    Of gain the chosen policy may be: what chance adds to a sliver is taken off before one is
    chosen. But the union has a policy as good and as cheap as each part's in its range.
    """
    outcomes = columns(pair_records(rows))
    for objective in ("ibc", "gain"):
        union = Union(objective=objective, min_escalation=0.0).fit(outcomes)
        for make in (Threshold, DoubleThreshold, Greedy, PomdpV1):
            part = make(objective=objective, min_escalation=0.0).fit(outcomes)
            assert (part.value_ is None) == (union.value_ is None)
            if objective == "ibc":
                assert part.value_ is None or part.value_ <= union.value_ + 1e-9
            score, cost = part.policy_.score - 1e-9, part.policy_.cost + 1e-9
            assert any(p.score >= score and p.cost <= cost for p in union.family_)


# --------------------------------------------------------------------------- the grid of bins


@settings(max_examples=examples(200))
@given(st.integers(1, 1000), st.floats(0.0, 1.0))
def test_binning_is_total(num_bins, v):
    """Every confidence has exactly one bin, and no point of the grid is nearer."""
    (bin_,) = nearest(np.array([v]), num_bins)
    assert 0 <= bin_ <= num_bins
    assert abs(v - bin_ / num_bins) <= 0.5 / num_bins + 1e-12


def test_every_share_lies_in_its_own_bin():
    """With any number of samples k of them is bin k; a middle goes to the upper bin."""
    for num_bins in range(1, 130):
        assert nearest(points(num_bins), num_bins).tolist() == list(range(num_bins + 1))
        assert nearest(middles(num_bins), num_bins).tolist() == list(range(1, num_bins + 1))


@pytest.mark.parametrize("num_bins", [10, 12, 20, 24])
@pytest.mark.parametrize("make", [Greedy, PomdpV1])
def test_fitting_and_deciding_bin_alike(make, num_bins):
    """The one confidence that gains is the one that is escalated, for every number of bins."""
    for k in range(num_bins + 1):
        rows = [(j / num_bins, float(j != k), 1.0) for j in range(num_bins + 1)]
        settings_ = {"sigma": 0.0} if make is Greedy else {}
        router = make(num_bins=num_bins, min_escalation=0.0, **settings_, objective="ibc")
        router.fit(columns(pair_records(rows)))
        seen = [observe(j / num_bins) for j in range(num_bins + 1)]
        assert routes(router, seen) == [j == k for j in range(num_bins + 1)]


@pytest.mark.parametrize("make", [DoubleThreshold, Greedy, PomdpV1, Union])
def test_more_bins_than_rows(make):
    """Two records and a fine grid give a policy all the same."""
    router = make(num_bins=200).fit(columns(pair_records([(0.1, 0.0, 1.0), (0.9, 1.0, 1.0)])))
    assert routes(router, [observe(0.1), observe(0.9)]) == [True, False]


@pytest.mark.parametrize("make", MAKERS)
def test_a_constant_confidence(make):
    """Where the verifier always says the same, the choice is all or nothing, and finite."""
    router = make().fit(columns(pair_records([(0.5, 0.0, 1.0), (0.5, 1.0, 1.0)] * 4)))
    seen = [observe(0.5)] * 3
    assert set(routes(router, seen)) in ({True}, {False})
    assert np.isfinite(router.value_)


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("score", [0.0, 1.0])
def test_one_class_only(make, score):
    """Answers that are all wrong, or all right, leave delta IBC undefined and say so."""
    router = make().fit(columns(pair_records([(k / 8, score, score) for k in range(9)])))
    assert not any(routes(router))
    assert router.value_ is None
    assert "not better" in router.note_


@pytest.mark.parametrize("make", MAKERS)
@pytest.mark.parametrize("prices", [(1.0, 1.0), (0.0, 0.0), (50.0, 1.0)])
def test_prices_that_leave_no_choice(make, prices):
    """A better LLM that is no dearer makes delta IBC undefined: the best quality is taken, with the
    reason and the remedy.
    """
    outcomes = columns(pair_records(TYPICAL), PaperCost(prices, 0.0))
    router = make().fit(outcomes)
    assert follow(router, outcomes).score.mean() >= outcomes.scores.mean(axis=0).max()
    assert "leave the first tier out" in router.note_
    cheap = make(objective="target", target=0.9).fit(outcomes)
    assert (follow(cheap, outcomes).final == 1).any()


# --------------------------------------------------------------------------- single routers


def test_self_consistency_escalates_up_to_one_half():
    """The majority rule: 0.5 itself escalates, the next eighth does not."""
    assert routes(SelfConsistency(), [observe(v) for v in (0, 0.5, 0.625, 1)]) == [1, 1, 0, 0]


def test_the_ends_ignore_the_verifier():
    """AlwaysSLM keeps at the first tier; AlwaysLLM starts at the last and never stays below it."""
    assert not any(routes(AlwaysSLM()))
    assert all(routes(AlwaysLLM()))
    assert (AlwaysSLM.only_tier, AlwaysLLM.only_tier) == (0, -1)


def test_threshold_finds_the_boundary():
    """Gains up to 0.375 and none above: t is 0.375, with the share and the value beside it."""
    rows = [(k / 8, float(k > 3), 1.0) for k in range(9)]
    router = Threshold(objective="ibc").fit(columns(pair_records(rows)))
    assert router.policy_.rules == (0.375,)
    assert routes(router, [observe(k / 8) for k in range(9)]) == [k <= 3 for k in range(9)]
    assert router.policy_.escalation == pytest.approx(4 / 9)
    assert router.value_ == pytest.approx((4 / 9) / (1 + 50 * 4 / 9) / ((4 / 9) / 49) - 1)
    assert router.notes() == []
    assert "at most 0.375; undefined confidence: escalate" in router.describe()


@pytest.mark.parametrize("number", [2, 3])
@pytest.mark.parametrize("tiers", [(0,), (1,), (2,), (0, 1), (0, 2), (1, 2), (0, 1, 2)])
def test_a_policy_is_told_tier_by_tier(number, tiers):
    """Where it starts if not at the first tier, its rules, its bounds; one tier is not judged."""
    if tiers[-1] >= number:
        return
    rules = [0.25, 0.5][: len(tiers) - 1]
    policy = {"rules": rules, "score": 0.5, "cost": 7.0, "escalation": 0.125, "tiers": tiers,
              "num_tiers": number}  # fmt: skip
    bounds = [0.0625, None][: number - 1]
    router = Threshold()
    router.set_learned(
        {"policy": policy, "value": 0.5, "note": "a note", "family": [], "abstain": bounds}
    )
    lines = [f"start at tier {tiers[0]}"] if tiers[0] > 0 and rules else []
    for tier, after, rule in zip(tiers, tiers[1:], rules, strict=False):
        to = f" to tier {after}" if number > 2 else ""
        lines.append(f"tier {tier}: escalate{to} if the confidence is at most {rule}; undefined "
                     "confidence: escalate")  # fmt: skip
    if not rules:
        lines.append(f"ask tier {tiers[0]} alone, and verify nothing")
    elif tiers[0] == 0:
        lines.append("tier 0: abstain where an answer of at most 0.0625 would be kept")
    lines += ["fitting data: mean score 0.5, mean cost 7, escalation rate 0.125", "a note"]
    assert router.describe().splitlines() == lines


def test_observed_candidates_reach_between_the_eighths():
    """A boundary between two eighths is found among the observed confidences only."""
    rows = [(0.03, 0.0, 1.0), (0.05, 0.0, 1.0), (0.07, 1.0, 1.0), (0.09, 1.0, 1.0)]
    grid, seen = Threshold(EIGHTHS, objective="ibc"), Threshold(objective="ibc")
    assert grid.fit(columns(pair_records(rows))).policy_.rules == (0.125,)
    assert seen.fit(columns(pair_records(rows))).policy_.rules == (0.05,)


def test_observed_candidates_are_thinned():
    """Of very many confidences a thousand quantiles are tried, both ends among them."""
    records = pair_records([(k / 3000, float(k % 2), 1.0) for k in range(3001)])
    router = Threshold(candidates="observed", objective="ibc").fit(columns(records))
    tried = [p.rules[0] for p in router.family_ if not isinstance(p.rules[0], str)]
    assert len(tried) == 1000
    assert (tried[0], tried[-1]) == (0.0, 1.0)


def test_double_threshold_reaches_both_ends():
    """What gains between two bounds is found, also where the bounds are one, or 1."""
    for low, high in ((3, 5), (4, 4), (6, 8), (0, 2)):
        rows = [(k / 8, float(not low <= k <= high), 1.0) for k in range(9)]
        router = DoubleThreshold(objective="ibc").fit(columns(pair_records(rows)))
        assert router.policy_.rules == ([low / 8, high / 8],)


def test_greedy_takes_bins_by_gain():
    """Without smoothing the bins come in the order of their mean gain; empty ones gain nothing."""
    confidence = np.array([0.0, 0.0, 0.5, 1.0])
    found = greediest(nearest(confidence, 4), np.array([1.0, 0.0, 0.75, -1.0]), 4, 0.0)
    assert found == [
        [0, 0, 1, 0, 0],
        [1, 0, 1, 0, 0],
        [1, 0, 1, 1, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 1, 1, 1],
    ]


@pytest.mark.parametrize("sigma", [0.0, 0.5, 1.0, 3.0])
def test_greedy_orders_bins_by_their_smoothed_gain(sigma):
    """By scipy's filter of the bins' means, the best first, each with those before it."""
    rng = np.random.default_rng(2)
    bins, gain = np.repeat(np.arange(9), 3), rng.normal(size=27)
    mean = gain.reshape(9, 3).mean(axis=1)
    smooth = gaussian_filter1d(mean, sigma) if sigma else mean
    order = np.argsort(-smooth, kind="stable").tolist()
    expected = [[int(b in order[: k + 1]) for b in range(9)] for k in range(9)]
    assert greediest(bins, gain, 8, sigma) == expected


def test_greedy_smooths_over_its_neighbours():
    """A bin without a question between two that gain comes before one that does not gain."""
    confidence = np.array([0.0, 0.25, 1.0])
    found = greediest(nearest(confidence, 8), np.array([1.0, 1.0, 0.0]), 8, 2.0)
    assert found[2] == [1, 1, 1, 0, 0, 0, 0, 0, 0]


def test_states_of_the_first_version():
    """Complex, Simple, Unsolvable by the two scores; an SLM that is better is Simple."""
    slm = np.array([0.0, 0.5, 1.0, 0.0, 1.0, 0.2])
    llm = np.array([1.0, 0.5, 1.0, 0.0, 0.3, 0.1])
    expected = [COMPLEX, SIMPLE, SIMPLE, UNSOLVABLE, SIMPLE, SIMPLE]
    assert label_states(slm, llm).tolist() == expected


def test_policies_of_the_first_version_nest():
    """At most num_bins + 2 policies, the first keeps all, and each contains the one before."""
    random_ = np.random.RandomState(0)
    for bins in (1, 8, 10):
        shown = nearest(random_.random_sample(200), bins)
        found = policies(shown, random_.randint(0, 3, 200), bins)
        assert not any(found[0])
        assert len(found) <= bins + 2
        assert all((np.array(low) <= up).all() for low, up in itertools.pairwise(found))


def test_the_rule_of_the_first_version():
    """A bin is escalated iff p_C (r - 100) > 100 p_S + 99 p_U for some r below 5000."""
    states = np.array([COMPLEX] + [SIMPLE] * 48)  # turns at r = 4901
    assert [1, 0] in policies(np.zeros(49, dtype=int), states, 1)
    states = np.array([COMPLEX] + [SIMPLE] * 49)  # would turn at r = 5001
    assert policies(np.zeros(50, dtype=int), states, 1) == [[0, 0]]


def test_evidence_for_the_slm_is_not_dropped():
    """Questions the SLM answers better count against escalating their confidence."""
    low = [(0.0, 0.0, 1.0)] * 20 + [(0.0, 1.0, 0.0)] * 80
    half = [(0.5, 0.0, 1.0), (0.5, 1.0, 1.0)] * 20
    tried = PomdpV1(num_bins=2, objective="ibc").fit(columns(pair_records([*low, *half]))).family_
    assert {json.dumps(p.rules[0]) for p in tried} == {
        '"never"', "[0, 0, 0]", "[0, 1, 0]", "[1, 1, 0]",
    }  # fmt: skip


def test_no_monotone_threshold_suits_a_peak():
    """Where the gain peaks at middle confidence the union takes what a threshold cannot."""
    rows = [(k / 8, float(k not in (4, 5)), 1.0 if k < 7 else 0.5) for k in range(9)] * 5
    outcomes = columns(pair_records(rows))
    union, threshold = (
        Union(objective="ibc").fit(outcomes),
        Threshold(objective="ibc").fit(outcomes),
    )
    assert union.value_ > threshold.value_ + 0.5
    assert routes(union, [observe(k / 8) for k in range(9)]) == [k in (4, 5) for k in range(9)]


def test_the_costs_matter():
    """A dear verifier makes escalating more worth while: the cost model is not ignored."""
    rows = [(0.0, 0.0, 1.0)] * 2 + [(0.5, 0.0, 1.0), (0.5, 1.0, 1.0)] + [(1.0, 1.0, 1.0)] * 4
    cheap = Threshold(objective="ibc").fit(columns(pair_records(rows), PaperCost((1, 50), 0.0)))
    dear = Threshold(objective="ibc").fit(columns(pair_records(rows), PaperCost((1, 50), 40.0)))
    assert (cheap.policy_.rules, dear.policy_.rules) == ((0.0,), (0.5,))


@pytest.mark.parametrize("make", [*MAKERS, Pomdp])
def test_a_worse_llm_is_never_asked(make):
    """Where the LLM does not score higher the policy keeps everything and its note says why."""
    rows = [(k / 8, 1.0, k / 8) for k in range(9)] + [(None, 1.0, 0.0)]
    router = make().fit(columns(pair_records(rows)))
    assert not any(routes(router))
    assert any("not better" in note for note in router.notes())


# --------------------------------------------------------------------------- confidences

CONFIDENT = [SelfConsistency, *MAKERS, Pomdp]


def fitted(make, **kwargs):
    """A router fitted on the typical records."""
    return make(**kwargs).fit(columns(pair_records(TYPICAL)))


@pytest.mark.parametrize("make", CONFIDENT)
def test_undefined_confidences_follow_the_setting(make):
    """Escalate, keep, or the same as the confidence that stands in."""
    nothing = [observe(None)]
    assert routes(fitted(make, undefined="escalate"), nothing) == [True]
    assert routes(fitted(make, undefined="keep"), nothing) == [False]
    for value in (0, 0.0, 1, 1.0):
        router = fitted(make, undefined=value)
        assert routes(router, nothing) == routes(router, [observe(value)])


@pytest.mark.parametrize("make", CONFIDENT)
@pytest.mark.parametrize("bad", [float("nan"), 1.1, -0.1, float("inf"), "0.5"])
def test_a_confidence_that_is_none_is_an_error(make, bad):
    """NaN, a text and numbers far from [0, 1] are named with task, document and tier."""
    router = fitted(make)
    with pytest.raises(AutoMixError, match="task toy, doc_id 7, tier 0"):
        router.decide([observe(bad)])


@pytest.mark.parametrize("make", CONFIDENT)
def test_rounding_and_integers_are_confidences(make):
    """A sum slightly over 1, integers and numpy numbers decide as the plain number does."""
    router = fitted(make)
    top = routes(router, [observe(1.0)])
    for value in (1, 1 + 1e-12, np.float32(1.0), np.int64(1)):
        assert routes(router, [observe(value)]) == top
    if make is Threshold:
        assert routes(ruled(router, 1.0), [observe(1 + 1e-12)]) == [True]
    assert routes(router, [observe(-1e-12), observe(0)]) == routes(router, [observe(0.0)] * 2)


@pytest.mark.parametrize("make", [*MAKERS, Pomdp])
def test_a_nan_confidence_cannot_be_fitted(make):
    """NaN in the fitting data is named, never ranked."""
    records = pair_records([*TYPICAL, (float("nan"), 0.0, 1.0)])
    with pytest.raises(AutoMixError, match=f"task toy, doc_id {len(TYPICAL)}, tier 0"):
        make().fit(columns(records))


@pytest.mark.parametrize("make", [*MAKERS, Pomdp])
def test_incomplete_records_are_named(make):
    """A tier not asked, prices for another chain."""
    records = pair_records(TYPICAL)
    lost = dataclasses.replace(records[3], tiers=records[3].tiers[:1])
    with pytest.raises(AutoMixError, match=r"doc_id 3: tier 1 was not asked.*record=full"):
        make().fit(columns([*records, lost]))
    with pytest.raises(AutoMixError, match="3 prices for 2 tiers"):
        make().fit(columns(records, PaperCost((1.0, 10.0, 50.0))))


@pytest.mark.parametrize(
    ("make", "kwargs"),
    [
        (SelfConsistency, {"undefined": "maybe"}),
        (SelfConsistency, {"undefined": 1.5}),
        (SelfConsistency, {"undefined": True}),
        (SelfConsistency, {"undefined": None}),
        (Threshold, {"candidates": []}),
        (Threshold, {"candidates": "seen"}),
        (Threshold, {"candidates": [0.5, 1.5]}),
        (Threshold, {"candidates": [float("nan")]}),
        (Threshold, {"candidates": ["0.5"]}),
        (Threshold, {"objective": "__import__('os')"}),
        (Threshold, {"min_escalation": -0.1}),
        (Threshold, {"budget": -1.0}),
        (Threshold, {"objective": "budget"}),
        (DoubleThreshold, {"num_bins": 0}),
        (DoubleThreshold, {"num_bins": 201}),
        (Greedy, {"num_bins": 8.0}),
        (Greedy, {"sigma": -1.0}),
        (PomdpV1, {"num_bins": True}),
        (Union, {"num_bins": 201}),
        (Union, {"sigma": "wide"}),
        (Pomdp, {"num_bins": 1}),
        (Pomdp, {"num_bins": 17.0}),
        (Pomdp, {"bandwidth": "wide"}),
        (Pomdp, {"bandwidth": 0}),
        (Pomdp, {"ridge": 0}),
        (Pomdp, {"lambda_": -0.5}),
        (Pomdp, {"lambda_": float("nan")}),
    ],
)
def test_wrong_hyper_parameters_are_named(make, kwargs):
    """The message names the setting; nothing is evaluated, nothing coerced from text."""
    named = {"budget": "mean_cost"}  # as the command line names it
    wrong = next(iter(kwargs))
    with pytest.raises(AutoMixError, match=named.get(wrong, wrong)):
        make(**kwargs)


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (Threshold, 2.0),
        (Threshold, "0.5"),
        (Threshold, [0.5]),
        (DoubleThreshold, [0.75, 0.25]),
        (DoubleThreshold, 0.5),
        (Greedy, [1, 0]),
        (Greedy, [2] * 9),
        (PomdpV1, "sometimes"),
        (Union, {"method": "pomdp", "rule": 0.5}),
        (Union, {"method": "threshold", "rule": 7}),
        (Union, 0.5),
    ],
)
def test_a_damaged_rule_is_refused(make, rule):
    """Each rule of a stored policy is checked, and the message names the meta-verifier."""
    learned = fitted(make).get_learned()
    learned["policy"]["rules"] = [rule]
    with pytest.raises(AutoMixError, match=f"meta_verifier={make.name}"):
        make().set_learned(learned)


@pytest.mark.parametrize(
    "change",
    [{"escalation": 7}, {"score": "high"}, {"cost": float("nan")}, {"rules": []}, {"rules": 1}],
)
def test_a_damaged_policy_is_refused(change):
    """So is each number."""
    learned = fitted(Threshold).get_learned()
    learned["policy"].update(change)
    with pytest.raises(AutoMixError, match="meta_verifier=threshold"):
        Threshold().set_learned(learned)


@pytest.mark.parametrize("make", MAKERS)
def test_a_policy_for_other_tiers_is_refused(make):
    """A policy of two tiers meets a chain of three: the message says what it was fitted for."""
    with pytest.raises(AutoMixError, match="fitted for 2 tiers and meets a chain of 3"):
        fitted(make).decide([observe(0.25, 0, 3)])


def test_a_finer_grid_refuses_a_coarser_policy():
    """The bins of a policy are those of the hyper-parameters it is loaded with."""
    learned = fitted(Greedy).get_learned()
    with pytest.raises(AutoMixError, match="zeros and ones"):
        Greedy(num_bins=16).set_learned(learned)
