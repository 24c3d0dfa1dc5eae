"""The upper end of every comparison: the last tier's answer, whatever it costs."""

from __future__ import annotations

from automix_eval.meta_verifiers.base import TierByTier
from automix_eval.types import Observation


class AlwaysLLM(TierByTier):
    """Ask the last tier at once; no earlier tier is asked and nothing is verified.

    The point (C_LLM, P_LLM) of the IBC (AutoMix, arXiv 2310.12963).
    """

    start = -1

    def _choose(
        self,
        observation: Observation,  # noqa: ARG002 - the choice never depends on it
    ) -> tuple[bool, str]:
        return True, "always the last tier"
