"""Fitting data binned: what a rule on confidences can tell apart, summed once.

Every candidate rule of a meta-verifier is constant between a few confidences. So the questions of a
chain fall into joint cells, one bin a tier, and any policy of such rules is worth a sum over cells:
a million questions are read once, however many policies are compared.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from automix_eval.meta_verifiers.base import require_rows, stand_in
from automix_eval.meta_verifiers.objectives import ONE_SIDED, Ends
from automix_eval.records.outcomes import BoolArray, FloatArray, IntArray, Outcomes

T = TypeVar("T")

# Codes a row up to which they are counted, and not sorted.
DENSE = 4


@dataclass(frozen=True, slots=True, eq=False)
class TierRows:
    """The fitting data of one decision: keep the answer of a tier, or ask a later one.

    Attributes:
        tier: The tier.
        confidence: (n,) confidence of its answer; NaN where it is undefined.
        score: (n,) score of its answer.
        later: (n, k) scores of the k later tiers' answers.
        tiers: This tier and the later ones, by their numbers in the whole chain.
        known: What :meth:`remembered` holds, the same for all sub-chains.
    """

    tier: int
    confidence: FloatArray
    score: FloatArray
    later: FloatArray
    tiers: tuple[int, ...]
    known: dict[Any, Any]

    def remembered(self, what: Hashable, make: Callable[[], T]) -> T:
        """What ``make`` gives; of sub-chains that ask it by one name the first computes it."""
        if what not in self.known:
            self.known[what] = make()
        found: T = self.known[what]
        return found

    @property
    def ascending(self) -> FloatArray:
        """The defined confidences, sorted."""
        return self.remembered(
            ("ascending", self.tiers[0]), lambda: np.sort(self.confidence[self.defined])
        )

    @property
    def defined(self) -> BoolArray:
        """(n,) whether the confidence is defined."""
        return ~np.isnan(self.confidence)

    @property
    def uninformed(self) -> str:
        """A note where fewer than two confidences are defined, else empty.

        No rule can tell answers by their confidence then; a policy is fitted all the same, since a
        verifier that fails on one task must not end a run over many.
        """
        number = int(self.defined.sum())
        if number >= 2:
            return ""
        return (
            f"{number} of {len(self.score)} fitting questions have a confidence at tier "
            f"{self.tier}, so the policy cannot tell answers apart: meta_verifier.undefined "
            "decides for those without one. Look at the verifier's outcomes, or try another"
        )


@dataclass(frozen=True, eq=False)
class RuleCells:
    """Joint cells of a chain of N tiers; c of them hold a question, K_t bins at tier t.

    Attributes:
        bins: (c, N - 1) bin of each cell at each tier but the last.
        values: For each tier but the last (K_t,), a confidence of each bin; NaN where undefined.
        counts: (c,) questions.
        scores: (c, N) sums of scores.
        costs: (c, N) sums of what asking a tier costs, its verification included.
    """

    bins: IntArray
    values: tuple[FloatArray, ...]
    counts: FloatArray
    scores: FloatArray
    costs: FloatArray

    @functools.cached_property
    def steps(self) -> list[tuple[FloatArray, FloatArray]]:
        """What going on to each tier but the first adds to the sums of scores, and costs."""
        gains = np.ascontiguousarray(np.diff(self.scores, axis=1).T)
        return list(zip(gains, np.ascontiguousarray(self.costs.T[1:]), strict=True))


class FittingData:
    """The fitting data of a chain of N tiers, read once for all its sub-chains.

    Args:
        outcomes: What every tier did.
        undefined: What an undefined confidence counts as.
        name: Of the router, for errors.

    Attributes:
        number: Questions.
        num_tiers: N.
        confidences: (number,) of each tier.
        scores: Of each tier, its column as :func:`exact_parts` splits it.
        costs: Likewise what asking it costs, its verification included.

    Raises:
        AutoMixError: Fewer than two questions or tiers.
    """

    def __init__(self, outcomes: Outcomes, undefined: str | float, name: str) -> None:
        require_rows(outcomes, name)
        self.number, self.num_tiers = outcomes.scores.shape
        self._outcomes = outcomes
        self.confidences = [stand_in(c, undefined) for c in outcomes.confidences.T]
        # a tier that could have been left is judged, also where a sub-chain always stops there
        paid = outcomes.asking_costs
        self.scores, self.costs = (
            [list(exact_parts(column)) for column in table.T] for table in (outcomes.scores, paid)
        )
        self._known: dict[Any, Any] = {}
        self._bins: dict[tuple[int, bytes], tuple[IntArray, FloatArray]] = {}

    def ends(self) -> Ends:
        """Both ends of the chain, the same in every order of the rows."""
        # the last tier is not judged
        answers = [list(exact_parts(c)) for c in self._outcomes.answer_costs.T[:-1]]
        answers.append(self.costs[-1])
        score, cost = (
            np.array([sum(part.sum() for part in parts) for parts in columns])
            for columns in (self.scores, answers)
        )
        return Ends.from_means(*(total / len(self._outcomes) for total in (score, cost)))

    def rows(self, tiers: Sequence[int]) -> list[TierRows]:
        """The decisions of a sub-chain: one entry a tier but the last."""
        scores = self._outcomes.scores
        return [
            TierRows(
                i,
                self.confidences[tier],
                scores[:, tier],
                scores[:, list(tiers[i + 1 :])],
                tuple(tiers[i:]),
                self._known,
            )
            for i, tier in enumerate(tiers[:-1])
        ]

    def cells(self, tiers: Sequence[int], breaks: Sequence[FloatArray]) -> RuleCells:
        """Sum the outcomes of a sub-chain over joint cells.

        Args:
            tiers: Its tiers, at least two.
            breaks: For each of them but the last the confidences, ascending, at which some rule
                may change. A break is a bin of its own, and so is the room between two.
        """
        binned = [self._binned(*one) for one in zip(tiers, breaks, strict=False)]
        joint, bins = _join([codes for codes, _ in binned])
        bins = np.asfortranarray(bins)  # a tier's side by side
        number = len(bins)

        def table(columns: Sequence[Sequence[FloatArray]]) -> FloatArray:
            return np.stack([sums(joint, columns[tier], number) for tier in tiers], axis=1)

        return RuleCells(
            bins,
            tuple(held for _, held in binned),
            np.bincount(joint, minlength=number).astype(np.float64),
            table(self.scores),
            table(self.costs),
        )

    def _binned(self, tier: int, breaks: FloatArray) -> tuple[IntArray, FloatArray]:
        key = (tier, breaks.tobytes())
        if key not in self._bins:
            self._bins[key] = _bins(self.confidences[tier], breaks)
        return self._bins[key]


def doubts(rows: TierRows, cells: RuleCells, masks: BoolArray) -> FloatArray:
    """(m,) what chance may have added to the gain of each rule by its slivers, at the 5 % level.

    A sliver is a run of confidences that a rule treats otherwise than its neighbours on both sides.
    With a share q of n questions whose gain has the standard deviation s, it adds up to
    1.64 s sqrt(q / n) to the mean gain by chance alone in 95 of 100 data sets.

    Args:
        rows: The fitting data of the tier.
        cells: The same, summed.
        masks: (m, K) whether each rule escalates a bin.
    """
    bins, n = cells.bins[:, rows.tier], len(rows.score)
    share = np.bincount(bins, weights=cells.counts, minlength=masks.shape[1]) / n
    known = ~np.isnan(cells.values[rows.tier])
    held = masks if known.all() else masks[:, known]
    below = np.concatenate([[0.0], np.cumsum(share[known])])
    changes = held[:, 1:] != held[:, :-1]
    found = np.zeros(len(masks))
    several = np.flatnonzero(np.count_nonzero(changes, axis=1) > 1).tolist()
    spread = 0.0
    if several:
        spread = rows.remembered(
            ("spread", rows.tiers[0], rows.tiers[-1]),
            lambda: float((rows.later[:, -1] - rows.score).std()),
        )
    for i in several:
        runs = np.diff(below[np.flatnonzero(changes[i]) + 1])
        found[i] = ONE_SIDED * spread * np.sqrt(runs / n).sum()
    return found


def sums(codes: IntArray, parts: Iterable[FloatArray], size: int) -> FloatArray:
    """(size,) sum over the rows of each code, the same in every order of the rows.

    Args:
        codes: (n,) code of each row, below ``size``.
        parts: A column as :func:`exact_parts` splits it.
        size: Number of codes.
    """
    total = np.zeros(size)
    for part in parts:
        total += np.bincount(codes, weights=part, minlength=size)
    return total


def exact_parts(column: FloatArray) -> Iterator[FloatArray]:
    """A column split in two: multiples of two powers of two, whose partial sums cannot round.

    One part where it is the whole column, as of truth values.
    """
    rest = np.ascontiguousarray(column)
    top = max(float(rest.max(initial=0.0)), -float(rest.min(initial=0.0)))
    bits = 52 - len(column).bit_length()
    exponent = math.frexp(top)[1]
    for last in (False, True):
        exponent -= bits
        step = math.ldexp(1.0, max(exponent, -1000))
        part = rest * (1.0 / step)  # exact: a power of two
        np.rint(part, out=part)
        part *= step
        yield part
        if last or np.array_equal(part, rest):
            return
        rest = rest - part


def _bins(confidence: FloatArray, breaks: FloatArray) -> tuple[IntArray, FloatArray]:
    """Which bin each confidence lies in, numbered without gaps, and a confidence of each bin."""
    below = np.searchsorted(breaks, confidence, "left")
    at_break = np.append(breaks, np.nan)[below] == confidence
    codes = 2 * below + at_break
    codes[np.isnan(confidence)] = 2 * len(breaks) + 1
    held = np.empty(2 * len(breaks) + 2)
    held[codes] = confidence
    used = np.bincount(codes, minlength=len(held)) > 0
    return (np.cumsum(used) - 1)[codes], held[used]


def _join(columns: Sequence[IntArray]) -> tuple[IntArray, IntArray]:
    """The joint cell of each row, and the bins (c, tiers) of each cell."""
    joint, bins = columns[0], np.arange(columns[0].max() + 1)[:, None]
    for column in columns[1:]:
        width = int(column.max()) + 1
        found, joint = _numbered(joint * width + column, len(bins) * width)
        bins = np.concatenate([bins[found // width], (found % width)[:, None]], axis=1)
    return joint, bins


def _numbered(codes: IntArray, size: int) -> tuple[IntArray, IntArray]:
    """The codes that occur, ascending, and the place of each row's code among them."""
    if size > DENSE * len(codes):
        return np.unique(codes, return_inverse=True)
    used = np.bincount(codes, minlength=size) > 0
    return np.flatnonzero(used), (np.cumsum(used) - 1)[codes]
