"""Selection of a policy on the fitting data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from automix_eval.meta_verifiers.selection import Outcomes, delta_ibc, points, select
from automix_eval.metrics import ibc
from automix_eval.types import AutoMixError

UNIT = st.integers(0, 4).map(lambda k: k / 4)


def outcomes(slm, llm, ver=1.0, prices=(1.0, 50.0)):
    """Scores at the paper's prices."""
    n = len(slm)
    return Outcomes(
        np.array(slm, dtype=float),
        np.array(llm, dtype=float),
        np.full(n, prices[0]),
        np.full(n, ver),
        np.full(n, prices[1]),
    )


def masks(*rows):
    """Candidates as a boolean table."""
    return np.array(rows, dtype=bool)


def test_golden_arithmetic_of_the_paper():
    """At 1:1:50 routing all costs 52 and lifts -2/51, routing nothing costs 2 and lifts -1."""
    data = outcomes([0, 0, 1, 1], [1, 1, 1, 0])
    both = masks([0, 0, 0, 0], [1, 1, 1, 1])
    _, cost = points(both, data)
    value, defined = delta_ibc(both, data)
    assert cost.tolist() == [2.0, 52.0]
    assert value == pytest.approx([-1.0, -2 / 51], abs=1e-12)
    assert defined.all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(UNIT, UNIT, st.booleans()), min_size=2, max_size=12), UNIT)
def test_agrees_with_the_metric(rows, ver):
    """The vectorised delta IBC is the metric's, undefined where the metric is."""
    slm, llm, mask = zip(*rows, strict=True)
    data, candidate = outcomes(slm, llm, ver), masks(mask)
    score, cost = points(candidate, data)
    expected = ibc.delta_ibc(score[0], cost[0], np.mean(slm), 1.0, np.mean(llm), 50.0)
    value, defined = delta_ibc(candidate, data)
    assert defined[0] == (not isinstance(expected, ibc.Undefined))
    if defined[0]:
        assert value[0] == pytest.approx(expected)


def test_prefers_the_largest_delta_ibc():
    """The candidate that escalates exactly the questions that gain is chosen."""
    data = outcomes([0, 0, 1, 1], [1, 1, 1, 0])
    chosen = select(masks([1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 1, 1]), data)
    assert chosen.index == 1
    assert chosen.value == pytest.approx((0.5 / 26) / (0.25 / 49) - 1)


def test_ties_prefer_fewer_escalations_then_the_first():
    """Equal values fall to the smaller mask, and among equal masks to the earlier candidate."""
    free = outcomes([0, 0, 0, 0], [1, 1, 1, 1], ver=0.0)
    rows = ([1, 1, 1, 1], [0, 1, 0, 0], [1, 0, 0, 0])
    assert select(masks(*rows), free).index == 1
    assert select(masks(*reversed(rows)), free).index == 0


def test_rounding_breaks_no_tie():
    """Values that differ by rounding only are tied, whatever the order of the questions."""
    scores = np.array([0.1, 0.2, 0.3, 0.1, 0.7, 0.3])
    data = outcomes(np.zeros(6), scores, ver=0.0)
    same_sum = masks([1, 1, 0, 0, 0, 1], [0, 1, 1, 1, 0, 0])
    assert select(same_sum, data).index == 0
    assert select(same_sum[::-1], data).index == 0


def test_the_sign_does_not_invert_where_the_llm_is_worse():
    """With a worse LLM nothing is chosen and the note says why; no lift is made of a loss."""
    chosen = select(masks([0, 0], [1, 1], [1, 0]), outcomes([1, 1], [0, 1]))
    assert chosen.index is None
    assert chosen.value is None
    assert "not better" in chosen.note
    assert "keeps every answer" in chosen.note


@pytest.mark.parametrize("llm", [[1, 0], [0.1 + 0.2, 0.7]])
def test_equal_scores_are_undefined(llm):
    """Equal means give no figure, also where they are equal up to rounding only."""
    assert select(masks([1, 1], [1, 0]), outcomes(sorted(llm), llm)).index is None


@pytest.mark.parametrize("price", [1.0, 0.5])
def test_an_llm_that_costs_no_more_is_undefined(price):
    """C_LLM <= C_SLM gives no figure, and the note names the cost."""
    chosen = select(masks([1, 1]), outcomes([0, 0], [1, 1], prices=(1.0, price)))
    assert chosen.index is None
    assert "cost" in chosen.note


def test_an_undefined_candidate_is_never_preferred():
    """Keeping everything without a verifier costs what the SLM costs: undefined, so not chosen."""
    data = outcomes([0, 1, 1, 1], [1, 1, 1, 0.5], ver=0.0)
    rows = masks([0, 0, 0, 0], [0, 0, 0, 1])
    value, defined = delta_ibc(rows, data)
    assert defined.tolist() == [False, True]
    assert value[1] < -1
    assert select(rows, data, min_escalation=0.0).index == 1
    assert select(rows[:1], data, min_escalation=0.0).index is None


def test_the_bound_excludes_one_lucky_question():
    """Without the bound one lucky question wins; with it, the policy that can be measured."""
    slm = np.zeros(100)
    llm = np.r_[1.0, np.tile([1.0, 0.0], 50)[:99]]
    rows = np.zeros((2, 100), dtype=bool)
    rows[0, 0] = rows[1, :20] = True
    data = outcomes(slm, llm, ver=0.0)
    assert select(rows, data, min_escalation=0.0).index == 0
    assert select(rows, data, min_escalation=0.05).index == 1


def test_an_unreachable_bound_takes_the_most_and_says_so():
    """If no candidate reaches the bound, the one that escalates most is taken with a note."""
    chosen = select(masks([1, 0, 0, 0], [1, 1, 0, 0]), outcomes([0] * 4, [1] * 4), "ibc", 0.9)
    assert chosen.index == 1
    assert "min_escalation" in chosen.note


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_scores_that_are_no_numbers_are_an_error(bad):
    """NaN never reaches a comparison, where the first candidate would win in silence."""
    with pytest.raises(AutoMixError, match="finite"):
        outcomes([0, bad], [1, 1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((masks([1, 0, 1]), "ibc", 0.1), "do not fit"),
        ((np.zeros((0, 2), dtype=bool), "ibc", 0.1), "do not fit"),
        ((masks([1, 0]), "accuracy", 0.1), "objective"),
        ((masks([1, 0]), "ibc", 1.5), "min_escalation"),
        ((masks([1, 0]), "ibc", True), "min_escalation"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    """No candidates, masks of another length and unknown settings are AutoMixErrors."""
    rows, objective, bound = arguments
    with pytest.raises(AutoMixError, match=message):
        select(rows, outcomes([0, 0], [1, 1]), objective, bound)
