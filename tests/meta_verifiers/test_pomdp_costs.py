"""What a question's own cost tells: what routers see of it, and what the POMDP makes of it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pomdp_chains import chain
from router_records import answer

from automix_eval.cascade.route import Chain, route
from automix_eval.meta_verifiers.base import Router, see
from automix_eval.meta_verifiers.calibrated import Calibrated
from automix_eval.meta_verifiers.calibrators.logistic import Logistic
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.pomdp.costs import make_levels
from automix_eval.meta_verifiers.pomdp.problem import estimate
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.records.outcomes import Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Observation, Prompt, Question, Verification


def dear_and_cheap(number, tiers=3, seed=0, noise=0.0, **kwargs):
    """A chain whose questions have prompts of different lengths, which every tier is paid for."""
    rng = np.random.default_rng(seed + 100)
    length = np.exp(0.6 * rng.normal(size=(number, 1)) + noise * rng.normal(size=(number, tiers)))
    data = chain(number, tiers, seed=seed, **kwargs)
    return replace(data, answer_costs=data.answer_costs * length)


def worth(router, data, lambda_):
    """Mean score less lambda times mean cost."""
    path = follow(router, data)
    return path.score.mean() - lambda_ * path.cost.mean()


# --------------------------------------------------------------------------- what routers see


class Remembers(Router):
    """Goes from the first tier to the last but one, and keeps what it was shown."""

    needs_verification = True

    def __init__(self):
        self.shown: list[Seen] = []

    def choose(self, seen):
        """0, then 2."""
        self.shown.append(seen)
        return np.full(len(seen), 0 if seen.tier < 0 else 2)


def test_a_replay_shows_what_the_answers_cost():
    """A column for every tier so far, NaN for the tier skipped; likewise what was verified."""
    data, router = dear_and_cheap(5, 4), Remembers()
    follow(router, data)
    assert [s.costs.shape for s in router.shown] == [(5, 0), (5, 1), (5, 3)]
    assert (router.shown[2].costs[:, [0, 2]] == data.answer_costs[:, [0, 2]]).all()
    assert np.isnan(router.shown[2].costs[:, 1]).all()
    # a tier that was not asked was not judged either
    last = router.shown[2].confidences
    assert (last[:, [0, 2]] == data.confidences[:, [0, 2]]).all()
    assert np.isnan(last[:, 1]).all()


def test_live_costs_are_columns():
    """None is a tier skipped; a run without prices shows no costs at all."""
    shown = see([Observation(2, 4, (0.1, None, 0.2), costs=(1.5, None, 8.0))])
    assert shown.costs[0, [0, 2]].tolist() == [1.5, 8.0]
    assert np.isnan(shown.costs[0, 1])
    assert see([Observation(0, 2, (0.1,))]).costs is None


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1.0])
def test_a_cost_that_is_no_price_is_refused(bad):
    """A broken cost model is named, with the tier."""
    with pytest.raises(AutoMixError, match="tier 0: the answer costs"):
        see([Observation(0, 2, (0.1,), costs=(bad,))])


class Columns:
    """A tier, and a verifier, that read their answers off outcomes."""

    needs_token_probs = False

    def __init__(self, data, tier=0):
        self.data, self.tier, self.name = data, tier, f"tier {tier}"

    def working_on(self, *stage):
        """Nothing to log."""

    def tolerate(self, number):
        """Nothing fails."""

    def answer(self, questions, split, token_probs, pick=None):
        """Answers that name their row."""
        return [replace(answer(self.tier), text=str(q.doc_id)) for q in questions]

    def verify(self, questions, answers, tier):
        """The confidence of the row and tier."""
        held = [self.data.confidences[int(a.text), a.tier] for a in answers]
        return [Verification(a.tier, None if np.isnan(v) else v, "ok", ())
                for a, v in zip(answers, held, strict=True)]  # fmt: skip


def live(router, data, price):
    """The final tier of each row in a live cascade over the same numbers."""
    tiers = [Columns(data, t) for t in range(data.num_tiers)]
    questions = [Question("toy", i, Prompt("p"), "", f"q{i}") for i in range(len(data))]
    links = Chain(tiers, Columns(data), str.split, print, price=price)
    done = route(questions, links, router)
    return [max(r.tier for r in records) for records in done]


@pytest.mark.parametrize("calibrated", [False, True])
def test_live_and_replayed_decisions_agree(calibrated):
    """Question by question, mixtures, skipped tiers and undefined confidences included."""
    data = dear_and_cheap(300, noise=0.2, undefined=0.1)
    fitted = Pomdp(objective="budget", budget=15.0)
    fitted = (Calibrated(fitted, Logistic) if calibrated else fitted).fit(data)
    price = lambda a: float(data.answer_costs[int(a.text), a.tier])  # noqa: E731
    for _, router in fitted.sweep()[::20]:
        assert live(router, data, price) == follow(router, data).final.tolist()


def test_a_price_that_fails_stops_the_run():
    """It is no cost of zero, and no unknown one."""
    data = dear_and_cheap(20)

    def price(_: Answer) -> float:
        raise AutoMixError("no price for tier 0")

    with pytest.raises(AutoMixError, match="no price for tier 0"):
        live(Pomdp(lambda_=0.01).fit(data), data, price)


# --------------------------------------------------------------------------- levels


def test_costs_in_proportion_are_found():
    """Each level's ratio is the mean cost of its questions, for every tier ahead."""
    data = dear_and_cheap(700)
    found = make_levels(data.answer_costs[:, 0], data.answer_costs, 0, 7)
    assert len(found) == 7
    assert found.shares @ found.ratios == pytest.approx(np.ones(3))
    level = np.searchsorted(found.edges, data.answer_costs[:, 0], side="right")
    relative = data.answer_costs[:, 2] / data.answer_costs[:, 2].mean()
    means = [relative[level == k].mean() for k in range(7)]
    assert found.ratios[:, 2] == pytest.approx(means, abs=0.02)


@pytest.mark.parametrize("seed", range(5))
def test_unrelated_costs_are_hardly_told_apart(seed):
    """Where the first cost says nothing, levels differ by less than chance makes them differ."""
    rng = np.random.default_rng(seed)
    paid = np.exp(0.5 * rng.normal(size=(200, 2)))
    found = make_levels(paid[:, 0], paid, 0, 7)
    assert np.abs(found.ratios - 1).max() < 0.2
    assert found.shares @ found.ratios == pytest.approx(np.ones(2))


def test_ratios_are_shrunk_as_far_as_chance_explains_them():
    """By hand: 1 -/+ 1/3 are the means, 5/18 the variance within, so 3/8 of the distance stay."""
    paid = np.array([[1.0, 1.0], [1.0, 3.0], [2.0, 2.0], [2.0, 6.0]])
    found = make_levels(paid[:, 0], paid, 0, 2)
    assert found.ratios[:, 1] == pytest.approx([1 - 1 / 8, 1 + 1 / 8])


def second_asked_first(number=2000):
    """Three tiers; the first is never right, the second's cost alone tells that of the third."""
    rng = np.random.default_rng(0)
    half = rng.random((number, 2)) < 0.5
    scores = np.stack([np.zeros(number), np.zeros(number), half[:, 0]], axis=1)
    costs = np.stack(
        [rng.uniform(1, 2, number), np.where(half[:, 1], 0.02, 0.01),
         np.where(half[:, 1], 1.5, 0.1)], axis=1,
    )  # fmt: skip
    held = np.tile([0.5, 0.5, np.nan], (number, 1))
    data = replace(chain(number, 3), scores=scores, answer_costs=costs, confidences=held)
    return data, half[:, 1]


@given(st.integers(0, 10**6))
def test_the_levels_costs_average_to_what_the_tier_costs(seed):
    """Also where levels are of different sizes and their means do not rise: no cost is invented."""
    rng = np.random.default_rng(seed)
    answered = rng.choice([1.0, 2.0, 3.0, 5.0, 8.0], size=80, p=[0.5, 0.3, 0.1, 0.06, 0.04])
    later = answered * rng.choice([0.2, 1.0, 6.0], size=80)
    found = make_levels(answered, np.column_stack([answered, later]), 0, 5)
    assert found.shares @ found.ratios[:, 1] == pytest.approx(1.0, rel=1e-9)


def test_the_level_is_read_off_the_tier_that_was_asked():
    """A chain that begins at its second tier knows that tier's cost, and nothing of the first's."""
    data, dear = second_asked_first()
    problem, cells = estimate(data, 8, "scott", None, 10, 2)
    share = dear.mean()
    assert problem.levels[1].shares == pytest.approx([1 - share, share])
    assert np.bincount(cells.levels[:, 1], cells.counts) == pytest.approx(
        [(~dear).sum(), dear.sum()]
    )
    path = follow(Pomdp(lambda_=0.6, cost_levels=2).fit(data), data)
    assert not path.visited[:, 0].any()
    assert (path.final == np.where(dear, 1, 2)).all()


def test_one_runaway_answer_moves_its_own_level_only():
    """A first answer a thousand times as long leaves the levels below as they were."""
    data = dear_and_cheap(210)
    paid = data.answer_costs.copy()
    dearest = int(paid[:, 0].argmax())
    before = make_levels(paid[:, 0], paid, 0, 7)
    paid[dearest, 0] *= 1000
    after = make_levels(paid[:, 0], paid, 0, 7)
    assert after.ratios[:, 1:] == pytest.approx(before.ratios[:, 1:])


# --------------------------------------------------------------------------- laws of the policy


def test_constant_costs_change_nothing():
    """The same policy as without levels, to the last bit, and no cost is asked for."""
    data = chain(200, undefined=0.1)
    with_levels = Pomdp(mixtures=False).fit(data)
    without = Pomdp(cost_levels=1, mixtures=False).fit(data)
    assert json.dumps(with_levels.get_learned()) == json.dumps(without.get_learned())
    assert with_levels.choose(Seen(0, 3, np.array([[0.5]]))).shape == (1,)


@pytest.mark.parametrize("tiers", [2, 3])
def test_a_dearer_question_is_escalated_no_more_often(tiers):
    """At equal confidence, whatever is kept at a cost is kept at any higher one."""
    data = dear_and_cheap(400, tiers, noise=0.3)
    held = np.tile(np.linspace(0.01, 0.99, 40), 12)
    costs = np.repeat(np.geomspace(0.2, 4.0, 12), 40)
    ids = tuple(f"toy/{v}/0" for v in held)
    escalated = []
    for _, router in Pomdp().fit(data).sweep():
        to = router.choose(Seen(0, tiers, held[:, None], ids, costs=costs[:, None]))
        up = (to > 0).reshape(12, 40)
        assert (up[1:] <= up[:-1]).all()
        escalated.append(up.mean(axis=1))
    assert (np.array(escalated)[:, 0] > np.array(escalated)[:, -1]).any()


def test_knowing_the_cost_is_worth_something():
    """On fresh questions of unequal lengths, quality for cost is higher with levels."""
    train, test = dear_and_cheap(1000, 2, seed=1), dear_and_cheap(20000, 2, seed=2)
    gains = [
        worth(Pomdp(lambda_=x).fit(train), test, x)
        - worth(Pomdp(lambda_=x, cost_levels=1).fit(train), test, x)
        for x in (0.01, 0.02, 0.04)
    ]
    assert min(gains) > 0


def test_the_first_action_knows_that_the_cost_will_be_seen():
    """A first answer that only shows the price of the next is asked for that, if cheap enough."""
    rng = np.random.default_rng(0)
    number = 2000
    scores = np.stack([np.zeros(number), rng.random(number) < 0.5], axis=1)
    dear = rng.random(number) < 0.5
    costs = np.stack([np.where(dear, 0.02, 0.01), np.where(dear, 1.5, 0.1)], axis=1)
    data = chain(number, 2)
    held = np.stack([np.full(number, 0.5), np.full(number, np.nan)], axis=1)
    data = replace(data, scores=scores, answer_costs=costs, confidences=held)
    router = Pomdp(lambda_=0.6).fit(data)
    path = follow(router, data)
    assert path.visited[:, 0].all()
    assert (path.final == np.where(dear, 0, 1)).all()
    assert (follow(Pomdp(lambda_=0.6, cost_levels=1).fit(data), data).final == 1).all()


# --------------------------------------------------------------------------- the policy as a file


def test_a_policy_with_levels_is_stored_and_described():
    """Through JSON every choice is the same, and the levels are in its text."""
    data = dear_and_cheap(300, noise=0.1)
    router, other = Pomdp(cost_levels=4).fit(data), Pomdp()
    other.set_learned(json.loads(json.dumps(router.get_learned(), allow_nan=False)))
    assert (follow(other, data).final == follow(router, data).final).all()
    assert other.describe() == router.describe()
    for tier, (summary, edges) in enumerate(
        zip(router.rule_.summary, router.rule_.levels, strict=True)
    ):
        _, table = router.describe().split(f"cost levels of a first answer by tier {tier} (")
        lines = [line.split() for line in table.split("\n\n")[0].splitlines()[2:]]
        assert [line[0] for line in lines] == [*(f"{e:.6g}" for e in edges), "any"]
        numbers = [[float(n.rstrip("%")) for n in line[1:]] for line in lines]
        shown = zip(
            summary["level_shares"], summary["level_kept"], summary["level_ratios"], strict=True
        )
        expected = np.array([[100 * share, 100 * kept, *ratios] for share, kept, ratios in shown])
        assert np.array(numbers) == pytest.approx(expected, abs=0.051)
        assert table.splitlines()[1].split()[:4] == ["cost", "below", "share", "kept"]
        assert table.splitlines()[1].split()[4:] == f"tier {tier + 1} tier 2".split()[2 * tier :]
    assert [len(e) for e in router.rule_.levels] == [3, 3]


@pytest.mark.parametrize(
    ("field", "value"),
    [("levels", []), ("levels", [[0.1]]), ("levels", [[2.0, 1.0], []]), ("levels", None)],
)
def test_damaged_levels_are_refused(field, value):
    """Order and number of a stored policy's levels are checked against its tables."""
    learned = Pomdp().fit(dear_and_cheap(100)).get_learned()
    with pytest.raises(AutoMixError, match="no policy of meta_verifier=pomdp"):
        Pomdp().set_learned({**learned, field: value})


def test_a_policy_with_levels_says_that_it_needs_costs():
    """Neither a missing cost nor a NaN passes for some level."""
    router = Pomdp().fit(dear_and_cheap(200))
    for costs in (None, np.array([[np.nan]])):
        with pytest.raises(AutoMixError, match="cost_levels=1"):
            router.choose(Seen(0, 3, np.array([[0.5]]), ("a",), costs=costs))


# --------------------------------------------------------------------------- pomdp-py as the solver


def test_pomdp_py_solves_to_the_same_policies():
    """Two tiers, levels and undefined confidences: every member of the family has equal tables."""
    pytest.importorskip("pomdp_py")
    data = dear_and_cheap(150, 2, noise=0.2, undefined=0.1)
    options = {"num_bins": 6, "cost_levels": 3}
    exact, planned = Pomdp(**options).fit(data), Pomdp(solver="pomdp_py", **options).fit(data)
    assert len(exact.sweep()) == len(planned.sweep()) > 10
    for (x, one), (y, other) in zip(exact.sweep(), planned.sweep(), strict=True):
        assert x == pytest.approx(y)
        for part in ("low", "high", "levels", "edges"):
            assert one.get_learned()[part] == other.get_learned()[part]
        assert one.rule_.score == pytest.approx(other.rule_.score)
        assert one.rule_.cost == pytest.approx(other.rule_.cost)


def test_pomdp_py_may_start_at_the_last_tier():
    """Where the first tier is never right and tells nothing, both solvers skip it."""
    pytest.importorskip("pomdp_py")
    data = dear_and_cheap(100, 2)
    data = replace(data, scores=np.tile([0.0, 1.0], (100, 1)))
    for solver in ("exact", "pomdp_py"):
        router = Pomdp(solver=solver, lambda_=0.001, num_bins=3).fit(data)
        assert int(router.rule_.low[()]) == 1


def test_what_pomdp_py_cannot_solve_is_said(monkeypatch):
    """Three tiers, no library: each names the exact solver."""
    with pytest.raises(AutoMixError, match="solver=exact"):
        Pomdp(solver="pomdp_py").fit(chain(50, 3))
    monkeypatch.setitem(sys.modules, "pomdp_py", None)
    monkeypatch.delitem(
        sys.modules, "automix_eval.meta_verifiers.pomdp.pomdp_py_model", raising=False
    )
    monkeypatch.delattr("automix_eval.meta_verifiers.pomdp.pomdp_py_model", raising=False)
    with pytest.raises(AutoMixError, match=r"not installed.*automix-eval\[pomdp\].*solver=exact"):
        Pomdp(solver="pomdp_py").fit(chain(50, 2))
