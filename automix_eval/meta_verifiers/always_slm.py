"""The lower end of every comparison: the first tier's answer, whatever it is."""

from __future__ import annotations

from automix_eval.meta_verifiers.base import TierByTier
from automix_eval.types import Observation


class AlwaysSLM(TierByTier):
    """Keep every answer of the first tier; nothing is verified.

    The point (C_SLM, P_SLM) of the IBC (AutoMix, arXiv 2310.12963).
    """

    def _choose(
        self,
        observation: Observation,  # noqa: ARG002 - the choice never depends on it
    ) -> tuple[bool, str]:
        return False, "always the first tier"
