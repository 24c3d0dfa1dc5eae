"""Parts of the routers against what defines them, worked out the long way."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples
from router_records import answer
from test_pomdp_solver import every_policy, grid_cells, problem

from automix_eval.meta_verifiers.base import see
from automix_eval.meta_verifiers.baselines.knn import Knn
from automix_eval.meta_verifiers.baselines.oracle import Oracle
from automix_eval.meta_verifiers.compiled import NotCompiledError, compile_policy
from automix_eval.meta_verifiers.cross_fitted import CrossFitted
from automix_eval.meta_verifiers.double_threshold import DoubleThreshold
from automix_eval.meta_verifiers.greedy import Greedy
from automix_eval.meta_verifiers.objectives import Ends, Selection, select
from automix_eval.meta_verifiers.pomdp.costs import make_levels
from automix_eval.meta_verifiers.pomdp.family import family, replay
from automix_eval.meta_verifiers.pomdp.problem import COMPLEX, SIMPLE, UNSOLVABLE, label_states
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.meta_verifiers.pomdp.solve import Solver
from automix_eval.meta_verifiers.rules import long_chains
from automix_eval.meta_verifiers.rules.cells import FittingData
from automix_eval.meta_verifiers.rules.chain_search import prices_of_quality
from automix_eval.meta_verifiers.self_consistency import SelfConsistency
from automix_eval.meta_verifiers.threshold import Threshold, thin
from automix_eval.records.outcomes import Outcomes, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Observation, Prompt, Question

quick = settings(max_examples=examples(50))


def outcomes(scores, costs, confidences=None):
    """Columns of bare numbers."""
    scores = np.array(scores, dtype=float)
    shown = np.full_like(scores, np.nan) if confidences is None else np.array(confidences)
    names = tuple(f"t{t}" for t in range(scores.shape[1]))
    ids = tuple(f"q{i}" for i in range(len(scores)))
    return Outcomes(scores, np.array(costs, dtype=float), shown, np.zeros_like(scores), names, ids)


@quick
@given(
    st.integers(2, 3).flatmap(
        lambda n: st.lists(
            st.tuples(*[st.tuples(st.integers(0, 4), st.integers(1, 6))] * n),
            min_size=2,
            max_size=8,
        )
    )
)
def test_the_oracle_is_the_best_at_some_price(rows):
    """Prices are all at which a choice changes; each question gets score - price * cost's best."""
    scores = [[Fraction(s, 4) for s, _ in row] for row in rows]
    costs = [[c for _, c in row] for row in rows]
    prices = {
        (s[b] - s[a]) / (c[b] - c[a])
        for s, c in zip(scores, costs, strict=True)
        for a, b in itertools.permutations(range(len(s)), 2)
        if c[b] > c[a] and s[b] > s[a]
    }
    prices = [*sorted(prices, reverse=True), Fraction(0)]
    data = outcomes(scores, costs)
    made = Oracle().fit(data)
    assert made.prices_ == pytest.approx([float(p) for p in prices])
    played = []
    for price, (said, policy) in zip(prices, made.sweep(), strict=True):
        worth = [
            [(s - price * c, -c) for s, c in zip(*row, strict=True)]
            for row in zip(scores, costs, strict=True)
        ]
        best = [row.index(max(row)) for row in worth]
        start = Seen(-1, data.num_tiers, np.empty((len(rows), 0)), hindsight=data)
        assert said == policy.price_ == float(price)
        assert policy.choose(start).tolist() == best
        played.append(best)
    at = np.arange(len(rows))
    means = [
        (data.scores[at, p].mean(), data.answer_costs[at, p].mean(), np.mean(np.array(p) > 0))
        for p in played
    ]
    columns = (np.array(column) for column in zip(*means, strict=True))
    chosen = select(*columns, Ends.of(data), Selection())
    assert made.price_ == float(prices[chosen.index or 0])
    assert made.note_ == chosen.note


@quick
@given(st.lists(st.integers(0, 30), min_size=1, max_size=60), st.integers(2, 12))
def test_thinning_takes_every_value_or_quantiles(values, most):
    """All that are distinct; beyond that many, the values at equal ranks, both ends among them."""
    values = sorted(values)
    found = thin(np.array(values, dtype=float), most).tolist()
    if len(set(values)) <= most:
        assert found == sorted(set(values))
    else:
        ranks = [int(k * (len(values) - 1) / (most - 1)) for k in range(most)]
        assert found == sorted({values[r] for r in ranks})


@pytest.mark.parametrize("sizes", [(1, 40, 40), (2, 5, 40), (34, 40, 50), (33, 32, 64), (3, 3, 1)])
def test_a_cross_fitted_range_is_at_equal_places(sizes):
    """As many policies as the shortest range, at most 33; both ends of each are among them."""
    made = CrossFitted(Threshold, len(sizes))
    # the first policy of each fold asks one tier alone
    families = [
        [SimpleNamespace(place=(f, i), needs_verification=i > 0) for i in range(n)]
        for f, n in enumerate(sizes)
    ]
    made.policies_ = [
        SimpleNamespace(sweep=lambda family=family: [(None, policy) for policy in family])
        for family in families
    ]
    number = min(33, *sizes)
    found = made.sweep()
    if number < 2:
        assert found == [(None, made)]
        return
    for i, (parameter, policy) in enumerate(found):
        places = [(f, round(i * (n - 1) / (number - 1))) for f, n in enumerate(sizes)]
        assert (parameter, [one.place for one in policy.policies_]) == (None, places)
        assert policy.needs_verification == (i > 0)
    assert len(found) == number


@pytest.mark.parametrize("paid", [[2, 2, 2, 6, 6, 6], [2, 3, 4, 5, 7, 9], [9, 3, 4, 5, 1, 2]])
def test_levels_expect_what_is_left_of_the_difference(paid):
    """The means of both levels, shrunk by the share that chance explains; falling means are one."""
    first, paid = np.array([1.0, 1, 1, 2, 2, 2]), np.array(paid, dtype=float)
    found = make_levels(first, np.stack([first, paid], axis=1), 0, 2)
    relative = paid / paid.mean()
    low, high = relative[:3].mean(), relative[3:].mean()
    within = np.r_[relative[:3] - low, relative[3:] - high]
    if high > low:
        between = ((low - 1) ** 2 + (high - 1) ** 2) / 2
        kept = max(0.0, 1 - (within @ within / 6) * (1 / 6) / between)
        assert found.ratios[:, 1] == pytest.approx([1 + kept * (low - 1), 1 + kept * (high - 1)])
    else:
        assert found.ratios[:, 1].tolist() == [1.0, 1.0]
    assert found.ratios[:, 0].tolist() == [1.0, 1.0]
    assert found.shares.tolist() == [0.5, 0.5]


@quick
@given(
    st.lists(st.floats(0.01, 9), min_size=2, max_size=9),
    st.sampled_from([0.0, 0.1, 3.0]),
    st.sampled_from([1, 2, 5]),
)
def test_costs_that_are_equal_tell_nothing(paid, own, number):
    """Where first answers cost the same but for rounding, or are free, prices stay to the bit."""
    answered = own * (1 + (1e-12 if number > 1 else 1.0) * np.arange(len(paid)))
    found = make_levels(answered, np.stack([answered, paid], axis=1), 0, number)
    assert (found.edges.tolist(), found.shares.tolist()) == ([], [1.0])
    assert found.ratios.tolist() == [[1.0, 1.0]]


@pytest.mark.parametrize(("num_tiers", "symbols"), [(2, 3), (2, 4), (3, 2)])
@pytest.mark.parametrize("seed", range(3))
def test_the_family_has_every_corner(num_tiers, symbols, seed):
    """All deterministic policies, each played: those on the hull are the family, in its order."""
    p = problem(num_tiers, symbols, np.random.default_rng(seed))
    cells = grid_cells(p)
    points = np.array([replay(t, cells)[:2] for t in every_policy(num_tiers, symbols)])
    best, cheapest = points[:, 0].max(), points[:, 1].min()
    start = points[points[:, 0] >= best - 1e-12][:, 1].min()
    at = np.array([best, start])
    hull = [at]
    while at[1] > cheapest + 1e-12:
        # what loses the least score for each unit of cost saved comes next
        cheaper = points[points[:, 1] < at[1] - 1e-12]
        slope = (at[0] - cheaper[:, 0]) / (at[1] - cheaper[:, 1])
        least = np.flatnonzero(slope <= slope.min() + 1e-12)
        at = cheaper[least[cheaper[least, 1].argmin()]]
        hull.append(at)
    members = family(Solver(p), 1e4, mixtures=False)
    assert all(m.low is m.high for m in members)
    assert np.array([(m.low.fixed, -m.low.slope) for m in members]) == pytest.approx(
        np.array(hull), abs=1e-9
    )


@pytest.mark.parametrize("objective", ["gain", "budget"])
@pytest.mark.parametrize("tiers", [(0, 1, 2), (0, 2), (1, 2), (1, 2, 3)])
def test_the_worth_of_tiers_is_that_of_their_best_cascade(objective, tiers, monkeypatch):
    """At each price: every cascade of the lowest bins is played, and compared with single tiers."""
    monkeypatch.setattr(long_chains, "QUANTILES", 3)
    rng = np.random.default_rng(len(tiers))
    shown = rng.integers(0, 6, (25, 4)) / 5
    shown[rng.random(shown.shape) < 0.2] = np.nan
    right = (rng.random(shown.shape) < 0.2 * np.arange(4) + 0.3 * np.nan_to_num(shown)).astype(
        float
    )
    data = FittingData(outcomes(right, np.tile([1.0, 3.0, 9.0, 27.0], (25, 1)), shown), "keep", "x")
    bins = np.zeros(shown.shape, dtype=int)
    for t, column in enumerate(shown.T):
        known = np.sort(column[~np.isnan(column)])
        cuts = {known[math.ceil(len(known) * k / 3) - 1] for k in (1, 2)}
        bins[:, t] = [0 if np.isnan(v) else 1 + sum(v >= c for c in cuts) for v in column]
    singles = [(27.0 / 3 ** (3 - t), right[:, t].mean()) for t in range(4)]
    prices = prices_of_quality(*np.array(singles).T[::-1])
    if objective == "gain":
        hull = data.ends().hull
        prices = [(q - p) / (b - a) for (a, p), (b, q) in itertools.pairwise(hull)]
    points = []
    for size in range(2, len(tiers) + 1):
        for asked in itertools.combinations(tiers, size):
            for rules in itertools.product(range(4), repeat=size - 1):
                score = cost = 0.0
                for i in range(25):
                    for t, most in zip(asked, (*rules, -1), strict=True):
                        cost += 3.0**t
                        if bins[i, t] > most:
                            break
                    score += right[i, t]
                points.append((cost / 25, score / 25))
    more = [
        max(0.0, max(s - x * c for c, s in points) - max(s - x * c for c, s in singles))
        for x in prices
    ]
    expected = max(more) if objective == "gain" else np.mean(more)
    assert long_chains._Worth(data, objective)(tiers) == pytest.approx(expected)


def test_a_tenth_is_a_tenth():
    """Of ten questions that all differ one lies in the lowest tenth, of eleven two."""
    for number, low in ((10, 1), (11, 2), (20, 2), (21, 3)):
        scores = np.arange(1, number + 1) / number
        expected = [UNSOLVABLE] * low + [SIMPLE] * (number - low)
        assert label_states(scores, scores).tolist() == expected
    assert label_states(np.array([0.0, 0.5]), np.array([0.5, 0.0])).tolist() == [COMPLEX, SIMPLE]


@pytest.mark.parametrize("span", [(0.25, 0.65, 1.0, 9.0), (0.5, 0.5, 1.0, 9.0), (0.2, 0.4, 3, 3)])
def test_prices_lie_around_what_tiers_ask(span):
    """17 prices from 1/64 to 64 times the score of a unit of cost; of 1 where there is none."""
    low, high, cheap, dear = span
    scale = (high - low) / (dear - cheap) if high > low and dear > cheap else 1.0
    found = prices_of_quality(np.array([low, high, low]), np.array([cheap, dear, cheap]))
    assert found == pytest.approx([scale * 64 ** ((k - 8) / 8) for k in range(17)])


# --------------------------------------------------------------------------- what is seen


def asked(tier, confidences, costs=()):
    """An observation of a chain of three."""
    question = Question("toy", 7, Prompt("prompt"), "context", "question 7?")
    return Observation(tier, 3, confidences, question, answer(tier), costs=costs)


def test_costs_are_seen_up_to_the_tier_reached():
    """What is unknown is NaN, what lies ahead is left out, and nobody's are None."""
    seen = see(
        [asked(1, (0.5, 0.25)), asked(1, (None, 1.0), (3.0,)), asked(1, (1, 0), (1, None, 9))]
    )
    expected = [[math.nan] * 2, [3.0, math.nan], [1.0, math.nan]]
    assert np.array_equal(seen.costs, expected, equal_nan=True)
    assert np.array_equal(seen.confidences, [[0.5, 0.25], [math.nan, 1], [1, 0]], equal_nan=True)
    assert see([asked(1, (0.5, 0.25))]).costs is None
    assert seen.ids == ("toy/7/0",) * 3
    assert seen.answers == ("answer 1",) * 3


@pytest.mark.parametrize("cost", [-0.5, math.inf, math.nan])
@pytest.mark.parametrize("tier", [0, 1])
def test_a_cost_that_is_none_is_named(cost, tier):
    """With task, document, tier and value; zero is a cost."""
    costs = [0.0, 0.0]
    assert see([asked(1, (1, 1), tuple(costs))]).costs.tolist() == [[0.0, 0.0]]
    costs[tier] = cost
    with pytest.raises(AutoMixError, match=rf"^task toy, doc_id 7, tier {tier}: .* costs {cost!r}"):
        see([asked(1, (1, 1), tuple(costs))])


# --------------------------------------------------------------------------- compiled policies


def decided(policy, shown, cost):
    """Where a compiled policy ends a question, tier by tier, by its definition."""
    tier, path = policy.first, (policy.first,)
    while tier < policy.num_tiers - 1:
        key = path if policy.by_path else (tier,)
        index = [int(np.searchsorted(policy.levels[key[0]], cost, side="right"))]
        for t in key:
            edges = policy.edges[t]
            lost = math.isnan(shown[t])
            index.append(len(edges) + 1 if lost else int(np.searchsorted(edges, shown[t], "right")))
        table = policy.tables[key]
        index[0] = min(index[0], table.shape[0] - 1)
        to = int(table[tuple(index)])
        if to == tier:
            break
        tier, path = to, (*path, to)
    return tier


ROUTERS = {
    "pomdp": lambda: Pomdp(mixtures=False),
    "pomdp, undefined 0.3": lambda: Pomdp(mixtures=False, undefined=0.3),
    "pomdp, undefined keep": lambda: Pomdp(mixtures=False, undefined="keep"),
    "threshold": Threshold,
    "threshold, undefined 0.3": lambda: Threshold(undefined=0.3),
    "double_threshold": DoubleThreshold,
    "greedy": Greedy,
    "self_consistency": SelfConsistency,
}


@pytest.mark.parametrize(("router", "name"), [(Oracle(0.1), "Oracle"), (Knn(), "knn")])
def test_what_reads_more_is_no_table_and_is_named(router, name):
    """By the name of its option, or else of its class."""
    with pytest.raises(NotCompiledError, match=f"^{name} decides by more than confidences"):
        compile_policy(router, 2)


@pytest.mark.parametrize("num_tiers", [2, 3, 4])
@pytest.mark.parametrize("name", ROUTERS)
def test_a_compiled_policy_decides_as_its_router(name, num_tiers):
    """On every edge, both its neighbours, both ends, none at all and the middles, at any cost."""
    rng = np.random.default_rng(num_tiers)
    sure = rng.integers(0, 9, (120, num_tiers)) / 8
    sure[rng.random(sure.shape) < 0.08] = np.nan
    right = (rng.random(sure.shape) < 0.15 + 0.7 * np.nan_to_num(sure, nan=0.3)).astype(float)
    dear = rng.choice([1.0, 2.0, 5.0], 120)
    data = outcomes(right, dear[:, None] * 4.0 ** np.arange(num_tiers), sure)
    router = ROUTERS[name]().fit(data)
    policy = compile_policy(router, num_tiers)
    edges = sorted({e for cuts in policy.edges for e in cuts})
    close = [math.nextafter(e, to) for e in edges for to in (0.0, 1.0)]
    values = np.array([math.nan, 0.0, 1.0, *edges, *close, *rng.random(9)])
    shown = rng.choice(values, (400, num_tiers - 1))
    paid = rng.choice([0.5, 1.0, 2.0, 4.0, 5.0, 9.0], 400)
    at = router.choose(Seen(-1, num_tiers, np.empty((400, 0))))
    assert set(at.tolist()) == {policy.first}
    visited = np.zeros((400, num_tiers), dtype=bool)
    for tier in range(num_tiers - 1):
        here = np.flatnonzero(at == tier)
        visited[here, tier] = True
        if len(here):
            told = np.where(visited[here, : tier + 1], shown[here, : tier + 1], np.nan)
            costs = np.where(visited[here, : tier + 1], paid[here, None], np.nan)
            at[here] = router.choose(Seen(tier, num_tiers, told, costs=costs))
    assert at.tolist() == [decided(policy, s, c) for s, c in zip(shown, paid, strict=True)]
    if name != "self_consistency":
        assert policy.single == (len(set(at.tolist())) == 1)
