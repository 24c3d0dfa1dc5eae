"""Pairs: the best cascade of two models, among all pairs of a chain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from automix_eval.meta_verifiers.threshold import Threshold


@dataclass(eq=False)
class Pairs(Threshold):
    """Ask one tier, and escalate to one later tier iff v <= t; both and t by the objective.

    The sweep is the envelope, on the fitting data, of the threshold cascades of every two tiers and
    of the single tiers: the opponent that longer cascades must beat (arXiv 2605.06350, where fixed
    chains lose to it). With two tiers it is ``threshold``.

    Args:
        candidates: Values of t to try, or ``observed``, as for the threshold.
    """

    name: ClassVar[str] = "pairs"
    longest: ClassVar[int] = 2
