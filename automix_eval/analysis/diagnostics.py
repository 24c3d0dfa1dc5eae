"""What else a run tells: its calls, how its verifier behaves, which prompts did not fit."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from automix_eval.analysis.figures import CallRow, ReliabilityBin, Truncation, VerifierFigures
from automix_eval.analysis.references import References
from automix_eval.metrics.calibration import BINS, CORRECT_ABOVE, bin_of
from automix_eval.records.record_columns import OUTCOMES, BoolArray, FloatArray, RecordColumns
from automix_eval.records.runs import CallCount

HISTOGRAM_BINS = 20


def call_rows(rows: RecordColumns, counts: Sequence[CallCount]) -> tuple[CallRow, ...]:
    """Calls by tier and role, rows without any call left out."""
    run: Counter[tuple[str, int, str, str]] = Counter()
    for count in counts:
        run[count.phase, count.tier, count.role, "made"] += count.made
        run[count.phase, count.tier, count.role, "stored"] += count.stored
    found = [
        CallRow(
            tier,
            role,
            int(calls.number[rows.on_path[:, tier], tier].sum()),
            *(
                run[phase, tier, role, kind]
                for phase in ("evaluation", "calibration")
                for kind in ("made", "stored")
            ),
        )
        for tier in range(rows.num_tiers)
        for role, calls in (("answer", rows.answers), ("verify", rows.verifications))
    ]
    return tuple(r for r in found if any((r.on_path, r.made, r.stored, r.calibration_made)))


def verifier_figures(rows: RecordColumns, references: References) -> tuple[VerifierFigures, ...]:
    """One entry for each tier that verified its answers."""
    found = []
    for tier in references.cells:
        judged = rows.judged[:, tier]
        confidences = rows.confidences[:, tier]
        known = confidences[np.isfinite(confidences)]
        outcomes = Counter(OUTCOMES[i] for i in rows.outcomes[judged, tier].tolist())
        scored = np.isfinite(confidences) & np.isfinite(rows.scores[:, tier])
        right = rows.scores[scored, tier] > CORRECT_ABOVE
        benefit_auroc, benefit_correlation = references.benefit(tier)
        found.append(
            VerifierFigures(
                tier=tier,
                **references.verifier(tier)._asdict(),
                five_numbers=tuple(map(float, np.quantile(known, [0, 0.25, 0.5, 0.75, 1])))
                if len(known)
                else None,
                distinct=len(np.unique(known)),
                outcomes=dict(outcomes.most_common()),
                num_samples=int(rows.samples[:, tier].sum()),
                num_unparsable=int(rows.unparsable[:, tier].sum()),
                reliability=reliability(confidences[scored], right, BINS),
                histogram=reliability(confidences[scored], right, HISTOGRAM_BINS),
                num_saved=int(rows.saved[:, tier].sum()),
                benefit_auroc=benefit_auroc,
                benefit_correlation=benefit_correlation,
            )
        )
    return tuple(found)


def reliability(confidences: FloatArray, right: BoolArray, bins: int) -> tuple[ReliabilityBin, ...]:
    """Answers counted by equal bins of their confidence."""
    codes = bin_of(confidences, bins)
    count = np.bincount(codes, minlength=bins)
    correct = np.bincount(codes, right, minlength=bins)
    total = np.bincount(codes, confidences, minlength=bins)
    return tuple(
        ReliabilityBin(
            low=i / bins,
            high=(i + 1) / bins,
            count=int(count[i]),
            confidence=float(total[i] / count[i]) if count[i] else None,
            accuracy=float(correct[i] / count[i]) if count[i] else None,
            right=int(correct[i]),
        )
        for i in range(bins)
    )


def truncations(rows: RecordColumns) -> tuple[Truncation, ...]:
    """One entry for each tier and role with a shortened prompt."""
    found = []
    parts = (("answer", rows.answers, rows.asked), ("verify", rows.verifications, rows.judged))
    for tier in range(rows.num_tiers):
        for role, calls, prompted in parts:
            lost, cut = calls.demonstrations[:, tier], calls.context_tokens[:, tier]
            short = int(((lost > 0) | (cut > 0)).sum())
            if short:
                asked = int(prompted[:, tier].sum())
                found.append(Truncation(tier, role, asked, short, int(lost.sum()), int(cut.sum())))
    return tuple(found)
