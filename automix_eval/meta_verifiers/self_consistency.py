"""Self-consistency: the verifier's majority decides."""

from __future__ import annotations

import numpy as np

from automix_eval.meta_verifiers.base import Router, check_undefined, stand_in
from automix_eval.records.outcomes import IntArray, Seen

MAJORITY = 0.5


class SelfConsistency(Router):
    """Escalate iff v <= 0.5, with v the share of samples that judged the answer correct.

    Source: AutoMix, arXiv 2310.12963, the baseline "Self-Consistency". Learns nothing.

    Args:
        undefined: What an undefined confidence counts as: ``escalate``, ``keep``, or a confidence
            in [0, 1].
    """

    needs_verification = True

    def __init__(self, undefined: str | float = "escalate") -> None:
        check_undefined(undefined)
        self.undefined = undefined

    def choose(self, seen: Seen) -> IntArray:
        """The next tier, or the same to keep."""
        if seen.tier < 0 or seen.tier == seen.num_tiers - 1:
            return np.full(len(seen), max(seen.tier, 0))
        value = stand_in(seen.confidence, self.undefined)
        missing = np.isnan(value)
        goes = np.where(missing, self.undefined == "escalate", value <= MAJORITY)
        return np.asarray(seen.tier + goes)
