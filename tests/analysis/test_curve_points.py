"""No point of a curve differs from what following its policy row by row gives."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from laws import examples

from automix_eval.analysis.experiments import routers
from automix_eval.analysis.method import MethodScore
from automix_eval.config import compose as config
from automix_eval.meta_verifiers.follow import Follower, follow
from automix_eval.records.outcomes import Outcomes

Point = tuple[float, float]
TRAIN, TEST = 80, 24


@st.composite
def chains(draw: st.DrawFn) -> tuple[Outcomes, Outcomes]:
    """Fitting and test rows: two or three tiers, votes or probabilities, prices of any kind."""
    tiers = draw(st.integers(2, 3))
    votes = draw(st.sampled_from([1, 2, 8, None]))
    prices = draw(st.sampled_from(["one", "two", "each its own"]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (TRAIN + TEST, tiers)
    sure = rng.random(shape)
    sure = sure if votes is None else np.round(sure * votes) / votes
    sure[rng.random(shape) < 0.05] = np.nan
    sure[:, -1] = np.nan
    each = {"one": np.ones(shape), "two": rng.choice([1.0, 1.5], shape)}
    times = each.get(prices, rng.uniform(0.5, 1.5, shape))
    costs = np.array([1.0, 8.0, 50.0])[-tiers:] * times
    judged = 0.5 * costs
    judged[:, -1] = 0.0
    # a dear answer of the first tier is a hard question: a router may read that
    hard = times[:, :1] - 1
    chance = 0.2 + 0.5 * np.nan_to_num(sure, nan=0.5) + 0.2 * np.arange(tiers) / tiers - 0.6 * hard
    numbers = range(TRAIN + TEST)
    every = Outcomes(
        scores=(rng.random(shape) < chance).astype(float),
        answer_costs=costs,
        confidences=sure,
        verification_costs=judged,
        names=tuple(f"tier {t}" for t in range(tiers)),
        ids=tuple(map(str, numbers)),
        questions=tuple(f"question {i}?" for i in numbers),
        answers=tuple(tuple(f"answer {t} of {i % 5}" for i in numbers) for t in range(tiers)),
    )
    return every.take(range(TRAIN)), every.take(range(TRAIN, TRAIN + TEST))


def row_by_row(policy: Any, questions: list[Outcomes]) -> Point:
    """Mean cost and mean score of a policy that meets one question at a time."""
    paths = [follow(policy, one) for one in questions]
    return (
        float(np.mean([p.cost[0] for p in paths])),
        float(np.mean([p.score[0] for p in paths])),
    )


def rounded(points: Any) -> list[Point]:
    """Points in order, without the last digits of sums in another order."""
    return sorted((round(cost, 9), round(quality, 9)) for cost, quality in points)


@pytest.mark.parametrize("name", config.options("meta_verifier"))
def test_every_point_of_a_curve_is_a_policy_followed_row_by_row(
    name: str, fast_routers: dict[str, Any]
) -> None:
    """For every router, on votes and probabilities, at the questions' own prices."""
    entry = json.loads(json.dumps({"option": name, **fast_routers.get(name, {})}))
    slow = name in fast_routers

    @settings(
        max_examples=examples(2 if slow else 6),
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(chains())
    def holds(chain: tuple[Outcomes, Outcomes]) -> None:
        train, test = chain
        router = routers.make(entry, "ibc", "none", 0)
        router = router.fit(train) if router.needs_fit else router
        family = [policy for _, policy in router.sweep()]
        picked = family[:: max(1, len(family) // 25)]
        found = MethodScore.of_routers([router], test, 0, 2).figures()
        curve = rounded((p.cost, p.quality) for p in found.curve)
        assert len(curve) == len(family)
        one_by_one = [test.take([i]) for i in range(len(test))]
        points = rounded(row_by_row(policy, one_by_one) for policy in picked)
        if len(picked) == len(family):
            assert curve == points
        assert set(points) <= set(curve)
        chosen = (found.cost.value, found.quality.value)
        assert rounded([chosen]) == rounded([row_by_row(router, one_by_one)])

    holds()


@settings(max_examples=examples(10))
@given(chains())
def test_a_range_played_together_is_each_policy_played_alone(
    rows: tuple[Outcomes, Outcomes],
) -> None:
    """What was put together for one policy does not leak into another, whatever it skips."""
    train, test = rows
    policies = [
        policy
        for name in ("threshold", "always_llm", "pomdp")
        for _, policy in routers.make({"option": name}, "gain", "none", 0).fit(train).sweep()
    ]
    play = Follower(test).follow
    for policy in policies:
        together, alone = play(policy), follow(policy, test)
        assert (together.final == alone.final).all()
        assert (together.visited == alone.visited).all()
        assert (together.cost == alone.cost).all()
