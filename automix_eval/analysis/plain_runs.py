"""Runs of one model by the harness alone, with ``--log_samples``: rows without a cascade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from automix_eval.analysis.llm_point import plain_cost, tier_of
from automix_eval.analysis.routed_paths import QuestionSet
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.columns import FloatArray, HashArray, IntArray
from automix_eval.records.harness_results import HarnessResults, read_samples
from automix_eval.records.pricing import Prices
from automix_eval.records.stream import digest
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable


@dataclass(frozen=True, slots=True, eq=False)
class PlainRun:
    """One task of a plain run.

    Attributes:
        doc_ids: (n,) ascending.
        prompts: (n,) 64 bits of each prompt's hash, 0 where unknown.
        scores: (n,) of the metric.
        shown: Folder and file, for the reader.
        models: Names of the model.
        version: Version of the task, empty if unknown.
        note: What the reader should know.
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
    note: str = ""

    def cost(self, questions: QuestionSet | None) -> Prices:
        """Cost of each question, where the model is a tier of the chain it is compared with."""
        if questions is None:
            return Undefined("the run names no prices: it is not part of a cascade")
        tier = tier_of(questions.run, self.models)
        if tier is None:
            return Undefined("the model is no tier of the chain, so it has no price")
        return plain_cost(questions.run, tier, len(self.scores))

    def same_questions(self, questions: QuestionSet) -> str:
        """Why it cannot stand beside a run; empty if it can."""
        rows = questions.rows
        if rows.repeats.any() or rows.doc_ids.tolist() != self.doc_ids.tolist():
            return (
                f"{self.shown} answered other questions than run {printable(questions.run.run_id)}"
            )
        return _other_prompts(
            self.shown, printable(questions.run.run_id), self.prompts, rows.prompts
        )

    def beside(self, other: PlainRun) -> str:
        """Why two plain runs cannot stand side by side; empty if they can."""
        if self.version and other.version and self.version != other.version:
            return (
                f"{self.shown} has version {self.version} of the task, {other.shown} has "
                f"{other.version}"
            )
        if other.doc_ids.tolist() != self.doc_ids.tolist():
            return f"{self.shown} answered other questions than {other.shown}"
        return _other_prompts(self.shown, other.shown, self.prompts, other.prompts)


def read_plains(
    results: Sequence[HarnessResults], metrics: dict[str, str | None]
) -> tuple[list[PlainRun], list[str]]:
    """The plain runs among results of the harness, and a warning for each that cannot be read.

    Args:
        results: Found results files; those of cascades are passed over.
        metrics: Metric of each task, where a run of a cascade names it.
    """
    found: list[PlainRun] = []
    warnings = []
    for result in results:
        if result.run_id is not None:
            continue
        tasks = result.tasks
        if not tasks:
            warnings.append(f"{result.path} has no samples beside it: run with --log_samples")
        for task in tasks:
            try:
                one = _read(result, task, metrics.get(task))
            except AutoMixError as err:
                warnings.append(f"left out: {err}")
                continue
            if isinstance(one, str):
                warnings.append(one)
            else:
                found.append(one)
    return found, warnings


def _read(result: HarnessResults, task: str, metric: str | None) -> PlainRun | str:
    path = result.samples_path(task)
    assert path is not None
    samples = read_samples(path, metric)
    shown, scores = f"{printable(path.parent.name)}/{printable(path.name)}", samples.main()
    wanted = metric or next(iter(samples.metrics), None)
    if not scores or wanted is None:
        return f"{shown} holds no score of {printable(wanted or 'any metric')}: it is left out"
    doc_ids = sorted(scores)
    missing = len(samples.prompts) - len(scores)
    notes = [f"{missing} questions have no {wanted}"] if missing else []
    return PlainRun(
        task=task,
        metric=wanted,
        label=printable(result.models[0] if result.models else path.parent.name),
        doc_ids=np.array(doc_ids),
        prompts=np.array([digest(samples.prompts.get(i, "")) for i in doc_ids], dtype=np.uint64),
        scores=np.array([scores[i] for i in doc_ids], dtype=float),
        shown=shown,
        models=result.models,
        version=result.versions.get(task, ""),
        note="; ".join([*notes, *samples.defects]),
    )


def _other_prompts(one: str, other: str, left: HashArray, right: HashArray) -> str:
    differ = int(((left != right) & (left != 0) & (right != 0)).sum())
    if not differ:
        return ""
    return (
        f"{one} and {other} asked {differ} of {len(left)} questions with different prompts (the "
        "hashes differ: data, template or few-shot examples), so they are not paired"
    )
