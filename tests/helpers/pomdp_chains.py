"""Outcomes of made-up chains, for the tests of the POMDP."""

from __future__ import annotations

import numpy as np

from automix_eval.records.outcomes import Outcomes, Seen

COSTS = (1.0, 8.0, 50.0, 200.0)


def outcomes(scores, confidences, costs=COSTS, verification=0.0):
    """Columns from bare numbers, (n, N) each."""
    scores, confidences = np.array(scores, float), np.array(confidences, float)
    number, tiers = scores.shape
    return Outcomes(
        scores,
        np.tile(np.array(costs[:tiers], float), (number, 1)),
        confidences,
        np.full(scores.shape, float(verification)),
        tuple(f"tier {t}" for t in range(tiers)),
        tuple(f"toy/{i}/0" for i in range(number)),
    )


def chain(number, tiers=3, seed=0, undefined=0.0, shares=None, verification=0.0):
    """A chain whose tiers get better, with confidences that know something of the answers."""
    rng = np.random.default_rng(seed)
    skill = rng.normal(size=number)
    scores, held = [], []
    for tier in range(tiers):
        right = rng.random(number) < 1 / (1 + np.exp(-(skill + tier - 0.5)))
        value = 1 / (1 + np.exp(-(2.5 * right - 1.2 + 0.5 * skill + rng.normal(size=number))))
        if shares:
            value = np.round(value * shares) / shares
        value[rng.random(number) < undefined] = np.nan
        scores.append(right)
        held.append(value)
    return outcomes(np.stack(scores, 1), np.stack(held, 1), verification=verification)


def seen(confidences, tier=None, ids=None):
    """What reached a tier with these confidences."""
    table = np.array(confidences, float)
    reached = table.shape[1] - 1 if tier is None else tier
    return Seen(reached, 3, table, ids)
