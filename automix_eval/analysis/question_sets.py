"""What figures are computed on: the evaluated questions of a task of a run, priced."""

from __future__ import annotations

from dataclasses import dataclass, field

from automix_eval.metrics.ibc import Undefined
from automix_eval.records.columns import FloatArray, RecordColumns
from automix_eval.records.pricing import Priced, Prices, price
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
class QuestionSet:
    """The evaluated questions of one task of one run, with prices and the LLM-only point."""

    run: Run
    task: str
    rows: RecordColumns
    priced: Priced
    llm: LLMPoint

    @classmethod
    def of(cls, run: Run, task: str, llm: LLMPoint) -> QuestionSet:
        """The questions of a task of a run."""
        rows = run.records[task]
        return cls(run, task, rows, price(rows, run.cost), llm)

    @property
    def last(self) -> int:
        """N - 1."""
        return self.rows.num_tiers - 1
