"""Which of the runs that were found count, and which of their questions.

Three rules. Attempts of one run count once: each start of a command leaves files of its own, and
a killed run answered some of the questions of the one that resumed it, by the same calls. A copy of
a folder counts once. Questions that failed for good in one run are left out of every run that it
is compared with, and named, so that no two figures rest on different questions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from automix_eval.records.harness_results import Samples
from automix_eval.records.record_columns import BoolArray, FloatArray, IntArray, RecordColumns
from automix_eval.records.runs import PARTIAL, FoundRuns, Run
from automix_eval.records.schema import MANIFEST_GLOB
from automix_eval.records.single_model_runs import SingleModelRun
from automix_eval.records.task_settings import differing
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import listing, printable, questions

_MOST_NAMED = 20
_TOLERANCE = 1e-6  # scores are written as decimal numbers
# What may differ where a command is run again, at any depth.
_NOT_THE_ANSWERS = frozenset(
    [
        "base_url",
        "batch_size",
        "block_size",
        "device",
        "fail_on_error",
        "gpu_memory_utilization",
        "max_batch_size",
        "max_retries",
        "num_concurrent",
        "parallelize",
        "prefix_cache_mb",
        "progress",
        "records_dir",
        "store",
        "tensor_parallel_size",
        "timeout",
    ]
)


def select(found: FoundRuns, beside: Sequence[Run] = ()) -> FoundRuns:
    """The runs that count, without the questions that failed.

    Args:
        found: Everything that was read.
        beside: Other runs that these are compared with: what failed there is left out here.

    Raises:
        AutoMixError: Nothing is left.
    """
    runs, copies = _once(found.runs)
    runs, attempts = _last_attempts(runs)
    others = (*runs, *(found.llm.runs if found.llm else ()), *beside)
    failed = _failed_questions(list({r.run_id: r for r in others}.values()))
    runs = [_checked(without_failed(run, failed), found.samples) for run in runs]
    single_models = tuple(_single_without_failed(one, failed) for one in found.single_models)
    about_runs = [text for run in runs for text in _said_of(run)]
    warnings = (*found.warnings, *copies, *attempts, *about_runs)
    if not single_models and not any(run.records for run in runs):
        raise AutoMixError(_nothing(found, warnings))
    return replace(found, runs=tuple(runs), single_models=single_models, warnings=warnings)


def _once(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """Each run once, whatever number of copies of its folder was named."""
    kept: dict[str, Run] = {}
    warnings = []
    for run in runs:
        if run.run_id in kept:
            warnings.append(
                f"run {run.run_id} is in {kept[run.run_id].path.parent} and again in "
                f"{run.path.parent}: the first counts"
            )
        else:
            kept[run.run_id] = run
    return list(kept.values()), warnings


def _said_of(run: Run) -> Iterator[str]:
    """Warnings about a run that belong to none of its tasks."""
    yield from _without_records(run)
    yield from (text for about, text in run.warnings if about not in run.tasks)


def _without_records(run: Run) -> Iterator[str]:
    for task in run.tasks:
        if task not in run.records:
            yield f"run {run.run_id} has no evaluation records of {task}"


def _nothing(found: FoundRuns, warnings: Sequence[str]) -> str:
    if found.runs:
        # what else is known of a run without a figure helps nobody
        missing = [text for run in found.runs for text in _without_records(run)]
        missing = missing or [f"run {run.run_id} has no evaluation records" for run in found.runs]
        return (
            f"nothing to report: {'; '.join(missing)}. Was the run stopped before its first "
            "questions were answered? The same command resumes it"
        )
    text = (
        f"no run in {', '.join(map(str, found.paths))}: looked for {MANIFEST_GLOB} there and "
        "below, and for results of the harness with samples. A run with --output_path writes it "
        "beside the results of the harness; one stopped while it was fitted has none yet, and the "
        "same command resumes it"
    )
    return f"{text}. {'; '.join(warnings)}" if warnings else text


# --------------------------------------------------------------------------- attempts


def _last_attempts(runs: Sequence[Run]) -> tuple[list[Run], list[str]]:
    """The runs without those that another attempt of the same run stands for.

    A partial run is left out where another run with the same settings answered all its questions;
    a whole one where another repeated it from the call store, without a call of its own.

    Args:
        runs: Oldest first.

    Returns:
        The runs that count, in their order, and what was left out, in words.
    """
    left: dict[str, str] = {}
    alike: dict[str, list[Run]] = {}
    for run in runs:
        alike.setdefault(_settings(run), []).append(run)
    for group in alike.values():
        for place, run in enumerate(group):
            for other in reversed(range(len(group))):
                candidate = group[other]
                if other == place or candidate.run_id in left:
                    continue
                if _stands_for(candidate, run, later=other > place):
                    left[run.run_id] = _said(run, candidate)
                    break
    return [r for r in runs if r.run_id not in left], list(left.values())


def _is_partial(run: Run) -> bool:
    """Whether a run goes on or was killed."""
    return any(text.startswith(PARTIAL) for _, text in run.warnings)


def settings_of(config: Any) -> Any:
    """A run's configuration without what may differ where its command is run again."""
    if isinstance(config, Mapping):
        return {k: settings_of(v) for k, v in config.items() if k not in _NOT_THE_ANSWERS}
    return [settings_of(v) for v in config] if isinstance(config, list) else config


def _settings(run: Run) -> str:
    held = settings_of(run.config)
    return json.dumps([held, run.label, [t.label for t in run.tiers]], sort_keys=True, default=str)


def _stands_for(other: Run, run: Run, later: bool) -> bool:
    """Whether the other run makes this one superfluous."""
    if not set(run.tasks) <= set(other.tasks) or not set(run.records) <= set(other.records):
        return False
    if any(differing(run.tasks[t].settings, other.tasks[t].settings) for t in run.records):
        return False
    if not _is_partial(run):
        # by its calls, and only then by its time: clocks jump
        resumed = not _is_partial(other) and not _made(other) and (later or _made(run))
        same = (_equal(run.records[t], other.records[t]) for t in run.records)
        return resumed and set(run.records) == set(other.records) and all(same)
    if not other.records or not all(_within(run.records[t], other.records[t]) for t in run.records):
        return False
    sizes = [sum(map(len, r.records.values())) for r in (run, other)]
    return not _is_partial(other) or sizes[0] < sizes[1] or (sizes[0] == sizes[1] and later)


def _made(run: Run) -> bool:
    return any(c.made for c in run.calls)


def _within(rows: RecordColumns, among: RecordColumns) -> bool:
    """Whether the other rows hold all these questions, asked with the same prompts."""
    place = rows.find_rows(among)
    return bool((place >= 0).all() and rows.same_prompts(among, place).all())


def _equal(rows: RecordColumns, others: RecordColumns) -> bool:
    """Whether the same questions were answered by the very same calls."""
    if len(rows) != len(others) or not _within(rows, others):
        return False
    spent = ("number", "prompt_tokens", "generated_tokens", "seconds")
    pairs = [(getattr(rows.answers, n), getattr(others.answers, n)) for n in spent]
    pairs += [(getattr(rows.verifications, n), getattr(others.verifications, n)) for n in spent]
    routed = ("final", "asked", "on_path", "scores", "confidences")
    pairs += [(getattr(rows, n), getattr(others, n)) for n in routed]
    return all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in pairs)


def _said(run: Run, other: Run) -> str:
    names = f"run {printable(run.run_id)}", f"run {printable(other.run_id)}"
    if not _is_partial(run):
        return f"{names[0]} is left out: {names[1]} repeated it from the call store, call by call"
    held = ", ".join(f"{len(rows)} questions of {printable(t)}" for t, rows in run.records.items())
    return (
        f"{names[0]} is {PARTIAL} ({held or 'no question answered'}) and left out: {names[1]}, "
        "with the same settings, answered these questions as well"
    )


# --------------------------------------------------------------------------- failed questions


@dataclass(frozen=True, slots=True)
class _FailedQuestions:
    """The questions of one task that failed in a run, beside the records of its others."""

    run_id: str
    task: str
    rows: RecordColumns
    keys: frozenset[tuple[int, int]]

    def covers(self, task: str, rows: RecordColumns) -> bool:
        """Whether other records are of the same questions, as far as the prompts tell."""
        if task != self.task:
            return False
        place = rows.find_rows(self.rows)
        shared = place >= 0
        return bool(shared.any()) and bool(rows.same_prompts(self.rows, place)[shared].all())

    def marks(self, doc_ids: IntArray, repeats: IntArray) -> BoolArray:
        """(n,) which questions are among those that failed."""
        pairs = zip(doc_ids.tolist(), repeats.tolist(), strict=True)
        return np.fromiter((p in self.keys for p in pairs), dtype=bool, count=len(doc_ids))


def _failed_questions(runs: Sequence[Run]) -> list[_FailedQuestions]:
    """What failed in the evaluations of some runs.

    A run that was stopped, or whose command was run again and answered what had failed, takes
    nothing from the others.
    """
    found = []
    for run in runs:
        for task, rows in run.records.items():
            keys = frozenset((f.doc_id, f.repeat) for f in run.failed if f.task == task)
            one = _FailedQuestions(run.run_id, task, rows, keys)
            again = any(_answers(other, run, one) for other in runs)
            if keys and task not in run.unfinished and not again:
                found.append(one)
    return found


def without_failed(run: Run, failed: Sequence[_FailedQuestions]) -> Run:
    """A run without the records of questions that failed in a run it may be compared with."""
    records, dropped, warnings = dict(run.records), dict(run.dropped), list(run.warnings)
    for task, rows in run.records.items():
        gone = np.full(len(rows), False)
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


def _single_without_failed(
    run: SingleModelRun, failed: Sequence[_FailedQuestions]
) -> SingleModelRun:
    """A run of one model without the questions that failed in a run of the cascade."""
    keep = np.full(len(run.doc_ids), True)
    notes = [run.note] if run.note else []
    for one in failed:
        if one.task != run.task or not _same_questions(run, one.rows):
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


def document_names(doc_ids: Iterable[int]) -> str:
    """Documents by name, as many as a reader can take in."""
    return listing([str(i) for i in sorted(set(doc_ids))], _MOST_NAMED)


def _answers(other: Run, run: Run, failed: _FailedQuestions) -> bool:
    """Whether a run is the same command run again, and has answers to all that failed."""
    if failed.task not in other.records or settings_of(other.config) != settings_of(run.config):
        return False
    left = sum(f.task == failed.task for f in other.failed)
    if (left, run.age) >= (len(failed.keys), other.age):
        return False  # as many failed there, and it is no later
    rows = other.records[failed.task]
    return int(failed.marks(rows.doc_ids, rows.repeats).sum()) == len(failed.keys)


def _note(doc_ids: IntArray, task: str, run_id: str) -> str:
    return (
        f"excluded: {questions(len(doc_ids))} failed in run {printable(run_id)}, with which this "
        f"one is compared: {printable(task)}, doc_id {document_names(doc_ids.tolist())}"
    )


def _same_questions(run: SingleModelRun, rows: RecordColumns) -> bool:
    first = np.flatnonzero(rows.repeats == 0)
    _, ours, theirs = np.intersect1d(run.doc_ids, rows.doc_ids[first], return_indices=True)
    one, other = run.prompts[ours], rows.prompts[first][theirs]
    return bool(len(ours)) and bool(((one == other) | (one == 0) | (other == 0)).all())


# --------------------------------------------------------------------------- the harness's samples


def _checked(run: Run, samples: Mapping[tuple[str, str], Samples]) -> Run:
    """A run, with a warning for every disagreement with the harness's samples, where there are."""
    warnings = [
        (task, text)
        for task in run.records
        if (held := samples.get((run.run_id, task))) is not None
        for text in _disagreements(run, task, held)
    ]
    return replace(run, warnings=(*warnings, *run.warnings))


def _disagreements(run: Run, task: str, samples: Samples) -> list[str]:
    """Records joined with samples by doc_id: what one of them lacks, and scores that differ."""
    metric, rows = run.tasks[task].metric, run.records[task]
    # A task's default filter keeps the first repeat, so that is the one the samples score.
    first = np.flatnonzero(rows.repeats == 0)
    known = set(rows.doc_ids[first].tolist())
    excused = run.without_record(task)
    name, warnings = samples.shown, list(samples.defects)
    if not any(samples.scores.values()):
        lacks = (
            f"metric {metric}: its scores were not compared with"
            if metric
            else "scores to compare with"
        )
        return [f"{name} has no {lacks} the records"]
    if missing := sorted(set(samples.prompts) - known - excused):
        ids = listing([str(i) for i in missing])
        warnings.append(f"{len(missing)} documents of {name} have no record: doc_id {ids}")
    if missing := sorted(known - set(samples.prompts)):
        ids = listing([str(i) for i in missing])
        warnings.append(f"{len(missing)} records have no row in {name}: doc_id {ids}")
    by = run.tasks[task].by
    filters = [samples.main(by.filter)] if by.filter else list(samples.scores.values())
    differing = _differing(rows, first, filters)
    if differing:
        warnings.append(
            f"{len(differing)} final scores of the records differ from {metric} in {name}: "
            + listing(differing)
        )
    return warnings


def _differing(
    rows: RecordColumns, first: Any, filters: Sequence[Mapping[int, float]]
) -> list[str]:
    """Questions whose final score is that of no filter; a task has one row a filter."""
    ids = rows.doc_ids[first].tolist()
    final = rows.scores[first, rows.final[first]]
    found: list[FloatArray] = [np.array([by_doc.get(i, np.nan) for i in ids]) for by_doc in filters]
    alike = np.full(len(ids), False)
    shown = np.full(len(ids), np.nan)
    for scores in found:
        alike |= np.abs(scores - final) <= _TOLERANCE
        shown = np.where(np.isnan(shown), scores, shown)
    return [
        f"doc_id {ids[i]} ({_score(final[i])} and {shown[i]:.4g})"
        for i in np.flatnonzero(~alike & ~np.isnan(shown)).tolist()
    ]


def _score(value: float) -> str:
    return "no score" if np.isnan(value) else f"{value:.4g}"
