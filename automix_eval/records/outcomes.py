"""What every tier did on many questions, as columns: fitting data, and replays without a model.

Records hold everything about a question; a router is fitted, and played again, on a few numbers of
each. Tiers are numbered 0 (the SLM) to N - 1 (the LLM); n is the number of questions.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from automix_eval.safety.errors import AutoMixError
from automix_eval.types import CostModel, Record, TierRecord

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.intp]

# How far a confidence may lie outside [0, 1]: sums of probabilities round, larger steps are errors.
ROUNDING = 1e-6
# A router's choice beside the tiers: the question is left without an answer that counts.
ABSTAIN = -1


@dataclass(frozen=True, slots=True, eq=False)
class Outcomes:
    """Columns of n questions that every one of N tiers was asked.

    Attributes:
        scores: (n, N) the task's metric of each tier's answer.
        answer_costs: (n, N) cost of each tier's answer.
        confidences: (n, N) in [0, 1]; NaN where a tier has none.
        verification_costs: (n, N) cost of judging each answer; 0 where it was not judged.
        names: Name of each tier.
        ids: Identity of each question; unique where a question is asked once.
        signals: Raw signals of verifiers by name, each (n, N), NaN where missing.
        questions: Text of each question, None where only numbers are known.
        answers: ``answers[tier][row]``, None where only numbers are known.
        documents: Rows that share a document have the same entry.

    Raises:
        AutoMixError: Shapes do not agree, a score or cost is not finite, a cost is negative, or a
            confidence is outside [0, 1] by more than rounding; names tier and question.
    """

    scores: FloatArray
    answer_costs: FloatArray
    confidences: FloatArray
    verification_costs: FloatArray
    names: tuple[str, ...]
    ids: tuple[str, ...]
    signals: Mapping[str, FloatArray] = field(default_factory=dict)
    questions: tuple[str, ...] | None = None
    answers: tuple[tuple[str, ...], ...] | None = None
    documents: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        shape = (len(self.ids), len(self.names))
        tables = {name: getattr(self, name) for name in _TABLES} | dict(self.signals)
        for name, table in tables.items():
            if table.shape != shape:
                raise AutoMixError(
                    f"{name} has the shape {table.shape}, expected (questions, tiers) = {shape}"
                )
        self._refuse(~np.isfinite(self.scores), self.scores, "score", "a finite number")
        for name, what in (("answer_costs", "cost"), ("verification_costs", "verification cost")):
            table = getattr(self, name)
            bad = ~(np.isfinite(table) & (table >= 0))
            self._refuse(bad, table, what, "a finite number of at least 0")
        held = self.confidences
        outside = (held < -ROUNDING) | (held > 1 + ROUNDING)
        self._refuse(outside, held, "confidence", "a number in [0, 1]")
        object.__setattr__(self, "confidences", np.clip(held, 0.0, 1.0))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_tiers(self) -> int:
        """N."""
        return len(self.names)

    @property
    def asking_costs(self) -> FloatArray:
        """(n, N) cost of asking each tier: its answer, and judging it unless it is the last."""
        paid = self.answer_costs.copy()
        paid[:, :-1] += self.verification_costs[:, :-1]
        return paid

    def take(self, rows: npt.ArrayLike) -> Outcomes:
        """The given rows, in that order; indices or a boolean mask."""
        index = np.arange(len(self))[np.asarray(rows)]
        picked = index.tolist()
        return replace(
            self,
            **{name: getattr(self, name)[index] for name in _TABLES},
            ids=pick(self.ids, picked) or (),
            signals={name: table[index] for name, table in self.signals.items()},
            questions=pick(self.questions, picked),
            answers=None
            if self.answers is None
            else tuple(pick(column, picked) or () for column in self.answers),
            documents=pick(self.documents, picked),
        )

    def select_tiers(self, tiers: Sequence[int]) -> Outcomes:
        """The chain of some of the tiers, in the given order."""
        index = list(tiers)
        return replace(
            self,
            **{name: getattr(self, name)[:, index] for name in _TABLES},
            names=tuple(self.names[t] for t in index),
            signals={name: table[:, index] for name, table in self.signals.items()},
            answers=None if self.answers is None else tuple(self.answers[t] for t in index),
        )

    def canonical(self) -> Outcomes:
        """The rows in an order of their own values, so that no sum depends on the rows' order."""
        columns = [table[:, t] for table in self._tables() for t in range(self.num_tiers)]
        varied = [c for c in columns if len(c) and not (c == c[0]).all()]
        # ids last in rank: they part rows of equal numbers and different texts
        keys: list[npt.NDArray[np.generic]] = [] if self.questions is None else [np.array(self.ids)]
        every = [*keys, *varied]
        return self.take(_lexsorted(every) if every else np.arange(len(self)))

    @classmethod
    def from_records(cls, records: Sequence[Record], cost: CostModel) -> Outcomes:
        """The columns of records in which every tier was asked and scored.

        A tier that was not verified has no confidence and no verification cost.

        Raises:
            AutoMixError: No record, a tier that was not asked or not scored, or a call without a
                price; names task, doc_id, tier and remedy.
        """
        if not records:
            raise AutoMixError(
                "there are no records to fit on: raise calibration.num_docs, or load a policy"
            )
        num_tiers = 1 + max(t.tier for r in records for t in r.tiers)
        cost.check(num_tiers)
        rows = [[_asked(r, tier) for tier in range(num_tiers)] for r in records]
        for record, tiers in zip(records, rows, strict=True):
            for tier in tiers:
                _check_row(record, tier)
        judged = [[t.verification for t in tiers] for tiers in rows]
        names = sorted({name for vs in judged for v in vs if v for name in v.signals})
        return cls(
            scores=_table([[t.score for t in tiers] for tiers in rows]),
            answer_costs=_table([[cost.answer_cost(t.answer) for t in ts] for ts in rows]),
            confidences=_table([[v.confidence if v else None for v in vs] for vs in judged]),
            verification_costs=_table(
                [[cost.verification_cost(v) if v else 0.0 for v in vs] for vs in judged]
            ),
            names=tuple(f"tier {t}" for t in range(num_tiers)),
            ids=tuple(f"{r.task}/{r.doc_id}/{r.repeat}" for r in records),
            signals={
                name: _table([[v.signals.get(name) if v else None for v in vs] for vs in judged])
                for name in names
            },
            questions=tuple(r.question for r in records),
            answers=tuple(tuple(ts[t].answer.text for ts in rows) for t in range(num_tiers)),
            documents=tuple(r.document or f"{r.task}/{r.doc_id}" for r in records),
        )

    def _tables(self) -> list[FloatArray]:
        return [getattr(self, name) for name in _TABLES] + list(self.signals.values())

    def _refuse(self, bad: BoolArray, table: FloatArray, what: str, expected: str) -> None:
        if bad.any():
            row, tier = map(int, np.argwhere(bad)[0])
            raise AutoMixError(
                f"question {self.ids[row]}, tier {tier} ({self.names[tier]}): the {what} is "
                f"{table[row, tier]!r}, expected {expected}"
                + ("" if what != "score" else "; leave the question out, or mend the metric")
            )


_TABLES = ("scores", "answer_costs", "confidences", "verification_costs")


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """What a router may look at: n questions that reached the same tier.

    Attributes:
        tier: The tier reached; -1 before the first, when only questions are known.
        num_tiers: Length of the chain.
        confidences: (n, tier + 1) NaN for tiers skipped, not judged or undefined.
        ids: Identity of each question; like the texts, a replay fills it for ``needs_texts`` only.
        signals: Raw signals of verifiers by name, each (n, tier + 1).
        questions: Texts, None in replays of numbers.
        answers: Texts of the tier reached, None in replays of numbers and before the first tier.
        hindsight: The rows' own outcomes. Replays only; an oracle reads it, nothing else may.
        costs: (n, tier + 1) cost of each tier's answer, NaN for tiers skipped; None where answers
            have no known price.
    """

    tier: int
    num_tiers: int
    confidences: FloatArray
    ids: tuple[str, ...] | None = None
    signals: Mapping[str, FloatArray] = field(default_factory=dict)
    questions: tuple[str, ...] | None = None
    answers: tuple[str, ...] | None = None
    hindsight: Outcomes | None = None
    costs: FloatArray | None = None

    def __len__(self) -> int:
        return len(self.confidences)

    @property
    def confidence(self) -> FloatArray:
        """(n,) confidence at the tier reached."""
        return self.confidences[:, self.tier]


def pick(column: tuple[str, ...] | None, rows: Sequence[int]) -> tuple[str, ...] | None:
    """Some rows of a column of texts, in the order in which they are named."""
    if column is None or len(rows) < 2:
        return column and tuple(column[i] for i in rows)
    # several times faster than a loop, of a million rows
    return tuple(operator.itemgetter(*rows)(column))


def _lexsorted(keys: Sequence[npt.NDArray[Any]]) -> IntArray:
    """``np.lexsort``, by all keys only where the first in rank leaves ties."""
    order = np.argsort(keys[-1], kind="stable")
    held = keys[-1][order]
    same = (held[1:] == held[:-1]) | ((held[1:] != held[1:]) & (held[:-1] != held[:-1]))
    tied = np.append(same, False) | np.append(False, same)
    rows = np.sort(order[tied])
    order[tied] = rows[np.lexsort([key[rows] for key in keys])]
    return order


def _table(rows: Sequence[Sequence[float | None]]) -> FloatArray:
    return np.array([[math.nan if x is None else x for x in row] for row in rows], dtype=np.float64)


def _asked(record: Record, tier: int) -> TierRecord:
    found = record.tier(tier)
    if found is None:
        raise AutoMixError(
            f"task {record.task}, doc_id {record.doc_id}: tier {tier} was not asked, and a policy "
            "is fitted on records of every tier: record them with record=full"
        )
    return found


def _check_row(record: Record, tier: TierRecord) -> None:
    place = f"task {record.task}, doc_id {record.doc_id}, tier {tier.tier}"
    if tier.score is None or not math.isfinite(tier.score):
        raise AutoMixError(
            f"{place}: the score is {tier.score!r}, and a policy is fitted on numbers: mend the "
            "task's metric, or leave the document out of the fitting data"
        )
    value = tier.verification.confidence if tier.verification else None
    # NaN is how a column says "none", so a verifier's NaN must not pass for that
    if value is not None and not -ROUNDING <= value <= 1 + ROUNDING:
        raise AutoMixError(
            f"{place}: the confidence is {value!r}, not a number in [0, 1]. A verifier reports a "
            "confidence it does not have as None (see meta_verifier.undefined)"
        )


assert set(_TABLES) <= {f.name for f in fields(Outcomes)}
