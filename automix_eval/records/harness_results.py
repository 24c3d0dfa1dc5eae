"""The harness's own files: results_<time>.json and samples_<task>_<time>.jsonl beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from automix_eval.records.columns import FloatArray, RecordColumns
from automix_eval.records.runs import Run
from automix_eval.records.stream import MAX_SCORE
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import listing, printable
from automix_eval.safety.untrusted import lines_of, read_json

# With --output_path DIR the file is results_<time>.json, with --output_path NAME.json it is
# NAME_<time>.json (lm_eval 0.4.13, EvaluationTracker.save_results_aggregated).
_RESULTS = re.compile(r"^(?:results_(.+)|(?:.+)_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?))\.json$")
_MODEL_KEYS = ("pretrained", "model", "path", "engine", "peft", "delta")
_TOLERANCE = 1e-6  # scores are written as decimal numbers


@dataclass(frozen=True, slots=True)
class HarnessResults:
    """One results file of the harness.

    Attributes:
        path: The file.
        time: The stamp it shares with its samples files.
        run_id: The run of automix that it belongs to; None for a plain model.
        models: Names of the evaluated model, from ``model_args`` and ``model_name``.
        versions: Version of each task, as text.
    """

    path: Path
    time: str
    run_id: str | None
    models: tuple[str, ...]
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks with a samples file."""
        end = f"_{self.time}.jsonl"
        names = sorted(p.name for p in self.path.parent.iterdir())
        return tuple(
            n[len("samples_") : -len(end)]
            for n in names
            if n.startswith("samples_") and n.endswith(end)
        )

    def samples_path(self, task: str) -> Path | None:
        """The samples file of a task, None without ``--log_samples``."""
        wanted = f"samples_{task}_{self.time}.jsonl"
        return next((p for p in self.path.parent.iterdir() if p.name == wanted), None)


@dataclass(frozen=True, slots=True)
class Samples:
    """Scores of one samples file.

    Attributes:
        scores: For each filter of the task, doc_id -> score.
        prompts: doc_id -> prompt_hash.
        metrics: Names of the task's metrics, as the file lists them.
        defects: Lines that could not be read, each with file and line.
    """

    scores: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    prompts: Mapping[int, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    defects: tuple[str, ...] = ()

    def main(self) -> Mapping[int, float]:
        """Scores under the filter ``none``, or else the first of the file."""
        return self.scores.get("none") or next(iter(self.scores.values()), {})


def find_results(paths: Iterable[Path]) -> tuple[list[HarnessResults], list[str]]:
    """All results files at or below some folders, and a warning for each unreadable one."""
    found: dict[Path, HarnessResults] = {}
    warnings = []
    for folder in paths:
        root = folder.parent if folder.is_file() else folder
        for path in sorted(root.rglob("*.json")):
            match = _RESULTS.match(path.name)
            if not match or path.name.startswith("automix_") or path.resolve() in found:
                continue
            try:
                found[path.resolve()] = _read_results(path, match[1] or match[2])
            except (OSError, ValueError, TypeError) as err:
                warnings.append(f"left out {path}: not a results file of the harness ({err})")
    return list(found.values()), warnings


def read_samples(path: Path, metric: str | None) -> Samples:
    """Scores of one metric in a samples file; a damaged line is left out and named.

    Args:
        path: The file.
        metric: The metric; None for the first that the file lists.

    Raises:
        AutoMixError: The file cannot be read, or none of its lines can; names file and line.
    """
    scores: dict[str, dict[int, float]] = {}
    prompts: dict[int, str] = {}
    metrics: tuple[str, ...] = ()
    defects: list[str] = []
    for number, line in _lines(path):
        try:
            row = msgspec.json.decode(line)
            doc_id, name = _doc_id(row), str(row.get("filter", "none"))
            if not metrics and isinstance(row.get("metrics"), list):
                metrics = tuple(map(str, row["metrics"]))
            wanted = metric or next(iter(metrics), None)
            value = row.get(wanted) if wanted else None
            if value is not None and (
                not isinstance(value, (int, float)) or not abs(value) <= MAX_SCORE
            ):
                raise TypeError(f"{wanted} is {value!r}, expected a finite number")
        except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as err:
            defects.append(f"{path}, line {number}: not a sample of the harness: {printable(err)}")
            continue
        by_doc = scores.setdefault(name, {})
        if value is not None:
            by_doc[doc_id] = float(value)
        prompts[doc_id] = str(row.get("prompt_hash", ""))
    if defects and not prompts:
        raise AutoMixError(defects[0])
    return Samples(scores, prompts, metrics, tuple(defects))


def _doc_id(row: Any) -> int:
    if not isinstance(row, Mapping):
        raise TypeError("expected an object")
    value = row["doc_id"]
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"doc_id is {value!r}, expected an integer")
    return value


def check_samples(run: Run, task: str, results: Sequence[HarnessResults]) -> list[str]:
    """Join a run's records with the harness's samples by (task, doc_id) and compare scores.

    Returns:
        A warning for every kind of disagreement, naming documents; none where the harness kept
        no samples.
    """
    metric = run.tasks[task].metric
    own = [r for r in results if r.run_id == run.run_id]
    path = next((p for r in own if (p := r.samples_path(task))), None)
    if path is None or metric is None:
        return []
    samples = read_samples(path, metric)
    rows = run.records[task]
    # A task's default filter keeps the first repeat, so that is the one the samples score.
    first = np.flatnonzero(rows.repeats == 0)
    known = set(rows.doc_ids[first].tolist())
    excused = run.without_record(task)
    name, warnings = printable(path.name), list(samples.defects)
    if not any(samples.scores.values()):
        return [f"{name} has no metric {metric}: its scores were not compared with the records"]
    if missing := sorted(set(samples.prompts) - known - excused):
        ids = listing([str(i) for i in missing])
        warnings.append(f"{len(missing)} documents of {name} have no record: doc_id {ids}")
    if missing := sorted(known - set(samples.prompts)):
        ids = listing([str(i) for i in missing])
        warnings.append(f"{len(missing)} records have no row in {name}: doc_id {ids}")
    differing = _differing(rows, first, list(samples.scores.values()))
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
    found: list[FloatArray] = [
        np.array([by_doc.get(i, np.nan) for i in ids], dtype=float) for by_doc in filters
    ]
    alike = np.zeros(len(ids), dtype=bool)
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


def model_names(config: Any) -> tuple[str, ...]:
    """What a model configuration calls its model, in the keys of the harness."""
    if isinstance(config, str):
        config = dict(part.split("=", 1) for part in config.split(",") if "=" in part)
    if not isinstance(config, Mapping):
        return ()
    names = [v for k, v in config.items() if k in _MODEL_KEYS and isinstance(v, str) and v]
    for value in config.values():
        if isinstance(value, Mapping):
            names.extend(model_names(value))
    return tuple(dict.fromkeys(names))


def _read_results(path: Path, time: str) -> HarnessResults:
    value = read_json(path)
    config = value.get("config") if isinstance(value, Mapping) else None
    if not isinstance(config, Mapping):
        raise ValueError("no config")
    automix = config.get("automix")
    run_id = automix.get("run_id") if isinstance(automix, Mapping) else None
    if run_id is None and str(config.get("model", "")).lower().startswith("automix"):
        run_id = ""
    names = model_names(config.get("model_args"))
    if not names and isinstance(value.get("model_name"), str):
        names = (value["model_name"],)
    versions = value.get("versions")
    return HarnessResults(
        path,
        time,
        None if run_id is None else str(run_id),
        names,
        {str(k): printable(v) for k, v in versions.items()}
        if isinstance(versions, Mapping)
        else {},
    )


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        yield from lines_of(path)
    except (OSError, ValueError) as err:
        raise AutoMixError(f"cannot read {path}: {err}") from err
