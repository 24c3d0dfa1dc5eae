"""What figures are computed on: the evaluated questions of a task of a run, priced."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import Outcomes
from automix_eval.records.record_columns import BoolArray, FloatArray, RecordColumns
from automix_eval.records.repricing import Priced, Prices, price
from automix_eval.records.runs import Run


@dataclass(frozen=True, slots=True, eq=False)
class LLMPoint:
    """The LLM alone on a task's questions, in the order of the records.

    Attributes:
        scores: Score of each question, or why there are none.
        costs: Cost of each question, or why there are none.
        source: Where they come from, for the reader.
        warnings: What the reader should know about them.
    """

    scores: FloatArray | Undefined
    costs: Prices
    source: str = ""
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True, eq=False)
class PricedTiers:
    """What N tiers did on n questions, and what it cost; not every tier need have been asked.

    Attributes:
        scores: (n, N) NaN where a tier was not asked, or its answer has no score.
        asked: (n, N).
        confidences: (n, N) NaN where there is none.
        judged: (n, N) whether the answer was verified.
        answers: Per tier, the cost of its answers.
        verifications: Per tier, the cost of judging them.
    """

    scores: FloatArray
    asked: BoolArray
    confidences: FloatArray
    judged: BoolArray
    answers: Sequence[Prices]
    verifications: Sequence[Prices]

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def last(self) -> int:
        """N - 1."""
        return int(self.scores.shape[1]) - 1

    @classmethod
    def of_records(cls, rows: RecordColumns, priced: Priced) -> PricedTiers:
        """The tiers of recorded questions."""
        return cls(
            rows.scores, rows.asked, rows.confidences, rows.judged, priced.answers,
            priced.verifications,
        )  # fmt: skip

    @classmethod
    def of(cls, outcomes: Outcomes) -> PricedTiers:
        """The tiers of questions that every tier was asked."""
        judged = ~np.isnan(outcomes.confidences)
        return cls(
            outcomes.scores, np.ones_like(judged), outcomes.confidences, judged,
            list(outcomes.answer_costs.T), list(outcomes.verification_costs.T),
        )  # fmt: skip

    def why_not_full(self) -> Undefined | None:
        """Why nothing can be replayed on these questions; None if it can."""
        if self.asked.all() and np.isfinite(self.scores).all():
            costs = (*self.answers, *self.verifications)
            return next((c for c in costs if isinstance(c, Undefined)), None)
        if self.asked.all():
            unscored = int(np.isnan(self.scores).sum())
            return Undefined(f"the task gave no score to {unscored} answers")
        missing = int((~self.asked).any(axis=1).sum())
        return Undefined(
            f"a replay needs the answers of every tier, and {missing} of {len(self)} questions "
            "were not put to all of them: run with record=full"
        )


@dataclass(frozen=True, slots=True, eq=False)
class QuestionSet:
    """The evaluated questions of one task of one run, with prices and the LLM-only point."""

    run: Run
    task: str
    rows: RecordColumns
    priced: Priced
    llm: LLMPoint
    tiers: PricedTiers

    @classmethod
    def of(cls, run: Run, task: str, llm: LLMPoint) -> QuestionSet:
        """The questions of a task of a run."""
        rows = run.records[task]
        priced = price(rows, run.cost)
        return cls(run, task, rows, priced, llm, PricedTiers.of_records(rows, priced))

    @property
    def last(self) -> int:
        """N - 1."""
        return self.tiers.last
