"""The harness's own files: results_<time>.json and samples_<task>_<time>.jsonl beside it."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from automix_eval.records.stream import MAX_SCORE
from automix_eval.records.task_settings import hashes
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_whole
from automix_eval.safety.text import printable
from automix_eval.safety.untrusted import lines_of, read_json

# With --output_path DIR the file is results_<time>.json, with --output_path NAME.json it is
# NAME_<time>.json (lm_eval 0.4.13, EvaluationTracker.save_results_aggregated).
_RESULTS = re.compile(r"^(?:results_(.+)|(?:.+)_(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d(?:\.\d+)?))\.json$")
# What a sample holds beside its metrics, which it names since lm_eval 0.4.7 only.
_NO_METRICS = {
    "doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics",
    "doc_hash", "prompt_hash", "target_hash",
}  # fmt: skip
_MODEL_KEYS = ("pretrained", "model", "path", "engine", "peft", "delta")


@dataclass(frozen=True, slots=True)
class HarnessResults:
    """One results file of the harness.

    Attributes:
        path: The file.
        time: The stamp it shares with its samples files.
        run_id: The run of automix that it belongs to; None for a plain model.
        models: Names of the evaluated model, from ``model_args`` and ``model_name``.
        versions: Version of each task, as text.
        settings: Hashes of each task's configuration, see :mod:`.task_settings`.
        lower: Metrics of each task of which lower values are better.
    """

    path: Path
    time: str
    run_id: str | None
    models: tuple[str, ...]
    versions: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    lower: Mapping[str, Collection[str]] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks with a samples file."""
        return tuple(self._samples)

    def samples_path(self, task: str) -> Path | None:
        """The samples file of a task, None without ``--log_samples``."""
        return self._samples.get(task)

    @property
    def _samples(self) -> dict[str, Path]:
        # lm_eval 0.4.2 and the Open LLM Leaderboard's details: lines of JSON in a .json
        pattern = re.compile(rf"^samples_(.+)_{re.escape(self.time)}\.jsonl?$")
        paths = sorted(self.path.parent.iterdir())
        return {found[1]: path for path in paths if (found := pattern.match(path.name))}


@dataclass(frozen=True, slots=True)
class ScoredBy:
    """What a task's questions are scored by.

    Attributes:
        metric: The metric; None for the first that a samples file lists.
        filter: The harness's filter; None for ``none``, or else the first of a file.
        sign: -1 where lower values are better: a score is larger for the better answer.
    """

    metric: str | None = None
    filter: str | None = None
    sign: float = 1.0

    @property
    def name(self) -> str | None:
        """The metric as the harness names it, with its filter unless that is ``none``."""
        if not self.metric or self.filter in (None, "none"):
            return self.metric or None
        return f"{self.metric},{self.filter}"

    @property
    def quality(self) -> str:
        """What quality is the mean of, in words: minus a metric of which less is better."""
        return f"minus {self.name}" if self.name and self.sign < 0 else self.name or "none"


@dataclass(frozen=True, slots=True)
class Samples:
    """Scores of one samples file.

    Attributes:
        scores: For each filter of the task, doc_id -> score.
        prompts: doc_id -> prompt_hash.
        metrics: Names of the task's metrics, as the file lists them.
        defects: Lines that could not be read, each with file and line.
        shown: The file's name, for the reader.
    """

    scores: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    prompts: Mapping[int, str] = field(default_factory=dict)
    metrics: tuple[str, ...] = ()
    defects: tuple[str, ...] = ()
    shown: str = ""

    def main(self, name: str | None = None) -> Mapping[int, float]:
        """Scores under a filter; None takes ``none``, or else the first of the file."""
        if name is not None:
            return self.scores.get(name, {})
        return self.scores.get("none") or next(iter(self.scores.values()), {})


def find_results(paths: Iterable[Path]) -> tuple[list[HarnessResults], list[str]]:
    """All results files at or below some folders, and a warning for each unreadable one."""
    found: dict[str, HarnessResults] = {}
    warnings = []
    for folder in paths:
        root = folder.parent if folder.is_file() else folder
        for path in sorted(root.rglob("*.json")):
            match = _RESULTS.match(path.name)
            real = os.path.realpath(path)  # which stands a link to itself
            if not match or path.name.startswith(("automix_", "samples_")) or real in found:
                continue
            try:
                found[real] = _read_results(path, match[1] or match[2])
            except (OSError, ValueError, TypeError) as err:
                warnings.append(f"left out {path}: not a results file of the harness ({err})")
    return list(found.values()), warnings


def samples_of(results: Iterable[HarnessResults], run_id: str, task: str) -> Path | None:
    """The first samples file of a task of a run of the cascade; None without ``--log_samples``."""
    return next(
        (p for r in results if r.run_id == run_id and (p := r.samples_path(task)) is not None), None
    )


def read_samples(path: Path, by: ScoredBy) -> Samples:
    """Scores of one metric in a samples file; a damaged line is left out and named.

    Args:
        path: The file.
        by: The metric and its direction.

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
            doc_id = _doc_id(row)
            name = filter_of(row, scores.get("none", {}))
            metrics = metrics or metrics_of(row)
            wanted = by.metric or next(iter(metrics), None)
            value = None if wanted is None else score_of(row.get(wanted))
            if value is not None and not abs(value) <= MAX_SCORE:
                raise TypeError(f"{wanted} is {row[wanted]!r}, expected a finite number")
        except (KeyError, OverflowError, RecursionError, TypeError, ValueError) as err:
            defects.append(f"{path}, line {number}: not a sample of the harness: {printable(err)}")
            continue
        by_doc = scores.setdefault(name, {})
        if value is not None:
            by_doc[doc_id] = by.sign * value + 0.0  # no zero has a minus
        prompts[doc_id] = str(row.get("prompt_hash", ""))
    if defects and not prompts:
        raise AutoMixError(defects[0])
    return Samples(scores, prompts, metrics, tuple(defects), printable(path.name))


def metrics_of(row: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of a sample's metrics: as it lists them, else what is none of the usual keys."""
    named = row.get("metrics")
    names = named if isinstance(named, list) else [k for k in row if k not in _NO_METRICS]
    return tuple(map(str, names))


def filter_of(row: Mapping[str, Any], scored: Container[int]) -> str:
    """A sample's filter; before lm_eval 0.4.7 it has none, and the first one's samples come first.

    Args:
        row: The sample.
        scored: The doc_ids of the samples of the first filter so far.
    """
    if "filter" in row:
        return str(row["filter"])
    return "unnamed" if row["doc_id"] in scored else "none"


def score_of(value: Any) -> float | None:
    """A score as the harness writes it: numbers of numpy's and torch's it writes as texts.

    What a metric of many questions together is computed from is no score of one.
    """
    if value is None or isinstance(value, (list, dict)):
        return None
    if isinstance(value, (int, float)):
        return float(value)
    if isinstance(value, str):
        text = value.removeprefix("tensor(").removesuffix(")").strip("[]")
        if text in ("True", "False"):
            return float(text == "True")
        return float(text)
    raise TypeError(f"a score is {value!r}, expected a number")


def _doc_id(row: Any) -> int:
    if not isinstance(row, Mapping):
        raise TypeError("expected an object")
    value = row["doc_id"]
    if not is_whole(value):
        raise TypeError(f"doc_id is {value!r}, expected an integer")
    return value


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
    value = read_json(path, nan_is_none=True)  # a statistic may be undefined
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
    versions, configs, higher = map(value.get, ("versions", "configs", "higher_is_better"))
    return HarnessResults(
        path,
        time,
        None if run_id is None else str(run_id),
        names,
        {str(k): printable(v) for k, v in versions.items()}
        if isinstance(versions, Mapping)
        else {},
        {task: hashes(held) for task, held in _mappings(configs)},
        {task: [m for m, better in held.items() if better is False]
         for task, held in _mappings(higher)},
    )  # fmt: skip


def _mappings(value: Any) -> list[tuple[str, Mapping[str, Any]]]:
    items = value.items() if isinstance(value, Mapping) else ()
    return [(str(task), held) for task, held in items if isinstance(held, Mapping)]


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        yield from lines_of(path)
    except (OSError, ValueError) as err:
        raise AutoMixError(f"cannot read {path}: {err}") from err
