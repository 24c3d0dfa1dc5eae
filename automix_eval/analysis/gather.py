"""From folders to a report: reads runs, groups those that can be compared, computes everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automix_eval.analysis.attempts import last_attempts
from automix_eval.analysis.exclusions import lost, plain_without, without
from automix_eval.analysis.figures import Report, TaskReport
from automix_eval.analysis.leaderboard import BoardColumns, ReplayCache, board, cost_text, draft
from automix_eval.analysis.llm_point import Folders, find_llm, find_rows, same_prompts
from automix_eval.analysis.plain_runs import PlainRun, read_plains
from automix_eval.analysis.routed_paths import QuestionSet
from automix_eval.analysis.summary import summarise
from automix_eval.metrics.bootstrap import RESAMPLES
from automix_eval.records.harness_results import HarnessResults, check_samples, find_results
from automix_eval.records.runs import Run, find_runs
from automix_eval.records.schema import MANIFEST_GLOB
from automix_eval.safety.errors import AutoMixError
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
    """

    llm: Path | None = None
    seed: int = 0
    costs: Mapping[str, Any] | None = None
    baselines: tuple[str, ...] = ()
    resamples: int = RESAMPLES


@dataclass(frozen=True, slots=True)
class Assembled:
    """A report, and the runs it rests on (their records can still be read one by one)."""

    report: Report
    runs: tuple[Run, ...]


@dataclass(slots=True)
class Cluster:
    """Runs and plain runs on the same questions."""

    sets: list[QuestionSet]
    plains: list[PlainRun]
    why_apart: str


@dataclass(slots=True)
class Gathered:
    """Everything that was found below some folders, priced.

    Attributes:
        sets: One a task of a run.
        plains: One a task of a plain run.
        warnings: What was left out, and why.
    """

    runs: list[Run]
    results: list[HarnessResults]
    sets: list[QuestionSet]
    plains: list[PlainRun]
    warnings: list[str]

    def clusters(self) -> list[tuple[Cluster, str]]:
        """Runs that can be compared question by question, each group with a unique name."""
        return _clusters(self.sets, self.plains, self.versions())

    def versions(self) -> dict[str, Mapping[str, str]]:
        """Versions of the tasks of each run of the cascade."""
        return {r.run_id: r.versions for r in self.results if r.run_id}


def gather(paths: Sequence[Path], settings: Settings, beside: Sequence[Run] = ()) -> Gathered:
    """Read all runs and plain runs at or below some folders.

    Args:
        paths: Folders, or manifests.
        settings: What is asked for.
        beside: Other runs that these are compared with: what failed there is excluded here.

    Raises:
        AutoMixError: There is none, or a file is damaged beyond use.
    """
    found, doubles = _once(find_runs(paths, settings.costs))
    runs, left_out = last_attempts(found)
    results, warnings = find_results(paths)
    warnings += [*doubles, *left_out]
    llm_runs = find_runs([] if settings.llm is None else [settings.llm])
    failed = lost(list({r.run_id: r for r in (*runs, *llm_runs, *beside)}.values()))
    runs = [without(r, failed) for r in runs]
    folders = _folders(runs, results, settings, llm_runs, warnings)
    sets = []
    for one in runs:
        for task in one.tasks:
            if task in one.records:
                sets.append(QuestionSet.of(one, task, find_llm(one, task, folders)))
            else:
                warnings.append(f"run {one.run_id} has no evaluation records of {task}")
        warnings += [text for about, text in one.warnings if about not in one.tasks]
    metrics = {s.task: s.run.tasks[s.task].metric for s in sets}
    plains, problems = read_plains(results, metrics)
    plains = [plain_without(p, failed) for p in plains]
    warnings += [*problems, *_without_records(found, results)]
    if not sets and not plains:
        raise AutoMixError(_nothing(paths, runs, warnings))
    return Gathered(runs, results, sets, plains, warnings)


def assemble(paths: Sequence[Path], settings: Settings) -> Assembled:
    """The report on all runs at or below some folders.

    Args:
        paths: Folders, or manifests.
        settings: What is asked for.

    Raises:
        AutoMixError: There is no run, or a file is damaged beyond use.
    """
    found = gather(paths, settings)
    cache = ReplayCache(settings.baselines, settings.resamples, settings.seed)
    boards, tasks = [], []
    for cluster, key in found.clusters():
        whole = None
        alone = len(cluster.sets) == 1
        for questions in cluster.sets:
            columns = draft([questions], cluster.plains if alone else [], cache)
            tasks.append(_task_report(questions, columns, found.results))
            whole = columns if alone else None
        boards.append(board(key, cluster.sets, cluster.plains, cache, cluster.why_apart, whole))
    notes = dict.fromkeys(printable(w, 600) for w in found.warnings)
    tasks.sort(key=lambda t: _place(t, found.sets))
    report = Report(tuple(tasks), tuple(notes), settings.seed, tuple(boards), settings.resamples)
    return Assembled(report, tuple(found.runs))


def _place(task: TaskReport, sets: Sequence[QuestionSet]) -> int:
    return next(
        i
        for i, s in enumerate(sets)
        if (printable(s.run.run_id), printable(s.task)) == (task.run_id, task.task)
    )


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


def _folders(
    runs: list[Run],
    results: list[HarnessResults],
    settings: Settings,
    llm_runs: list[Run],
    warnings: list[str],
) -> Folders:
    paths = [] if settings.llm is None else [settings.llm]
    llm_results, problems = find_results(paths)
    warnings += problems
    name = None if settings.llm is None else str(settings.llm)
    return Folders(runs, results, llm_runs, llm_results, name)


def _without_records(runs: Sequence[Run], results: Sequence[HarnessResults]) -> list[str]:
    known = {r.run_id for r in runs}
    return [
        f"{r.path} belongs to the run {printable(r.run_id or 'of an unknown id')} of the cascade, "
        f"whose {MANIFEST_GLOB} and records are not here: name their folder too (records_dir)"
        for r in results
        if r.run_id is not None and r.run_id not in known
    ]


def _nothing(paths: Sequence[Path], runs: Sequence[Run], warnings: Sequence[str]) -> str:
    if runs:
        return f"the runs hold no evaluation records: {'; '.join(warnings)}"
    text = (
        f"no run in {', '.join(map(str, paths))}: looked for {MANIFEST_GLOB} there and below, and "
        "for results of the harness with samples. A run with --output_path writes it beside the "
        "results of the harness"
    )
    return f"{text}. {'; '.join(warnings)}" if warnings else text


def _task_report(
    questions: QuestionSet, columns: BoardColumns, results: Sequence[HarnessResults]
) -> TaskReport:
    run, task, info = questions.run, questions.task, questions.run.tasks[questions.task]
    warnings = [*check_samples(run, task, results), *questions.llm.warnings]
    warnings += [text for about, text in run.warnings if about == task]
    # Repeats are records of their own, so either count may be the one the manifest states.
    documents = len(np.unique(questions.rows.doc_ids))
    if task not in run.dropped and info.num_questions not in {None, len(questions.rows), documents}:
        warnings.append(
            f"the manifest counts {info.num_questions} questions, the records hold "
            f"{len(questions.rows)}"
        )
    return TaskReport(
        run_id=printable(run.run_id),
        label=printable(run.label),
        created=printable(run.created),
        version=printable(run.version),
        task=printable(task),
        metric=printable(info.metric or "none"),
        sample=info.sample,
        meta_verifier=run.part("meta_verifier"),
        verifier=run.part("verifier"),
        cost=cost_text(run),
        tiers=tuple(t.label for t in run.tiers),
        figures=summarise(questions, columns),
        llm_source=printable(questions.llm.source),
        warnings=tuple(dict.fromkeys(printable(w, 600) for w in warnings)),
        methods=tuple(m for m in columns.methods() if m.kind != "plain"),
        policy=run.policies.get(task),
    )


# --------------------------------------------------------------------------- who may be compared


def _clusters(
    sets: Sequence[QuestionSet],
    plains: Sequence[PlainRun],
    versions: Mapping[str, Mapping[str, str]],
) -> list[tuple[Cluster, str]]:
    found: dict[str, list[Cluster]] = {}
    for questions in sets:
        clusters = found.setdefault(questions.task, [])
        reasons = [why_apart(c.sets[0], questions, versions) for c in clusters]
        place = next((i for i, r in enumerate(reasons) if not r), None)
        if place is None:
            clusters.append(Cluster([questions], [], reasons[0] if reasons else ""))
        else:
            clusters[place].sets.append(questions)
    for one in plains:
        clusters = found.setdefault(one.task, [])
        reasons = [
            one.same_questions(c.sets[0]) if c.sets else one.beside(c.plains[0]) for c in clusters
        ]
        places = [i for i, r in enumerate(reasons) if not r]
        for place in places:
            clusters[place].plains.append(one)
        if not places:
            clusters.append(Cluster([], [one], reasons[0] if reasons else ""))
    return [
        (cluster, printable(task) + (f" ({i})" if i > 1 else ""))
        for task, clusters in found.items()
        for i, cluster in enumerate(clusters, 1)
    ]


def why_apart(
    one: QuestionSet, other: QuestionSet, versions: Mapping[str, Mapping[str, str]]
) -> str:
    """Why two runs of a task cannot share a leaderboard; empty if they can."""
    if reason := why_unlike(one, other, versions):
        return reason
    names = f"run {printable(one.run.run_id)} and run {printable(other.run.run_id)}"
    chains = [" -> ".join(t.label for t in s.run.tiers) for s in (one, other)]
    if chains[0] != chains[1]:
        return f"{names} have different tiers ({chains[0]}, and {chains[1]})"
    prices = [cost_text(s.run) for s in (one, other)]
    if prices[0] != prices[1]:
        return f"{names} have different prices ({prices[0]}, and {prices[1]}): --costs sets one"
    if len(one.rows) != len(other.rows) or (find_rows(other.rows, one.rows) < 0).any():
        return f"{names} answered different questions ({len(one.rows)} and {len(other.rows)})"
    return ""


def why_unlike(
    one: QuestionSet, other: QuestionSet, versions: Mapping[str, Mapping[str, str]]
) -> str:
    """Why two runs of a task cannot be paired question by question; empty if they can."""
    names = f"run {printable(one.run.run_id)} and run {printable(other.run.run_id)}"
    pair = [versions.get(s.run.run_id, {}).get(s.task, "") for s in (one, other)]
    if all(pair) and pair[0] != pair[1]:
        return f"{names} have different versions of the task ({pair[0]} and {pair[1]})"
    metrics = [s.run.tasks[s.task].metric for s in (one, other)]
    if metrics[0] != metrics[1]:
        return (
            f"{names} have different metrics ({printable(metrics[0])} and {printable(metrics[1])})"
        )
    place = find_rows(other.rows, one.rows)
    shared = np.flatnonzero(place >= 0)
    if not len(shared):
        return f"{names} have no question in common"
    unlike = shared[~same_prompts(other.rows, one.rows, place)[shared]]
    if len(unlike):
        first = int(other.rows.doc_ids[unlike[0]])
        return (
            f"{names} asked {len(unlike)} of {len(shared)} common questions with different prompts "
            f"(the hashes differ, first at doc_id {first}: data, template or few-shot examples), "
            "so they are not paired"
        )
    return ""
