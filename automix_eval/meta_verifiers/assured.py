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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from automix_eval.meta_verifiers.base import Router
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.objectives import TOLERANCE, Selection
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.noninferiority import PairedScores
from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes

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
            AutoMixError: Too few questions or tiers.
        """
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
    names = rows.documents if rows.documents is not None else rows.ids
    documents = np.unique(np.array(names), return_inverse=True)[1].astype(np.intp)
    fitted = copy.copy(router)._fit(rows)
    policies, places = _sweep(fitted, rows)
    scores = _held_out(router, rows, documents % FOLDS, places)
    last = rows.scores[:, -1]
    # the cheapest way to ask the last tier always comes first
    start = int(np.flatnonzero([i == 0 or (s == last).all() for i, s in enumerate(scores)])[-1])
    policies, scores = policies[start:], scores[start:]
    bounds = [_bound(s, last, documents, router) for s in scores]
    # nothing needs to be shown of asking the last tier
    passed = 1
    while passed < len(bounds) and bounds[passed].least > 0:
        passed += 1
    at = passed - 1
    vars(router).update({**vars(fitted), "objective": router.objective})
    cost = float(follow(policies[at], rows).cost.mean())
    router._take(policies[at], cost, _words(router, bounds, passed, float(last.mean()), len(rows)))
    return router


@dataclass(frozen=True, slots=True)
class _Bound:
    """Mean of score - target * the last tier's score, and its one-sided lower bound."""

    mean: float
    least: float


def _bound(score: FloatArray, last: FloatArray, documents: IntArray, asked: Selection) -> _Bound:
    assert asked.target is not None
    mean = float((score - asked.target * last).mean())
    paired = PairedScores.of(score, last, documents)
    if isinstance(paired, Undefined):
        return _Bound(mean, -math.inf)
    return _Bound(mean, paired.lower_bound(asked.target, asked.confidence))


def _sweep(fitted: ChoosingRouter, rows: Outcomes) -> tuple[list[Any], FloatArray]:
    """Policies from the dearest to the cheapest, and the place of each, 1 to 0."""
    every = [policy for _, policy in fitted.sweep()]
    cost = np.array([follow(policy, rows).cost.mean() for policy in every])
    place = (cost - cost.min()) / (float(np.ptp(cost)) or 1.0)
    order = np.argsort(-place, kind="stable")
    if len(order) > PLACES:
        wanted = np.linspace(1.0, 0.0, PLACES)
        order = order[np.unique(np.abs(place[order][:, None] - wanted).argmin(axis=0))]
    return [every[i] for i in order.tolist()], place[order]


def _held_out(
    router: ChoosingRouter, rows: Outcomes, folds: IntArray, places: FloatArray
) -> FloatArray:
    """(places, n) score of each question by the policy at a place, fitted without its fold."""
    scores = np.empty((len(places), len(rows)))
    for fold in np.unique(folds).tolist():
        out = np.flatnonzero(folds == fold)
        rest = np.flatnonzero(folds != fold)
        # one document, or two questions: nothing can be held out, and nothing will be shown
        used = rows.take(rest) if len(rest) > 1 else rows
        policies, found = _sweep(copy.copy(router)._fit(used), used)
        held = rows.take(out)
        played: dict[int, FloatArray] = {}
        for k, place in enumerate(places.tolist()):
            i = int(np.abs(found - place).argmin())
            if i not in played:
                played[i] = follow(policies[i], held).score
            scores[k, out] = played[i]
    return scores


def _words(
    router: Selection, bounds: Sequence[_Bound], passed: int, last: float, number: int
) -> str:
    assert router.target is not None
    aim, sure = f"{router.target:.4g}", f"{router.confidence:.0%}"
    if passed > 1 or len(bounds) == 1:
        least = router.target + bounds[passed - 1].least / last if last > 0 else router.target
        return (
            f"assured: holds {aim} of the last tier's quality with {sure} confidence (at least "
            f"{least:.4g} of it, by {number} fitting questions)"
        )
    # how many questions like these would show the policies that are no worse on average
    needed = [
        number * ((b.mean - b.least) / b.mean) ** 2
        for b in bounds[1:]
        if b.mean > TOLERANCE and math.isfinite(b.least)
    ]
    more = (
        f"about {math.ceil(min(needed))} questions would be needed"
        if needed
        else "on these no cheaper policy reaches it, and more of them would not change that"
    )
    return (
        f"assured: {aim} of the last tier's quality is not shown by {number} fitting questions for "
        f"any cheaper policy, so the last tier is asked always; {more}"
    )
