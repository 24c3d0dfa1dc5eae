"""The harness's own files: results_<time>.json and samples_<task>_<time>.jsonl beside it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from automix_eval.report.load import MAX_SCORE, Run
from automix_eval.report.text import listing, plain
from automix_eval.types import AutoMixError, Record

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
    """

    path: Path
    time: str
    run_id: str | None
    models: tuple[str, ...]

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
    """

    scores: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    prompts: Mapping[int, str] = field(default_factory=dict)

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


def read_samples(path: Path, metric: str) -> Samples:
    """Scores of one metric in a samples file.

    Raises:
        AutoMixError: The file cannot be read or a line is damaged; names file and line.
    """
    scores: dict[str, dict[int, float]] = {}
    prompts: dict[int, str] = {}
    for number, row in _lines(path):
        try:
            doc_id, name = row["doc_id"], str(row.get("filter", "none"))
            if isinstance(doc_id, bool) or not isinstance(doc_id, int):
                raise TypeError(f"doc_id is {doc_id!r}, expected an integer")
            by_doc = scores.setdefault(name, {})
            if metric in row:
                value = row[metric]
                if not isinstance(value, (int, float)) or not abs(value) <= MAX_SCORE:
                    raise TypeError(f"{metric} is {value!r}, expected a finite number")
                by_doc[doc_id] = float(value)
            prompts[doc_id] = str(row.get("prompt_hash", ""))
        except (KeyError, TypeError, OverflowError) as err:
            where = f"{path}, line {number}"
            raise AutoMixError(f"{where}: not a sample of the harness: {err}") from err
    return Samples(scores, prompts)


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
    # A task's default filter keeps the first repeat, so that is the one the samples score.
    records = {r.doc_id: r for r in run.records.get(task, ()) if r.repeat == 0}
    name, warnings = plain(path.name), []
    if not any(samples.scores.values()):
        return [f"{name} has no metric {metric}: its scores were not compared with the records"]
    if missing := sorted(set(samples.prompts) - set(records)):
        ids = listing([str(i) for i in missing])
        warnings.append(f"{len(missing)} documents of {name} have no record: doc_id {ids}")
    if missing := sorted(set(records) - set(samples.prompts)):
        ids = listing([str(i) for i in missing])
        warnings.append(f"{len(missing)} records have no row in {name}: doc_id {ids}")
    differing = [
        text for r in records.values() if (text := _difference(r, samples.scores.values()))
    ]
    if differing:
        warnings.append(
            f"{len(differing)} final scores of the records differ from {metric} in {name}: "
            + listing(differing)
        )
    return warnings


def _difference(record: Record, filters: Iterable[Mapping[int, float]]) -> str | None:
    final = record.tier(record.final)
    scored = [by_doc[record.doc_id] for by_doc in filters if record.doc_id in by_doc]
    if not scored or final is None:
        return None
    if final.score is None:
        return f"doc_id {record.doc_id} (no score and {scored[0]:.4g})"
    if any(abs(final.score - s) <= _TOLERANCE for s in scored):
        return None
    return f"doc_id {record.doc_id} ({final.score:.4g} and {scored[0]:.4g})"


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
    value = json.loads(path.read_text(encoding="utf-8"))
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
    return HarnessResults(path, time, None if run_id is None else str(run_id), names)


def _lines(path: Path) -> Iterator[tuple[int, Mapping[str, Any]]]:
    number = 0
    try:
        # Decoded line by line: a text file decodes in blocks and could not name the line.
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                row = json.loads(line.decode("utf-8"))
                if not isinstance(row, Mapping):
                    raise ValueError("expected an object")
                yield number, row
    except (ValueError, RecursionError) as err:
        raise AutoMixError(f"{path}, line {number}: not a sample of the harness: {err}") from err
    except OSError as err:
        raise AutoMixError(f"cannot read {path}: {err}") from err
