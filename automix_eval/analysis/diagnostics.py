"""What a run tells of a task: main figures, calls, how its verifier behaves, prompts cut short."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from automix_eval.analysis.curve_figures import benefit
from automix_eval.analysis.figures import (
    CallRow,
    Figure,
    ReliabilityBin,
    System,
    TaskFigures,
    Truncation,
    VerifierFigures,
)
from automix_eval.analysis.leaderboard import BoardColumns
from automix_eval.analysis.question_sets import QuestionSet
from automix_eval.analysis.references import References
from automix_eval.metrics.benefit import HELPS_ABOVE
from automix_eval.metrics.calibration import BINS, bin_of, right_above, scale_of
from automix_eval.records.record_columns import OUTCOMES, BoolArray, FloatArray, RecordColumns
from automix_eval.records.runs import CallCount

HISTOGRAM_BINS = 20


def summarise(questions: QuestionSet, columns: BoardColumns) -> TaskFigures:
    """Figures of one task.

    Args:
        questions: Its evaluated questions.
        columns: The board of this run alone, whose bootstrap all figures share.
    """
    (row,) = columns.live
    figure = row.table.figure
    rows, ends = questions.rows, row.ends()
    slm_quality, slm_cost, llm_quality, llm_cost = ends
    own = row.figures()
    base = figure(benefit(llm_quality, llm_cost, slm_quality, slm_cost)).value
    return TaskFigures(
        num_questions=len(rows),
        num_documents=rows.num_documents,
        slm=System(figure(slm_quality), figure(slm_cost), Figure(0.0)),
        llm=System(figure(llm_quality), figure(llm_cost), Figure(1.0), base),
        method=System(own.quality, own.cost, own.escalation_rate, own.ibc.value),
        delta_ibc=own.delta_ibc,
        final_tiers=tuple(np.bincount(rows.final, minlength=rows.num_tiers).tolist()),
        llm_answers_recorded=int(rows.asked[:, -1].sum()),
        calls=_call_rows(rows, [c for c in questions.run.calls if c.task == questions.task]),
        verifiers=_verifier_figures(rows, columns.references[id(questions)]),
        truncations=_truncations(rows),
    )


def _call_rows(rows: RecordColumns, counts: Sequence[CallCount]) -> tuple[CallRow, ...]:
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


def _verifier_figures(rows: RecordColumns, references: References) -> tuple[VerifierFigures, ...]:
    """One entry for each tier that verified its answers."""
    found, bound = [], right_above(rows.scores)
    for tier in references.cells:
        judged = rows.judged[:, tier]
        confidences = rows.confidences[:, tier]
        known = confidences[np.isfinite(confidences)]
        outcomes = Counter(OUTCOMES[i] for i in rows.outcomes[judged, tier].tolist())
        scored = np.isfinite(confidences) & np.isfinite(rows.scores[:, tier])
        right = rows.scores[scored, tier] > bound
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
                reliability=_reliability(confidences[scored], right, BINS),
                histogram=_reliability(confidences[scored], right, HISTOGRAM_BINS),
                right_above=bound,
                helps_above=HELPS_ABOVE * scale_of(rows.scores)[1],
                num_saved=int(rows.saved[:, tier].sum()),
                benefit_auroc=benefit_auroc,
                benefit_correlation=benefit_correlation,
            )
        )
    return tuple(found)


def _reliability(
    confidences: FloatArray, right: BoolArray, bins: int
) -> tuple[ReliabilityBin, ...]:
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


def _truncations(rows: RecordColumns) -> tuple[Truncation, ...]:
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
