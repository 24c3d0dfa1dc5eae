"""The POMDP meta-verifier: few, odd and bad data, and the policy as a file."""

from __future__ import annotations

import copy
import itertools
import json
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples
from pomdp_chains import chain, outcomes
from router_records import GRID, PAPER, TYPICAL, columns, observe, pair_records

from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.pomdp.options import check_solver
from automix_eval.meta_verifiers.pomdp.problem import estimate
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Observation

# --------------------------------------------------------------------------- few, odd and bad data


@pytest.mark.parametrize("objective", ["ibc", "budget", "target"])
@settings(max_examples=examples(30))
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
)
def test_any_data_give_a_finite_policy(objective, rows):
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
    for confidences, said in (
        ([0.5] * 20, "20 of 20 fitting questions have a confidence, all the same, at tier 0, so"),
        ([None] * 19 + [0.5], "1 of 20 fitting questions have a confidence at tier 0, so the pol"),
        ([None] * 20, "0 of 20 fitting questions have a confidence at tier 0, so the policy cann"),
    ):
        held = [(v, *row[1:]) for v, row in zip(confidences, rows, strict=True)]
        assert said in Pomdp().fit(columns(pair_records(held))).rule_.note


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


@pytest.mark.parametrize("solver", ["exact", "pomdp_py", "sarsop"])
def test_what_a_solver_cannot_do_is_named(solver):
    """Every choice of reward, undefined confidences and price of abstention, by the first fault."""
    for reward, undefined, price in itertools.product(
        (None, {"keep": 1}), ("observe", "escalate", "keep", 0.5), (None, 0.1)
    ):
        other = "solver=pomdp_py" if reward is None else "reward"
        if solver == "sarsop":
            said = "='sarsop' must be exact or pomdp_py"
        elif price and (solver == "pomdp_py" or reward):
            said = f"abstain_price=0.1 needs .* and meta_verifier.{other} is given"
        elif solver == "pomdp_py" and reward:
            said = "and meta_verifier has a reward table: use meta_verifier.solver=exact"
        elif solver == "pomdp_py" and undefined in ("escalate", "keep"):
            said = f"and meta_verifier has undefined={undefined}: use meta_verifier.solver=exact"
        else:
            check_solver(solver, reward, undefined, price)
            continue
        with pytest.raises(AutoMixError, match=said):
            check_solver(solver, reward, undefined, price)


@pytest.mark.parametrize(
    ("name", "least", "below"),
    [("num_bins", 2, 1), ("cost_levels", 1, 0), ("lambda_", 0, -1e-9),
     *((name, 1e-9, 0) for name in ("bandwidth", "ridge", "neighbours"))],
)  # fmt: skip
def test_the_least_value_of_each_number(name, least, below):
    """It is taken; what lies below, endless, a truth value or a text is refused by its name."""
    assert getattr(Pomdp(**{name: least}), name) == least
    for bad in (below, float("inf"), True, "many"):
        with pytest.raises(AutoMixError, match=f"^meta_verifier.{name}={bad!r} must be"):
            Pomdp(**{name: bad})


@pytest.mark.parametrize(
    "bad",
    [
        {"mixtures": 1}, {"undefined": "drop"}, {"objective": "budget"}, {"budget": -1},
    ],
)  # fmt: skip
def test_bad_hyper_parameters_are_refused(bad):
    """Each at once, by an error that names it."""
    named = {"budget": "mean_cost"}  # as the command line names it
    wrong = next(iter(bad))
    with pytest.raises(AutoMixError, match=named.get(wrong, wrong)):
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
from automix_eval.meta_verifiers.pomdp.router import Pomdp
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
        ("summary", [{}]), ("more", 1), ("share", 1), ("share", -1e-9), ("escalation", -1e-9),
        ("escalation", 1 + 1e-9), ("edges", [[0.5, 0.5]]), ("levels", []), ("tiers", [1, 0]),
        ("tiers", [0, 2]), ("tiers", [-1, 1]), ("tiers", [True]), ("tiers", []), ("tiers", "01"),
    ],
)  # fmt: skip
def test_a_damaged_policy_is_refused(field, value):
    """Shapes, types and ranges of a stored policy are checked, and what is wrong is named."""
    learned = copy.deepcopy(Pomdp().fit(columns(pair_records(TYPICAL))).get_learned())
    learned[field] = value
    with pytest.raises(AutoMixError, match=rf"no policy of meta_verifier=pomdp.*\b{field}\b"):
        Pomdp().set_learned(learned)


@pytest.mark.parametrize(
    ("field", "value"),
    [("share", 0), ("share", 0.999), ("escalation", 0), ("escalation", 1), ("objective", None)],
)
def test_the_ends_of_stored_numbers_are_taken(field, value):
    """A share below 1, an escalation rate up to 1, and an objective that was not asked for."""
    learned = copy.deepcopy(Pomdp().fit(columns(pair_records(TYPICAL))).get_learned())
    made = Pomdp()
    made.set_learned({**learned, field: value})
    assert made.get_learned() == {**learned, field: value}


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
