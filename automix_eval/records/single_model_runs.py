"""Runs of one model by the harness alone, with ``--log_samples``: scores without a cascade."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from automix_eval.records.harness_results import (
    HarnessResults,
    ScoredBy,
    read_samples,
)
from automix_eval.records.record_columns import (
    FloatArray,
    HashArray,
    IntArray,
    RecordColumns,
    digest,
)
from automix_eval.records.task_settings import differing, unlike_settings
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable


@dataclass(frozen=True, slots=True, eq=False)
class SingleModelRun:
    """One task of a run of one model.

    Attributes:
        doc_ids: (n,) ascending.
        prompts: (n,) 64 bits of each prompt's hash, 0 where unknown.
        scores: (n,) of the metric, minus it where lower values are better.
        sign: -1 there, else 1.
        shown: Folder and file, for the reader.
        models: Names of the model.
        version: Version of the task, empty if unknown.
        settings: Hashes of the task's configuration; empty where unknown.
        note: What the reader should know.
        defects: Lines of the file that could not be read.
    """

    task: str
    metric: str
    label: str
    doc_ids: IntArray
    prompts: HashArray
    scores: FloatArray
    shown: str
    models: tuple[str, ...]
    version: str
    settings: Mapping[str, str] = field(default_factory=dict)
    note: str = ""
    defects: tuple[str, ...] = ()
    sign: float = 1.0

    @property
    def quality(self) -> str:
        """What quality is the mean of, in words."""
        return ScoredBy(self.metric, sign=self.sign).quality

    def unlike_records(self, rows: RecordColumns, run: str) -> str:
        """Why it cannot stand beside the records of a run, named in words; empty if it can."""
        if rows.repeats.any() or rows.doc_ids.tolist() != self.doc_ids.tolist():
            return f"{self.shown} answered other questions than {run}"
        return self._other_prompts(run, rows.prompts)

    def unlike(self, other: SingleModelRun) -> str:
        """Why two of them cannot stand side by side; empty if they can."""
        if self.version and other.version and self.version != other.version:
            return (
                f"{self.shown} has version {self.version} of the task, {other.shown} has "
                f"{other.version}"
            )
        if keys := differing(self.settings, other.settings):
            return unlike_settings(self.shown, other.shown, keys)
        if other.doc_ids.tolist() != self.doc_ids.tolist():
            return f"{self.shown} answered other questions than {other.shown}"
        return self._other_prompts(other.shown, other.prompts)

    def _other_prompts(self, other: str, theirs: HashArray) -> str:
        ours = self.prompts
        differ = int(((ours != theirs) & (ours != 0) & (theirs != 0)).sum())
        if not differ:
            return ""
        return (
            f"{self.shown} and {other} asked {differ} of {len(ours)} questions with different "
            "prompts (the hashes differ: data, template or few-shot examples), so they are not "
            "paired"
        )


def read_single_model_runs(
    results: Iterable[HarnessResults], metrics: Mapping[str, Iterable[ScoredBy]]
) -> tuple[list[SingleModelRun], list[str]]:
    """The runs of one model among results of the harness, and a warning for each unreadable one.

    Args:
        results: Found results files; those of cascades are passed over.
        metrics: Metrics of each task, where runs of a cascade name them; elsewhere a task's first.
    """
    found, warnings = [], []
    for result in results:
        if result.run_id is not None:
            continue
        tasks = result.tasks
        if not tasks:
            warnings.append(f"{result.path} has no samples beside it: run with --log_samples")
        for task, by in ((t, m) for t in tasks for m in metrics.get(t, (ScoredBy(),))):
            try:
                found.append(_read(result, task, by))
            except AutoMixError as err:
                warnings.append(str(err))
    return found, warnings


def _read(result: HarnessResults, task: str, by: ScoredBy) -> SingleModelRun:
    path = result.samples_path(task)
    assert path is not None
    try:
        samples = read_samples(path, by)
    except AutoMixError as err:
        raise AutoMixError(f"left out: {err}") from err
    shown = f"{printable(path.parent.name)}/{printable(path.name)}"
    scores = samples.main(by.filter)
    wanted = by.name or next(iter(samples.metrics), None)
    if not scores or wanted is None:
        lacks = printable(wanted or "any metric")
        raise AutoMixError(f"{shown} holds no score of {lacks}: it is left out")
    doc_ids = sorted(scores)
    # a run of the cascade states the direction of its metric, and the samples are read so
    turned = by.metric is None and wanted in result.lower.get(task, ())
    missing = len(samples.prompts) - len(scores)
    notes = [f"{missing} questions have no {wanted}"] if missing else []
    return SingleModelRun(
        task=task,
        metric=wanted,
        label=printable(result.models[0] if result.models else path.parent.name),
        doc_ids=np.array(doc_ids),
        prompts=np.array([digest(samples.prompts.get(i, "")) for i in doc_ids], dtype=np.uint64),
        scores=np.array([scores[i] for i in doc_ids], dtype=float) * (-1 if turned else 1) + 0.0,
        shown=shown,
        models=result.models,
        version=result.versions.get(task, ""),
        settings=result.settings.get(task, {}),
        note="; ".join([*notes, *samples.defects]),
        defects=samples.defects,
        sign=-1.0 if turned else by.sign,
    )
