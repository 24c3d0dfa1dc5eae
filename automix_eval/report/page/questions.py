"""The questions of the sample explorer: columns to filter by, and chunks of texts."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from automix_eval.metrics.calibration import are_right
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.record_columns import Calls, FloatArray, RecordColumns
from automix_eval.records.repricing import Priced, price
from automix_eval.records.runs import Run
from automix_eval.report.page.contexts import Contexts
from automix_eval.report.page.pack import Chunk, Packer, pack
from automix_eval.report.page.visible import visible
from automix_eval.types import Record, TierRecord

#: Characters that all chunks together may have; the page is promised to stay below 25 MB.
BUDGET = 23_000_000
NOT_ASKED, ASKED, ON_PATH = range(3)


@dataclass(frozen=True, slots=True)
class QuestionGroup:
    """The evaluation records of one task of one run."""

    run: Run
    task: str
    rows: RecordColumns

    @property
    def tiers(self) -> tuple[str, ...]:
        """Labels of the tiers, SLM first."""
        return tuple(t.label for t in self.run.tiers)


def groups_of(runs: Sequence[Run]) -> tuple[QuestionGroup, ...]:
    """All groups, in the order of the runs and of their tasks."""
    return tuple(
        QuestionGroup(run, task, rows)
        for run in runs
        for task in run.tasks
        if (rows := run.records.get(task)) is not None and len(rows)
    )


@dataclass(slots=True)
class SampleChunks:
    """Writes the explorer's data, chunk by chunk.

    Chunks ``t<i>`` hold question, references and answers of every row and are always complete.
    Chunks ``d<i>`` hold verifications and calls, ``c<i>`` passages; a group whose share of the
    budget is spent goes on without them, and the index says so. The last chunk, ``index``, holds
    the columns and where each item is.

    Args:
        groups: What to show.
        contexts: The passages.
        budget: Characters of all chunks, shared among the groups by their number of rows.
    """

    groups: Sequence[QuestionGroup]
    contexts: Contexts
    budget: int = BUDGET
    _texts: Packer = field(default_factory=lambda: Packer("t"))
    _details: Packer = field(default_factory=lambda: Packer("d"))
    _passages: Packer = field(default_factory=lambda: Packer("c"))
    _placed: dict[int, int] = field(default_factory=dict)

    def __iter__(self) -> Iterator[Chunk]:
        """All chunks, the index last; only once, because it reads as it goes."""
        width = max((len(g.tiers) for g in self.groups), default=0)
        columns = [_columns(i, group, width) for i, group in enumerate(self.groups)]
        left = sum(len(g.rows) for g in self.groups)
        details: list[int | None] = []
        passages: list[int | None] = []
        for group in self.groups:
            limit = self._size + (self.budget - self._size) * len(group.rows) / left
            left -= len(group.rows)
            yield from self._group(group, width, limit, details, passages)
        for packer in self._packers:
            yield from packer.flush()
        index = {
            "columns": _joined(columns) | {"detail": details, "context": passages},
            "starts": {p.name: p.starts for p in self._packers},
        }
        yield Chunk("index", pack(index))

    @property
    def _packers(self) -> tuple[Packer, ...]:
        return self._texts, self._details, self._passages

    @property
    def _size(self) -> float:
        return sum(p.size for p in self._packers)

    def _group(
        self,
        group: QuestionGroup,
        width: int,
        limit: float,
        details: list[int | None],
        passages: list[int | None],
    ) -> Iterator[Chunk]:
        costs = price(group.rows, group.run.cost)
        for i, record in enumerate(group.rows.read(range(len(group.rows)))):
            yield from self._texts.add(_texts(record, width))
            # What is left of the budget must hold the texts of the rows to come.
            to_come = (len(group.rows) - i) * self._texts.size / self._texts.count
            if self._size + to_come > limit:
                details.append(None)
                passages.append(None)
                continue
            details.append(self._details.count)
            yield from self._details.add([_detail(group.rows, costs, i, t) for t in record.tiers])
            number = self.contexts.find(group.run.run_id, group.task, record.doc_id)
            passages.append(None if number is None else self._placed.get(number, len(self._placed)))
            if number is not None and number not in self._placed:
                self._placed[number] = len(self._placed)
                yield from self._passages.add(visible(self.contexts.texts[number]))


def _columns(number: int, group: QuestionGroup, width: int) -> dict[str, Any]:
    """The columns of one group; those of tiers are lists of ``width`` columns."""
    rows = group.rows
    count = len(rows)

    def by_tier(columns: Iterable[list[Any]], missing: Any = None) -> list[list[Any]]:
        """One column a tier; a chain shorter than others ends in empty ones."""
        known = list(columns)
        return [*known, *([missing] * count for _ in range(width - len(known)))]

    asked = np.where(rows.on_path, ON_PATH, np.where(rows.asked, ASKED, NOT_ASKED))
    return {
        "group": [number] * count,
        "doc": rows.doc_ids.tolist(),
        "repeat": rows.repeats.tolist(),
        "final": rows.final.tolist(),
        "cost": _rounded_all(_path_cost(group), 6),
        "asked": by_tier(asked.T.tolist(), NOT_ASKED),
        "score": by_tier(_rounded_all(column, 4) for column in rows.scores.T),
        "right": by_tier(
            [bool(r) if math.isfinite(v) else None for r, v in zip(right, column, strict=True)]
            for right, column in zip(are_right(rows.scores).T, rows.scores.T, strict=True)
        ),
        "confidence": by_tier(_rounded_all(column, 4) for column in rows.confidences.T),
    }


def _joined(columns: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The columns of all groups one after the other."""
    joined: dict[str, Any] = {}
    for name in columns[0] if columns else ():
        parts = [c[name] for c in columns]
        if name in ("asked", "score", "right", "confidence"):
            joined[name] = [list(chain.from_iterable(t)) for t in zip(*parts, strict=True)]
        else:
            joined[name] = list(chain.from_iterable(parts))
    return joined


def _path_cost(group: QuestionGroup) -> FloatArray:
    """(n,) cost of the routed path; NaN where a call has no price."""
    costs = price(group.rows, group.run.cost)
    total = np.zeros(len(group.rows))
    for t in range(group.rows.num_tiers):
        on_path = group.rows.on_path[:, t]
        for part in (costs.answers[t], costs.verifications[t]):
            if isinstance(part, Undefined):
                total[on_path] = np.nan
            else:
                total += np.where(on_path, part, 0.0)
    return total


def _texts(record: Record, width: int) -> list[Any]:
    answers = [t.answer.text if (t := record.tier(i)) else None for i in range(width)]
    return [
        visible(record.question),
        [visible(r) for r in record.references],
        [None if a is None else visible(a) for a in answers],
        visible(record.document, 200),
    ]


def _detail(rows: RecordColumns, costs: Priced, i: int, tier: TierRecord) -> dict[str, Any]:
    t = tier.tier
    found: dict[str, Any] = {
        "tier": t,
        "answer": _consumed(rows.answers, costs.answers[t], i, t),
        "metrics": {visible(k, 60): _rounded(v, 4) for k, v in tier.metrics.items()},
        "dropped": int(rows.answers.demonstrations[i, t] + rows.verifications.demonstrations[i, t]),
        "cut": int(rows.answers.context_tokens[i, t] + rows.verifications.context_tokens[i, t]),
    }
    if verification := tier.verification:
        samples = Counter(visible(s) for s in verification.samples)
        found["verify"] = _consumed(rows.verifications, costs.verifications[t], i, t)
        found["outcome"] = verification.outcome
        found["unparsable"] = verification.num_unparsable
        found["samples"] = [[text, times] for text, times in samples.items()]
    if tier.decision:
        found["to"] = tier.decision.to
        found["reason"] = visible(tier.decision.reason, 500)
    return found


def _consumed(calls: Calls, costs: FloatArray | Undefined, i: int, t: int) -> dict[str, Any]:
    """Calls, tokens, seconds and cost of one role at one tier; null where it is not known."""
    return {
        "calls": int(calls.number[i, t]),
        "prompt": _rounded(calls.prompt_tokens[i, t], 12),
        "generated": _rounded(calls.generated_tokens[i, t], 12),
        "seconds": _rounded(calls.seconds[i, t], 3),
        "cost": None if isinstance(costs, Undefined) else _rounded(costs[i], 6),
    }


def _rounded_all(values: FloatArray, digits: int) -> list[float | None]:
    return [_rounded(v, digits) for v in values.tolist()]


def _rounded(value: float, digits: int) -> float | None:
    """A number with so many digits, null if it is none; whole numbers are shorter as integers."""
    if not math.isfinite(value):
        return None
    short = float(f"{value:.{digits}g}")
    return int(short) if short.is_integer() and abs(short) < 1e15 else short
