"""What every tier did on many questions, as columns: fitting data, and replays without a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.records.outcomes import BoolArray, FloatArray, IntArray, Outcomes, Seen, _pick
from automix_eval.safety.errors import AutoMixError


@dataclass(frozen=True, slots=True, eq=False)
class Path:
    """Where a router led n questions.

    Attributes:
        final: (n,) tier whose answer counts.
        score: (n,) its score.
        cost: (n,) cost of all answers and verifications on the way.
        visited: (n, N) whether each tier was asked.
    """

    final: IntArray
    score: FloatArray
    cost: FloatArray
    visited: BoolArray


def follow(router: MetaVerifier, outcomes: Outcomes) -> Path:
    """Play a router on outcomes; no model is called.

    The calls are those of the live cascade: a tier that is skipped costs nothing, and a tier that
    is asked is verified unless it is the last or the router looks at no confidence.

    Raises:
        AutoMixError: The router sends a question to a tier that is not ahead of it.
    """
    n, last = len(outcomes), outcomes.num_tiers - 1
    at = _moves(router, _seen(router, outcomes, -1, np.arange(n), np.zeros((n, last + 1), bool)))
    visited = np.zeros((n, last + 1), dtype=np.bool_)
    cost = np.zeros(n)
    for tier in range(last + 1):
        here = np.flatnonzero(at == tier)
        if not len(here):
            continue
        visited[here, tier] = True
        cost[here] += outcomes.answer_costs[here, tier]
        if tier == last:
            break
        if router.needs_verification:
            cost[here] += outcomes.verification_costs[here, tier]
        at[here] = _moves(router, _seen(router, outcomes, tier, here, visited))
    return Path(at, outcomes.scores[np.arange(n), at], cost, visited)


def _seen(
    router: MetaVerifier, outcomes: Outcomes, tier: int, rows: IntArray, visited: BoolArray
) -> Seen:
    asked = visited[rows, : tier + 1]
    known = asked & router.needs_verification
    picked = rows.tolist() if router.needs_texts else []
    answers = outcomes.answers if router.needs_texts and tier >= 0 else None

    def columns(table: FloatArray) -> FloatArray:
        return np.where(known, table[rows, : tier + 1], np.nan)

    return Seen(
        tier,
        outcomes.num_tiers,
        columns(outcomes.confidences),
        _pick(outcomes.ids, picked) if router.needs_texts else None,
        {name: columns(table) for name, table in outcomes.signals.items()},
        _pick(outcomes.questions, picked) if router.needs_texts else None,
        None if answers is None else _pick(answers[tier], picked),
        outcomes.take(rows) if router.needs_hindsight else None,
        np.where(asked, outcomes.answer_costs[rows, : tier + 1], np.nan),
    )


def _moves(router: MetaVerifier, seen: Seen) -> IntArray:
    to = np.array(router.choose(seen), dtype=np.intp)
    least = max(seen.tier, 0)
    if to.shape != (len(seen),) or ((to < least) | (to >= seen.num_tiers)).any():
        raise AutoMixError(
            f"{type(router).__name__} chose {np.unique(to).tolist()} at tier {seen.tier} of "
            f"{seen.num_tiers}: a router keeps the answer or goes on to a later tier"
        )
    return to
