"""Figures of a method by slices of its questions, tested together, the worst first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from automix_eval.analysis.beside_llm import ColumnScore
from automix_eval.analysis.bootstrap_table import BootstrapTable
from automix_eval.analysis.comparisons import difference
from automix_eval.analysis.figures import Figure
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.significance import SIGNIFICANT, PairedDifference, PairedTests, holm
from automix_eval.records.doc_fields import FieldValues
from automix_eval.records.record_columns import BoolArray, FloatArray, IntArray
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable

MOST_SLICES = 100


@dataclass(frozen=True, slots=True)
class Slice:
    """The questions of which a field says the same.

    Attributes:
        label: What it says.
        escalation_rate: Share of the questions answered above the first tier.
        quality: Of the method.
        loss: The LLM's quality less the method's, above 0 where the cascade loses.
        loss_p: p-value of the paired test on the loss, as its interval.
        loss_holm: Its mid-p after Holm's correction over the slices that could show as much, and at
            least ``loss_p``.
        delta_ibc: Delta IBC on these questions.
    """

    label: str
    num_questions: int
    num_documents: int
    escalation_rate: Figure
    quality: Figure
    loss: Figure
    loss_p: Figure
    loss_holm: Figure
    delta_ibc: Figure

    @property
    def loses(self) -> bool | None:
        """Whether the loss (or gain) is shown; None where it is not."""
        p, loss = self.loss_holm.value, self.loss.value
        if isinstance(p, Undefined) or isinstance(loss, Undefined) or p >= SIGNIFICANT:
            return None
        return loss > 0


@dataclass(frozen=True, slots=True)
class Slices:
    """A method by the values of a field.

    Attributes:
        about: Whose figures: task, run or router.
        field: The field.
        slices: Those of which a loss is shown, then the others, each by falling loss.
        num_lacking: Questions without the field, in no slice.
        lacking: The first of them, by name.
    """

    about: str
    field: str
    slices: tuple[Slice, ...]
    num_lacking: int
    lacking: tuple[str, ...]


def by_slice(
    about: str,
    field: str,
    held: FieldValues,
    columns: FloatArray,
    escalated: BoolArray,
    documents: Sequence[object] | IntArray,
    resamples: int,
    seed: int,
) -> Slices:
    """Figures by the values of a field.

    Args:
        about: Task, run or router, for the reader.
        field: The field's name.
        held: What it says of each question.
        columns: (n, 6) as ``analysis.beside_llm.six_columns`` gives them.
        escalated: (n,) whether a tier above the first answered.
        documents: (n,) equal for questions that are not independent.
        resamples: Of the bootstrap.
        seed: Of bootstrap and permutations.

    Raises:
        AutoMixError: There are more than :data:`MOST_SLICES` values.
    """
    labels = sorted({label for label in held.labels if label is not None})
    if len(labels) > MOST_SLICES:
        raise AutoMixError(
            f"{printable(field)} has {len(labels)} values on {len(held.labels)} questions: slices "
            f"are of a field with at most {MOST_SLICES}"
        )
    of = np.array([label or "" for label in held.labels])
    made = []
    for label in labels:
        rows = np.flatnonzero(of == label)
        codes = np.unique(np.asarray(documents)[rows], return_inverse=True)[1]
        made.append(_slice(label, columns[rows], escalated[rows], codes, resamples, seed))
    # of k documents that differ all have one sign in one of 2^k cases; half of that, as signs are
    # drawn
    floors = [0.5 ** (test.differing + 1) for _, test in made]
    tested = holm([test.mid_p for _, test in made], floors)
    found = [_corrected(s, p) for (s, _), p in zip(made, tested, strict=True)]
    found.sort(key=lambda s: (not s.loses, -_number(s.loss)))
    return Slices(about, field, tuple(found), len(held.lacking), held.lacking[:10])


def _slice(
    label: str,
    columns: FloatArray,
    escalated: BoolArray,
    codes: IntArray,
    resamples: int,
    seed: int,
) -> tuple[Slice, PairedDifference]:
    """The figures, before any correction, and the test of the loss."""
    table = BootstrapTable(codes, resamples, seed)
    score = ColumnScore.of(table, list(columns.T), escalated)
    up = table.add(lambda rows: escalated[rows].astype(float))
    quality, llm = score.mean("quality"), score.ends().llm_quality
    sums = np.column_stack([np.bincount(codes, columns[:, i]) for i in (4, 0)])
    test = PairedTests(sums, np.bincount(codes), seed).difference(0, 1)
    made = Slice(
        label=label,
        num_questions=len(codes),
        num_documents=table.number,
        escalation_rate=table.figure(table.mean(up)),
        quality=table.figure(quality),
        loss=replace(table.figure(difference(llm, quality)), interval=test.interval),
        loss_p=Figure(test.p),
        loss_holm=Figure(test.p),
        delta_ibc=table.figure(score.delta_ibc()),
    )
    return made, test


def _corrected(one: Slice, p: float | Undefined) -> Slice:
    """A slice with its corrected p-value, which is at least the one that its interval goes by."""
    own = one.loss_p.value
    both = p if isinstance(p, Undefined) or isinstance(own, Undefined) else max(p, own)
    return replace(one, loss_holm=Figure(both))


def _number(figure: Figure) -> float:
    return -np.inf if isinstance(figure.value, Undefined) else figure.value
