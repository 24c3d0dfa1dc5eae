"""Two-tier routers in a row: what a chain is without a router of the whole chain."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.records.outcomes import IntArray, Outcomes, Seen


class Chained:
    """Router t was fitted on tiers t and t + 1 alone, and decides at tier t.

    A router that skips its first tier without looking at an answer hands the question to the next
    router, at the start of the chain as on the way up.

    Args:
        pair: An unfitted router of two tiers, copied for each pair.
    """

    def __init__(self, pair: MetaVerifier) -> None:
        self.pair = pair
        self.routers_: Sequence[MetaVerifier] = ()

    def __getattr__(self, name: str) -> Any:
        # what the router needs to see is what its parts need; fitting may add to that, or end it
        if name.startswith("needs_"):
            return any(getattr(one, name) for one in self.routers_ or (self.pair,))
        raise AttributeError(name)

    def fit(self, outcomes: Outcomes) -> Chained:
        """Fit a copy of the router on each two tiers that follow each other."""
        made = []
        for tier in range(outcomes.num_tiers - 1):
            one = copy.deepcopy(self.pair)
            made.append(one.fit(outcomes.select_tiers([tier, tier + 1])) if one.needs_fit else one)
        self.routers_ = made
        return self

    def choose(self, seen: Seen) -> IntArray:
        """(n,) the tier to go to: the one reached, or a later one."""
        at = np.full(len(seen), max(seen.tier, 0), dtype=np.intp)
        going = np.ones(len(seen), dtype=np.bool_)
        if seen.tier >= 0:
            going = np.asarray(self.routers_[seen.tier].choose(_pair(seen, seen.tier))) > 0
            at += going
        for router in self.routers_[seen.tier + 1 :]:
            going &= np.asarray(router.choose(_pair(seen, seen.tier + 1))) > 0
            at += going
        return at


def _pair(seen: Seen, first: int) -> Seen:
    """What a router of two tiers sees if the first of them is this one, asked or not yet."""
    asked = first == seen.tier
    return Seen(
        0 if asked else -1,
        2,
        seen.confidences[:, first:],
        seen.ids,
        {name: table[:, first:] for name, table in seen.signals.items()},
        seen.questions,
        seen.answers if asked else None,
        None,
        None if seen.costs is None else seen.costs[:, first:],
    )
