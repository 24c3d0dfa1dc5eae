"""The main figures of one task of one run, out of the columns of its board."""

from __future__ import annotations

import numpy as np

from automix_eval.analysis.curve_figures import benefit
from automix_eval.analysis.diagnostics import call_rows, truncations, verifier_figures
from automix_eval.analysis.figures import Figure, System, TaskFigures
from automix_eval.analysis.leaderboard import BoardColumns
from automix_eval.analysis.question_sets import QuestionSet


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
    base, no_base = benefit(llm_quality, llm_cost, slm_quality, slm_cost)
    return TaskFigures(
        num_questions=len(rows),
        num_documents=rows.num_documents,
        slm=System(figure(slm_quality), figure(slm_cost), Figure(0.0)),
        llm=System(figure(llm_quality), figure(llm_cost), Figure(1.0), figure(base, no_base).value),
        method=System(own.quality, own.cost, own.escalation_rate, own.ibc.value),
        delta_ibc=own.delta_ibc,
        final_tiers=tuple(np.bincount(rows.final, minlength=rows.num_tiers).tolist()),
        llm_answers_recorded=int(rows.asked[:, -1].sum()),
        calls=call_rows(rows, [c for c in questions.run.calls if c.task == questions.task]),
        verifiers=verifier_figures(rows, columns.references[id(questions)]),
        truncations=truncations(rows),
    )
