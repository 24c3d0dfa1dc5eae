"""Laws of the meta-verifiers."""

from __future__ import annotations

import dataclasses
import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router_records import GRID, TYPICAL, columns, observe, pair_records, record

from automix_eval.costs.paper import PaperCost
from automix_eval.meta_verifiers.always_llm import AlwaysLLM
from automix_eval.meta_verifiers.always_slm import AlwaysSLM
from automix_eval.meta_verifiers.pomdp import Pomdp
from automix_eval.meta_verifiers.self_consistency import SelfConsistency
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.types import AutoMixError

LEARNERS = [
    lambda: Threshold(),
    lambda: Threshold(candidates="observed"),
]
EIGHTH = st.integers(0, 8).map(lambda k: k / 8)
SCORE = st.sampled_from([0.0, 0.5, 1.0])
ROWS = st.lists(st.tuples(EIGHTH, SCORE, SCORE), min_size=2, max_size=25)
quick = settings(max_examples=30, deadline=None, derandomize=True)


def routes(router, observations=GRID):
    """Which observations a router escalates."""
    return [d.escalates for d in router.decide(observations)]


# --------------------------------------------------------------------------- laws


@pytest.mark.parametrize("make", [*LEARNERS, lambda: Pomdp()])
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
    """Every record several times over is the same evidence.

    A state with a single record has no density of its own, so each stands there twice at least.
    """
    records = pair_records(rows) * 2
    once, again = make().fit(columns(records)), make().fit(columns(records * times))
    assert routes(once) == routes(again)


@quick
@given(rows=ROWS, v=EIGHTH)
def test_thresholds_nest(rows, v):
    """Whoever escalates v escalates every lower confidence, and what never and always say holds."""
    router = Threshold().fit(columns(pair_records(rows)))
    lower = [observe(u / 8) for u in range(9) if u / 8 <= v]
    if routes(router, [observe(v)])[0]:
        assert all(routes(router, lower))
    previous = -1
    for t in ("never", *[k / 8 for k in range(9)], "always"):
        rule = dataclasses.replace(router.rules_[0], threshold=t)
        router.rules_ = (rule,)
        count = sum(routes(router))
        assert count > previous or t == "always"
        previous = count


@quick
@given(rows=ROWS)
def test_no_candidate_is_better_than_the_fitted_threshold(rows):
    """Brute force over all thresholds finds no larger delta IBC."""
    records = pair_records(rows)
    router = Threshold(min_escalation=0.0).fit(columns(records))
    slm, llm = (np.mean([r.tier(t).score for r in records]) for t in (0, 1))
    if llm <= slm:
        assert router.rules_[0].threshold == "never"
        return
    best = -np.inf
    for t in (-1, *[k / 8 for k in range(9)]):
        up = [r.tier(0).verification.confidence <= t for r in records]
        score = np.mean([r.tier(int(u)).score for r, u in zip(records, up, strict=True)])
        best = max(best, (score - slm) / (1 + 50 * np.mean(up)) / ((llm - slm) / 49) - 1)
    assert router.rules_[0].objective == pytest.approx(best)


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
    router = Threshold().fit(columns(pair_records(rows)))
    rule = router.rules_[0]
    assert rule.threshold == 0.375
    assert routes(router, [observe(k / 8) for k in range(9)]) == [k <= 3 for k in range(9)]
    assert rule.escalation == pytest.approx(4 / 9)
    assert rule.objective == pytest.approx((4 / 9) / (1 + 50 * 4 / 9) / ((4 / 9) / 49) - 1)
    assert rule.note == ""


def test_observed_candidates_reach_between_the_eighths():
    """A boundary between two eighths is found among the observed confidences only."""
    rows = [(0.03, 0.0, 1.0), (0.05, 0.0, 1.0), (0.07, 1.0, 1.0), (0.09, 1.0, 1.0)]
    grid, seen = Threshold(), Threshold(candidates="observed")
    assert grid.fit(columns(pair_records(rows))).rules_[0].threshold == 0.125
    assert seen.fit(columns(pair_records(rows))).rules_[0].threshold == 0.05


def test_the_costs_matter():
    """A dear verifier makes escalating more worth while: the cost model is not ignored."""
    rows = [(0.0, 0.0, 1.0)] * 2 + [(0.5, 0.0, 1.0), (0.5, 1.0, 1.0)] + [(1.0, 1.0, 1.0)] * 4
    cheap = Threshold().fit(columns(pair_records(rows), PaperCost((1, 50), 0.0))).rules_[0]
    dear = Threshold().fit(columns(pair_records(rows), PaperCost((1, 50), 40.0))).rules_[0]
    assert (cheap.threshold, dear.threshold) == (0.0, 0.5)


@pytest.mark.parametrize("make", [Threshold, Pomdp])
def test_a_worse_llm_is_never_asked(make):
    """Where the LLM does not score higher the policy keeps everything and its note says why."""
    rows = [(k / 8, 1.0, k / 8) for k in range(9)] + [(None, 1.0, 0.0)]
    router = make().fit(columns(pair_records(rows)))
    assert not any(routes(router))
    rule = router.rule_ if make is Pomdp else router.rules_[0]
    assert "not better" in rule.note


def test_each_tier_has_its_own_rule():
    """In a chain of three the second rule is learned from the second and third tier."""
    rows = [
        record(i, (0.0 if v <= 0.5 else 1.0, 1.0, 1.0), (v, 1.0 - v))
        for i, v in enumerate(k / 8 for k in range(9))
    ]
    router = Threshold().fit(columns(rows, PaperCost((1.0, 10.0, 50.0))))
    assert len(router.rules_) == 2
    assert router.decide([observe(0.25, 0, 3)])[0].to == 1
    assert router.decide([observe(0.25, 1, 3)])[0].to == 1
    with pytest.raises(AutoMixError, match="fitted for 3 tiers and meets a chain of 2"):
        router.decide([observe(0.25)])


# --------------------------------------------------------------------------- confidences

CONFIDENT = [SelfConsistency, Threshold, Pomdp]


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
        router.rules_ = (dataclasses.replace(router.rules_[0], threshold=1.0),)
        assert routes(router, [observe(1 + 1e-12)]) == [True]
    assert routes(router, [observe(-1e-12), observe(0)]) == routes(router, [observe(0.0)] * 2)


@pytest.mark.parametrize("make", [Threshold, Pomdp])
def test_a_nan_confidence_cannot_be_fitted(make):
    """NaN in the fitting data is named, never ranked."""
    records = pair_records([*TYPICAL, (float("nan"), 0.0, 1.0)])
    with pytest.raises(AutoMixError, match=f"task toy, doc_id {len(TYPICAL)}, tier 0"):
        make().fit(columns(records))


@pytest.mark.parametrize("make", [Threshold, Pomdp])
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
        (Threshold, {"candidates": [0.5, 2.0]}),
        (Threshold, {"candidates": [float("nan")]}),
        (Threshold, {"candidates": ["0.5"]}),
        (Threshold, {"objective": "__import__('os')"}),
        (Threshold, {"min_escalation": -0.1}),
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
    with pytest.raises(AutoMixError, match=f"meta_verifier.{next(iter(kwargs))}"):
        make(**kwargs)


@pytest.mark.parametrize(
    "change",
    [
        {"threshold": 2.0},
        {"threshold": "0.5"},
        {"escalation": 7},
        {"note": None},
        {"objective": "x"},
    ],
)
def test_a_damaged_threshold_policy_is_refused(change):
    """Each field of a stored rule is checked."""
    learned = fitted(Threshold).get_learned()
    learned["rules"][0].update(change)
    with pytest.raises(AutoMixError, match="threshold"):
        Threshold().set_learned(learned)
