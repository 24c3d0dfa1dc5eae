"""Leaderboards: runs that answered the same questions, side by side, seeds pooled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from automix_eval.analysis.bootstrap_table import BootstrapTable
from automix_eval.analysis.comparisons import compare_all
from automix_eval.analysis.entries import Method, MethodOnRun
from automix_eval.analysis.figures import Board, CurvePoint, MethodFigures
from automix_eval.analysis.matched import matched
from automix_eval.analysis.method import MethodScore
from automix_eval.analysis.plain_runs import PlainRun
from automix_eval.analysis.play import (
    ReplayData,
    Replayed,
    oracle_routings,
    play,
    play_own,
    why_not_full,
)
from automix_eval.analysis.references import References
from automix_eval.analysis.routed_paths import ChainRouting, GivenRouting, QuestionSet
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.runs import Run
from automix_eval.safety.text import printable

_NOT_THE_METHOD = ("policy", "transfer", "seed", "_target_")


@dataclass(slots=True)
class ReplayCache:
    """What a report computes once: its bootstrap settings, and the replays of each question set.

    Attributes:
        baselines: Meta-verifiers to replay, as ``--baseline`` names them.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
    """

    baselines: Sequence[str]
    resamples: int
    seed: int
    _data: dict[int, ReplayData] = field(default_factory=dict)
    _replayed: dict[tuple[int, str], Replayed | Undefined] = field(default_factory=dict)

    def played(self, questions: QuestionSet, spec: str) -> Replayed | Undefined:
        """A baseline on a question set; the empty name is the run's own router."""
        key = (id(questions), spec)
        if key not in self._replayed:
            data = self._data.setdefault(id(questions), ReplayData(questions))
            self._replayed[key] = play(data, spec) if spec else play_own(data)
        return self._replayed[key]


@dataclass(slots=True)
class BoardColumns:
    """A board with its columns registered: figures are read from it."""

    rows: list[MethodScore]
    ends: Mapping[int, References]
    live: list[MethodScore]
    _methods: tuple[MethodFigures, ...] = ()

    def methods(self) -> tuple[MethodFigures, ...]:
        """Live rows, replays, plain runs, each with its figures."""
        if self._methods:
            return self._methods
        made = [r.figures() for r in self.rows]
        pairs = [one for row in self.live for one in matched(row)]
        order = {"live": 0, "replay": 1, "plain": 2}
        self._methods = tuple(sorted([*made, *pairs], key=lambda m: order[m.kind]))
        return self._methods


def draft(
    sets: Sequence[QuestionSet], plains: Sequence[PlainRun], cache: ReplayCache
) -> BoardColumns:
    """Register all columns of a board.

    Args:
        sets: Runs on the same questions, at least one unless there are plain runs.
        plains: Plain runs on the same questions.
        cache: Replays and settings.
    """
    documents = sets[0].rows.documents if sets else np.arange(len(plains[0].scores))
    table = BootstrapTable(documents, cache.resamples, cache.seed)
    ends = {id(s): References.of(table, s) for s in sets}
    live = [MethodScore.of(table, e, ends) for e in live_methods(sets, cache)]
    others = [*replay_methods(sets, cache), *plain_methods(sets, plains)]
    return BoardColumns([*live, *(MethodScore.of(table, e, ends) for e in others)], ends, live)


def board(
    key: str,
    sets: Sequence[QuestionSet],
    plains: Sequence[PlainRun],
    cache: ReplayCache,
    why_apart: str = "",
    columns: BoardColumns | None = None,
) -> Board:
    """The leaderboard of runs on the same questions."""
    columns = columns or draft(sets, plains, cache)
    methods = columns.methods()
    compared = [r for r in columns.rows if r.method.name != "replay:oracle"]
    if sets:
        rows, info = sets[0].rows, sets[0].run.tasks[sets[0].task]
        size, documents, task = len(rows), rows.num_documents, sets[0].task
        metric, sample = info.metric or "none", info.sample
        codes = rows.documents
        tiers = tuple(t.label for t in sets[0].run.tiers)
        cost = cost_text(sets[0].run)
    else:
        size = documents = len(plains[0].scores)
        task, metric, sample, tiers, cost = plains[0].task, plains[0].metric, False, (), ""
        codes = np.arange(size)
    return Board(
        key=key,
        task=printable(task),
        metric=printable(metric),
        sample=sample,
        num_questions=size,
        num_documents=documents,
        tiers=tiers,
        cost=cost,
        methods=methods,
        comparisons=compare_all(compared, codes, cache.seed),
        oracle_curve=_oracle_curve(columns),
        why_apart=why_apart,
    )


def cost_text(run: Run) -> str:
    """The prices of a run in words."""
    config = {k: v for k, v in run.config["cost"].items() if k not in {"name", "_target_"}}
    return printable(run.part("cost") + "".join(f", {k} {v}" for k, v in config.items()))


# --------------------------------------------------------------------------- entries


def live_methods(sets: Sequence[QuestionSet], cache: ReplayCache) -> list[Method]:
    """One method a router; runs that differ in their seeds alone are one."""
    groups: dict[str, list[QuestionSet]] = {}
    for questions in sets:
        groups.setdefault(_method_key(questions.run), []).append(questions)
    found = []
    for names, group in zip(_names(groups.values()), groups.values(), strict=True):
        seeds = _seeds(group)
        parts, note = [], ""
        for questions, seed in zip(group, seeds, strict=True):
            own = cache.played(questions, "")
            curve = () if isinstance(own, Undefined) else own.curve
            regions = () if isinstance(own, Undefined) else own.regions
            live, run = ChainRouting.live(questions), questions.run.run_id
            parts.append(MethodOnRun(live, questions, run, seed, curve, regions))
        judged = any((s.rows.judged & s.rows.on_path).any() for s in group)
        verifier = group[0].run.part("verifier") if judged else ""
        found.append(Method(names[0], "live", names[1], verifier, tuple(parts), note))
    return found


def replay_methods(sets: Sequence[QuestionSet], cache: ReplayCache) -> list[Method]:
    """The closed forms, and the baselines that were asked for."""
    if not sets:
        return []
    one_a_seed = _one_a_seed(sets)
    chosen = one_a_seed[0]
    seeds = _seeds(chosen)

    def method(name: str, label: str, routings: Sequence[ChainRouting | GivenRouting]) -> Method:
        parts = zip(routings, chosen, seeds, strict=True)
        made = (MethodOnRun(r, questions, questions.run.run_id, s) for r, questions, s in parts)
        return Method(f"replay:{name}", "replay", label, "", tuple(made))

    llm = [GivenRouting(s.llm.scores, s.llm.costs, s.last) for s in chosen]
    found = [
        method("always_slm", "always_slm", [ChainRouting.only(s, 0) for s in chosen]),
        method("always_llm", "always_llm", llm),
    ]
    reason = next((r for s in chosen if (r := why_not_full(s))), None)
    if reason:
        found.append(Method("replay:oracle", "replay", "oracle", "", (), missing=reason))
    else:
        found.append(method("oracle", "oracle", [oracle_routings(s)[0] for s in chosen]))
    for group in one_a_seed:
        suffix = f" on {group[0].run.part('verifier')}" if len(one_a_seed) > 1 else ""
        found += [_baseline(spec, group, suffix, cache) for spec in cache.baselines]
    return found


def _baseline(spec: str, group: Sequence[QuestionSet], suffix: str, cache: ReplayCache) -> Method:
    played = [cache.played(s, spec) for s in group]
    name, label = f"replay:{printable(spec)}{suffix}", printable(spec) + suffix
    verifier = group[0].run.part("verifier")
    if reason := next((p for p in played if isinstance(p, Undefined)), None):
        return Method(name, "replay", label, "", (), missing=reason)
    parts = tuple(
        MethodOnRun(p.routing, questions, questions.run.run_id, seed, p.curve, p.regions)
        for p, questions, seed in zip(played, group, _seeds(group), strict=True)
        if isinstance(p, Replayed)
    )
    reads = any(p.routing.pays for p in played if isinstance(p, Replayed))
    return Method(name, "replay", label, verifier if reads else "", parts)


def plain_methods(sets: Sequence[QuestionSet], plains: Sequence[PlainRun]) -> list[Method]:
    """Runs of one model by the harness alone."""
    found = []
    for run in plains:
        questions = sets[0] if sets else None
        routing = GivenRouting(run.scores, run.cost(questions))
        same = [p.label for p in plains].count(run.label) > 1
        label = f"{run.label} ({run.shown})" if same else run.label
        parts = (MethodOnRun(routing, questions, run.shown),)
        found.append(Method(f"plain:{label}", "plain", label, "", parts, note=run.note))
    return found


# --------------------------------------------------------------------------- names and seeds


def _method_key(run: Run) -> str:
    groups = ("meta_verifier", "calibrator", "verifier", "calibration")
    return json.dumps([*(_part(run, g) for g in groups), run.label])


def _part(run: Run, group: str) -> Any:
    value = run.config.get(group)
    if not isinstance(value, Mapping):
        return value
    return {str(k): str(v) for k, v in sorted(value.items()) if k not in _NOT_THE_METHOD}


def _names(groups: Any) -> list[tuple[str, str]]:
    """(name, label) of each group of runs: as short as tells them apart."""
    runs = [group[0].run for group in groups]
    forms = [
        [r.part("meta_verifier") for r in runs],
        [f"{r.part('meta_verifier')} on {r.part('verifier')}" for r in runs],
        [f"{r.part('meta_verifier')} on {r.part('verifier')}, {printable(r.label)}" for r in runs],
        [
            f"{r.part('meta_verifier')} on {r.part('verifier')}, run {printable(r.run_id)}"
            for r in runs
        ],
    ]
    best = next((f for f in forms if len(set(f)) == len(runs)), forms[-1])
    return [(name, f"AutoMix ({name})") for name in best]


def _seeds(group: Sequence[QuestionSet]) -> list[int]:
    """The seed that tells the runs of a group apart: the run's own, else the calibration's."""
    own = [s.run.seeds[0] for s in group]
    inner = [s.run.seeds[1] for s in group]
    return inner if len(set(inner)) > len(set(own)) else own


def _one_a_seed(sets: Sequence[QuestionSet]) -> list[list[QuestionSet]]:
    """For each verifier, one run a seed: those to replay on, fully recorded and fitted if any."""
    groups: dict[str, dict[tuple[int, int], QuestionSet]] = {}
    ranked = sorted(
        sets, key=lambda s: (why_not_full(s) is not None, s.task not in s.run.calibration)
    )
    best = why_not_full(ranked[0]) is None
    for questions in ranked:
        if best and why_not_full(questions):
            continue
        key = json.dumps(_part(questions.run, "verifier"))
        groups.setdefault(key, {}).setdefault(questions.run.seeds, questions)
    if not best:
        # nothing can be replayed: the first run that asked the SLM everything stands for all
        ranked.sort(key=lambda s: not s.rows.asked[:, 0].all())
        return [[ranked[0]]]
    return [list(g.values()) for g in groups.values()]


def _oracle_curve(columns: BoardColumns) -> tuple[CurvePoint, ...]:
    if not columns.live:
        return ()
    row = columns.live[0]
    corners, four = row.oracle(), row.four()
    if isinstance(corners, Undefined) or any(isinstance(v, Undefined) for v in four):
        return ()
    points = [CurvePoint(float(c[0]), float(q[0]), float(e[0])) for q, c, e in corners]
    points.append(CurvePoint(float(np.asarray(four[1])[0]), float(np.asarray(four[0])[0]), 0.0))
    return tuple(sorted(points, key=lambda p: (p.cost, p.quality)))
