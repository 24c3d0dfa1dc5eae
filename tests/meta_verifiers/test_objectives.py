"""Choosing one policy among candidates by delta IBC, a budget or a target."""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples

from automix_eval.meta_verifiers.objectives import Ends, Selection, delta_ibc, select
from automix_eval.metrics import ibc
from automix_eval.safety.errors import AutoMixError

UNIT = st.integers(0, 4).map(lambda k: k / 4)
ROWS = st.lists(st.tuples(UNIT, UNIT, st.booleans()), min_size=2, max_size=12)
quick = settings(max_examples=examples(60))


def candidates(masks, slm, llm, ver=1.0, prices=(1.0, 50.0)):
    """Score, cost and escalation of masks, and the ends, at the paper's prices."""
    slm, llm = np.array(slm, dtype=float), np.array(llm, dtype=float)
    masks = np.array(masks, dtype=bool)
    share = masks.mean(axis=1)
    ends = Ends(slm.mean(), prices[0], llm.mean(), prices[1])
    score = np.array([np.where(m, llm, slm).mean() for m in masks])
    return score, prices[0] + ver + prices[1] * share, share, ends


def chosen(given, name="ibc", **values):
    """What is selected among candidates; the bound on escalations is off unless given."""
    return select(*given, Selection(objective=name, **{"min_escalation": 0.0, **values}))


def test_golden_arithmetic_of_the_paper():
    """At 1:1:50 routing all costs 52 and lifts -2/51, routing nothing costs 2 and lifts -1."""
    score, cost, _, ends = candidates([[0] * 4, [1] * 4], [0, 0, 1, 1], [1, 1, 1, 0])
    value, defined = delta_ibc(score, cost, ends)
    assert cost.tolist() == [2.0, 52.0]
    assert value == pytest.approx([-1.0, -2 / 51], abs=1e-12)
    assert defined.all()


@pytest.mark.parametrize(
    ("slm", "llm", "cost", "score", "published"),
    [
        (0.4813, 0.6143, 16.57, 0.5470, 0.5545),  # CoQA
        (0.4012, 0.5554, 47.47, 0.5227, -0.1696),  # CNLI
        (0.2028, 0.2645, 23.01, 0.2331, 0.0920),  # NarrativeQA
        (0.4748, 0.6710, 15.17, 0.5276, -0.0697),  # QuALITY
        (0.1400, 0.2810, 44.33, 0.2676, 0.0230),  # Qasper
    ],
)
def test_published_self_consistency(slm, llm, cost, score, published):
    """Scores and costs of the paper's first version give its delta IBC, up to their rounding."""
    value, _ = delta_ibc(np.array([score]), np.array([cost]), Ends(slm, 1.0, llm, 50.0))
    half = 0.5e-4  # of the last digit printed
    slack = (2 * half / (score - slm) + 2 * half / (llm - slm)) * (1 + published)
    assert value[0] == pytest.approx(published, abs=slack)


@quick
@given(ROWS, UNIT)
def test_agrees_with_the_metric(rows, ver):
    """The vectorised delta IBC is the metric's, undefined where the metric is."""
    slm, llm, mask = zip(*rows, strict=True)
    score, cost, _, ends = candidates([mask], slm, llm, ver)
    expected = ibc.delta_ibc(score[0], cost[0], np.mean(slm), 1.0, np.mean(llm), 50.0)
    value, defined = delta_ibc(score, cost, ends)
    assert defined[0] == (not isinstance(expected, ibc.Undefined))
    if defined[0]:
        assert value[0] == pytest.approx(expected)


@quick
@given(ROWS, st.floats(0.001, 1000))
def test_the_unit_of_cost_does_not_matter(rows, unit):
    """Delta IBC is the same in cents and in dollars."""
    slm, llm, mask = zip(*rows, strict=True)
    score, cost, _, ends = candidates([mask], slm, llm)
    scaled = Ends(ends.slm_score, ends.slm_cost * unit, ends.llm_score, ends.llm_cost * unit)
    value, defined = delta_ibc(score, cost, ends)
    again, still = delta_ibc(score, cost * unit, scaled)
    assert defined.tolist() == still.tolist()
    assert again == pytest.approx(value)


@quick
@given(UNIT, UNIT, UNIT)
def test_random_routing_lies_on_the_line(slm, llm, rate):
    """Asking the LLM alone for a share of the questions, the SLM alone for the rest, lifts 0."""
    ends = Ends(slm, 1.0, llm, 50.0)
    score, cost = np.array([slm + rate * (llm - slm)]), np.array([1.0 + rate * 49.0])
    value, defined = delta_ibc(score, cost, ends)
    assert defined[0] == (llm > slm and rate > 0)
    assert value[0] == pytest.approx(0.0, abs=1e-9)


def test_a_random_choice_goes_on_beyond_the_last_tier():
    """On the chord of the ends, whatever the first tier costs; a good tier between lifts it."""
    cost = np.array([1.0, 25.5, 50.0, 99.0])
    assert Ends(0.5, 1.0, 0.7, 50.0).coin_toss(cost) == pytest.approx([0.5, 0.6, 0.7, 0.9])
    between = Ends(0.5, 1.0, 0.7, 50.0, ((25.5, 0.7),))
    assert between.coin_toss(cost) == pytest.approx([0.5, 0.7, 0.7, 0.9])


def test_quality_for_nothing_is_taken_for_the_least():
    """Where the last tier is better and costs no more: the best score, then the cheapest."""
    given = np.array([0.7, 0.8, 0.8]), np.array([1.0, 3.0, 2.0]), np.array([0.0, 0.5, 1.0])
    assert chosen((*given, Ends(0.7, 2.0, 0.8, 2.0)), "gain").index == 2


def test_a_doubt_is_taken_off_the_gain():
    """The largest gain is left for one that is less in doubt; its own gain is what is told."""
    given = np.array([0.6, 0.7]), np.array([10.0, 10.0]), np.array([0.2, 0.3])
    ends, asked = Ends(0.5, 1.0, 0.7, 50.0), Selection(objective="gain", min_escalation=0.0)
    assert select(*given, ends, asked).index == 1
    found = select(*given, ends, asked, doubt=np.array([0.0, 0.15]))
    assert found.index == 0
    assert found.value == pytest.approx(0.6 - (0.5 + 9 * 0.2 / 49))


def test_prefers_the_largest_delta_ibc():
    """The candidate that escalates exactly the questions that gain is chosen."""
    found = chosen(
        candidates([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]], [0, 0, 1, 1], [1, 1, 1, 0])
    )
    assert found.index == 1
    assert found.value == pytest.approx((0.5 / 26) / (0.25 / 49) - 1)


def test_a_budget_buys_the_best_score():
    """Of the candidates within the budget the best; of equally good ones the cheapest."""
    given = candidates(
        [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 0, 1]], [0, 0, 1, 1], [1, 1, 1, 1]
    )
    assert chosen(given, "budget", budget=14.5).index == 1
    assert chosen(given, "budget", budget=27.0).index == 2
    assert chosen(given, "budget", budget=1000.0).index == 2
    low = chosen(given, "budget", budget=1.0)
    assert low.index == 0
    assert "the cheapest costs 2" in low.note


def test_a_target_is_reached_for_the_least():
    """Of the candidates that reach the share of the LLM's score the cheapest."""
    given = candidates([[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 1, 1]], [0, 0, 1, 1], [1, 1, 1, 1])
    assert chosen(given, "target", target=0.5).index == 0
    assert chosen(given, "target", target=0.75).index == 1
    assert chosen(given, "target", target=0.75).value == 14.5
    high = chosen(given, "target", target=1.5)
    assert high.index == 2
    assert "the best reaches 1" in high.note


def test_ties_prefer_the_cheaper_then_fewer_escalations_then_the_first():
    """Equal values fall to the cheaper, then to the smaller share, then to the earlier."""
    ends = Ends(0.0, 1.0, 1.0, 50.0)
    line = np.array([[0.5, 25.5, 0.5], [0.25, 13.25, 0.3], [0.25, 13.25, 0.2], [0.25, 13.25, 0.2]])
    assert chosen((*line.T, ends)).index == 2
    assert chosen((*line[::-1].T, ends)).index == 0


def test_rounding_breaks_no_tie():
    """Values that differ by rounding only are tied, whatever the order of the questions."""
    scores = [0.1, 0.2, 0.3, 0.1, 0.7, 0.3]
    same = [[1, 1, 0, 0, 0, 1], [0, 1, 1, 1, 0, 0]]
    for masks in (same, same[::-1]):
        assert chosen(candidates(masks, [0.0] * 6, scores, ver=0.0)).index == 0


@pytest.mark.parametrize("name", ["ibc", "budget", "target"])
def test_the_sign_does_not_invert_where_the_llm_is_worse(name):
    """With a worse LLM no lift is made of a loss, and no objective pays for one."""
    given = candidates([[0, 0], [1, 1], [1, 0]], [1, 1], [0, 1])
    found = chosen(given, name, budget=100.0, target=1.0)
    assert found.index == (None if name == "ibc" else 0)
    if name == "ibc":
        assert found.value is None
        assert "not better" in found.note
        assert "keeps every answer" in found.note


@pytest.mark.parametrize("llm", [[1, 0], [0.1 + 0.2, 0.7]])
def test_equal_scores_are_undefined(llm):
    """Equal means give no figure, also where they are equal up to rounding only."""
    assert chosen(candidates([[1, 1], [1, 0]], sorted(llm), llm)).index is None


@pytest.mark.parametrize("price", [1.0, 0.5])
def test_an_llm_that_costs_no_more_is_undefined(price):
    """C_LLM <= C_SLM gives no figure; quality that costs nothing is taken, and the note says so."""
    found = chosen(candidates([[0, 0], [0, 1], [1, 1]], [0, 0], [1, 1], prices=(1.0, price)))
    assert (found.index, found.value) == (2, None)
    assert "does not cost more" in found.note
    assert "best quality is taken" in found.note


def test_an_undefined_candidate_is_never_preferred():
    """Keeping everything without a verifier costs what the SLM costs: undefined, so not chosen."""
    given = candidates([[0] * 4, [0, 0, 0, 1]], [0, 1, 1, 1], [1, 1, 1, 0.5], ver=0.0)
    value, defined = delta_ibc(given[0], given[1], given[3])
    assert defined.tolist() == [False, True]
    assert value[1] < -1
    assert chosen(given).index == 1
    assert chosen((*(column[:1] for column in given[:3]), given[3])).index is None


def test_the_bound_excludes_one_lucky_question():
    """Without the bound one lucky question wins; with it, the policy that can be measured."""
    rows = np.zeros((2, 100), dtype=bool)
    rows[0, 0] = rows[1, :20] = True
    given = candidates(rows, np.zeros(100), np.r_[1.0, np.tile([1.0, 0.0], 50)[:99]], ver=0.0)
    assert chosen(given).index == 0
    assert chosen(given, min_escalation=0.05).index == 1


def test_an_unreachable_bound_takes_the_most_and_says_so():
    """If no candidate reaches the bound, the one that escalates most is taken with a note."""
    given = candidates([[1, 0, 0, 0], [1, 1, 0, 0]], [0] * 4, [1] * 4)
    found = chosen(given, min_escalation=0.9)
    assert found.index == 1
    assert "min_escalation" in found.note


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"objective": "accuracy"}, "objective"),
        ({"objective": "budget"}, "mean_cost=NUMBER"),
        ({"objective": "target"}, "target=NUMBER"),
        ({"budget": -1.0}, "mean_cost"),
        ({"budget": float("nan")}, "mean_cost"),
        ({"target": float("inf")}, "target"),
        ({"target": "0.9"}, "target"),
        ({"min_escalation": 1.5}, "min_escalation"),
        ({"min_escalation": True}, "min_escalation"),
    ],
)
def test_wrong_settings_are_named(values, message):
    """An unknown objective, a missing number and one out of range are AutoMixErrors."""
    with pytest.raises(AutoMixError, match=message):
        Selection(**values)


def plain(score, cost, share, singles, name, least, doubt, number):
    """(index, value) by the definitions, candidate by candidate, without a note."""
    (low_cost, low), (high_cost, high) = singles[0], singles[-1]

    def line(at):
        """The best mixture of two single tiers at a mean cost; the chord beyond the last."""
        found = [y for x, y in singles if x <= at]
        for (a, p), (b, q) in itertools.permutations(singles, 2):
            if a <= at <= b and a < b:
                found.append(p + (q - p) * (at - a) / (b - a))
        if high > low and high_cost > low_cost:
            found.append(low + (high - low) * (at - low_cost) / (high_cost - low_cost))
        return max(found)

    every = range(len(score))
    if name == "gain" and min((x, -y) for x, y in singles)[1] == -max(y for _, y in singles):
        # the cheapest tier is the best: there is no line to gain over
        return min((doubt[i] - score[i], cost[i], share[i], i) for i in every)[-1], None
    if name == "gain":
        value = [score[i] - line(cost[i]) for i in every]
        keys = [(doubt[i] - value[i], cost[i], share[i], i) for i in every]
    elif name == "ibc":
        base = (high - low) / (high_cost - low_cost)
        value = [(score[i] - low) / (cost[i] - low_cost) / base - 1 for i in every]
        most = max(share)
        keys = [(share[i] < min(least, most), -value[i], cost[i], share[i], i) for i in every]
    elif name == "loss":
        value = [cost[i] + number * (1 - score[i]) for i in every]
        keys = [(value[i], cost[i], share[i], i) for i in every]
    elif name == "budget":
        value = score
        bound = max(number, min(cost))
        keys = [(cost[i] > bound, -score[i], cost[i], share[i], i) for i in every]
    else:
        value = cost
        bound = min(number * high, max(score))
        keys = [(score[i] < bound, cost[i], share[i], i) for i in every]
    index = min(keys)[-1]
    return index, value[index]


@pytest.mark.parametrize("name", ["gain", "ibc", "loss", "budget", "target"])
@settings(max_examples=examples(100))
@given(st.data())
def test_the_choice_is_that_of_the_definitions(name, data):
    """Every objective chooses what its definition does, ties and bounds nobody meets included."""
    eighths = st.integers(0, 8).map(lambda k: Fraction(k, 8))
    rows = data.draw(
        st.lists(st.tuples(eighths, st.integers(3, 20), eighths, eighths), min_size=1, max_size=7)
    )
    between = data.draw(st.lists(st.tuples(st.integers(0, 20), eighths), max_size=2))
    low, high = sorted(data.draw(st.lists(eighths, min_size=2, max_size=2, unique=True)))
    singles = [(Fraction(2), low), *between, (Fraction(10), high)]
    number = data.draw(st.integers(1, 24).map(lambda k: Fraction(k, 2)))
    if name == "target":
        number /= 8
    least = data.draw(eighths)
    score, cost, share, doubt = (list(column) for column in zip(*rows, strict=True))
    numbers = [np.array(column, dtype=float) for column in (score, cost, share)]
    ends = Ends(float(low), 2.0, float(high), 10.0, tuple((float(c), float(s)) for c, s in between))
    key = {"loss": "error_price"}.get(name, name)
    given = {key: float(number)} if name in ("loss", "budget", "target") else {}
    asked = Selection(objective=name, min_escalation=float(least), **given)
    doubts = np.array(doubt, dtype=float) if data.draw(st.booleans()) else None
    found = select(*numbers, ends, asked, doubts)
    index, value = plain(
        score, cost, share, singles, name, least,
        [0] * len(score) if doubts is None else doubt, number,
    )  # fmt: skip
    assert found.index == index
    assert found.value == (None if value is None else pytest.approx(float(value)))
    bound = {"gain": value is None, "ibc": least > max(share), "budget": number < min(cost),
             "target": number * high > max(score)}  # fmt: skip
    assert bool(found.note) == bound.get(name, False)
