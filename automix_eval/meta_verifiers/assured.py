"""Routers that choose a policy by an objective, and what of a quality the fitting data show.

``assured`` is learn-then-test along a fixed sequence (Angelopoulos et al., arXiv 2110.01052): the
policies of the sweep are tested from "ask the last tier always" downward in cost, each at the whole
level, and the tests stop at the first that fails; the last that passed is taken. Then the
probability of promising more than holds is at most 1 - confidence, however many there are.

A policy passes if it is shown to hold the target by :mod:`automix_eval.metrics.noninferiority`,
paired by question and by document. Scores on questions that a policy was fitted on flatter it, so
each question is scored by the policy that the same fit gives at the same place of the sweep without
the question's fold; questions of one document share a fold. A place is a share of the way from the
cheapest policy's cost to the dearest one's.
"""

from __future__ import annotations

import copy
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from automix_eval.meta_verifiers.base import Router
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.meta_verifiers.follow import Follower, follow, mean_points, sampled
from automix_eval.meta_verifiers.objectives import Selection
from automix_eval.metrics.bootstrap import sorted_codes
from automix_eval.metrics.ibc import TOLERANCE, Undefined
from automix_eval.metrics.noninferiority import PairedScores
from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes
from automix_eval.safety.errors import AutoMixError

S = TypeVar("S", bound="ChoosingRouter")

FOLDS = 5
# Places of the sweep that are tested at most.
PLACES = 60


@dataclass(kw_only=True, eq=False)
class ChoosingRouter(Selection, Router):
    """A router whose policy is chosen by an objective; its hyper-parameters: :class:`Selection`."""

    def fit(self: S, outcomes: Outcomes) -> S:
        """Learn a policy from outcomes of every tier; the order of the rows does not matter.

        Raises:
            AutoMixError: Too few questions or tiers, or scores that an error's price is not for.
        """
        low, high = float(outcomes.scores.min()), float(outcomes.scores.max())
        if self.objective == "loss" and not -TOLERANCE <= low <= high <= 1 + TOLERANCE:
            raise AutoMixError(
                f"objective=loss counts 1 - score as the error of an answer, and the scores to fit "
                f"on reach from {low:.4g} to {high:.4g}: take a metric of which 0 is wrong and 1 "
                "right, or objective=gain"
            )
        if self.objective == "assured":
            return _assure(self, outcomes.canonical())
        return self._fit(outcomes)

    @abstractmethod
    def _fit(self: S, outcomes: Outcomes) -> S:
        """Learn; for ``assured`` the sweep is asked for, and the choice is not used."""

    @abstractmethod
    def _take(self, chosen: Any, value: float, note: str) -> None:
        """Hold another policy of the sweep as the one chosen."""


def _assure(router: S, rows: Outcomes) -> S:
    assert router.target is not None

    def fit(questions: Outcomes) -> S:
        return copy.copy(router)._fit(questions)

    fitted = fit(rows)
    promise = HeldOutSweep.of(lambda some: Placed.of(fit(some), some), fitted, rows).choose(
        router.target, router.confidence
    )
    vars(router).update({**vars(fitted), "objective": router.objective})
    router._take(promise.policy, promise.cost, promise.words)
    return router


@dataclass(frozen=True, slots=True)
class Promise:
    """The cheapest policy that is shown to hold a share of the last tier's quality.

    Attributes:
        policy: The policy; one that asks the last tier always where no cheaper one is shown.
        cost: Its mean cost on the fitting questions.
        shown: Whether a cheaper policy than that is shown to hold it, or there is no cheaper one.
        needed: How many questions like these would show it of a cheaper policy; None where it is
            shown, and where the cheaper one that is tested first does not reach it on these.
        more: What more questions would change, in words; empty where it is shown.
        words: The whole in words.
    """

    policy: Any
    cost: float
    shown: bool
    needed: int | None
    more: str
    words: str


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """Policies of a sweep from the dearest to the cheapest, and the place of each.

    Attributes:
        policies: At most :data:`PLACES`.
        places: 1 to 0.
    """

    policies: Sequence[Any]
    places: FloatArray

    @classmethod
    def of(cls, fitted: MetaVerifier, rows: Outcomes) -> Placed:
        """The sweep of a router over the rows that it was fitted on.

        Where the last tier alone is one of them, what does not cost less than it is left out.
        """
        every, rows = [policy for _, policy in fitted.sweep()], sampled(rows)
        # the range of a longer chain holds it only where no cheaper policy is as good
        every += filter(None, [fitted.only_last()])
        cost = mean_points(every, rows)[:, 0]
        alone = float(rows.answer_costs[:, -1].mean())
        cheaper = cost < alone - TOLERANCE * abs(alone)
        tied = np.flatnonzero(~cheaper & (cost <= alone + TOLERANCE * abs(alone))).tolist()
        walk, last = Follower(rows).walk, rows.num_tiers - 1
        if sole := [i for i in tied if (walk(every[i]).final == last).all()]:
            kept = [sole[0], *np.flatnonzero(cheaper).tolist()]
            every, cost = [every[i] for i in kept], cost[kept]
        place = (cost - cost.min()) / (float(np.ptp(cost)) or 1.0)
        order = np.argsort(-place, kind="stable")
        if len(order) > PLACES:
            wanted = np.linspace(1.0, 0.0, PLACES)
            order = order[np.unique(np.abs(place[order][:, None] - wanted).argmin(axis=0))]
        return cls([every[i] for i in order.tolist()], place[order])


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutSweep:
    """The policies of a sweep, dear to cheap, and what each is worth on questions it has not seen.

    Attributes:
        rows: The fitting questions, n.
        documents: (n,) what each is about.
        policies: From "ask the last tier always" downward in cost, m.
        scores: (m, n) of each question by the policy at the same place, fitted without its fold.
    """

    rows: Outcomes
    documents: IntArray
    policies: Sequence[Any]
    scores: FloatArray

    @classmethod
    def of(
        cls,
        fit: Callable[[Outcomes], Placed],
        fitted: MetaVerifier,
        rows: Outcomes,
        folds: IntArray | None = None,
    ) -> HeldOutSweep:
        """Fit without each fold in turn.

        Args:
            fit: Fits a router of this kind anew, and sweeps.
            fitted: The router of this kind that is fitted on all rows.
            rows: In their canonical order.
            folds: (n,) the fold of each row, by whole documents; None: five are made.
        """
        documents = sorted_codes(rows.documents or rows.ids)
        swept = Placed.of(fitted, rows)
        walk = Follower(rows).walk
        scores = _held_out(fit, rows, documents % FOLDS if folds is None else folds, swept.places)
        # the cheapest way to ask the last tier always comes first
        ends = [(walk(p).final == rows.num_tiers - 1).all() for p in swept.policies]
        start = int(np.flatnonzero([True, *ends[1:]])[-1])
        return cls(rows, documents, swept.policies[start:], scores[start:])

    def choose(self, target: float, confidence: float) -> Promise:
        """The last policy that passes.

        Args:
            target: Share of the last tier's mean score to hold.
            confidence: With which the fitting questions show it.
        """
        last = self.rows.scores[:, -1]
        bounds = [_bound(s, last, self.documents, target, confidence) for s in self.scores]
        # nothing needs to be shown of asking the last tier
        passed = 1
        while passed < len(bounds) and bounds[passed].least > 0:
            passed += 1
        policy = self.policies[passed - 1]
        shown = passed > 1 or len(bounds) == 1
        needed = None if shown else _needed(bounds[1], len(last))
        more = "" if shown else _more(bounds[1:], needed)
        if not shown and isinstance(none := PairedScores.of(last, last, self.documents), Undefined):
            needed, more = None, none.reason
        least = bounds[passed - 1].least / last.mean() if last.mean() > 0 else 0.0
        return Promise(
            policy,
            float(follow(policy, self.rows).cost.mean()),
            shown,
            needed,
            more,
            _words(target, confidence, target + least if passed > 1 else None, more, len(last)),
        )


@dataclass(frozen=True, slots=True)
class _Bound:
    """Mean of score - target * the last tier's score, and its one-sided lower bound."""

    mean: float
    least: float


def _bound(
    score: FloatArray, last: FloatArray, documents: IntArray, target: float, confidence: float
) -> _Bound:
    mean = float((score - target * last).mean())
    paired = PairedScores.of(score, last, documents)
    if isinstance(paired, Undefined):
        return _Bound(mean, -math.inf)
    return _Bound(mean, paired.lower_bound(target, confidence))


def _held_out(
    fit: Callable[[Outcomes], Placed], rows: Outcomes, folds: IntArray, places: FloatArray
) -> FloatArray:
    """(places, n) score of each question by the policy at a place, fitted without its fold."""
    scores = np.empty((len(places), len(rows)))
    for fold in np.unique(folds).tolist():
        out = np.flatnonzero(folds == fold)
        rest = np.flatnonzero(folds != fold)
        # one document, or two questions: nothing can be held out, and nothing will be shown
        used = rows.take(rest) if len(rest) > 1 else rows
        found = fit(used)
        asked = rows.take(out)
        walk, here = Follower(asked).walk, np.arange(len(out))
        played: dict[int, FloatArray] = {}
        for k, place in enumerate(places.tolist()):
            i = int(np.abs(found.places - place).argmin())
            if i not in played:
                played[i] = asked.scores[here, walk(found.policies[i]).final]
            scores[k, out] = played[i]
    return scores


def _needed(first: _Bound, number: int) -> int | None:
    """How many questions like these would show the policy that is tested first."""
    if first.mean <= TOLERANCE or not math.isfinite(first.least):
        return None
    return max(number + 1, math.ceil(number * ((first.mean - first.least) / first.mean) ** 2))


def _more(cheaper: Sequence[_Bound], needed: int | None) -> str:
    if needed:
        return f"about {needed:,} would be needed"
    if any(b.mean > TOLERANCE for b in cheaper[1:]):
        return "on them the dearest of the cheaper policies keeps less, and it is tested first"
    return "on them no cheaper policy keeps as much"


def _words(target: float, confidence: float, least: float | None, more: str, number: int) -> str:
    if least is not None:
        return (
            f"assured: holds {target:.4g} of the last tier's quality with {confidence:.0%} "
            f"confidence (at least {least:.4g} of it, by {number} fitting questions)"
        )
    if not more:
        return "assured: no policy is cheaper than the last tier, asked always"
    return (
        f"assured: {target:.4g} of the last tier's quality is not shown by {number} fitting "
        f"questions for any cheaper policy, so the last tier is asked always; {more}"
    )
