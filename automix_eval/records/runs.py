"""Finds and reads the runs under one or more folders; believes nothing it reads."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from automix_eval.costs.from_config import cost_from, cost_prices
from automix_eval.records import policies as policy
from automix_eval.records import schema as stored
from automix_eval.records.harness_results import (
    HarnessResults,
    Samples,
    ScoredBy,
    find_results,
    read_samples,
)
from automix_eval.records.record_columns import RecordColumns
from automix_eval.records.single_model_runs import SingleModelRun, read_single_model_runs
from automix_eval.records.stream import read_rows
from automix_eval.safety import files
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.redaction import blank
from automix_eval.safety.text import listing, printable, questions
from automix_eval.types import CostModel

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


@dataclass(frozen=True, slots=True)
class CallCount:
    """Calls of one task, phase, tier and role: made now, or taken from the store."""

    task: str
    phase: str
    tier: int
    role: str
    made: int
    stored: int


@dataclass(frozen=True, slots=True)
class FailedQuestion:
    """A question of the evaluation that failed for good, as the manifest lists it."""

    task: str
    doc_id: int
    repeat: int


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
    metrics = _metrics(runs)
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
        samples=_samples(runs, results),
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
        own = [r for r in results if r.run_id == run.run_id]
        for task in run.records:
            by = run.tasks[task].by
            path = next((p for r in own if (p := r.samples_path(task))), None)
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
        run_id, config = _text(manifest, "run_id"), _mapping(manifest, "config")
        config = {**blank(config), **({} if costs is None else {"cost": dict(costs)})}
        tiers = tuple(
            TierInfo(_count(t, "index"), _text(t, "name"), printable(t.get("label", t["name"])))
            for t in _rows(manifest, "tiers")
        )
        if not tiers or [t.index for t in tiers] != list(range(len(tiers))):
            raise AutoMixError("tiers must be numbered 0, 1, ... without gaps")
        tasks = {str(k): _task(v) for k, v in _mapping(manifest, "tasks").items()}
        calls = tuple(
            CallCount(
                _text(c, "task"), _text(c, "phase"), _count(c, "tier"), _text(c, "role"),
                _count(c, "made"), _count(c, "stored"),
            )
            for c in _rows(manifest, "calls")
        )  # fmt: skip
        warnings = tuple(
            (_text(w, "task"), printable(_text(w, "text"), 600))
            for w in _rows(manifest, "warnings")
        )
        warnings += tuple(
            ("", printable(f"{t.get('label', t['name'])}: {t[note]}", 600))
            for t in _rows(manifest, "tiers")
            for note in ("varies", "unshared")
            if t.get(note)
        )
        size, partial = stored.records_bytes(manifest), _partial(manifest)
        failed = _failed(manifest)
        cost = cost_from(_mapping(config, "cost"))
        if len(cost_prices(cost)) != len(tiers):
            cost.check(len(tiers))
    except (AutoMixError, KeyError, TypeError) as err:
        raise AutoMixError(f"{path}: {_missing(err)}") from err
    contents = read_rows(stored.records_path(path, manifest), tasks, len(tiers), size)
    policies, problems = _policies(path, manifest)
    return Run(
        path=path,
        run_id=run_id,
        created=str(manifest.get("created", "")),
        version=str(manifest.get("automix_eval_version", "")),
        label=str(manifest.get("model_label") or ""),
        config=config,
        tiers=tiers,
        tasks=tasks,
        calls=calls,
        warnings=(*warnings, *_excluded(failed), *partial, *contents.defects, *problems),
        records={task: r for (phase, task), r in contents.rows.items() if phase == "evaluation"},
        calibration={
            task: r for (phase, task), r in contents.rows.items() if phase == "calibration"
        },
        policies=policies,
        cost=cost,
        failed=failed,
        unfinished=frozenset(task for task, _ in partial),
    )


def _policies(
    path: Path, manifest: Mapping[str, Any]
) -> tuple[dict[str, Mapping[str, Any]], list[tuple[str, str]]]:
    """The policies beside a manifest; those of other folders are not looked for."""
    found: dict[str, Mapping[str, Any]] = {}
    problems = []
    named = manifest.get("policies")
    for task, name in (named if isinstance(named, Mapping) else {}).items():
        if not files.is_file_name(name):
            continue
        try:
            found[task] = policy.load(path.with_name(name))
        except (AutoMixError, ValueError, RecursionError) as err:
            problems.append((str(task), f"the policy is not shown: {printable(err, 600)}"))
    return found, problems


def _partial(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a run had still to do when it was killed, or has if it goes on."""
    tasks = _mapping(manifest, "unfinished") if "unfinished" in manifest else {}
    return [
        (
            str(task),
            f"{PARTIAL}: the run answered {_count(row, 'questions')} of {_count(row, 'of')} "
            f"questions of {printable(task)} and is going on or was stopped; the same command "
            "resumes",
        )
        for task, row in tasks.items()
    ]


def _failed(manifest: Mapping[str, Any]) -> tuple[FailedQuestion, ...]:
    """Failed questions of the evaluation; manifests of earlier releases list none."""
    rows = _rows(manifest, "failed") if "failed" in manifest else []
    return tuple(
        FailedQuestion(_text(r, "task"), _count(r, "doc_id"), _count(r, "repeat"))
        for r in rows
        if _text(r, "phase") == "evaluation"
    )


def _excluded(failed: Sequence[FailedQuestion]) -> list[tuple[str, str]]:
    return [
        (
            task,
            f"excluded: {questions(len(ids))} failed: {printable(task)}, doc_id {listing(ids, 20)}",
        )
        for task in dict.fromkeys(f.task for f in failed)
        for ids in [[str(f.doc_id) for f in failed if f.task == task]]
    ]


def _task(row: Any) -> TaskInfo:
    if not isinstance(row, Mapping):
        raise TypeError(f"a task is {row!r}, expected an object")
    metric, number = row.get("metric"), row.get("num_questions")
    if metric is not None and not isinstance(metric, str):
        raise TypeError(f"metric is {metric!r}, expected a text or null")
    if number is not None:
        number = _count(row, "num_questions")
    name = row.get("filter")
    if name is not None and not isinstance(name, str):
        raise TypeError(f"filter is {name!r}, expected a text or null")
    sign = -1.0 if row.get("higher_is_better") is False else 1.0
    settings = _mapping(row, "config_hashes") if "config_hashes" in row else {}
    settings = {key: _text(settings, key) for key in settings}
    return TaskInfo(row.get("sample") is True, number, ScoredBy(metric, name, sign), settings)


def _missing(err: Exception) -> str:
    return f"the field {err} is missing" if isinstance(err, KeyError) else str(err)


def _text(row: Mapping[str, Any], key: str) -> str:
    if not isinstance(row[key], str):
        raise TypeError(f"{key} is {row[key]!r}, expected a text")
    return str(row[key])


def _count(row: Mapping[str, Any], key: str) -> int:
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise TypeError(f"{key} is {value!r}, expected a number of 0 or more")
    return value


def _mapping(row: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    if not isinstance(row[key], Mapping):
        raise TypeError(f"{key} is {row[key]!r}, expected an object")
    return dict(row[key])


def _list(row: Mapping[str, Any], key: str) -> list[Any]:
    if not isinstance(row[key], list):
        raise TypeError(f"{key} is {row[key]!r}, expected a list")
    return list(row[key])


def _rows(row: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    value = _list(row, key)
    if not all(isinstance(v, Mapping) for v in value):
        raise TypeError(f"{key} is {value!r}, expected a list of objects")
    return value
