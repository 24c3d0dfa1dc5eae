"""The rows that every leaderboard has: each tier alone, and the best mixture of single tiers."""

from __future__ import annotations

import numpy as np

from automix_eval.analysis.question_sets import PricedTiers
from automix_eval.analysis.routed_paths import ChainRouting, Choice

ZERO, ZERO_LABEL = "zero", "zero router (best model)"
# Rows that are another row, or know the scores: not compared with the others.
NOT_COMPARED = ("replay:oracle", f"replay:{ZERO}")


def name_alone(tier: int, last: int) -> str:
    """The option of ``meta_verifier`` that asks one tier alone."""
    return {0: "always_slm", last: "always_llm"}.get(tier, f"always_tier:tier={tier}")


def zero_router(tiers: PricedTiers) -> tuple[ChainRouting, tuple[Choice, ...]]:
    """RouterBench's zero router (arXiv 2403.12031): single models, mixed by chance.

    Its point is the best single model, the cheapest of equals; its range are the models alone, so
    that its curve is their upper hull.

    Args:
        tiers: Every one was asked and has a score and a price.
    """
    alone = [ChainRouting.only(tiers, t) for t in range(tiers.last + 1)]
    quality = tiers.scores.mean(axis=0)
    cost = np.array([r.values("cost", np.arange(len(tiers))).mean() for r in alone])
    best = int(np.lexsort((cost, -np.round(quality, 12)))[0])
    return alone[best], tuple((None, r) for r in alone)
