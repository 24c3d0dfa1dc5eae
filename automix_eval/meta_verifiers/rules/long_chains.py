"""Which tiers of a long chain a policy may ask, so that fitting does not double with every tier.

A chain of N tiers has 2^N - 1 sub-chains. Where N is above :data:`MOST` and there are many
questions (:data:`EVERY`), that many tiers are kept: those whose cascades of thresholds, compared
coarsely at quantiles of the confidences, are worth most on the fitting data. They are found by a
beam search from pairs upward. By ``gain`` their worth is the largest gain. By another objective it
is the mean, over prices of quality from low to high, of the best that a policy of these tiers, or
one tier of the chain alone, makes of score - price * cost, so that they serve any budget.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from automix_eval.meta_verifiers.rules.cells import FittingData, sums
from automix_eval.meta_verifiers.rules.chain_search import prices_of_quality
from automix_eval.records.outcomes import FloatArray, IntArray

MOST = 4
# Questions times 2^N up to which every sub-chain is searched.
EVERY = 2**17
# Quantiles of a tier's confidences between which a policy is compared; sets of tiers that are tried
# with one more.
QUANTILES, BEAM = 16, 6


def worth_asking(data: FittingData, objective: str) -> tuple[int, ...]:
    """The tiers that are kept, ascending; all of a chain that is searched as a whole."""
    every = tuple(range(data.num_tiers))
    if data.num_tiers <= MOST or data.number << data.num_tiers <= EVERY:
        return every
    worth = _Worth(data, objective)
    beam: list[tuple[int, ...]] = [(t,) for t in every]
    for _ in range(MOST - 1):
        longer = {tuple(sorted((*kept, t))) for kept in beam for t in every if t not in kept}
        beam = sorted(sorted(longer), key=worth, reverse=True)[:BEAM]
    return beam[0]


def said_of(kept: Sequence[int], number: int, others: str) -> str:
    """A note for the reader of a policy; empty where every tier may be asked."""
    if len(kept) == number:
        return ""
    return (
        f"of {number} tiers a policy asks those worth most together on the fitting questions, "
        f"{', '.join(map(str, kept))}, or {others}: with so many questions not every "
        "sub-chain is searched"
    )


class _Worth:
    """What the policies of some tiers are worth; sub-chains are looked at once."""

    def __init__(self, data: FittingData, objective: str) -> None:
        self._data, ends = data, data.ends()
        cost, score = np.array(ends.singles).T
        corners = np.array(ends.hull)
        self._gain = objective == "gain" and len(corners) > 1
        prices = np.diff(corners[:, 1]) / np.diff(corners[:, 0])
        self._prices = (prices if self._gain else prices_of_quality(score, cost))[:, None]
        self._alone = (score - self._prices * cost).max(axis=1)
        self._bins = [_quantiles(column) for column in data.confidences]
        self._known: dict[tuple[int, ...], FloatArray] = {}
        self._tables: dict[tuple[tuple[int, ...], str, int], FloatArray] = {}
        self._codes: tuple[tuple[int, ...], IntArray] = ((), np.zeros(data.number, dtype=np.intp))

    def __call__(self, tiers: tuple[int, ...]) -> float:
        """What the policies that ask some of the tiers are worth more than one tier alone."""
        sizes = range(2, len(tiers) + 1)
        parts = [c for size in sizes for c in itertools.combinations(tiers, size)]
        more = np.max([self._alone, *map(self._best, parts)], axis=0) - self._alone
        # where a price is the slope of the hull of single tiers, the largest of these is the gain
        return float(more.max() if self._gain else more.mean())

    def _best(self, tiers: tuple[int, ...]) -> FloatArray:
        """(prices,) worth of the best policy that escalates the lowest confidences of each tier."""
        if tiers not in self._known:
            score, cost = (table.ravel() for table in self._points(tiers))
            self._known[tiers] = (score - self._prices * cost).max(axis=1)
        return self._known[tiers]

    def _points(self, tiers: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
        """Mean score and cost by how many of the lowest bins of each tier but the last go on."""
        score, cost = self._table((), "scores", tiers[0]), self._table((), "costs", tiers[0])
        for i, after in enumerate(tiers[1:], 1):
            asked = tiers[:i]
            gain = self._table(asked, "scores", after) - self._table(asked, "scores", asked[-1])
            paid = self._table(asked, "costs", after)
            for axis in range(i):
                gain, paid = gain.cumsum(axis=axis), paid.cumsum(axis=axis)
            score, cost = score[..., None] + gain, cost[..., None] + paid
        return score / self._data.number, cost / self._data.number

    def _table(self, asked: tuple[int, ...], what: str, tier: int) -> FloatArray:
        """Sums of the scores or costs of a tier by the bins of those asked, one axis a tier."""
        key = (asked, what, tier)
        if key not in self._tables:
            size = QUANTILES + 1
            if self._codes[0] != asked:
                codes = np.zeros(self._data.number, dtype=np.intp)
                for one in asked:
                    codes = codes * size + self._bins[one]
                self._codes = asked, codes
            parts = getattr(self._data, what)[tier]
            found = sums(self._codes[1], parts, size ** len(asked))
            self._tables[key] = found.reshape((size,) * len(asked))
        return self._tables[key]


def _quantiles(confidence: FloatArray) -> IntArray:
    """The bin of each confidence, ascending; those without one come first."""
    known = confidence[~np.isnan(confidence)]
    if not len(known):
        return np.zeros(len(confidence), dtype=np.intp)
    shares = np.arange(1, QUANTILES) / QUANTILES
    edges = np.unique(np.quantile(known, shares, method="inverted_cdf"))
    return np.where(np.isnan(confidence), 0, 1 + np.searchsorted(edges, confidence, "right"))
