"""The way from the SLM to the LLM along a router's policies, chosen on the fitting questions alone.

The upper hull of operating points flatters where it is chosen on the questions that it is scored
on: of many policies of a useless verifier, some are lucky there. So the hull is taken on the
fitting questions, and mixtures of its neighbours are followed on the others, at equal steps of what
they cost on the fitting questions. Where a router is fitted in folds, each fold goes along the hull
of the other folds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from automix_eval.analysis.routed_paths import Index
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.meta_verifiers.cross_fitted import CrossFitted
from automix_eval.meta_verifiers.follow import Follower, follow, mean_points, sampled, spread
from automix_eval.metrics.curves import envelope
from automix_eval.metrics.ibc import Undefined, exceeds
from automix_eval.metrics.noninferiority import PairedScores
from automix_eval.records.outcomes import FloatArray, Outcomes

# Steps between the two models; fewer of many questions, so that memory stays bounded.
STEPS, LEAST_STEPS, _MOST = 25, 5, 2_500_000
# Policies x questions that a hull is sought among; of more policies so many, evenly, but some.
_PLAYED, _LEAST = 8_000_000, 50


@dataclass(frozen=True, slots=True, eq=False)
class PathStep:
    """One step: a routing whose figures are means over a random choice of two policies.

    Attributes:
        columns: ``quality``, ``cost`` and ``calls`` (of the last tier), each (n,).
    """

    columns: Mapping[str, FloatArray]

    def missing(self) -> Mapping[str, Undefined]:
        """Nothing: every tier was asked."""
        return {}

    def values(self, name: str, rows: Index) -> FloatArray:
        """(len(rows),) a figure of some questions."""
        return self.columns[name][rows]


def fitted_path(
    router: MetaVerifier,
    test: Outcomes,
    fitting: Outcomes | None,
    points: FloatArray | None = None,
) -> tuple[PathStep, ...]:
    """The steps between the two models; none where the router learns nothing, or has no range.

    Args:
        router: Fitted.
        test: Questions to follow it on.
        fitting: Those it was fitted on; None for a router fitted in folds of the same questions.
        points: (m, 2) mean cost and score of the policies of its range on ``fitting``, if known.
    """
    steps = int(np.clip(_MOST // max(1, len(test)), LEAST_STEPS, STEPS))
    table = np.empty((steps, 3, len(test)))
    parts: list[tuple[MetaVerifier, Outcomes, Index | None]]
    if isinstance(router, CrossFitted):
        points = None
        fold = np.array([router.fold_of_[name] for name in test.ids])
        parts = [
            (policy, test.take(fold != number), np.flatnonzero(fold == number))
            for number, policy in enumerate(router.policies_ or ())
        ]
    elif fitting is not None and router.needs_fit and not router.needs_hindsight:
        parts = [(router, fitting, None)]
    else:
        return ()
    for policy, rest, rows in parts:
        family: Sequence[tuple[float | None, MetaVerifier]] = policy.sweep()
        if points is None:
            family = spread(family, max(_LEAST, _PLAYED // max(1, len(rest))))
        hull = _hull([one for _, one in family], rest, points) if len(family) > 1 else []
        if len(hull) < 2:
            return ()
        some = test if rows is None else test.take(rows)
        for step, columns in enumerate(_followed(hull, some, steps)):
            table[step][:, slice(None) if rows is None else rows] = columns
    return tuple(
        PathStep(dict(zip(("quality", "cost", "calls"), columns, strict=True))) for columns in table
    )


_Corner = tuple[float, MetaVerifier | int]
"""(share of the way from the SLM's cost to the LLM's, policy or the tier that is asked alone)"""


def _hull(
    family: Sequence[MetaVerifier], fitting: Outcomes, points: FloatArray | None
) -> list[_Corner]:
    """Corners of the hull on the fitting questions; empty where the LLM does not cost more."""
    fitting = sampled(fitting)
    score, cost = fitting.scores.mean(axis=0), fitting.answer_costs.mean(axis=0)
    low, high = float(cost[0]), float(cost[-1])
    if not exceeds(high, low):
        return []
    last = fitting.num_tiers - 1
    at: dict[tuple[float, float], MetaVerifier | int] = {(low, float(score[0])): 0}
    at.setdefault((high, float(score[-1])), last)
    points = mean_points(family, fitting) if points is None else points
    for policy, (spent, held) in zip(family, points.tolist(), strict=True):
        if low < spent < high:
            at.setdefault((spent, held), policy)
    corners = [((c - low) / (high - low), at[c, q]) for c, q in envelope(list(at))]
    if corners[-1][0] == 1.0:
        return corners
    best = corners[-1][1]
    # beyond a policy that is better more money buys no more; the best of many seems better by luck
    kept = fitting.scores[:, best] if isinstance(best, int) else follow(best, fitting).score
    names = range(len(kept)) if fitting.documents is None else fitting.documents
    paired = PairedScores.of(kept, fitting.scores[:, last], np.array(names))
    better = isinstance(paired, PairedScores) and paired.shows(1.0)
    return [*corners, (1.0, best if better else last)]


def _followed(hull: Sequence[_Corner], test: Outcomes, steps: int) -> Iterator[FloatArray]:
    """For each step (3, n) quality, cost and calls of the last tier, between two corners."""
    shares = np.array([share for share, _ in hull])
    wanted = np.arange(1, steps + 1) / steps
    free = np.arange(steps) < steps - 1
    for share in shares[1:-1][: steps - 1]:  # the nearest step goes through the corner itself
        nearest = np.where(free, np.abs(wanted - share), np.inf).argmin()
        wanted[nearest], free[nearest] = share, False
    wanted.sort()
    after = np.clip(np.searchsorted(shares, wanted), 1, len(shares) - 1)
    width = shares[after] - shares[after - 1]
    weights = ((wanted - shares[after - 1]) / width).tolist()
    follower = Follower(test)
    played: dict[int, FloatArray] = {}
    for corner, weight in zip(after.tolist(), weights, strict=True):
        # of many questions no more than the two corners of a step are held
        played = {
            i: played[i] if i in played else _played(hull[i], follower)
            for i in (corner - 1, corner)
        }
        yield (1 - weight) * played[corner - 1] + weight * played[corner]


def _played(corner: _Corner, follower: Follower) -> FloatArray:
    """(3, n) quality, cost and calls; at the end of the way all that the LLM costs is spent."""
    (share, what), test = corner, follower.outcomes
    ones = np.ones(len(test))
    if isinstance(what, int):
        score, cost, calls = test.scores[:, what], test.answer_costs[:, what], 0 * ones
    else:
        path = follower.follow(what)
        score, cost, calls = path.score, path.cost, path.visited[:, -1].astype(float)
    if share == 1.0:
        cost, calls = test.answer_costs[:, -1], ones
    return np.stack([score, cost, calls])
