"""From folders to a report: read, select, attach the LLM alone, group, compute."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from automix_eval.analysis import abstention
from automix_eval.analysis.aims import aim_of
from automix_eval.analysis.beside_llm import detectable, paired_with_llm, pilot_of
from automix_eval.analysis.comparable import group
from automix_eval.analysis.diagnostics import summarise
from automix_eval.analysis.figures import Detectable, Figure, Report, TaskReport
from automix_eval.analysis.latency import latencies, waits_for_two
from automix_eval.analysis.leaderboard import (
    BoardColumns,
    ReplayCache,
    board,
    draft,
    notes,
)
from automix_eval.analysis.llm_point import attach
from automix_eval.analysis.question_sets import QuestionSet
from automix_eval.analysis.run_points import draft_points
from automix_eval.analysis.selection import select
from automix_eval.metrics.bootstrap import RESAMPLES
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.noninferiority import PairedScores
from automix_eval.records.runs import Run, read_all
from automix_eval.safety.text import printable


@dataclass(frozen=True, slots=True)
class Settings:
    """What a report is asked for.

    Attributes:
        llm: A folder whose run stands for the LLM alone.
        seed: Seed of the bootstrap.
        costs: Prices in the place of the runs' own, as ``config.cost`` holds them.
        baselines: Meta-verifiers to replay.
        resamples: Number of bootstrap resamples.
        as_named: Whether runs stand in the order of the folders named, and not oldest first: jobs
            of a sweep that run at once end in an order of chance.
    """

    llm: Path | None = None
    seed: int = 0
    costs: Mapping[str, Any] | None = None
    baselines: tuple[str, ...] = ()
    resamples: int = RESAMPLES
    as_named: bool = False


@dataclass(frozen=True, slots=True)
class ReportAndRuns:
    """A report, and the runs it rests on (their records can still be read one by one).

    Attributes:
        paired: (run_id, task) -> method -> its scores beside the LLM's, or why there are none.
    """

    report: Report
    runs: tuple[Run, ...]
    paired: Mapping[tuple[str, str], Mapping[str, PairedScores | Undefined]] = field(
        default_factory=dict
    )


def assemble(paths: Sequence[Path], settings: Settings) -> ReportAndRuns:
    """The report on all runs at or below some folders.

    Args:
        paths: Folders, or manifests.
        settings: What is asked for.

    Raises:
        AutoMixError: There is no run, or a file is damaged beyond use.
    """
    selected = select(read_all(paths, settings.costs, settings.llm))
    if settings.as_named:
        named = sorted(selected.runs, key=lambda run: _named(run.path, paths))
        selected = replace(selected, runs=tuple(named))
    sets = attach(selected)
    cache = ReplayCache(settings.baselines, settings.resamples, settings.seed)
    boards, tasks, paired, about = [], [], {}, list(selected.warnings)
    points = {}
    for runs in group(sets, selected.single_models, selected.versions):
        about += notes(runs)
        whole, alone = None, len(runs.sets) == 1
        for questions in runs.sets:
            columns = draft([questions], runs.single_models if alone else [], cache)
            # all columns are registered before the first figure, which draws them
            drafted = draft_points(questions, columns, cache)
            waits = waits_for_two(questions.rows, columns.table)
            latency = latencies(questions.rows, settings.resamples, settings.seed)
            scores = {
                row.method.name: paired_with_llm(row.method, questions.rows.documents)
                for row in columns.rows
            }
            live = columns.live[0].method
            pilot = pilot_of(live, questions.rows.documents)
            one = replace(
                _task_report(questions, columns, scores[live.name], detectable(pilot)),
                latency=latency,
                abstention=abstention.of_run(questions, settings.resamples, settings.seed),
                waits_for_two=columns.table.figure(columns.table.mean(waits)),
            )
            tasks.append(one)
            paired[one.run_id, one.task] = scores
            points[one.run_id, one.task] = drafted.of(questions)
            whole = columns if alone else None
        boards.append(board(runs, cache, whole))
    warnings = dict.fromkeys(printable(w, 600) for w in about)
    tasks.sort(key=lambda t: _place(t, sets))
    report = Report(
        tuple(tasks), tuple(warnings), settings.seed, tuple(boards), settings.resamples,
        tuple(points[t.run_id, t.task] for t in tasks),
    )  # fmt: skip
    return ReportAndRuns(report, selected.runs, paired)


def _named(manifest: Path, paths: Sequence[Path]) -> int:
    return next(i for i, path in enumerate(paths) if path in (manifest, *manifest.parents))


def _place(task: TaskReport, sets: Sequence[QuestionSet]) -> int:
    return next(
        i
        for i, s in enumerate(sets)
        if (printable(s.run.run_id), printable(s.task)) == (task.run_id, task.task)
    )


def _task_report(
    questions: QuestionSet,
    columns: BoardColumns,
    scores: PairedScores | Undefined,
    could: Detectable,
) -> TaskReport:
    run, task, info = questions.run, questions.task, questions.run.tasks[questions.task]
    warnings = [*questions.llm.warnings, *(text for about, text in run.warnings if about == task)]
    # Repeats are records of their own, so either count may be the one the manifest states.
    documents = len(np.unique(questions.rows.doc_ids))
    if task not in run.dropped and info.num_questions not in {None, len(questions.rows), documents}:
        warnings.append(
            f"the manifest counts {info.num_questions} questions, the records hold "
            f"{len(questions.rows)}"
        )
    figures = summarise(questions, columns)
    return TaskReport(
        run_id=printable(run.run_id),
        label=printable(run.label),
        created=printable(run.created),
        version=printable(run.version),
        task=printable(task),
        metric=printable(info.quality),
        sample=info.sample,
        meta_verifier=run.part("meta_verifier"),
        verifier=run.part("verifier"),
        cost=run.prices,
        tiers=tuple(t.label for t in run.tiers),
        figures=figures,
        llm_source=printable(questions.llm.source),
        warnings=tuple(dict.fromkeys(printable(w, 600) for w in warnings)),
        methods=tuple(m for m in columns.methods() if m.kind != "plain"),
        policy=run.policies.get(task),
        aim=aim_of(run, task, figures),
        kept=Figure(scores if isinstance(scores, Undefined) else scores.largest_share()),
        detectable=could,
    )
