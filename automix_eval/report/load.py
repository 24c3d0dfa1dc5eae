"""Finds and reads the runs under one or more folders; believes nothing it reads."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automix_eval import records as stored
from automix_eval.costs.paper import PaperCost
from automix_eval.costs.tokens import TokenCost
from automix_eval.report.text import plain
from automix_eval.types import AutoMixError, CostModel, Record

# Sums of larger scores may leave the range of floating-point numbers.
MAX_SCORE = 1e12
_COST_MODELS: dict[str, tuple[Callable[..., CostModel], set[str]]] = {
    "paper": (PaperCost, {"tiers", "verifier"}),
    "tokens": (TokenCost, {"prices"}),
}


@dataclass(frozen=True, slots=True)
class TierInfo:
    """A tier as the manifest names it."""

    index: int
    name: str
    label: str


@dataclass(frozen=True, slots=True)
class TaskInfo:
    """A task as the manifest describes it; ``sample`` marks an embedded sample."""

    metric: str | None
    sample: bool
    num_questions: int | None


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
class Run:
    """One run of the composite model.

    Attributes:
        path: The manifest.
        config: Its ``config``; never instantiated.
        records: Evaluation records by task, in the order of the file.
        cost: Built from ``config.cost``.
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
    records: Mapping[str, tuple[Record, ...]]
    cost: CostModel

    def part(self, group: str) -> str:
        """Name of the configured part of a group (verifier, meta_verifier, ...)."""
        value = self.config.get(group)
        return plain(value.get("name", "unnamed") if isinstance(value, Mapping) else value)


def find_runs(paths: Iterable[Path]) -> list[Run]:
    """All runs at or below some folders, oldest first; a manifest's own path is one too.

    Raises:
        AutoMixError: A path does not exist, or a manifest or records file is damaged.
    """
    manifests: dict[Path, Path] = {}
    for path in paths:
        if not path.exists():
            raise AutoMixError(f"{path} does not exist: name a folder that holds results")
        found = [path] if path.is_file() else sorted(path.rglob(stored.MANIFEST_GLOB))
        manifests.update({p.resolve(): p for p in found})
    return sorted((read_run(p) for p in manifests.values()), key=lambda r: (r.created, r.run_id))


def read_run(path: Path) -> Run:
    """Read one manifest and the records beside it.

    Raises:
        AutoMixError: Something is missing or damaged; names the file, and the line of a record.
    """
    manifest = stored.read_manifest(path)
    try:
        run_id, config = _text(manifest, "run_id"), _mapping(manifest, "config")
        tiers = tuple(
            TierInfo(_count(t, "index"), _text(t, "name"), plain(t.get("label", t["name"])))
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
            (_text(w, "task"), plain(_text(w, "text"), 600)) for w in _rows(manifest, "warnings")
        )
        cost = cost_from(_mapping(config, "cost"))
        if len(cost_prices(cost)) != len(tiers):
            cost.check(len(tiers))
    except (AutoMixError, KeyError, TypeError) as err:
        raise AutoMixError(f"{path}: {_missing(err)}") from err
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
        warnings=warnings,
        records=_records(stored.records_path(path, manifest), tasks, len(tiers)),
        cost=cost,
    )


def cost_from(config: Mapping[str, Any]) -> CostModel:
    """The cost model a manifest names, built from checked numbers only.

    A ``_target_`` is left unread: a results folder must not choose code to run.

    Raises:
        AutoMixError: The name or a parameter is unknown, or a price is not a number.
    """
    name = config.get("name")
    if not isinstance(name, str) or name not in _COST_MODELS:
        raise AutoMixError(
            f"the cost model {name!r} is unknown; the report knows {', '.join(_COST_MODELS)}"
        )
    build, known = _COST_MODELS[name]
    params = {k: v for k, v in config.items() if k not in {"name", "_target_"}}
    if unknown := set(params) - known:
        raise AutoMixError(
            f"cost={name} has the unknown parameters {', '.join(sorted(map(repr, unknown)))}; "
            f"it takes {', '.join(sorted(known))}"
        )
    try:
        return build(**params)
    except (AttributeError, TypeError, ValueError) as err:
        raise AutoMixError(f"cost={name} cannot be built from {params!r}: {err}") from err


def cost_prices(cost: CostModel) -> Sequence[Any]:
    """One entry a tier of a cost model of :func:`cost_from`."""
    return cost.tiers if isinstance(cost, PaperCost) else getattr(cost, "prices", ())


def _records(
    path: Path, tasks: Mapping[str, TaskInfo], num_tiers: int
) -> dict[str, tuple[Record, ...]]:
    by_task: dict[str, list[Record]] = defaultdict(list)
    seen: dict[tuple[str, str, int, int], int] = {}
    for line, record in enumerate(stored.read_records(path), 1):
        key = (record.phase, record.task, record.doc_id, record.repeat)
        problem = _problem(record, tasks, num_tiers)
        if key in seen:
            problem = f"doc_id {record.doc_id} of {record.task!r} was read in line {seen[key]}"
        if problem:
            raise AutoMixError(f"{path}, line {line}: {problem}")
        seen[key] = line
        if record.phase == "evaluation":
            by_task[record.task].append(record)
    return {task: tuple(rows) for task, rows in by_task.items()}


def _problem(record: Record, tasks: Mapping[str, TaskInfo], num_tiers: int) -> str | None:
    """What is wrong with a record whose fields each have the right type."""
    indexes = [t.tier for t in record.tiers]
    confidences = [t.verification.confidence for t in record.tiers if t.verification]
    calls = [c for t in record.tiers for c in t.answer.calls]
    calls += [c for t in record.tiers if t.verification for c in t.verification.calls]
    if record.task not in tasks:
        return f"task {record.task!r} is not in the manifest"
    if indexes != sorted(set(indexes)) or not all(0 <= i < num_tiers for i in indexes):
        return f"tiers {indexes} are not ascending numbers below {num_tiers}"
    if record.final not in indexes:
        return f"final is tier {record.final}, which was not asked"
    if any(c is not None and not 0 <= c <= 1 for c in confidences):
        return f"a confidence is outside [0, 1]: {confidences}"
    if any(t.score is not None and abs(t.score) > MAX_SCORE for t in record.tiers):
        return f"a score is beyond {MAX_SCORE:g}"
    if not all(0 <= c.tier < num_tiers for c in calls):
        return f"a call names a tier outside 0 .. {num_tiers - 1}"
    if any(n is not None and n < 0 for c in calls for n in (c.prompt_tokens, c.generated_tokens)):
        return "a call has a negative number of tokens"
    return None


def _task(row: Any) -> TaskInfo:
    if not isinstance(row, Mapping):
        raise TypeError(f"a task is {row!r}, expected an object")
    metric, number = row.get("metric"), row.get("num_questions")
    if metric is not None and not isinstance(metric, str):
        raise TypeError(f"metric is {metric!r}, expected a text or null")
    if number is not None:
        number = _count(row, "num_questions")
    return TaskInfo(metric, row.get("sample") is True, number)


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
