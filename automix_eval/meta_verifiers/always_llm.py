"""The upper end of every comparison: the last tier's answer, whatever it costs."""

from __future__ import annotations

import numpy as np

from automix_eval.meta_verifiers.base import Router
from automix_eval.records.outcomes import IntArray, Seen


class AlwaysLLM(Router):
    """Ask the last tier at once; no earlier tier is asked and nothing is verified.

    The point (C_LLM, P_LLM) of the IBC (AutoMix, arXiv 2310.12963).
    """

    only_tier = -1

    def choose(self, seen: Seen) -> IntArray:
        """The last tier."""
        return np.full(len(seen), seen.num_tiers - 1, dtype=np.intp)
