"""One tier alone: the ends of every comparison, and a point of it for every model of the chain."""

from __future__ import annotations

import numpy as np

from automix_eval.meta_verifiers.base import Router
from automix_eval.records.outcomes import IntArray, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_whole


class AlwaysSLM(Router):
    """Keep every answer of the first tier; no later tier is asked and nothing is verified.

    The point (C_SLM, P_SLM) of the IBC (AutoMix, arXiv 2310.12963).
    """

    only_tier = 0

    def choose(self, seen: Seen) -> IntArray:
        """The first tier."""
        return np.full(len(seen), max(seen.tier, 0))


class AlwaysLLM(Router):
    """Ask the last tier at once; no earlier tier is asked and nothing is verified.

    The point (C_LLM, P_LLM) of the IBC (AutoMix, arXiv 2310.12963).
    """

    only_tier = -1

    def choose(self, seen: Seen) -> IntArray:
        """The last tier."""
        return np.full(len(seen), seen.num_tiers - 1)


class AlwaysTier(Router):
    """Ask one tier and keep its answer; no other tier is asked and nothing is verified.

    With the tiers 0 and -1 the points of the SLM and of the LLM in the IBC (AutoMix,
    arXiv 2310.12963); the tiers between them show what a router in a longer chain must beat.

    Args:
        tier: Which tier, 0 the first; a negative number counts from the last, -1.
    """

    def __init__(self, tier: int = 0) -> None:
        if not is_whole(tier):
            raise AutoMixError(f"meta_verifier.tier={tier!r} must be the number of a tier")
        self.tier = tier
        self.only_tier = tier

    def check_chain(self, num_tiers: int) -> None:
        """Raise AutoMixError unless the chain has the tier."""
        if not -num_tiers <= self.tier < num_tiers:
            raise AutoMixError(
                f"meta_verifier.tier={self.tier} is not in this chain of {num_tiers} tiers: "
                f"0 to {num_tiers - 1}, or -1 for the last"
            )

    def choose(self, seen: Seen) -> IntArray:
        """The tier, at once.

        Raises:
            AutoMixError: The chain has no such tier.
        """
        self.check_chain(seen.num_tiers)
        # a question that stands at a later tier already stays there
        to = max(self.tier % seen.num_tiers, seen.tier)
        return np.full(len(seen), to)

    def describe(self) -> str:
        """Which tier."""
        return f"Ask tier {self.tier} at once and keep its answer."
