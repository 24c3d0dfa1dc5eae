"""What else a run tells: its calls, how its verifier behaves, which prompts did not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from automix_eval.metrics.auroc import auroc, is_correct
from automix_eval.metrics.ibc import Undefined
from automix_eval.report.load import CallCount
from automix_eval.types import Answer, Record, Verification


@dataclass(frozen=True, slots=True)
class CallRow:
    """Calls of one tier and role: on the routed path (from records), and as the run made them."""

    tier: int
    role: str
    on_path: int
    made: int
    stored: int
    calibration_made: int
    calibration_stored: int


@dataclass(frozen=True, slots=True)
class VerifierFigures:
    """What the verifications of one tier look like.

    Attributes:
        auroc: Of the confidence as a predictor of score > 0.5.
        five_numbers: Minimum, lower quartile, median, upper quartile, maximum; None if no
            confidence is defined.
        distinct: Number of different confidences.
        outcomes: Outcome -> number of verifications.
        num_samples: Verification samples drawn, and of them those without a decision.
    """

    tier: int
    auroc: float | Undefined
    five_numbers: tuple[float, ...] | None
    distinct: int
    outcomes: dict[str, int]
    num_samples: int
    num_unparsable: int


@dataclass(frozen=True, slots=True)
class Truncation:
    """Prompts of one tier and role that did not fit, and what was left out of them."""

    tier: int
    role: str
    prompts: int
    shortened: int
    demonstrations: int
    context_tokens: int


def call_rows(
    records: Sequence[Record], counts: Sequence[CallCount], num_tiers: int
) -> tuple[CallRow, ...]:
    """Calls by tier and role, rows without any call left out."""
    path: Counter[tuple[int, str]] = Counter()
    for tier in (t for r in records for t in r.tiers if t.on_path):
        path[tier.tier, "answer"] += len(tier.answer.calls)
        if tier.verification:
            path[tier.tier, "verify"] += len(tier.verification.calls)
    run: Counter[tuple[str, int, str, str]] = Counter()
    for count in counts:
        run[count.phase, count.tier, count.role, "made"] += count.made
        run[count.phase, count.tier, count.role, "stored"] += count.stored
    rows = [
        CallRow(
            tier,
            role,
            path[tier, role],
            *(
                run[phase, tier, role, kind]
                for phase in ("evaluation", "calibration")
                for kind in ("made", "stored")
            ),
        )
        for tier in range(num_tiers)
        for role in ("answer", "verify")
    ]
    return tuple(r for r in rows if any((r.on_path, r.made, r.stored, r.calibration_made)))


def verifier_figures(records: Sequence[Record], num_tiers: int) -> tuple[VerifierFigures, ...]:
    """One entry for each tier that verified its answers."""
    found = []
    for tier in range(num_tiers):
        rows = [t for r in records if (t := r.tier(tier)) and t.verification]
        judged = [v for t in rows if (v := t.verification)]
        if not judged:
            continue
        known = [v.confidence for v in judged if v.confidence is not None]
        scored = [
            (t.verification.confidence, is_correct(t.score))
            for t in rows
            if t.verification and t.verification.confidence is not None and t.score is not None
        ]
        found.append(
            VerifierFigures(
                tier=tier,
                auroc=auroc([c for c, _ in scored], [right for _, right in scored]),
                five_numbers=tuple(map(float, np.quantile(known, [0, 0.25, 0.5, 0.75, 1])))
                if known
                else None,
                distinct=len(set(known)),
                outcomes=dict(Counter(v.outcome for v in judged).most_common()),
                num_samples=sum(len(v.samples) for v in judged),
                num_unparsable=sum(v.num_unparsable for v in judged),
            )
        )
    return tuple(found)


def truncations(records: Sequence[Record], num_tiers: int) -> tuple[Truncation, ...]:
    """One entry for each tier and role with a shortened prompt."""
    found = []
    for tier in range(num_tiers):
        asked = [t for r in records if (t := r.tier(tier))]
        parts: tuple[tuple[str, list[Answer | Verification]], ...] = (
            ("answer", [t.answer for t in asked]),
            ("verify", [v for t in asked if (v := t.verification)]),
        )
        for role, prompts in parts:
            short = [p for p in prompts if p.dropped_demonstrations or p.cut_context_tokens]
            if short:
                found.append(
                    Truncation(
                        tier, role, len(prompts), len(short),
                        sum(p.dropped_demonstrations for p in short),
                        sum(p.cut_context_tokens for p in short),
                    )
                )  # fmt: skip
    return tuple(found)
