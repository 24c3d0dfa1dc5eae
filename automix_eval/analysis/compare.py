"""Two methods on the same questions: the paired difference, and the questions on which they differ.

What is compared may come from different folders, models and prices; only the questions must be the
same: the same task and version, and the same prompt hash for every question they share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from automix_eval.analysis.beside_llm import ColumnScore, mean_values
from automix_eval.analysis.bootstrap_table import BootstrapTable
from automix_eval.analysis.comparable import group, why_single_unlike, why_unlike
from automix_eval.analysis.comparisons import difference, verdict
from automix_eval.analysis.figures import Comparison, Figure
from automix_eval.analysis.gather import Settings
from automix_eval.analysis.leaderboard import (
    ReplayCache,
    live_methods,
    replay_methods,
    single_model_methods,
)
from automix_eval.analysis.llm_point import attach
from automix_eval.analysis.method import NO_CHAIN
from automix_eval.analysis.question_sets import QuestionSet
from automix_eval.analysis.routed_paths import ChainRouting, GivenRouting, Method, Routing
from automix_eval.analysis.selection import document_names, select
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.significance import PairedTests, bootstrap_p
from automix_eval.records.record_columns import FloatArray, IntArray
from automix_eval.records.runs import FoundRuns, Run, find_runs, read_all
from automix_eval.records.schema import MANIFEST_GLOB, read_manifest
from automix_eval.records.single_model_runs import SingleModelRun
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import did_you_mean, printable
from automix_eval.safety.text import questions as number_of_questions

_SAME = 1e-9  # scores closer than this are the same


@dataclass(frozen=True, slots=True)
class Difference:
    """One question on which two methods have different scores.

    Attributes:
        first: Score of the first method, the mean over its seeds.
        second: Likewise of the second.
        tiers: Final tier of each in its first run; None for plain runs.
        question: The question's text, made printable; empty where no record holds it.
    """

    doc_id: int
    repeat: int
    first: float
    second: float
    tiers: tuple[int | None, int | None]
    question: str


@dataclass(frozen=True, slots=True)
class Compared:
    """Two methods on the questions of one task.

    Attributes:
        labels: What the two are.
        left_out: Questions that only one of them answered, but for those that failed.
        excluded: Questions that failed in a run of either, out of both sides: by run, in words.
        qualities: Quality of each.
        costs: Cost of each.
        result: First minus second.
        better: Questions on which the first has the higher score.
        worse: Questions on which it has the lower one.
        differences: Those questions, largest difference first.
    """

    task: str
    metric: str
    num_questions: int
    num_documents: int
    left_out: int
    labels: tuple[str, str]
    qualities: tuple[Figure, Figure]
    costs: tuple[Figure, Figure]
    result: Comparison
    better: int
    worse: int
    differences: tuple[Difference, ...]
    excluded: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """What one method did on a task, seeds averaged question by question.

    Attributes:
        columns: Its quality and cost of each question, the SLM's and the LLM's.
    """

    label: str
    questions: QuestionSet | None
    source: SingleModelRun | None
    scores: FloatArray
    columns: tuple[FloatArray | Undefined, ...]
    final: IntArray | None

    @property
    def keys(self) -> list[tuple[int, int]]:
        """(doc_id, repeat) of each question."""
        if self.questions is None:
            assert self.source is not None
            return [(i, 0) for i in self.source.doc_ids.tolist()]
        rows = self.questions.rows
        return list(zip(rows.doc_ids.tolist(), rows.repeats.tolist(), strict=True))


def compare(
    first: str, second: str, settings: Settings, task: str | None = None, most: int = 50
) -> tuple[Compared, ...]:
    """Compare two methods on every task they share.

    Args:
        first: ``FOLDER``, or ``FOLDER::METHOD`` where the folder has several methods.
        second: Likewise.
        settings: Prices, seed and number of resamples.
        task: Compare on this task only.
        most: Differing questions to return.

    Raises:
        AutoMixError: They share no task, or did not answer the same questions.
    """
    if first == second:
        raise AutoMixError(f"{first} is compared with itself: name two, as FOLDER::METHOD")
    paths = [Path(text.partition("::")[0]) for text in (first, second)]
    failed = [_failed_below(p, settings) for p in paths]
    sides = [
        _side(text, settings, beside)
        for text, beside in zip((first, second), reversed(failed), strict=True)
    ]
    shared = [t for t in sides[0][1] if t in sides[1][1] and task in (None, t)]
    if not shared:
        tasks = " and ".join(f"{n} ({', '.join(sorted(held))})" for _, held, n in sides)
        what = f"{task} is no task that both have" if task else "no task in common"
        raise AutoMixError(printable(f"{what}: {tasks}"))
    return tuple(
        _compared(t, [s[1][t] for s in sides], [s[0] for s in sides], settings, most)
        for t in shared
    )


def _failed_below(path: Path, settings: Settings) -> list[Run]:
    """The runs below a folder that list failed questions."""
    manifests = [path] if path.is_file() else sorted(path.rglob(MANIFEST_GLOB))
    return find_runs([p for p in manifests if read_manifest(p).get("failed")], settings.costs)


def _side(
    text: str, settings: Settings, beside: Sequence[Run]
) -> tuple[FoundRuns, dict[str, _Answers], str]:
    folder, _, method = text.partition("::")
    held = select(read_all([Path(folder)], settings.costs, settings.llm), beside)
    spec = method.removeprefix("replay:")
    cache = ReplayCache(
        (spec,) if method.startswith("replay:") else (), settings.resamples, settings.seed
    )
    answers: dict[str, _Answers] = {}
    for runs in group(attach(held), held.single_models, held.versions):
        task = (runs.sets or runs.single_models)[0].task
        if task in answers:
            raise AutoMixError(
                f"{folder} has several groups of runs on {task} ({runs.key}): name one"
            )
        chosen = _entry(text, method, runs.sets, runs.single_models, cache)
        answers[task] = _answers(chosen, runs.single_models)
    return held, answers, text


def _entry(
    text: str,
    method: str,
    sets: Sequence[QuestionSet],
    single_models: Sequence[SingleModelRun],
    cache: ReplayCache,
) -> Method:
    own = [*live_methods(sets, cache), *single_model_methods(sets, single_models)]
    if not method:
        live = [e for e in own if e.kind == "live"] or own
        if len(live) == 1:
            return live[0]
        raise AutoMixError(
            f"{text} has the methods {', '.join(e.name for e in live)}: say which, as "
            f"{text}::{live[0].name}"
        )
    closed = ("always_slm", "always_llm", "oracle")
    if method.removeprefix("replay:") in closed:
        cache = ReplayCache((), cache.resamples, cache.seed)
    every = [*own, *replay_methods(sets, cache)]
    found = next((e for e in every if e.name == method), None)
    if found is None:
        names = [e.name for e in every]
        raise AutoMixError(
            f"{text.partition('::')[0]} has no method {printable(method)}"
            f"{did_you_mean(method, names)} It has {', '.join(names)}"
        )
    if found.missing:
        raise AutoMixError(f"{text} has no figures: {found.missing.reason}")
    return found


def _answers(method: Method, single_models: Sequence[SingleModelRun]) -> _Answers:
    part = method.parts[0]
    source = next(
        (p for p in single_models if method.kind == "plain" and p.shown == part.run_id), None
    )
    number = len(source.scores) if source else len(part.questions.rows) if part.questions else 0
    own = [p.routing for p in method.parts]
    routings: list[list[Routing]] = [own]
    final: IntArray | None = None
    ends: tuple[Undefined, ...] = (NO_CHAIN,) * 4
    if part.questions is not None and not source:
        sets = [p.questions for p in method.parts if p.questions]
        routings.append([ChainRouting.only(s.tiers, 0) for s in sets])
        routings.append([GivenRouting.llm_of(s) for s in sets])
        ends = ()
        tiers, every = range(part.questions.rows.num_tiers), np.arange(number)
        final = np.argmax([part.routing.values(f"final {t}", every) for t in tiers], axis=0)
    columns = tuple(mean_values(one, n, number) for one in routings for n in ("quality", "cost"))
    if isinstance(columns[0], Undefined):
        raise AutoMixError(f"{method.label} has no quality: {columns[0].reason}")
    return _Answers(
        method.label, None if source else part.questions, source, columns[0], (*columns, *ends),
        final,
    )  # fmt: skip


def _check(task: str, pair: Sequence[_Answers], held: Sequence[FoundRuns]) -> None:
    one, other = pair
    if one.questions is not None and other.questions is not None:
        versions = {**held[0].versions, **held[1].versions}
        reason = (
            ""
            if one.questions is other.questions
            else why_unlike(one.questions.run, other.questions.run, task, versions)
        )
    elif one.source is not None and other.source is not None:
        reason = one.source.unlike(other.source)
    else:
        source, questions = one.source or other.source, one.questions or other.questions
        assert source is not None
        assert questions is not None
        reason = why_single_unlike(source, questions)
    if reason:
        raise AutoMixError(f"cannot be compared: {reason}")


def _compared(
    task: str,
    pair: Sequence[_Answers],
    held: Sequence[FoundRuns],
    settings: Settings,
    most: int,
) -> Compared:
    _check(task, pair, held)
    places = [{key: i for i, key in enumerate(a.keys)} for a in pair]
    keys = [k for k in places[0] if k in places[1]]
    index = [np.array([p[k] for k in keys], dtype=np.intp) for p in places]
    codes = _documents(pair, index)
    table = BootstrapTable(codes, settings.resamples, settings.seed)
    sides = [_registered(table, a, i) for a, i in zip(pair, index, strict=True)]
    (q1, q2), (c1, c2) = ([s.mean(name) for s in sides] for name in ("quality", "cost"))
    gain, delta = difference(q1, q2), difference(*(s.delta_ibc() for s in sides))
    scores = [a.scores[i] for a, i in zip(pair, index, strict=True)]
    gap = scores[0] - scores[1]
    sums = np.column_stack([np.bincount(codes, s) for s in scores])
    test = PairedTests(sums, np.bincount(codes), settings.seed).difference(0, 1)
    quality, p = replace(table.figure(gain), interval=test.interval), test.p
    delta_p = delta if isinstance(delta, Undefined) else bootstrap_p(delta[1:], table.number)
    labels = (pair[0].label, pair[1].label)
    if labels[0] == labels[1]:
        labels = (f"{labels[0]}, first", f"{labels[1]}, second")
    result = Comparison(
        first=labels[0],
        second=labels[1],
        quality=quality,
        cost=table.figure(difference(c1, c2)),
        delta_ibc=table.figure(delta),
        quality_p=Figure(p),
        quality_holm=Figure(p),
        delta_ibc_p=Figure(delta_p),
        delta_ibc_holm=Figure(delta_p),
        words=verdict(*labels, quality, p, p),
    )
    differ = np.flatnonzero(np.abs(gap) > _SAME)
    ranked = differ[np.argsort(-np.abs(gap[differ]), kind="stable")][:most]
    questions = next((a.questions for a in pair if a.questions), None)
    scored = questions.run.tasks[task] if questions else pair[0].source
    assert scored is not None  # what has no questions has a source
    return Compared(
        task=printable(task),
        metric=printable(scored.quality),
        num_questions=len(keys),
        num_documents=int(codes.max()) + 1,
        left_out=len((places[0].keys() ^ places[1].keys()) - _failed_keys(task, held)),
        labels=labels,
        qualities=(table.figure(q1), table.figure(q2)),
        costs=(table.figure(c1), table.figure(c2)),
        result=result,
        better=int((gap > _SAME).sum()),
        worse=int((gap < -_SAME).sum()),
        differences=tuple(_differences(ranked.tolist(), keys, pair, index)),
        excluded=tuple(_excluded(task, held)),
    )


def _failed_keys(task: str, held: Sequence[FoundRuns]) -> set[tuple[int, int]]:
    runs = [run for side in held for run in side.runs]
    return {(f.doc_id, f.repeat) for run in runs for f in run.failed if f.task == task}


def _excluded(task: str, held: Sequence[FoundRuns]) -> Iterator[str]:
    runs = {run.run_id: run for side in held for run in side.runs}
    for run in runs.values():
        if ids := [f.doc_id for f in run.failed if f.task == task]:
            yield (
                f"excluded from both: {number_of_questions(len(ids))} failed in run "
                f"{printable(run.run_id)}: {printable(task)}, doc_id {document_names(ids)}"
            )


def _registered(table: BootstrapTable, answers: _Answers, index: IntArray) -> ColumnScore:
    columns = [v if isinstance(v, Undefined) else v[index] for v in answers.columns]
    escalated = None if answers.final is None else answers.final[index] > 0
    return ColumnScore.of(table, columns, escalated)


def _documents(pair: Sequence[_Answers], index: Sequence[IntArray]) -> IntArray:
    for answers, rows in zip(pair, index, strict=True):
        if answers.questions is not None:
            codes = answers.questions.rows.documents[rows]
            return np.asarray(np.unique(codes, return_inverse=True)[1])
    return np.arange(len(index[0]))


def _differences(
    ranked: list[int],
    keys: Sequence[tuple[int, int]],
    pair: Sequence[_Answers],
    index: Sequence[IntArray],
) -> Iterator[Difference]:
    texts: dict[int, str] = {}
    for answers, rows in zip(pair, index, strict=True):
        if answers.questions is not None:
            found = answers.questions.rows.read(int(rows[i]) for i in ranked)
            texts = {i: printable(r.question, 200) for i, r in zip(ranked, found, strict=True)}
            break
    for i in ranked:
        tiers = [None if a.final is None else int(a.final[r[i]])
                 for a, r in zip(pair, index, strict=True)]  # fmt: skip
        one, two = (float(a.scores[r[i]]) for a, r in zip(pair, index, strict=True))
        yield Difference(*keys[i], one, two, (tiers[0], tiers[1]), texts.get(i, ""))
