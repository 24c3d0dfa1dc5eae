"""Cross-fitting: every question is decided by a policy of the other folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from automix_eval.analysis.question_sets import PricedTiers
from automix_eval.analysis.replayed import followed
from automix_eval.meta_verifiers.always import AlwaysLLM, AlwaysSLM
from automix_eval.meta_verifiers.base import Router
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.meta_verifiers.cross_fitted import CrossFitted
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.records.outcomes import Outcomes, Seen
from automix_eval.safety.errors import AutoMixError


def outcomes(number: int = 100, seed: int = 0) -> Outcomes:
    """Two tiers, a confidence that tells, two questions a document."""
    rng = np.random.default_rng(seed)
    sure = rng.random(number)
    scores = np.stack([rng.random(number) < sure, rng.random(number) < 0.9], axis=1).astype(float)
    return Outcomes(
        scores,
        np.tile([1.0, 50.0], (number, 1)),
        np.stack([sure, np.full(number, np.nan)], axis=1),
        np.zeros((number, 2)),
        ("s", "l"),
        tuple(f"q{i}" for i in range(number)),
        documents=tuple(f"d{i // 2}" for i in range(number)),
    )


class Remembers(Router):
    """A router that asks the last tier exactly for questions it was fitted on."""

    needs_fit = needs_texts = True

    def fit(self, outcomes: Outcomes) -> Remembers:
        """Keep the identities and documents."""
        self.seen = set(outcomes.ids)
        self.documents = set(outcomes.documents or ())
        return self

    def choose(self, seen: Seen) -> np.ndarray:
        """The last tier for what was seen in the fit."""
        known = np.array([i in self.seen for i in seen.ids or ()])
        return np.where(known, seen.num_tiers - 1, max(seen.tier, 0))


def test_no_question_is_decided_by_a_policy_that_saw_it() -> None:
    """A router that knows its fitting rows knows none of those it decides; nor their documents."""
    data = outcomes()
    made = CrossFitted(Remembers).fit(data)
    assert follow(made, data).final.tolist() == [0] * len(data)
    assert follow(Remembers().fit(data), data).final.tolist() == [1] * len(data)
    assert data.documents is not None
    for name, document in zip(data.ids, data.documents, strict=True):
        policy = made.policies_[made.fold_of_[name]]  # type: ignore[index]
        assert document not in policy.documents  # type: ignore[attr-defined]
        assert len(policy.documents) >= 30  # type: ignore[attr-defined]


def test_decisions_are_those_of_the_folds_policies() -> None:
    """Each fold's questions go where the policy of the other folds sends them, in every order."""
    data = outcomes()
    made = CrossFitted(Threshold, 4).fit(data)
    assert made.policies_ is not None
    path = follow(made, data)
    fold = np.array([made.fold_of_[i] for i in data.ids])
    assert set(fold.tolist()) == {0, 1, 2, 3}
    for number, policy in enumerate(made.policies_):
        here = np.flatnonzero(fold == number)
        assert follow(policy, data.take(here)).final.tolist() == path.final[here].tolist()
    order = np.random.default_rng(1).permutation(len(data))
    again = CrossFitted(Threshold, 4).fit(data.take(order))
    assert follow(again, data).final.tolist() == path.final.tolist()


def test_a_note_of_several_folds_is_said_once() -> None:
    """In the order of the folds; before the fit there is none."""
    made = CrossFitted(Threshold)
    assert made.notes() == []
    for said in (["few", "slow"], [], ["slow", "dear"]):
        policy = Threshold()
        policy.notes = lambda said=said: said  # type: ignore[method-assign]
        made.policies_ = [*(made.policies_ or []), policy]
    assert made.notes() == ["few", "slow", "dear"]
    for number, policy in enumerate(made.policies_ or []):
        policy.notes = lambda number=number: [f"0.{number} of {number + 5} rows"]  # type: ignore[method-assign]
    assert made.notes() == ["0.0 of 5 rows (alike in 3 folds)"]


def test_the_range_reaches_from_cheap_to_dear() -> None:
    """Policies at equal places of the folds' ranges; the ends are those of the router itself."""
    data = outcomes()
    family = CrossFitted(Threshold).fit(data).sweep()
    assert 2 <= len(family) <= 33
    costs = [follow(policy, data).cost.mean() for _, policy in family]
    whole = [follow(policy, data).cost.mean() for _, policy in Threshold().fit(data).sweep()]
    assert (min(costs), max(costs)) == pytest.approx((min(whole), max(whole)), rel=0.05)


def test_folds_that_ask_one_tier_alone_verify_nothing() -> None:
    """The cheapest policy costs an answer, the dearest verified one a verification more."""
    data = replace(outcomes(), verification_costs=np.tile([1.0, 0.0], (100, 1)))
    family = CrossFitted(Threshold).fit(data).sweep()
    assert follow(family[0][1], data).cost == pytest.approx(np.ones(100))
    path = follow(family[16][1], data)
    assert path.cost == pytest.approx(2 + 50 * path.final)


def test_a_question_pays_for_verification_as_the_policy_of_its_fold_does() -> None:
    """Folds that ask one tier alone beside such as verify: each question at its policy's price."""
    data = replace(outcomes(), verification_costs=np.tile([1.0, 0.0], (100, 1)))
    policies: list[MetaVerifier] = [AlwaysSLM(), Threshold().fit(data), AlwaysSLM(), AlwaysLLM()]
    made = CrossFitted(Threshold, 4).fit(data).with_policies(policies)
    expected = np.empty(len(data))
    for number, policy in enumerate(policies):
        here = np.flatnonzero([made.fold_of_[i] == number for i in data.ids])
        expected[here] = follow(policy, data.take(here)).cost
    assert set(expected.tolist()) == {1.0, 2.0, 50.0, 52.0}
    assert follow(made, data).cost.tolist() == expected.tolist()
    # and so as a report prices it
    routing = followed(made, data, PricedTiers.of(data))
    rows = np.arange(len(data))[::-3]
    assert routing.values("cost", rows).tolist() == expected[rows].tolist()


def test_what_has_no_policy_is_refused() -> None:
    """Fewer questions than folds, a question not fitted, one in two folds, a policy file."""
    data = outcomes()
    with pytest.raises(AutoMixError, match="3 questions cannot be parted into 5"):
        CrossFitted(Threshold).fit(data.take(range(3)))
    made = CrossFitted(Threshold).fit(data.take(range(50)))
    with pytest.raises(AutoMixError, match="'q50' was not among"):
        follow(made, data)
    twice = replace(data, ids=("q0",) * len(data), documents=None)
    with pytest.raises(AutoMixError, match="stands in several rows"):
        CrossFitted(Threshold).fit(twice)
    for ask in (made.get_learned, lambda: made.choose(Seen(-1, 2, np.empty((1, 0))))):
        with pytest.raises(AutoMixError, match="no policy"):
            ask()
    with pytest.raises(AutoMixError, match="folds"):
        CrossFitted(Threshold, 1)
    for ask in (CrossFitted(Threshold).sweep, lambda: follow(CrossFitted(Threshold), data)):
        with pytest.raises(AutoMixError, match=r"^meta_verifier=cross-fitted has learned nothing"):
            ask()
