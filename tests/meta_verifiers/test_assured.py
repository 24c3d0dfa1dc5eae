"""The objectives that answer "what may I use": gain, assured, loss; and skipping tiers."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from automix_eval.meta_verifiers.assured import HeldOutSweep, Placed
from automix_eval.meta_verifiers.base import Router
from automix_eval.meta_verifiers.baselines.knn import Knn
from automix_eval.meta_verifiers.baselines.logistic import Logistic
from automix_eval.meta_verifiers.baselines.oracle import Oracle
from automix_eval.meta_verifiers.baselines.random import Random
from automix_eval.meta_verifiers.calibrated import Calibrated
from automix_eval.meta_verifiers.calibrators.isotonic import Isotonic
from automix_eval.meta_verifiers.double_threshold import DoubleThreshold
from automix_eval.meta_verifiers.fixed_answer import FixedAnswer
from automix_eval.meta_verifiers.follow import follow, sampled
from automix_eval.meta_verifiers.greedy import Greedy
from automix_eval.meta_verifiers.objectives import Ends, Selection, select
from automix_eval.meta_verifiers.pairs import Pairs
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.meta_verifiers.union import Union
from automix_eval.metrics.curves import envelope, quality_at
from automix_eval.metrics.noninferiority import PairedScores
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError


def world(n, seed=0, right=(lambda v: v, lambda v: 0.9 + 0 * v), costs=(1.0, 50.0), group=1):
    """N questions: each tier is right with the probability that its function gives of v."""
    rng = np.random.default_rng(seed)
    v = rng.random(n)
    shape = (n, len(costs))
    scores = np.stack([rng.random(n) < p(v) for p in right], axis=1).astype(float)
    confidences = np.tile(v[:, None], (1, len(costs)))
    confidences[:, -1] = np.nan
    return Outcomes(
        scores, np.tile(costs, (n, 1)), confidences, np.zeros(shape),
        tuple(f"t{i}" for i in range(len(costs))), tuple(f"q{i}" for i in range(n)),
        documents=tuple(f"d{i // group}" for i in range(n)),
    )  # fmt: skip


def test_gain_is_the_height_above_the_chord():
    """Between two tiers: P - [P_SLM + IBC_base (C - C_SLM)], the largest, and said as the value."""
    ends = Ends(0.4, 1.0, 0.8, 51.0)
    score, cost = np.array([0.4, 0.6, 0.7, 0.8]), np.array([1.0, 11.0, 30.0, 51.0])
    found = select(score, cost, np.array([0.0, 0.2, 0.5, 1.0]), ends, Selection())
    assert found.index == 1
    assert found.value == pytest.approx(0.6 - (0.4 + 0.4 / 50 * 10))


def test_gain_measures_against_a_tier_between_that_beats_the_chord():
    """The line of three tiers is the upper hull of the single ones, not the chord."""
    ends = Ends(0.4, 1.0, 0.8, 51.0, ((5.0, 0.75),))
    assert ends.coin_toss(np.array([5.0]))[0] == pytest.approx(0.75)
    found = select(np.array([0.7]), np.array([5.0]), np.ones(1), ends, Selection())
    assert found.value == pytest.approx(-0.05)


def test_equal_prices_do_not_take_ibc_over():
    """A second tier that costs next to nothing more has no slope without end by ibc."""
    ends = Ends(0.4, 1.0, 0.9, 50.0, ((1.0001, 0.45),))
    score, cost = np.array([0.45, 0.8]), np.array([1.0001, 15.0])
    assert select(score, cost, np.ones(2), ends, Selection(objective="ibc")).index == 1


def test_a_slope_without_end_is_taken_where_there_is_no_other():
    """Of policies that all cost next to nothing more the best is compared as it is."""
    ends = Ends(0.4, 1.0, 0.9, 50.0, ((1.0001, 0.45),))
    score, cost = np.array([0.4, 0.41, 0.45]), np.array([1.0, 1.0001, 1.0001])
    found = select(score, cost, np.array([0.0, 1.0, 1.0]), ends, Selection(objective="ibc"))
    assert (found.index, found.note) == (2, "")
    assert found.value == pytest.approx((0.05 / 0.0001) / (0.5 / 49) - 1)


def test_loss_is_the_cost_and_the_price_of_errors():
    """The least cost + E (1 - P); the dearer the errors, the dearer the policy."""
    ends = Ends(0.4, 1.0, 0.8, 50.0)
    score, cost = np.array([0.4, 0.7, 0.8]), np.array([1.0, 20.0, 50.0])
    shares = np.array([0.0, 0.5, 1.0])
    chosen = [
        select(score, cost, shares, ends, Selection(objective="loss", error_price=e))
        for e in (10.0, 100.0, 1000.0)
    ]  # fmt: skip
    assert [c.index for c in chosen] == [0, 1, 2]
    assert chosen[1].value == pytest.approx(20 + 100 * 0.3)


@pytest.mark.parametrize("price", [0, -1.0, None, float("nan")])
def test_an_error_must_have_a_price(price):
    """0, a negative one and none are refused by name."""
    with pytest.raises(AutoMixError, match="error_price"):
        Selection(objective="loss", error_price=price)


def test_no_sliver_from_few_rows_but_a_hump_from_many():
    """A band whose neighbours are kept must be shown by the data; one that is there is found."""

    def escalated(n, right):
        router = DoubleThreshold(num_bins=8).fit(world(n, 3, right))
        return follow(router, world(400, 9, right)).final

    flat = (lambda v: 0.5 + 0 * v, lambda v: 0.6 + 0 * v)
    for seed in range(10):
        policy = DoubleThreshold().fit(world(30, seed, flat)).policy_
        bounds = [r for r in policy.rules if isinstance(r, list)]
        assert all(a <= 0.0 or b >= 1.0 for a, b in bounds)
    hump = (lambda v: 0.4 + 0 * v, lambda v: 0.4 + 0.5 * np.exp(-(((v - 0.6) / 0.12) ** 2)))
    assert 0.1 < (escalated(1000, hump) == 1).mean() < 0.6


@pytest.mark.parametrize("make", [Threshold, Knn, Random, Oracle])
@pytest.mark.parametrize("target", [0.001, 9.0])
def test_what_is_assured_is_one_of_the_range(make, target):
    """Next to nothing is held by the cheapest policy, too much by none: the dearest, and a note."""
    data = world(30)
    chosen = make(objective="assured", target=target).fit(data)
    taken = Placed.of(chosen, data).policies[-1 if target < 1 else 0]
    assert follow(chosen, data).final.tolist() == follow(taken, data).final.tolist()
    assert ("not shown by 30" if target > 1 else "holds 0.001") in chosen.notes()[0]
    assert chosen.objective == "assured"


@pytest.mark.parametrize("make", [Threshold, Pomdp])
def test_what_is_assured_holds_on_new_questions(make):
    """Misses are no more than a promise of 90 % allows."""
    new = world(20_000, 100)
    missed = 0
    for seed in range(10):
        router = make(objective="assured", target=0.95).fit(world(200, seed))
        missed += follow(router, new).score.mean() < 0.95 * new.scores[:, -1].mean()
    assert missed <= 2


def test_a_sample_puts_policies_in_order_and_all_questions_prove_them(monkeypatch):
    """Of very many questions the sweep is ordered by some; what is shown is shown by every one."""
    rows = world(3_000)
    whole = Threshold(objective="assured", target=0.9).fit(rows)
    monkeypatch.setattr("automix_eval.meta_verifiers.follow.MOST", 500)
    few = Threshold(objective="assured", target=0.9).fit(rows)
    path = follow(few, rows)
    assert path.score.mean() >= 0.9 * rows.scores[:, -1].mean()
    assert path.cost.mean() == pytest.approx(follow(whole, rows).cost.mean(), rel=0.1)
    assert few.notes() != []
    assert "by 3000 fitting questions" in " ".join(few.notes())


def test_a_sample_is_so_many_different_questions_in_their_order(monkeypatch):
    """The same every time; of no more than that many all."""
    rows = world(50)
    monkeypatch.setattr("automix_eval.meta_verifiers.follow.MOST", 20)
    places = [rows.ids.index(name) for name in sampled(rows).ids]
    assert len(places) == len(set(places)) == 20
    assert places == sorted(places) != list(range(20))
    assert sampled(rows).ids == sampled(rows).ids
    monkeypatch.setattr("automix_eval.meta_verifiers.follow.MOST", 50)
    assert sampled(rows).ids == rows.ids


def test_what_cannot_be_shown_is_said_and_asks_the_last_tier():
    """From a few questions nothing is promised: the note says so, and how many would be needed."""
    poor = (lambda v: 0.2 + 0 * v, lambda v: 0.9 + 0 * v)
    router = Threshold(objective="assured", target=0.99).fit(world(12, 0, poor))
    assert follow(router, world(50, 1)).final.tolist() == [1] * 50
    assert "not shown by 12" in router.notes()[0]
    # of a long sweep too the last tier is asked alone, without an answer that is thrown away
    many = Threshold(objective="assured", target=1.2, candidates="observed").fit(
        world(100, 0, poor)
    )
    assert follow(many, world(50, 1)).cost.tolist() == [50.0] * 50
    shown = Threshold(objective="assured", target=0.8).fit(world(400))
    assert "holds 0.8" in shown.notes()[0]
    assert "90% confidence" in shown.notes()[0]
    again = Threshold(objective="assured", target=0.8)
    again.set_learned(shown.get_learned())
    assert again.notes() == shown.notes()


@pytest.mark.parametrize("group", [1, 30])
def test_a_last_tier_that_is_the_cheapest_needs_no_proof(group):
    """Nothing is cheaper, and no bound of its own quality below itself, or of minus infinity."""
    found = Threshold(objective="assured", target=1.0).fit(
        world(60, costs=(50.0, 1.0), group=group)
    )
    assert found.notes() == ["assured: no policy is cheaper than the last tier, asked always"]
    assert found.only_tier == -1


def test_one_document_shows_nothing():
    """Without a second document there is no spread to judge by."""
    router = Threshold(objective="assured", target=0.5).fit(world(60, group=60))
    assert "not shown" in router.notes()[0]
    assert "at least 10 documents, there is one" in router.notes()[0]


class Way(Router):
    """Asks the same tiers of every question."""

    def __init__(self, *tiers):
        self.tiers = tiers

    def choose(self, seen):
        """The next of them."""
        return np.full(len(seen), min((t for t in self.tiers if t > seen.tier), default=seen.tier))


class Ways(Way):
    """A range of them."""

    def sweep(self):
        """All of them."""
        return [(None, Way(*tiers)) for tiers in self.tiers]


@pytest.mark.parametrize(
    ("ways", "kept"),
    [
        # the last tier alone is there: what costs as much or more is left out
        ([(0,), (0, 1), (0, 1, 2), (2,), (1,)], [(2,), (0, 1), (1,), (0,)]),
        # it is not: the cheapest way to ask it always comes first
        ([(0,), (0, 1, 2), (1, 2), (0, 1)], [(1, 2), (0, 1), (0,)]),
        ([(0, 1), (0,)], [(0, 1), (0,)]),
    ],
)
def test_tests_begin_with_the_cheapest_way_to_the_last_tier(ways, kept):
    """From there downward in cost; each is scored by the nearest policy fitted without the fold."""
    flat = (lambda v: 0.3 + 0 * v, lambda v: 0.5 + 0 * v, lambda v: 0.7 + 0 * v)
    data, fitted, fits = world(30, 1, flat, (1.0, 5.0, 20.0), group=2), Ways(*ways), []

    def fit(some):
        fits.append(some.ids)
        return Placed.of(Ways((0,), (2,)), some)

    folds = np.arange(30) // 2 % 3
    found = HeldOutSweep.of(fit, fitted, data, folds)
    assert [way.tiers for way in found.policies] == kept
    assert fits == [tuple(np.array(data.ids)[folds != f]) for f in range(3)]
    swept = Placed.of(fitted, data)
    costs = np.array([follow(way, data).cost.mean() for way in swept.policies])
    assert swept.places == pytest.approx((costs - costs[-1]) / (costs[0] - costs[-1]))
    for score, place in zip(found.scores, swept.places[-len(kept) :], strict=True):
        assert score.tolist() == data.scores[:, 2 if place > 0.5 else 0].tolist()


@pytest.mark.parametrize("most", [3, 4, 9])
def test_so_many_places_are_tested(monkeypatch, most):
    """Of more policies those nearest to equal places; the limit included, all of them."""
    monkeypatch.setattr("automix_eval.meta_verifiers.assured.PLACES", most)
    flat = tuple(lambda v, t=t: t + 0 * v for t in (0.3, 0.5, 0.6, 0.7))
    data = world(20, 1, flat, (1.0, 2.0, 3.0, 21.0))
    found = Placed.of(Ways((1,), (3,), (0,), (2,)), data)
    assert [way.tiers[0] for way in found.policies] == ([3, 2, 0] if most < 4 else [3, 2, 1, 0])
    assert found.places.tolist() == ([1.0, 0.1, 0.0] if most < 4 else [1.0, 0.1, 0.05, 0.0])


@pytest.mark.parametrize(
    ("kept", "target", "taken"),
    [([1, 1, 0, 1], 0.8, 1), ([1, 0, 1, 1], 0.8, 0), ([1, 1, 1], 0.99, 0), ([1], 0.99, 0)],
)
def test_policies_are_tested_until_one_fails(kept, target, taken):
    """The last that passed is taken; where none did, so many questions more would show the best.

    The distance of the bound from the mean falls with the root of their number.
    """
    data = world(60, 0, (lambda v: v, lambda v: 0.9 + 0 * v))
    last = data.scores[:, -1]
    ways = [Way(1), Way(0, 1), Way(0), Way(0)][: len(kept)]
    scores = np.array([share * last for share in kept])
    promise = HeldOutSweep(data, np.arange(60), ways, scores).choose(target, 0.9)
    assert promise.policy is ways[taken]
    assert promise.cost == follow(ways[taken], data).cost.mean()
    assert promise.shown == (taken > 0 or len(kept) == 1)
    bound = PairedScores.of(last, last, np.arange(60)).lower_bound(target, 0.9)
    mean = (1 - target) * last.mean()
    needed = None if promise.shown or not kept[1] else math.ceil(60 * ((mean - bound) / mean) ** 2)
    assert promise.needed == needed
    if taken:
        assert f"(at least {target + bound / last.mean():.4g} of it, by 60" in promise.words
    elif needed:
        assert promise.words.endswith(f"about {needed:,} would be needed")


@pytest.mark.parametrize("target", [0.5, 0.9, 0.95, 0.99, 1.0])
@pytest.mark.parametrize("seed", range(4))
def test_more_questions_are_needed_than_did_not_show_it(target, seed):
    """The one that is tested first decides, though cheaper ones that are not reached would pass."""
    rng = np.random.default_rng(seed)
    data = world(60, 0, (lambda v: v, lambda v: 0.9 + 0 * v))
    last = data.scores[:, -1]
    noisy = last + rng.normal(0.06, 0.6, 60)
    scores = np.array([last, noisy, last])
    promise = HeldOutSweep(data, np.arange(60), [Way(1), Way(0, 1), Way(0)], scores).choose(
        target, 0.9
    )
    if promise.shown:
        return
    mean = (noisy - target * last).mean()
    assert (promise.needed or 61) > 60
    assert (promise.needed is None) == (mean <= 0)
    assert promise.more in promise.words
    if promise.needed is None and target < 1:
        assert "tested first" in promise.more


CHAIN = (
    lambda v: 0.3 + 0.2 * v,
    lambda v: 0.75 + 0 * v,
    lambda v: 0.6 + 0 * v,
    lambda v: 0.9 + 0 * v,
)


@pytest.mark.parametrize("make", [Threshold, Pairs])
@pytest.mark.parametrize("seed", [0, 1])
def test_no_chain_loses_to_mixing_single_models(make, seed):
    """On the fitting data the sweep's curve lies nowhere below the hull of the single tiers."""
    data = world(200, seed, CHAIN, (1.0, 5.0, 20.0, 50.0))
    points = []
    for cost, policy in make().fit(data).sweep():
        path = follow(policy, data)
        assert path.cost.mean() == pytest.approx(cost)
        points.append((path.cost.mean(), path.score.mean()))
    for cost, quality in envelope(Ends.of(data).singles):
        assert quality_at(points, cost) >= quality - 1e-9


def test_a_pair_asks_two_tiers_at_most():
    """Whatever the chain, a policy of pairs knows one or two of its tiers."""
    data = world(150, 2, CHAIN, (1.0, 5.0, 20.0, 50.0))
    for _, policy in Pairs().fit(data).sweep():
        assert follow(policy, data).visited.any(axis=0).sum() <= 2


def test_one_tier_alone_is_not_verified():
    """A policy that asks one tier pays for no verification."""
    data = world(100, 0, (lambda v: 0.5 + 0 * v, lambda v: 0.5 + 0 * v))
    data = replace(data, verification_costs=np.full((100, 2), 3.0))
    cheapest = Threshold().fit(data).sweep()[0][1]
    assert not cheapest.needs_verification
    assert follow(cheapest, data).cost.mean() == pytest.approx(1.0)


@pytest.mark.parametrize(
    "make",
    [
        *(Threshold, DoubleThreshold, Greedy, Union, Pairs, Knn, Logistic, Pomdp),
        lambda **given: Calibrated(Threshold(**given), Isotonic),
        lambda **given: FixedAnswer(Threshold(**given), ["no answer"]),
    ],
)
def test_what_is_not_shown_asks_the_last_tier_whatever_the_range_holds(make):
    """A range of three tiers ends where no dearer policy is better on the fitting questions.

    The second tier and its confidence are as good as the last: the last alone, which costs more, is
    in no such range, and no cheaper policy can be shown to keep 99.9 % by 60 questions.
    """
    certain = (lambda v: 0.3 + 0 * v, lambda v: (v > 0.3).astype(float), lambda v: 0.9 + 0 * v)
    rows = world(60, right=certain, costs=(1.0, 2.0, 50.0))
    rows = replace(rows, answers=(("x",) * 60,) * 3)
    dearest = Placed.of(make(objective="gain").fit(rows), rows).policies[0]
    assert (follow(dearest, rows).final == 2).all()
    promised = make(objective="assured", target=0.999).fit(rows)
    if any("asked always" in note for note in promised.notes()):
        assert (follow(promised, rows).final == 2).all()
