"""Where routers lead, computed from outcomes of every tier; no model is called.

A policy is followed question by question: whoever it would have asked answers, at the price of
that question. Rows that no policy can tell apart are followed once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from automix_eval.analysis.fitted_path import PathStep, fitted_path
from automix_eval.analysis.question_sets import PricedTiers
from automix_eval.analysis.routed_paths import ChainRouting, Choice, Mask, pack
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.meta_verifiers.cross_fitted import CrossFitted
from automix_eval.meta_verifiers.follow import Follower, mean_points, sampled, spread
from automix_eval.metrics.bootstrap import distinct_rows, first_of_kind
from automix_eval.metrics.ibc import Undefined, delta_ibc
from automix_eval.records.outcomes import BoolArray, IntArray, Outcomes
from automix_eval.records.record_columns import FloatArray

NUM_REGIONS = 5
# Policies x questions of a range at most, policies at least, policies at most.
_MOST, _LEAST, _POINTS = 2_000_000, 9, 100
_ORACLE_POINTS = 16

_Policy = tuple[float | None, MetaVerifier]
Family = Sequence[_Policy]


@dataclass(frozen=True, slots=True, eq=False)
class Replayed:
    """Where a fitted router and the policies of its range lead.

    Attributes:
        ways: What the fitted policy does; of a router fitted in folds what each of its ways does,
            whose mean its figures are.
        curve: The policies of its range; empty for a router without a parameter.
        regions: The policy for each of five cost regions, chosen on the calibration questions; the
            reason where there is none. Empty where none was to be chosen.
        path: Steps from the SLM to the LLM, chosen on the calibration questions.
    """

    ways: tuple[ChainRouting, ...]
    curve: tuple[Choice, ...]
    regions: tuple[Choice | Undefined, ...]
    path: tuple[PathStep, ...]


def replayed(
    router: MetaVerifier,
    test: Outcomes,
    tiers: PricedTiers,
    fitting: Outcomes | None = None,
    whole_range: bool = True,
) -> Replayed:
    """Follow a fitted router.

    Args:
        router: Fitted, or of a kind that learns nothing.
        test: Questions that every tier was asked.
        tiers: The same questions.
        fitting: Those it was fitted on, to choose the policy of each cost region and the path on;
            None: no regions, and a path only for a router fitted in folds.
        whole_range: Whether to follow the policies of its range too: 100 at most, evenly, and
            fewer of more than 20,000 questions, so that time and memory stay bounded.

    Raises:
        AutoMixError: The router cannot decide on these questions.
    """
    routing = partial(_Alike.of(test).routing, tiers)
    family: Family = router.sweep() if whole_range else []
    family = family if len(family) > 1 else []
    most = max(_LEAST, min(_POINTS, _MOST // max(1, len(test))))
    points: FloatArray | None = None
    regions: Sequence[_Policy | Undefined] = ()
    if family and fitting is not None:
        fitting = sampled(fitting)
        points = mean_points([policy for _, policy in family], fitting)
        regions = list(_choose_regions(fitting, family, points))
    ways = router.ways if isinstance(router, CrossFitted) else (router,)
    return Replayed(
        tuple(map(routing, ways)),
        tuple((parameter, routing(policy)) for parameter, policy in spread(family, most)),
        tuple(c if isinstance(c, Undefined) else (c[0], routing(c[1])) for c in regions),
        fitted_path(router, test, fitting, points) if family else (),
    )


def followed(router: MetaVerifier, test: Outcomes, tiers: PricedTiers) -> ChainRouting:
    """Where a fitted router leads questions that every tier was asked.

    Raises:
        AutoMixError: It cannot decide on these questions.
    """
    return _Alike.of(test).routing(tiers, router)


def oracle_routings(tiers: PricedTiers) -> list[ChainRouting]:
    """The oracle at several prices of quality, dear to cheap.

    At price p it takes, per question, the tier with the largest score - p x cost: at price 0 the
    best score, and of equal scores the cheapest tier; last comes the cheapest tier of each
    question, which need not be the first. Nothing is verified. Between two prices one may choose
    at random, so these are the corners of the best any router can do.

    Args:
        tiers: Every one was asked and has a score and a price.
    """
    scores = tiers.scores
    costs = np.column_stack([c for c in tiers.answers if not isinstance(c, Undefined)])
    slopes = []
    for high in range(1, scores.shape[1]):
        for low in range(high):
            gain, extra = scores[:, high] - scores[:, low], costs[:, high] - costs[:, low]
            dearer = gain * np.sign(extra) > 0  # the better one, whichever it is
            slopes.append(gain[dearer] / extra[dearer])
    worth = np.unique(np.concatenate(slopes)) if slopes else np.zeros(0)
    if len(worth) > _ORACLE_POINTS:
        worth = np.unique(np.quantile(np.concatenate(slopes), np.arange(1, 16) / 16))
    # just below each slope the questions of that slope are still worth asking
    prices = [0.0, *(worth[:-1] + np.diff(worth) / 2).tolist()]
    best = [_first(costs, price * costs - scores) for price in prices]
    return [ChainRouting(tiers, mask, 0) for mask in (*best, _first(-scores, costs))]


def _first(second: FloatArray, first: FloatArray) -> Mask:
    """The tier that is least in the first, and of equals in the second."""
    order = np.lexsort((second, first), axis=1)
    visited = np.zeros(first.shape, dtype=bool)
    np.put_along_axis(visited, order[:, :1], values=True, axis=1)
    return pack(visited)


@dataclass(frozen=True, slots=True, eq=False)
class _Alike:
    """Questions, and one of each kind that shows the same numbers to a router."""

    questions: Follower
    kind: IntArray | None
    one_of_each: Follower

    @classmethod
    def of(cls, questions: Outcomes) -> _Alike:
        """Kinds of questions, where they are a quarter of the questions or fewer."""
        shown = [questions.confidences, questions.answer_costs, *questions.signals.values()]
        columns = [table[:, t] for table in shown for t in range(questions.num_tiers)]
        kind = distinct_rows(columns, len(questions) // 4)
        every = Follower(questions)
        if kind is None:
            return cls(every, None, every)
        return cls(every, kind, Follower(questions.take(first_of_kind(kind))))

    def routing(self, tiers: PricedTiers, policy: MetaVerifier) -> ChainRouting:
        """Where a policy leads all of them."""
        visited, verified = self._walk(policy)
        every = (1 << tiers.last) - 1 if policy.needs_verification else 0
        pays = every if verified is None else pack(verified[:, None]) * visited.dtype.type(every)
        return ChainRouting(tiers, visited, pays)

    def _walk(self, policy: MetaVerifier) -> tuple[Mask, BoolArray | None]:
        """(n,) as :attr:`ChainRouting.visited` and :attr:`Walk.verified`."""
        # texts and identities, by which a mixture of policies draws, differ in every row
        apart = policy.needs_texts or policy.needs_hindsight
        if self.kind is None or apart:
            _, visited, _, verified = self.questions.walk(policy)
            return pack(visited), verified
        _, visited, _, verified = self.one_of_each.walk(policy)
        return pack(visited)[self.kind], None if verified is None else verified[self.kind]


def _choose_regions(
    fitting: Outcomes, family: Family, points: FloatArray
) -> Iterator[_Policy | Undefined]:
    """For each region the policy with the largest delta IBC on the fitting data."""
    cost = points[:, 0]
    slm = (fitting.scores[:, 0].mean(), fitting.answer_costs[:, 0].mean())
    llm = (fitting.scores[:, -1].mean(), fitting.answer_costs[:, -1].mean())
    lifts = [delta_ibc(score, spent, *slm, *llm) for spent, score in points.tolist()]
    ends = np.linspace(slm[1], llm[1], NUM_REGIONS + 1)
    for low, high in itertools.pairwise(ends):
        inside = np.flatnonzero((cost > low) & (cost <= high)).tolist()
        lifted = [(v, -i) for i in inside if not isinstance(v := lifts[i], Undefined)]
        if lifted:
            yield family[-max(lifted)[1]]
        elif inside:
            yield next(v for i in inside if isinstance(v := lifts[i], Undefined))
        else:
            yield Undefined("no policy of the range costs this much on the calibration questions")
