"""Runs of single models by the harness, with ``--log_samples``, as the tiers of one chain."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import msgspec
import numpy as np

from automix_eval.metrics.answers import normalize_answer
from automix_eval.metrics.choice_values import BY_LENGTH, choice_confidence, compared_values
from automix_eval.records.harness_results import (
    HarnessResults,
    ScoredBy,
    filter_of,
    find_results,
    metrics_of,
    score_of,
)
from automix_eval.records.importers.model_outcomes import ModelOutcomes, json_of
from automix_eval.records.schema import MANIFEST_GLOB
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import listing, printable
from automix_eval.safety.untrusted import lines_of, why_no_json

_DAMAGE = (ValueError, TypeError, KeyError, IndexError, RecursionError)
STATISTICS = ("probability", "margin")
_QUESTIONS = ("question", "query", "problem", "prompt", "input", "ctx", "sentence", "goal")


@dataclass(frozen=True, slots=True)
class SampleReading:
    """What of the runs is read, and how.

    Attributes:
        task: One task; None: all, which the runs must share.
        metric: Of every task, with its filter where there are several, as results name it
            (``exact_match,strict-match``); None: the first number of its metric_list, or else of
            its samples, under the first filter.
        statistic: Confidence of a multiple-choice answer, from the softmax of the choices'
            log-probabilities: ``probability`` of the best, or its ``margin`` over the second.
        unpaired_prompts: Pair runs whose task versions, prompts or few-shot settings differ.
    """

    task: str | None = None
    metric: str | None = None
    statistic: str = "probability"
    unpaired_prompts: bool = False

    def __post_init__(self) -> None:
        if self.statistic not in STATISTICS:
            raise AutoMixError(f"confidence={self.statistic!r} is unknown: {', '.join(STATISTICS)}")


@dataclass(slots=True)
class _Task:
    """One task of one run: its settings, and columns by doc_id."""

    path: Path
    version: str
    shots: str
    metric: str
    sign: float
    delimiter: str
    number: int | None
    listed: tuple[str, ...] = ()
    filters: dict[str, None] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    confidences: dict[int, float] = field(default_factory=dict)
    documents: dict[int, str] = field(default_factory=dict)
    hashes: dict[int, tuple[str, str]] = field(default_factory=dict)
    questions: dict[int, str] = field(default_factory=dict)
    answers: dict[int, str] = field(default_factory=dict)
    kinds: Counter[str] = field(default_factory=Counter)
    filter: str = "none"

    @property
    def by(self) -> ScoredBy:
        """Metric, filter and direction of its scores."""
        return ScoredBy(self.metric, self.filter, self.sign)


@dataclass(slots=True)
class _Run:
    name: str
    shown: Path
    parameters: float | None
    tasks: dict[str, _Task]


def read_runs(paths: Sequence[Path], reading: SampleReading) -> ModelOutcomes:
    """Two or more plain runs of the same tasks as one table, a model a run, in the order given.

    A confidence costs nothing: of multiple choice it comes from the choices' log-probabilities (by
    length where the metric is acc_norm), of several answers to a question from how many agree with
    the first. An answer with neither has none.

    Args:
        paths: A results folder each, with the results and samples files of one model.
        reading: See :class:`SampleReading`.

    Raises:
        AutoMixError: A folder has no samples, those of a killed run, of several models or of a
            cascade; or the runs differ in tasks, questions or, unless they may, in versions,
            prompts or few-shot settings. Names what differs.
    """
    for path in paths:
        if path.is_file() and path.suffix != ".json":
            raise AutoMixError(
                f"{path} is a file: a chain is made of results folders, one a model, or of one "
                "table alone"
            )
    runs = [_read(path, reading) for path in paths]
    if len(runs) < 2:
        raise AutoMixError("a chain needs at least two runs: name their folders, cheapest first")
    _name_apart(runs)
    first = runs[0]
    differing = [d for run in runs[1:] for d in _check(first, run)]
    if differing and not reading.unpaired_prompts:
        raise AutoMixError(
            f"the runs are not paired: {'; '.join(differing[:5])}. A chain would mix two settings; "
            "--unpaired-prompts pairs the same questions all the same"
        )
    _check_directions(first)
    keys = [(task, i) for task, held in first.tasks.items() for i in sorted(held.scores)]

    def column(run: _Run, name: str) -> list[Any]:
        return [getattr(run.tasks[task], name)[i] for task, i in keys]

    documents = tuple(
        first.tasks[t].documents.get(i, first.tasks[t].hashes[i][0] or f"{t}/{i}") for t, i in keys
    )
    sign = np.array([first.tasks[t].sign for t, _ in keys])
    return ModelOutcomes(
        models=tuple(run.name for run in runs),
        ids=tuple(f"{task}/{i}" for task, i in keys),
        scores=np.array([column(r, "scores") for r in runs], dtype=np.float64).T * sign[:, None],
        confidences=np.array([column(r, "confidences") for r in runs], dtype=np.float64).T,
        questions=tuple(column(first, "questions")),
        answers=tuple(tuple(column(r, "answers")) for r in runs),
        tasks=tuple(task for task, _ in keys),
        documents=documents if len(set(documents)) < len(documents) else None,
        parameters=tuple(run.parameters for run in runs),
        metric=", ".join(sorted({t.by.quality for t in first.tasks.values()})),
        notes=tuple(_notes(runs, differing, reading)),
    )


def _read(path: Path, reading: SampleReading) -> _Run:
    if not path.exists():
        raise AutoMixError(f"{path} does not exist: name a run's results folder, or a table")
    if not (path.is_dir() or path.is_file()):
        raise AutoMixError(f"{path} is no ordinary file and no folder: write it to a file")
    results, warnings = find_results([path])
    if warnings:
        raise AutoMixError(warnings[0])
    # records and their manifest are a cascade's, also without the harness's results beside them
    alone = [] if results else sorted(path.glob(MANIFEST_GLOB))
    if cascades := [r.path for r in results if r.run_id is not None] or alone:
        raise AutoMixError(
            f"{cascades[0]} is the result of a cascade: automix-eval report reads it, and replay "
            "records=FOLDER where it has every tier. A chain is made of runs of one model each"
        )
    if not results:
        raise AutoMixError(
            f"{path} holds no results file of the harness: name the folder that lm_eval wrote with "
            "--output_path (a run that was killed writes none)"
        )
    models = {r.models[0] if r.models else path.name for r in results}
    if len(models) > 1:
        raise AutoMixError(f"{path} holds runs of {listing(sorted(models))}: name a folder of each")
    latest: dict[str, HarnessResults] = {}
    for result in sorted(results, key=lambda r: r.time):
        latest |= dict.fromkeys(result.tasks, result)
    if reading.task is not None:
        if reading.task not in latest:
            raise AutoMixError(
                f"task={reading.task} has no samples in {path}: {listing(sorted(latest)) or 'none'}"
            )
        latest = {reading.task: latest[reading.task]}
    if not latest:
        raise AutoMixError(f"{path} has no samples files: run lm_eval with --log_samples")
    tasks, parameters = {}, None
    for task in sorted(latest):
        result = latest[task]
        about = json_of(result.path)
        found = about["config"].get("model_num_parameters")
        parameters = float(found) if isinstance(found, int) and found > 0 else parameters
        tasks[task] = _read_task(result, task, about, reading)
    (name,) = models
    return _Run(printable(name), path, parameters, tasks)


def _read_task(
    result: HarnessResults, task: str, about: Mapping[str, Any], reading: SampleReading
) -> _Task:
    def of_task(key: str) -> Any:
        value = about.get(key)
        return value.get(task) if isinstance(value, Mapping) else None

    path = result.samples_path(task)
    assert path is not None
    config, counted = of_task("configs") or {}, of_task("n-samples")
    delimiter = config.get("target_delimiter", " ")
    number = counted.get("effective") if isinstance(counted, Mapping) else None
    held = _Task(
        path, result.versions.get(task, ""), str(of_task("n-shot")), "", 1.0,
        delimiter if isinstance(delimiter, str) else " ",
        number if isinstance(number, int) else None, _listed(config),
    )  # fmt: skip
    at, line = 0, b""
    held.metric, _, wanted = (reading.metric or "").partition(",")
    try:
        for at, line in lines_of(path):  # noqa: B007  an error names the line
            row = _decoded(line)
            if not isinstance(row, Mapping) or type(row.get("doc_id")) is not int:
                raise ValueError("no sample of the harness: it has no doc_id")
            name = filter_of(row, held.scores)
            held.filters[name] = None
            held.filter = wanted or next(iter(held.filters))
            if name == held.filter:
                _add(held, row, reading.statistic)
    except (OSError, msgspec.MsgspecError, *_DAMAGE) as err:
        where = "" if isinstance(err, OSError) else f", line {at}"
        why = printable(why_no_json(line, err), 300)
        raise AutoMixError(
            f"{path}{where} cannot be read: {why}. Samples of a run that was "
            "killed are torn: run it again"
        ) from err
    if wanted and wanted not in held.filters:
        raise AutoMixError(f"{path} has no filter {wanted}: {listing(list(held.filters))}")
    if not held.scores or (held.number is not None and held.number != len(held.scores)):
        raise AutoMixError(
            f"{path} has {len(held.scores)} of {held.number or 'some'} questions: the samples of a "
            "run that was killed, or of another one. Run it again"
        )
    higher = of_task("higher_is_better")
    if isinstance(higher, Mapping) and higher.get(held.metric) is False:
        held.sign = -1.0
    return held


def _listed(config: Any) -> tuple[str, ...]:
    """The metrics of a task in the order of its ``metric_list``, as a run takes them."""
    found = config.get("metric_list") if isinstance(config, Mapping) else None
    entries = found if isinstance(found, list) else []
    return tuple(str(e.get("metric")) for e in entries if isinstance(e, Mapping))


def _decoded(line: bytes) -> Any:
    """A sample; NaN, which Python writes of a score that is undefined, is None."""
    try:
        return msgspec.json.decode(line)
    except msgspec.MsgspecError:
        if b"NaN" not in line:
            raise
        return json.loads(line, parse_constant={"NaN": None}.__getitem__)


def _add(held: _Task, row: Mapping[str, Any], statistic: str) -> None:
    i = row["doc_id"]
    if not held.scores:
        names = list(metrics_of(row))
        names = [n for n in held.listed if n in names] or names
        numbers = (n for n in names if _is_score(row.get(n)))
        held.metric = held.metric or str(next(numbers, next(iter(names), "")))
        if not held.metric or held.metric not in row:
            raise ValueError(f"no metric {held.metric or 'at all'}: the samples have {names}")
    if i in held.scores:
        raise ValueError(f"doc_id {i} stands twice")
    value = row.get(held.metric)
    if value is not None and not _is_score(value):
        raise ValueError(f"{held.metric} is {value!r}, expected a number")
    held.scores[i] = math.nan if value is None else cast(float, score_of(value))
    doc = row.get("doc") if isinstance(row.get("doc"), Mapping) else {}
    assert isinstance(doc, Mapping)
    arguments = _arguments(row.get("arguments"))
    kind, held.confidences[i], held.answers[i] = _answer(held, row, arguments, statistic)
    held.kinds[kind] += 1
    held.hashes[i] = str(row.get("doc_hash") or ""), str(row.get("prompt_hash") or "")
    asked = next((doc[k] for k in _QUESTIONS if isinstance(doc.get(k), str)), None)
    held.questions[i] = asked if asked is not None else (arguments[0][0] if arguments else "")
    if doc.get("document_id"):
        held.documents[i] = str(doc["document_id"])


def _is_score(value: Any) -> bool:
    try:
        return math.isfinite(math.nan if (number := score_of(value)) is None else number)
    except (TypeError, ValueError):
        return False


def _arguments(value: Any) -> list[tuple[str, str]]:
    """(prompt, continuation) of each call: as the harness writes them, by number."""
    if isinstance(value, Mapping):
        value = [list(v.values()) for v in value.values()]
    return [(str(v[0]), str(v[1]) if len(v) > 1 else "") for v in value or () if v]


def _answer(
    held: _Task, row: Mapping[str, Any], arguments: Sequence[tuple[str, str]], statistic: str
) -> tuple[str, float, str]:
    """What the confidence comes from, the confidence, the answer."""
    responses, filtered = row.get("resps") or [], row.get("filtered_resps") or []
    if len(responses) > 1 and all(_is_scored(r) for r in responses):
        logprobs = [float(r[0][0]) for r in responses]
        texts = [c.removeprefix(held.delimiter) for _, c in arguments]
        half = len(arguments) // 2
        if any(p for p, _ in arguments[:half]) and not any(p for p, _ in arguments[half:]):
            texts = texts[:half]  # acc_mutual_info scores each choice without its question too
        values = compared_values(held.metric, logprobs, texts)
        best = int(np.argmax(values))
        kind = "choices, by length" if held.metric in BY_LENGTH else "choices"
        answer = texts[best] if len(texts) == len(values) else str(best)
        return kind, choice_confidence(values, statistic), answer
    answer = str(filtered[0]) if filtered else ""
    given = [str(r) for r in responses[0]] if responses and isinstance(responses[0], list) else []
    if len(given) > 1:
        texts = [normalize_answer(t) for t in given]
        return "agreement", texts.count(texts[0]) / len(texts), answer
    return "none", math.nan, answer


def _is_scored(response: Any) -> bool:
    """Whether a response is a log-probability and whether it is greedy, not a text."""
    return (
        isinstance(response, list)
        and len(response) == 1
        and isinstance(response[0], list)
        and len(response[0]) == 2
    )


def _check(first: _Run, other: _Run) -> list[str]:
    """What differs between two runs and may be paired all the same; an error for the rest."""
    both = f"{first.name} and {other.name}"
    if set(first.tasks) != set(other.tasks):
        only = sorted(set(first.tasks) ^ set(other.tasks))
        raise AutoMixError(
            f"{both} were not run on the same tasks: {listing(only)} is in one of them only. "
            "--task NAME takes one that both have"
        )
    differing = []
    for task, mine in first.tasks.items():
        theirs = other.tasks[task]
        if mine.by != theirs.by:
            raise AutoMixError(
                f"{both} have different metrics of {task}, {mine.by.quality} and "
                f"{theirs.by.quality}: set --metric"
            )
        if set(mine.scores) != set(theirs.scores):
            raise AutoMixError(
                f"{both} answered different questions of {task}: {len(mine.scores)} and "
                f"{len(theirs.scores)}, {len(set(mine.scores) & set(theirs.scores))} of both"
            )
        pairs = [(mine.hashes[i], theirs.hashes[i]) for i in mine.scores]
        if documents := sum(a != b and "" not in (a, b) for (a, _), (b, _) in pairs):
            raise AutoMixError(
                f"{both}: {documents} questions of {task} are about different documents"
            )
        prompts = sum(a != b and "" not in (a, b) for (_, a), (_, b) in pairs)
        for what, one, two in (
            ("version", mine.version, theirs.version),
            ("number of few-shot examples", mine.shots, theirs.shots),
        ):
            if one != two:
                differing.append(
                    f"{both} have different values of the {what} of {task}: {one or 'none'} and "
                    f"{two or 'none'}"
                )
        if prompts:
            differing.append(
                f"{both} were asked {prompts} of {len(pairs)} questions of {task} with different "
                "prompts (a template, or few-shot examples)"
            )
    return differing


def _check_directions(run: _Run) -> None:
    """Errors of one task and right answers of another have no mean."""
    by_sign = {s: [t for t, held in run.tasks.items() if held.sign == s] for s in (1.0, -1.0)}
    if all(by_sign.values()):
        higher, lower = (
            listing([f"{t} ({run.tasks[t].metric})" for t in tasks]) for tasks in by_sign.values()
        )
        raise AutoMixError(
            f"more is better of {higher} and less of {lower}, so that their scores have no mean: "
            "take one with task=NAME (whatif --task NAME), or one metric= of all"
        )


def _name_apart(runs: list[_Run]) -> None:
    """Models of equal name are called by their folders."""
    for name_of in (lambda r: r.shown.resolve().name, lambda r: str(r.shown.resolve())):
        twice = [n for n, count in Counter(r.name for r in runs).items() if count > 1]
        for run in (r for r in runs if r.name in twice):
            run.name = printable(name_of(run))
    if len({r.name for r in runs}) < len(runs):
        raise AutoMixError(f"one run is named twice: {listing([r.name for r in runs])}")


def _notes(runs: list[_Run], differing: list[str], reading: SampleReading) -> list[str]:
    kinds: Counter[str] = sum((t.kinds for r in runs for t in r.tasks.values()), Counter())
    said = {
        "choices": f"softmax of the choices' log-probabilities ({reading.statistic})",
        "choices, by length": "softmax of the choices' log-probabilities by length, as the metric "
        f"is ({reading.statistic})",
        "agreement": "share of the answers to a question that agree with the first",
        "none": "none: one generated answer a question, so that only the question can be read",
    }
    tasks = runs[0].tasks
    lower = [t for t, held in tasks.items() if held.sign < 0]
    unlike = [f"{t} by {held.metric}" for t, held in tasks.items()]
    several = len({held.metric for held in tasks.values()}) > 1
    filtered = [
        f"{task} is scored under its filter {held.filter}, of {listing(list(held.filters))} "
        "(--metric METRIC,FILTER)"
        for task, held in tasks.items()
        if len(held.filters) > 1
    ]
    return [
        *filtered[:5],
        *([f"one mean of unlike scores, {listing(unlike)}: task= takes one"] if several else []),
        *(f"confidence of {n} answers: {said[kind]}" for kind, n in sorted(kinds.items())),
        *([f"scores of {listing(lower)} have a minus, since lower is better"] if lower else []),
        *(f"paired all the same (--unpaired-prompts): {d}" for d in differing[:5]),
    ]
