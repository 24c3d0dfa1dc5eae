"""The three-state POMDP: labels, observation model, exactness, policy."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from router_records import GRID, TYPICAL, columns, observe, pair_records

from automix_eval.meta_verifiers.pomdp import (
    COMPLEX,
    SIMPLE,
    UNSOLVABLE,
    Pomdp,
    breakpoints,
    escalated_bins,
    expected_gain,
    label_states,
    reward_table,
)
from automix_eval.meta_verifiers.pomdp_model import solve
from automix_eval.meta_verifiers.selection import Outcomes
from automix_eval.types import AutoMixError


def labels(slm, llm):
    """States of bare scores."""
    zeros = np.zeros(len(slm))
    return label_states(
        Outcomes(np.array(slm, float), np.array(llm, float), zeros, zeros, zeros)
    ).tolist()


# --------------------------------------------------------------------------- states


def test_the_three_states():
    """LLM higher is Complex, both zero Unsolvable, equal and not zero Simple."""
    assert labels([0, 0, 1, 0.5], [1, 0, 1, 0.5]) == [COMPLEX, UNSOLVABLE, SIMPLE, SIMPLE]


def test_low_scores_of_both_are_unsolvable():
    """At or below the own 10th percentile of both tiers, though not zero."""
    slm, llm = [0.1, *[0.8] * 10], [0.05, *[0.9] * 10]
    assert labels(slm, llm) == [UNSOLVABLE, *[COMPLEX] * 10]


def test_an_always_right_tier_does_not_make_right_answers_unsolvable():
    """Where nine in ten are fully right, the 10th percentile is full marks, and yet Simple."""
    assert labels([1] * 19 + [0], [1] * 20) == [SIMPLE] * 19 + [COMPLEX]


def test_slm_better_evidence_is_kept():
    """Questions that only the SLM gets right count, and lower the gain of escalating."""
    assert labels([1, 1, 0], [0, 1, 1]) == [SIMPLE, SIMPLE, COMPLEX]
    plain = [(k / 8, float(k % 2), 1.0) for k in range(9)]
    against = [(k / 8, 1.0, 0.0) for k in range(4)]
    rules = [
        Pomdp(lambda_=0.0).fit(columns(pair_records(rows))).rules_[0]
        for rows in (plain, plain + against)
    ]
    assert rules[0].scores[SIMPLE] == [1.0, 1.0]
    assert rules[1].counts[SIMPLE] == rules[0].counts[SIMPLE] + 4
    assert rules[1].scores[SIMPLE] == [1.0, 0.5]
    gains = [
        expected_gain(*(np.array(x) for x in (r.prior, r.observation, r.scores))) for r in rules
    ]
    assert (gains[1][:8] < gains[0][:8]).all()


def test_labels_come_from_the_fitting_data_only():
    """The percentiles are those of the records passed in: rows fitted elsewhere change nothing."""
    rows = [(0.5, 0.5, 0.25), (0.25, 0.75, 1.0), (0.75, 1.0, 0.5)]
    alone = Pomdp(lambda_=0.0).fit(columns(pair_records(rows))).get_learned()
    Pomdp().fit(columns(pair_records([*rows, *[(0.5, 0.0, 0.1)] * 9])))
    assert Pomdp(lambda_=0.0).fit(columns(pair_records(rows))).get_learned() == alone


def test_the_prior_is_smoothed():
    """Counts plus the pseudo-count; an unseen state has the overall means and its share."""
    rows = [(0.0, 0.0, 1.0), (0.5, 1.0, 1.0), (1.0, 1.0, 1.0)]
    rule = Pomdp(lambda_=0.0).fit(columns(pair_records(rows))).rules_[0]
    assert rule.counts == [2, 1, 0]
    assert rule.prior == pytest.approx([3 / 6, 2 / 6, 1 / 6])
    assert rule.scores[UNSOLVABLE] == pytest.approx([2 / 3, 1.0])


# --------------------------------------------------------------------------- planning


def test_pomdp_py_and_the_exact_argmax_agree():
    """Belief and action are the same on every bin of many random problems."""
    rng = np.random.default_rng(20)
    for _ in range(60):
        prior = rng.dirichlet(np.ones(3))
        table = rng.dirichlet(np.ones(17), size=3)
        scores = rng.random((3, 2))
        lambda_, price = rng.random() / 100, 50.0
        belief, action = solve(prior, table, reward_table(scores, lambda_, price))
        joint = prior[:, None] * table
        assert belief == pytest.approx((joint / joint.sum(axis=0)).T)
        gain = expected_gain(prior, table, scores)
        assert action.tolist() == escalated_bins(gain, lambda_, price).tolist()


def test_a_tie_keeps_in_both_solvers():
    """Equal expected rewards keep the answer, whatever rounding says."""
    rng = np.random.default_rng(20)
    for _ in range(20):
        prior, table = rng.dirichlet(np.ones(3)), rng.dirichlet(np.ones(7), size=3)
        # The same gain in every state, and a lambda that asks exactly for it.
        keep = rng.random(3)
        scores, lambda_ = np.stack([keep, keep + 0.1], axis=1), 0.1 / 50.0
        _, action = solve(prior, table, reward_table(scores, lambda_, 50.0))
        assert not action.any()
        assert not escalated_bins(expected_gain(prior, table, scores), lambda_, 50.0).any()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=17), st.sampled_from([1e-5, 1.0, 50.0]))
def test_breakpoints_give_all_nested_policies(gains, price):
    """From all worth-while bins to none, each policy strictly inside the one before."""
    gain = np.array(gains)
    policies = [escalated_bins(gain, x, price) for x in breakpoints(gain, price)]
    assert (policies[0] == (gain > 1e-9)).all()
    assert not policies[-1].any()
    for before, after in itertools.pairwise(policies):
        assert (after <= before).all()
        assert after.sum() < before.sum()
    assert breakpoints(gain, 0.0).tolist() == [0.0]


def test_a_peak_in_the_middle_is_routed_alone():
    """Gains at medium confidence only: no threshold can do it, the POMDP does."""
    rows = [(v, 0.0, 1.0) for v in (0.5, 0.5, 0.5, 0.625)] * 3
    rows += [(v, 0.0, 0.0) for v in (0.0, 0.125)] * 4 + [(v, 1.0, 1.0) for v in (0.875, 1.0)] * 4
    router = Pomdp(bandwidth=0.03).fit(columns(pair_records(rows)))
    seen = [d.escalates for d in router.decide([observe(v) for v in (0, 0.125, 0.5, 0.875, 1.0)])]
    assert seen == [False, False, True, False, False]
    assert router.rules_[0].objective > 0


def test_a_given_lambda_is_the_price():
    """Lambda 0 sends whatever gains; at lambda 1 no gain is worth 50 units."""
    records = pair_records(TYPICAL)
    free = Pomdp(lambda_=0, undefined="keep").fit(columns(records))
    dear = Pomdp(lambda_=1.0, undefined="keep").fit(columns(records))
    assert any(d.escalates for d in free.decide(GRID))
    assert not any(d.escalates for d in dear.decide(GRID))
    assert dear.rules_[0].lambda_ == 1.0


def test_the_stored_policy_is_the_planned_one():
    """The lookup of the chosen lambda is that of the exact argmax of the stored numbers."""
    rule = Pomdp().fit(columns(pair_records(TYPICAL))).rules_[0]
    arrays = [np.array(x) for x in (rule.prior, rule.observation, rule.scores)]
    exact = escalated_bins(expected_gain(*arrays), rule.lambda_, rule.price)
    assert rule.escalate == exact.tolist()
    assert rule.escalation == pytest.approx(
        np.mean(
            [
                d.escalates
                for d in Pomdp()
                .fit(columns(pair_records(TYPICAL)))
                .decide([observe(v) for v, _, _ in TYPICAL])
            ]
        )
    )


# --------------------------------------------------------------------------- the policy as a file


def test_a_stored_policy_decides_without_pomdp_py():
    """Loading and deciding imports no solver; fitting without it says what to install."""
    router = Pomdp().fit(columns(pair_records(TYPICAL)))
    code = """
import json, sys
sys.modules["pomdp_py"] = None
from automix_eval.costs.paper import PaperCost
from automix_eval.meta_verifiers.pomdp import Pomdp
from automix_eval.types import AutoMixError
from router_records import GRID, TYPICAL, columns, pair_records
router = Pomdp()
router.set_learned(json.load(sys.stdin))
print(json.dumps([d.to for d in router.decide(GRID)]))
try:
    Pomdp().fit(columns(pair_records(TYPICAL)))
except AutoMixError as err:
    print(json.dumps(str(err)))
"""
    run = subprocess.run(
        [sys.executable, "-c", code],
        input=json.dumps(router.get_learned()),
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": ":".join(p for p in sys.path if p)},
    )
    decided, message = (json.loads(line) for line in run.stdout.splitlines())
    assert decided == [d.to for d in router.decide(GRID)]
    assert "pip install pomdp-py" in message


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("edges", [0.0, 0.5, 0.4, 1.0]),
        ("edges", "0,1"),
        ("escalate", [1] * 17),
        ("escalate", []),
        ("keep_all", "False"),
        ("prior", [0.5, 0.5, 0.5]),
        ("prior", [1.5, -0.5, 0.0]),
        ("prior", [0.5, 0.5]),
        ("observation", [[1.0]] * 3),
        ("belief", None),
        ("scores", [[0.0, float("nan")]] * 3),
        ("lambda_", "0.1"),
        ("objective", [1.0]),
        ("note", 3),
    ],
)
def test_a_damaged_policy_is_refused(field, value):
    """Shapes, types and distributions of a stored policy are checked."""
    learned = copy.deepcopy(Pomdp().fit(columns(pair_records(TYPICAL))).get_learned())
    learned["rules"][0][field] = value
    with pytest.raises(AutoMixError, match="no policy of meta_verifier=pomdp"):
        Pomdp().set_learned(learned)


def test_describe_shows_the_whole_policy():
    """One line a state and a bin, with the action that is taken; unfitted is an error."""
    with pytest.raises(AutoMixError, match="fit"):
        Pomdp().describe()
    router = Pomdp(num_bins=4).fit(columns(pair_records(TYPICAL)))
    text = router.describe()
    rule = router.rules_[0]
    actions = ["escalate" if x else "keep" for x in rule.escalate]
    assert [line.split()[-1] for line in text.splitlines() if line.startswith("[")] == actions
    assert f"{rule.prior[0]:.3f}" in text
    assert text.endswith("undefined confidence: escalate")
    kept = Pomdp().fit(columns(pair_records([(0.5, 1.0, 0.0)] * 2))).describe()
    assert "escalate" not in kept.replace("escalates", "")
