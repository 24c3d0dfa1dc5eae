"""Self-consistency: the verifier's majority decides."""

from __future__ import annotations

import numpy as np

from automix_eval.meta_verifiers.base import ConfidenceRouter, check_undefined
from automix_eval.records.outcomes import BoolArray, FloatArray, Seen

MAJORITY = 0.5


class SelfConsistency(ConfidenceRouter):
    """Escalate iff v <= 0.5, with v the share of samples that judged the answer correct.

    Source: AutoMix, arXiv 2310.12963, the baseline "Self-Consistency". Learns nothing.

    Args:
        undefined: What an undefined confidence counts as: ``escalate``, ``keep``, or a confidence
            in [0, 1].
    """

    def __init__(self, undefined: str | float = "escalate") -> None:
        check_undefined(undefined)
        self.undefined = undefined

    def _rule(
        self,
        confidence: FloatArray,
        seen: Seen,  # noqa: ARG002 - the rule is the same at every tier
    ) -> BoolArray:
        return np.asarray(confidence <= MAJORITY)
