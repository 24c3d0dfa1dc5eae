"""The lower end of every comparison: the first tier's answer, whatever it is worth."""

from __future__ import annotations

import numpy as np

from automix_eval.meta_verifiers.base import TierByTier
from automix_eval.records.outcomes import BoolArray, Seen


class AlwaysSLM(TierByTier):
    """Keep every answer of the first tier; no later tier is asked and nothing is verified.

    The point (C_SLM, P_SLM) of the IBC (AutoMix, arXiv 2310.12963).
    """

    only_tier = 0

    def _escalates(self, seen: Seen) -> BoolArray:
        return np.zeros(len(seen), dtype=np.bool_)
