"""Finds and reads the runs under one or more folders; believes nothing it reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import msgspec

from automix_eval.costs.from_config import cost_from, cost_prices
from automix_eval.records import policies as policy
from automix_eval.records import schema as stored
from automix_eval.records.harness_results import (
    HarnessResults,
    Samples,
    ScoredBy,
    find_results,
    read_samples,
    samples_of,
)
from automix_eval.records.record_columns import RecordColumns
from automix_eval.records.single_model_runs import SingleModelRun, read_single_model_runs
from automix_eval.records.stream import read_rows
from automix_eval.safety import files
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.redaction import blank
from automix_eval.safety.text import listing, printable, questions
from automix_eval.types import CostModel

Count = Annotated[int, msgspec.Meta(ge=0)]
# How a warning begins that is about a run which was not finished.
PARTIAL = "PARTIAL"


@dataclass(frozen=True, slots=True)
class TierInfo:
    """A tier as the manifest names it."""

    index: int
    name: str
    label: str


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task as the manifest describes it; ``sample`` marks an embedded sample.

    Attributes:
        by: Metric, filter and direction of the records' scores.
        settings: Hashes of its configuration, see :mod:`.task_settings`; empty where unknown.
    """

    sample: bool
    num_questions: int | None
    by: ScoredBy
    settings: Mapping[str, str] = field(default_factory=dict)

    @property
    def metric(self) -> str | None:
        """The metric as the harness names it."""
        return self.by.name

    @property
    def quality(self) -> str:
        """What quality is the mean of, in words."""
        return self.by.quality


@dataclass(frozen=True, slots=True)
class CallCount:
    """Calls of one task, phase, tier and role: made now, or taken from the store."""

    task: str
    phase: str
    tier: Count
    role: str
    made: Count
    stored: Count


@dataclass(frozen=True, slots=True)
class FailedQuestion:
    """A question that failed for good, as the manifest lists it."""

    task: str
    phase: str
    doc_id: Count
    repeat: Count


@dataclass(frozen=True, slots=True)
class Run:
    """One run of the composite model.

    Attributes:
        path: The manifest.
        config: Its ``config``; never instantiated.
        warnings: (task, text) of the run itself and of reading it; the task may be empty.
        records: Evaluation records by task.
        calibration: Calibration records by task.
        policies: The policy fitted for a task, as its file holds it.
        cost: The prices: those asked for, else built from ``config.cost``.
        failed: Questions of the evaluation without a record, because a call failed for good.
        dropped: doc_ids of records by task that are left out for another run's sake.
        unfinished: Tasks that it had not answered to their last question.
    """

    path: Path
    run_id: str
    created: str
    version: str
    label: str
    config: Mapping[str, Any]
    tiers: tuple[TierInfo, ...]
    tasks: Mapping[str, TaskInfo]
    calls: tuple[CallCount, ...]
    warnings: tuple[tuple[str, str], ...]
    records: Mapping[str, RecordColumns]
    calibration: Mapping[str, RecordColumns]
    policies: Mapping[str, Mapping[str, Any]]
    cost: CostModel
    failed: tuple[FailedQuestion, ...] = ()
    dropped: Mapping[str, frozenset[int]] = field(default_factory=dict)
    unfinished: frozenset[str] = frozenset()

    @property
    def age(self) -> tuple[float, str]:
        """Sorts runs, oldest first, as far as the clocks of their machines tell."""
        for text in (self.created, f"{self.created}+0000"):  # one may name no time zone
            try:
                made = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S%z")
            except ValueError:
                continue
            return made.timestamp(), self.run_id
        return 0.0, self.run_id

    def without_record(self, task: str) -> frozenset[int]:
        """doc_ids of a task that have no record here, and rightly so."""
        own = frozenset(f.doc_id for f in self.failed if f.task == task)
        return own | self.dropped.get(task, frozenset())

    def part(self, group: str) -> str:
        """Name of the configured part of a group (verifier, meta_verifier, ...)."""
        value = self.config.get(group)
        return printable(value.get("name", "unnamed") if isinstance(value, Mapping) else value)

    @property
    def prices(self) -> str:
        """The prices of the run in words."""
        config = {k: v for k, v in self.config["cost"].items() if k not in {"name", "_target_"}}
        return printable(self.part("cost") + "".join(f", {k} {v}" for k, v in config.items()))

    @property
    def seeds(self) -> tuple[int, int]:
        """Seeds of the run and of its choice of calibration questions; -1 where it names none."""
        chosen = self.config.get("calibration")
        inner = chosen.get("seed") if isinstance(chosen, Mapping) else None
        one, two = (v if isinstance(v, int) else -1 for v in (self.config.get("seed"), inner))
        return one, two


class _Tier(msgspec.Struct):
    index: Count
    name: str
    label: Any = None
    varies: Any = None
    unshared: Any = None

    @property
    def shown(self) -> str:
        """Its label, or its name, made printable."""
        return printable(self.name if self.label is None else self.label)


class _Task(msgspec.Struct):
    metric: str | None = None
    filter: str | None = None
    num_questions: Count | None = None
    sample: Any = False
    higher_is_better: Any = True
    config_hashes: dict[str, str] = {}

    def info(self) -> TaskInfo:
        """What figures need of it."""
        by = ScoredBy(self.metric, self.filter, -1.0 if self.higher_is_better is False else 1.0)
        return TaskInfo(self.sample is True, self.num_questions, by, self.config_hashes)


class _Warning(msgspec.Struct):
    task: str
    text: str


class _Progress(msgspec.Struct):
    questions: Count
    of: Count


class _Manifest(msgspec.Struct):
    """What is read of a manifest; runs of earlier releases may lack what has a default."""

    run_id: str
    config: dict[str, Any]
    tiers: list[_Tier]
    tasks: dict[str, _Task]
    calls: tuple[CallCount, ...]
    warnings: list[_Warning]
    created: Any = ""
    automix_eval_version: Any = ""
    model_label: Any = None
    policies: dict[str, Any] = {}
    failed: list[FailedQuestion] = []
    unfinished: dict[str, _Progress] = {}


def find_runs(paths: Iterable[Path], costs: Mapping[str, Any] | None = None) -> list[Run]:
    """All runs at or below some folders, oldest first; a manifest's own path is one too.

    The order is that of the runs' own clocks, which may jump, so no figure rests on it.

    Args:
        paths: Folders and manifests.
        costs: Prices in the place of the runs' own, as ``config.cost`` holds them.

    Raises:
        AutoMixError: A path does not exist, or a manifest or records file is damaged.
    """
    manifests: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise AutoMixError(f"{path} does not exist: name a folder that holds results")
        found = [path] if path.is_file() else sorted(path.rglob(stored.MANIFEST_GLOB))
        manifests.update({os.path.realpath(p): p for p in found})
    return sorted((read_run(p, costs) for p in manifests.values()), key=lambda r: r.age)


@dataclass(frozen=True, slots=True)
class FoundRuns:
    """Everything that was found at or below some folders.

    Attributes:
        paths: The folders.
        runs: Runs of the cascade, oldest first.
        single_models: Runs of one model by the harness alone, one a task.
        samples: (run_id, task) -> the harness's own samples of a run of the cascade.
        versions: run_id -> version of each task.
        warnings: What was left out, and why.
        llm: What was found in the folder that stands for the LLM alone, if one was named.
    """

    paths: tuple[Path, ...]
    runs: tuple[Run, ...]
    single_models: tuple[SingleModelRun, ...]
    samples: Mapping[tuple[str, str], Samples]
    versions: Mapping[str, Mapping[str, str]]
    warnings: tuple[str, ...]
    llm: FoundRuns | None = None


def read_all(
    paths: Iterable[Path], costs: Mapping[str, Any] | None = None, llm: Path | None = None
) -> FoundRuns:
    """Read manifests, records and the harness's results and samples, each once.

    Args:
        paths: Folders and manifests.
        costs: Prices in the place of the runs' own, as ``config.cost`` holds them.
        llm: A folder whose run stands for the LLM alone.

    Raises:
        AutoMixError: A path does not exist, or a file is damaged beyond use.
    """
    paths = tuple(paths)
    found = find_runs(paths, costs)
    results, warnings = find_results(paths)
    runs = [_with_settings(run, results) for run in found]
    samples, metrics = _samples(runs, results), _metrics(runs)
    single_models, left_out = read_single_model_runs(results, metrics)
    alone = None
    if llm is not None:
        llm_results, llm_left_out = find_results([llm])
        llm_models, problems = read_single_model_runs(llm_results, metrics)
        llm_runs = tuple(_with_settings(run, llm_results) for run in find_runs([llm]))
        alone = FoundRuns((llm,), llm_runs, tuple(llm_models), {}, {}, ())
        warnings += [*llm_left_out, *problems]
    return FoundRuns(
        paths=paths,
        runs=tuple(runs),
        single_models=tuple(single_models),
        samples=samples,
        versions={r.run_id: r.versions for r in results if r.run_id},
        warnings=(*warnings, *left_out, *_without_records(runs, results)),
        llm=alone,
    )


def _with_settings(run: Run, results: Sequence[HarnessResults]) -> Run:
    """A run whose tasks' settings are those of the harness's results, where it names none."""
    known = {t: s for r in results if r.run_id == run.run_id for t, s in r.settings.items()}
    tasks = {
        task: replace(info, settings=info.settings or known.get(task, {}))
        for task, info in run.tasks.items()
    }
    return replace(run, tasks=tasks)


def _metrics(runs: Sequence[Run]) -> dict[str, list[ScoredBy]]:
    """The metrics of each task that some run was scored by."""
    found: dict[str, dict[str | None, ScoredBy]] = {}
    for run in runs:
        for task, info in run.tasks.items():
            found.setdefault(task, {})[info.metric] = info.by
    return {task: list(by_name.values()) for task, by_name in found.items()}


def _samples(
    runs: Sequence[Run], results: Sequence[HarnessResults]
) -> dict[tuple[str, str], Samples]:
    found = {}
    for run in runs:
        for task in run.records:
            by, path = run.tasks[task].by, samples_of(results, run.run_id, task)
            if path is not None and by.metric is not None:
                found[run.run_id, task] = read_samples(path, by)
    return found


def _without_records(runs: Sequence[Run], results: Sequence[HarnessResults]) -> list[str]:
    known = {r.run_id for r in runs}
    return [
        f"{r.path} belongs to the run {printable(r.run_id or 'of an unknown id')} of the cascade, "
        f"whose {stored.MANIFEST_GLOB} and records are not here: name their folder too "
        "(records_dir)"
        for r in results
        if r.run_id is not None and r.run_id not in known
    ]


def read_run(path: Path, costs: Mapping[str, Any] | None = None) -> Run:
    """Read one manifest and the records beside it.

    Damaged records are left out and named in the warnings.

    Raises:
        AutoMixError: Something is missing or damaged; names the file, and the line of a record.
    """
    manifest = stored.read_manifest(path)
    try:
        held = msgspec.convert(manifest, _Manifest)
        config = {**blank(held.config), **({} if costs is None else {"cost": dict(costs)})}
        if not held.tiers or [t.index for t in held.tiers] != list(range(len(held.tiers))):
            raise AutoMixError("tiers must be numbered 0, 1, ... without gaps")
        size = stored.records_bytes(manifest)
        cost = cost_from(config.get("cost"))
        if len(cost_prices(cost)) != len(held.tiers):
            cost.check(len(held.tiers))
    except (AutoMixError, msgspec.ValidationError) as err:
        raise AutoMixError(f"{path}: {err}") from err
    tasks = {name: task.info() for name, task in held.tasks.items()}
    contents = read_rows(stored.records_path(path, manifest), tasks, len(held.tiers), size)
    policies, problems = _policies(path, held.policies)
    failed = tuple(f for f in held.failed if f.phase == "evaluation")
    by_phase: dict[str, dict[str, RecordColumns]] = {"evaluation": {}, "calibration": {}}
    for (phase, task), rows in contents.rows.items():
        by_phase[phase][task] = rows
    return Run(
        path=path,
        run_id=held.run_id,
        created=str(held.created),
        version=str(held.automix_eval_version),
        label=str(held.model_label or ""),
        config=config,
        tiers=tuple(TierInfo(t.index, t.name, t.shown) for t in held.tiers),
        tasks=tasks,
        calls=held.calls,
        warnings=(*_said(held, failed), *contents.defects, *problems),
        records=by_phase["evaluation"],
        calibration=by_phase["calibration"],
        policies=policies,
        cost=cost,
        failed=failed,
        unfinished=frozenset(held.unfinished),
    )


def _policies(
    path: Path, named: Mapping[str, Any]
) -> tuple[dict[str, Mapping[str, Any]], list[tuple[str, str]]]:
    """The policies beside a manifest; those of other folders are not looked for."""
    found: dict[str, Mapping[str, Any]] = {}
    problems = []
    for task, name in named.items():
        if not files.is_file_name(name):
            continue
        try:
            found[task] = policy.load(path.with_name(name))
        except (AutoMixError, ValueError, RecursionError) as err:
            problems.append((task, f"the policy is not shown: {printable(err, 600)}"))
    return found, problems


def _said(held: _Manifest, failed: Sequence[FailedQuestion]) -> Iterator[tuple[str, str]]:
    """What the manifest tells of the run, its tiers, lost questions and those still to come."""
    for one in held.warnings:
        yield one.task, printable(one.text, 600)
    for tier in held.tiers:
        for note in filter(None, (tier.varies, tier.unshared)):
            yield "", printable(f"{tier.shown}: {note}", 600)
    for task in dict.fromkeys(f.task for f in failed):
        ids = [str(f.doc_id) for f in failed if f.task == task]
        named = f"{printable(task)}, doc_id {listing(ids, 20)}"
        yield task, f"excluded: {questions(len(ids))} failed: {named}"
    for task, done in held.unfinished.items():
        yield (
            task,
            f"{PARTIAL}: the run answered {done.questions} of {done.of} questions of "
            f"{printable(task)} and is going on or was stopped; the same command resumes",
        )
