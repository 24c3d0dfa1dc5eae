"""Outcomes of chains that do not exist, for experiments without data; always labelled as such.

The model is a logistic one. Question q is as hard as h_q, drawn from a standard normal; tier t
answers it right with probability p_qt = sigmoid(a_t + d h_q + noise), and its confidence is
sigmoid of the same logit under further noise: noise 0 knows p_qt exactly (calibrated, AUROC about
0.75 for the numbers used here), and more of it knows less.
"""

from __future__ import annotations

import numpy as np

from automix_eval.records.outcomes import FloatArray, Outcomes
from automix_eval.safety.errors import AutoMixError

SLOPE = 1.5
SPREAD = 0.7


def simulated(
    num_tiers: int = 2,
    rows: int = 2000,
    weakest: float = -0.4,
    strongest: float = 1.4,
    noise: float = 0.8,
    ratio: float = 50.0,
    seed: int = 0,
) -> tuple[Outcomes, Outcomes]:
    """Training and test outcomes, half of the rows each.

    Args:
        num_tiers: Length of the chain; costs run from 1 to ``ratio`` in equal steps of a factor,
            and judging an answer costs as much as answering.
        rows: Questions.
        weakest: Ability of the first tier, in logits.
        strongest: Ability of the last.
        noise: Standard deviation of what a confidence adds to the logit of being right.
        ratio: Cost of the last tier.
        seed: Of every draw.

    Raises:
        AutoMixError: Fewer than two tiers or fewer than 20 rows.
    """
    if num_tiers < 2 or rows < 20:
        raise AutoMixError(
            f"simulated: {{num_tiers: {num_tiers}, rows: {rows}}} needs at least 2 tiers, 20 rows"
        )
    rng = np.random.default_rng(seed)
    shape = (rows, num_tiers)
    logits = np.linspace(weakest, strongest, num_tiers)[None, :]
    logits = logits - SLOPE * rng.standard_normal((rows, 1)) + SPREAD * rng.standard_normal(shape)
    scores = (rng.random(shape) < _sigmoid(logits)).astype(np.float64)
    costs = np.broadcast_to(np.geomspace(1.0, ratio, num_tiers), shape).copy()
    judged = costs.copy()
    judged[:, -1] = 0.0
    made = Outcomes(
        scores=scores,
        answer_costs=costs,
        confidences=_sigmoid(logits + noise * rng.standard_normal(shape)),
        verification_costs=judged,
        names=tuple(f"s{t + 1}" for t in range(num_tiers)),
        ids=tuple(f"simulated {i}" for i in range(rows)),
    )
    return made.take(np.arange(rows // 2)), made.take(np.arange(rows // 2, rows))


def _sigmoid(values: FloatArray) -> FloatArray:
    return np.asarray(1.0 / (1.0 + np.exp(-values)))
