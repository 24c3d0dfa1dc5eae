"""Questions that failed for good: out of both sides of every comparison, and named.

A run lists them in its manifest and has no record of them. Another run that asked the same
questions is read without them as well, so that no two figures rest on different questions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from automix_eval.analysis.attempts import settings_of
from automix_eval.analysis.llm_point import find_rows, same_prompts
from automix_eval.analysis.plain_runs import PlainRun
from automix_eval.records.columns import BoolArray, IntArray, RecordColumns
from automix_eval.records.runs import Run
from automix_eval.safety.text import listing, printable, questions

MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class Lost:
    """The questions of one task that failed in a run, beside the records of its others."""

    run_id: str
    task: str
    rows: RecordColumns
    keys: frozenset[tuple[int, int]]

    def covers(self, task: str, rows: RecordColumns) -> bool:
        """Whether other records are of the same questions, as far as the prompts tell."""
        if task != self.task:
            return False
        place = find_rows(rows, self.rows)
        shared = place >= 0
        return bool(shared.any()) and bool(same_prompts(rows, self.rows, place)[shared].all())

    def marks(self, doc_ids: IntArray, repeats: IntArray) -> BoolArray:
        """(n,) which questions are among those that failed."""
        pairs = zip(doc_ids.tolist(), repeats.tolist(), strict=True)
        return np.fromiter((p in self.keys for p in pairs), dtype=bool, count=len(doc_ids))


def lost(runs: Sequence[Run]) -> list[Lost]:
    """What failed in the evaluations of some runs.

    A run that was stopped, or whose command was run again and answered what had failed, takes
    nothing from the others.
    """
    found = []
    for run in runs:
        for task, rows in run.records.items():
            keys = frozenset((f.doc_id, f.repeat) for f in run.failed if f.task == task)
            one = Lost(run.run_id, task, rows, keys)
            again = any(_answers(other, run, one) for other in runs)
            if keys and task not in run.unfinished and not again:
                found.append(one)
    return found


def without(run: Run, failed: Sequence[Lost]) -> Run:
    """A run without the records of questions that failed in a run it may be compared with."""
    records, dropped, warnings = dict(run.records), dict(run.dropped), list(run.warnings)
    for task, rows in run.records.items():
        gone = np.zeros(len(rows), dtype=bool)
        for one in failed:
            if one.run_id == run.run_id or not one.covers(task, rows):
                continue
            marks = one.marks(rows.doc_ids, rows.repeats)
            if marks.any():
                warnings.append((task, _note(rows.doc_ids[marks], task, one.run_id)))
                gone |= marks
        if not gone.any():
            continue
        dropped[task] = frozenset(rows.doc_ids[gone].tolist())
        if gone.all():
            del records[task]
        else:
            records[task] = rows.where(~gone)
    return replace(run, records=records, dropped=dropped, warnings=tuple(warnings))


def plain_without(run: PlainRun, failed: Sequence[Lost]) -> PlainRun:
    """A plain run without the questions that failed in a run of the cascade on the same ones."""
    keep = np.ones(len(run.doc_ids), dtype=bool)
    notes = [run.note] if run.note else []
    for one in failed:
        if one.task != run.task or not _same_plain(run, one.rows):
            continue
        marks = one.marks(run.doc_ids, np.zeros_like(run.doc_ids))
        if (new := marks & keep).any():
            notes.append(_note(run.doc_ids[new], run.task, one.run_id))
            keep &= ~marks
    if keep.all() or not keep.any():
        return run
    return replace(
        run,
        doc_ids=run.doc_ids[keep],
        prompts=run.prompts[keep],
        scores=run.scores[keep],
        note="; ".join(notes),
    )


def names(doc_ids: Iterable[int]) -> str:
    """Documents by name, as many as a reader can take in."""
    return listing([str(i) for i in sorted(set(doc_ids))], MOST_NAMED)


def _answers(other: Run, run: Run, failed: Lost) -> bool:
    """Whether a run is the same command run again, and has answers to all that failed."""
    if failed.task not in other.records or settings_of(other.config) != settings_of(run.config):
        return False
    left = sum(f.task == failed.task for f in other.failed)
    if (left, run.age) >= (len(failed.keys), other.age):
        return False  # it lost no less, and is no later
    rows = other.records[failed.task]
    return int(failed.marks(rows.doc_ids, rows.repeats).sum()) == len(failed.keys)


def _note(doc_ids: IntArray, task: str, run_id: str) -> str:
    return (
        f"excluded: {questions(len(doc_ids))} failed in run {printable(run_id)}, with which this "
        f"one is compared: {printable(task)}, doc_id {names(doc_ids.tolist())}"
    )


def _same_plain(run: PlainRun, rows: RecordColumns) -> bool:
    first = np.flatnonzero(rows.repeats == 0)
    _, ours, theirs = np.intersect1d(run.doc_ids, rows.doc_ids[first], return_indices=True)
    one, other = run.prompts[ours], rows.prompts[first][theirs]
    return bool(len(ours)) and bool(((one == other) | (one == 0) | (other == 0)).all())
