"""Abstention at a price: who abstains, what that is worth, and where it is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from router_records import GRID, TYPICAL, columns, observe, pair_records, record

from automix_eval.costs.paper import PaperCost
from automix_eval.meta_verifiers.abstain import abstention_bounds
from automix_eval.meta_verifiers.compiled import NotCompiledError, compile_policy
from automix_eval.meta_verifiers.double_threshold import DoubleThreshold
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.pomdp.problem import estimate
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.meta_verifiers.pomdp.solve import Solver
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.records.outcomes import ABSTAIN, Outcomes
from automix_eval.safety.errors import AutoMixError

ROUTERS = [Threshold, DoubleThreshold, Pomdp]
PRICES = {"objective": "loss", "error_price": 200.0, "abstain_price": 80.0}


def world(number: int = 400, seed: int = 0, llm: float = 50.0) -> Outcomes:
    """Easy questions that the SLM knows, some that the LLM knows, and hard ones nobody knows."""
    rng = np.random.default_rng(seed)
    v = rng.random(number)
    chance = np.stack([np.where(v > 0.6, 0.95, 0.1), np.where(v > 0.3, 0.95, 0.15)], axis=1)
    return Outcomes(
        (rng.random((number, 2)) < chance).astype(float),
        np.tile([1.0, llm], (number, 1)),
        np.stack([v, np.full(number, np.nan)], axis=1),
        np.tile([1.0, 0.0], (number, 1)),
        ("slm", "llm"),
        tuple(str(i) for i in range(number)),
    )


def loss(router, outcomes, error=200.0, price=80.0):
    """Mean cost, errors and abstentions at their prices."""
    path = follow(router, outcomes)
    return float((path.cost + np.where(path.abstained, price, error * (1 - path.score))).mean())


@pytest.mark.parametrize("kind", [DoubleThreshold, Pomdp])
def test_easy_ones_are_kept_hard_ones_left_and_the_others_asked(kind):
    """Where nobody knows the answer the LLM is not paid, and the loss is below that without."""
    fit, new = world(), world(4000, 1)
    path = follow(kind(**PRICES).fit(fit), new)
    v = new.confidences[:, 0]
    assert path.abstained[v < 0.2].mean() > 0.9
    assert (path.final[(v > 0.4) & (v < 0.49)] == 1).mean() > 0.9
    assert (path.abstained | (path.final > 0))[v > 0.75].mean() < 0.1
    without = kind(objective="loss", error_price=200.0).fit(fit)
    assert loss(kind(**PRICES).fit(fit), new) < 0.9 * loss(without, new)


def test_a_threshold_abstains_where_the_llm_is_too_dear():
    """A threshold that asks nobody leaves the answers of the lowest confidence uncounted."""
    router = Threshold(**PRICES).fit(world(llm=300.0))
    path = follow(router, world(4000, 1, llm=300.0))
    assert not path.final.any()
    assert 0.5 < path.abstained.mean() < 0.7
    assert "abstain where an answer of at most" in router.describe()


@pytest.mark.parametrize("kind", ROUTERS)
def test_the_value_is_the_loss_of_the_policy(kind):
    """What a rule was chosen by is its loss on the fitting questions; the POMDP's is expected."""
    data = world()
    router = kind(**PRICES).fit(data)
    value = router.rule_.objective if isinstance(router, Pomdp) else router.value_
    assert value == pytest.approx(
        loss(router, data), rel=0.1 if isinstance(router, Pomdp) else 1e-9
    )


@pytest.mark.parametrize("price", [0.0, 0.004, 0.02])
def test_the_pomdp_takes_the_best_of_three_actions(price):
    """After each confidence the action is the one that the model expects most of, exactly."""
    problem, _ = estimate(world(), 32, "scott", None, 50.0)
    found = Solver(problem, abstention=0.6).solve(price)
    worth = np.stack(
        [problem.scores[0], problem.scores[1] - price * 50.0, np.full(len(problem.axes[0]), 0.6)]
    )
    actions = found.actions[0,][0]
    assert price != 0.004 or set(actions.tolist()) == {0, 1, ABSTAIN}
    taken = worth[actions, np.arange(len(actions))]
    assert taken == pytest.approx(worth.max(axis=0))
    expected = (problem.mass * taken).sum() - 2.0 * price
    assert found.fixed + price * found.slope == pytest.approx(expected)


@pytest.mark.parametrize("kind", ROUTERS)
def test_without_a_price_nothing_changes(kind):
    """A price just below that of an error is never worth paying: the policy is that without."""
    data = world()
    free = kind(objective="loss", error_price=200.0).fit(data)
    dear = kind(objective="loss", error_price=200.0, abstain_price=199.999999).fit(data)
    assert not follow(free, data).abstained.any()
    assert "abstain" not in json.dumps(free.get_learned())
    assert follow(dear, data).final.tolist() == follow(free, data).final.tolist()


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 1)), min_size=1, max_size=30))
def test_the_bound_is_the_best_that_is_shown(rows):
    """No other bound gains more, less 1.645 standard errors of the answers not given."""
    v = np.array([r[0] / 8 for r in rows])
    scores = np.array([[r[1], 1.0] for r in rows], dtype=float)
    data = Outcomes(
        scores, np.ones((len(rows), 2)), np.stack([v, v], axis=1), np.zeros((len(rows), 2)),
        ("slm", "llm"), tuple(map(str, range(len(rows)))),
    )  # fmt: skip
    (found,) = abstention_bounds(data, data.confidences, 0.4)

    def worth(bound: float) -> float:
        left = v <= bound
        gained = (0.4 - scores[left, 0]).sum()
        return float(gained - 1.645 * scores[:, 0].std() * np.sqrt(left.sum()))

    own = worth(-1.0 if found is None else found)
    assert own >= max(worth(b) for b in [-1.0, *v.tolist()]) - 1e-9


@pytest.mark.parametrize("kind", ROUTERS)
def test_live_decisions_are_those_of_the_replay(kind):
    """A decision that abstains keeps the answer, says so, and survives JSON."""
    data = columns(pair_records(TYPICAL))
    router = kind(**{**PRICES, "error_price": 100.0, "abstain_price": 5.0}).fit(data)
    decisions = router.decide(GRID)
    left = [d for d in decisions if d.abstains]
    assert left
    assert all(d.to == d.tier == 0 and d.reason.startswith("abstains") for d in left)
    other = kind(**{**PRICES, "error_price": 100.0, "abstain_price": 5.0})
    other.set_learned(json.loads(json.dumps(router.get_learned())))
    assert other.decide(GRID) == decisions
    assert other.describe() == router.describe()
    assert not any(d.abstains for d in router.decide([observe(0.0, tier=1)]))


@pytest.mark.parametrize("kind", ROUTERS)
def test_a_longer_chain_abstains_before_the_last_tier(kind):
    """Every tier but the last may end a question without an answer."""
    rows = [record(i, (slm, slm, llm), (v, v)) for i, (v, slm, llm) in enumerate(TYPICAL * 3)]
    chain = columns(rows, PaperCost(tiers=(1.0, 10.0, 500.0)))
    path = follow(kind(**PRICES).fit(chain), chain)
    assert path.abstained.any()
    assert path.final[path.abstained].max() < 2
    assert path.cost[path.abstained].max() < 100


@pytest.mark.parametrize("kind", ROUTERS)
def test_it_is_said_how_many_and_what_they_count(kind):
    """The note names the share and the score that stands for an abstention."""
    (note,) = [n for n in kind(**PRICES).fit(world()).notes() if "abstains" in n]
    assert "% of the fitting questions" in note
    assert "each counts 0.6" in note


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"objective": "gain"}, "objective=loss error_price=NUMBER"),
        ({"abstain_price": 0.0}, "above 0 and below error_price"),
        ({"abstain_price": 200.0}, "above 0 and below error_price"),
        ({"abstain_price": float("nan")}, "above 0 and below error_price"),
        ({"abstain_price": True}, "above 0 and below error_price"),
        ({"error_price": None}, "needs error_price"),
    ],
)
@pytest.mark.parametrize("kind", ROUTERS)
def test_a_price_out_of_place_is_refused(kind, given, message):
    """An abstention needs the price of an error, and costs less than one."""
    with pytest.raises(AutoMixError, match=message):
        kind(**(PRICES | given))


@pytest.mark.parametrize("given", [{"solver": "pomdp_py"}, {"prior": "knn"}])
def test_what_cannot_abstain_says_so(given):
    """Other solvers and the prior have no such action."""
    with pytest.raises(AutoMixError, match="abstain"):
        Pomdp(**PRICES, **given)


@pytest.mark.parametrize("kind", ROUTERS)
@pytest.mark.parametrize("scaled", [lambda s: 100 * s, lambda s: s - 1])
def test_an_error_of_scores_that_leave_the_unit_interval_has_no_price(kind, scaled):
    """1 - score is no share of an error there; other objectives do not ask for one."""
    rows = world()
    rows = replace(rows, scores=scaled(rows.scores))
    with pytest.raises(AutoMixError, match=r"objective=loss counts 1 - score .* reach from"):
        kind(objective="loss", error_price=200).fit(rows)
    kind().fit(rows)


@pytest.mark.parametrize("kind", ROUTERS)
def test_no_table_is_made_of_it(kind):
    """An export has no word for an abstention."""
    with pytest.raises(NotCompiledError, match="abstain"):
        compile_policy(kind(**PRICES).fit(world()), 2)


def test_an_undefined_confidence_is_kept_or_escalated_as_told():
    """No rule abstains on what it has no number of."""
    data = world()
    blind = replace(data, confidences=np.full((len(data), 2), np.nan))
    assert not follow(Threshold(**PRICES, undefined="keep").fit(data), blind).abstained.any()
    assert not follow(Pomdp(**PRICES, undefined="keep").fit(data), blind).abstained.any()
