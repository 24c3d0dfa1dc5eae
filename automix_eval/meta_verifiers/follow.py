"""Where a router leads questions of which every tier's outcome is known, and what that costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from automix_eval.meta_verifiers.base import Router, Walk
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.records.outcomes import (
    ABSTAIN,
    BoolArray,
    FloatArray,
    IntArray,
    Outcomes,
    Seen,
    pick,
)
from automix_eval.safety.errors import AutoMixError

P = TypeVar("P")

MOST = 25_000  # questions that the policies of a range are ordered by


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """Where a router led n questions.

    Attributes:
        final: (n,) tier whose answer counts.
        score: (n,) its score.
        cost: (n,) cost of all answers and verifications on the way.
        visited: (n, N) whether each tier was asked.
        abstained: (n,) whether that answer is not to count.
    """

    final: IntArray
    score: FloatArray
    cost: FloatArray
    visited: BoolArray
    abstained: BoolArray


def follow(router: MetaVerifier, outcomes: Outcomes) -> Path:
    """Play one router on outcomes: :meth:`Follower.follow`."""
    return Follower(outcomes).follow(router)


def sampled(outcomes: Outcomes) -> Outcomes:
    """At most :data:`MOST` of the questions, at random: they put policies of a range in order."""
    if len(outcomes) <= MOST:
        return outcomes
    drawn = np.random.default_rng(0).choice(len(outcomes), MOST, replace=False)
    return outcomes.take(np.sort(drawn))


def spread(policies: Sequence[P], most: int) -> Sequence[P]:
    """At most so many of the policies of a range, evenly, both ends among them."""
    if len(policies) <= most:
        return policies
    places = np.linspace(0, len(policies) - 1, most).round().astype(int)
    return [policies[i] for i in places.tolist()]


def mean_points(policies: Iterable[MetaVerifier], outcomes: Outcomes) -> FloatArray:
    """(m, 2) mean cost and mean score of each of m policies."""
    paths = map(Follower(outcomes).follow, policies)
    return np.array([(p.cost.mean(), p.score.mean()) for p in paths]).reshape(-1, 2)


class Follower:
    """Plays routers on outcomes; no model is called.

    What every router sees of a tier that all questions reach is put together once: a range of
    policies is played on the same questions.

    Args:
        outcomes: What every tier did.
    """

    def __init__(self, outcomes: Outcomes) -> None:
        self.outcomes = outcomes
        self._known: dict[tuple[object, ...], Seen] = {}
        self._walked: dict[Any, Any] = {}
        self._scores = outcomes.scores.ravel()
        self._starts = np.arange(len(outcomes)) * outcomes.num_tiers
        # a tier's costs side by side
        tables = (outcomes.answer_costs, outcomes.verification_costs)
        self._paid = [np.ascontiguousarray(table.T) for table in tables]

    def follow(self, router: MetaVerifier) -> Path:
        """Where a router leads.

        The calls are those of the live cascade: a tier that is skipped costs nothing, and a tier
        that is asked is verified unless it is the last or the router looks at no confidence.

        Raises:
            AutoMixError: The router sends a question to a tier that is not ahead of it.
        """
        outcomes = self.outcomes
        final, visited, abstained, verified = self.walk(router)
        cost = np.zeros(len(outcomes))
        for tier, asked in enumerate(visited.T):
            if asked.any():
                cost += self._paid[0][tier] * asked
                if router.needs_verification and tier < outcomes.num_tiers - 1:
                    cost += self._paid[1][tier] * (asked if verified is None else asked & verified)
        score = self._scores.take(self._starts + final)
        return Path(final, score, cost, visited, abstained)

    def walk(self, router: MetaVerifier) -> Walk:
        """The tiers that a router asks, without what they cost and score.

        Raises:
            AutoMixError: As :meth:`follow`.
        """
        quick = router.walk(self.outcomes, self._walked) if isinstance(router, Router) else None
        return quick or self._step_by_step(router)

    def _step_by_step(self, router: MetaVerifier) -> Walk:
        outcomes = self.outcomes
        n, last = len(outcomes), outcomes.num_tiers - 1
        visited, abstained = np.full((n, last + 1), False), np.full(n, False)
        everyone: tuple[int, ...] | None = ()  # the way here; None once questions go apart
        at = _moves(router, self._seen_by_all(router, -1, (), visited))
        for tier in range(last + 1):
            rows = np.flatnonzero(at == tier)
            if not len(rows):
                continue
            everyone = None if everyone is None or len(rows) < n else (*everyone, tier)
            here = rows if everyone is None else slice(None)
            visited[here, tier] = True
            if tier == last:
                break
            if everyone is None:
                moves = _moves(router, _seen(router, outcomes, tier, rows, visited))
            else:
                moves = _moves(router, self._seen_by_all(router, tier, everyone, visited))
            abstained[here] = moves == ABSTAIN
            at[here] = np.where(moves == ABSTAIN, tier, moves)
        return Walk(at, visited, abstained)

    def _seen_by_all(
        self, router: MetaVerifier, tier: int, way: tuple[int, ...], visited: BoolArray
    ) -> Seen:
        key = (way, router.needs_verification, router.needs_texts, router.needs_hindsight)
        if key not in self._known:
            rows = np.arange(len(visited))
            self._known[key] = _seen(router, self.outcomes, tier, rows, visited)
        return self._known[key]


def _seen(
    router: MetaVerifier, outcomes: Outcomes, tier: int, rows: IntArray, visited: BoolArray
) -> Seen:
    asked = visited[rows, : tier + 1]
    known = asked & router.needs_verification
    picked = rows.tolist() if router.needs_texts else []
    answers = outcomes.answers if router.needs_texts and tier >= 0 else None

    def columns(table: FloatArray) -> FloatArray:
        return np.where(known, table[rows, : tier + 1], np.nan)

    return Seen(
        tier,
        outcomes.num_tiers,
        columns(outcomes.confidences),
        pick(outcomes.ids, picked) if router.needs_texts else None,
        {name: columns(table) for name, table in outcomes.signals.items()},
        pick(outcomes.questions, picked) if router.needs_texts else None,
        None if answers is None else pick(answers[tier], picked),
        outcomes.take(rows) if router.needs_hindsight else None,
        np.where(asked, outcomes.answer_costs[rows, : tier + 1], np.nan),
    )


def _moves(router: MetaVerifier, seen: Seen) -> IntArray:
    to = np.array(router.choose(seen), dtype=np.intp)
    n = len(seen)
    goes = to if seen.tier < 0 else to[to != ABSTAIN]
    out = len(goes) and (goes.min() < max(seen.tier, 0) or goes.max() >= seen.num_tiers)
    if to.shape != (n,) or out:
        raise AutoMixError(
            f"{type(router).__name__} chose {np.unique(to).tolist()} at tier {seen.tier} of "
            f"{seen.num_tiers}: a router keeps the answer or goes on to a later tier"
        )
    return to
