"""Leaderboards: runs that answered the same questions, side by side, seeds pooled."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from automix_eval.analysis.bootstrap_table import BootstrapTable
from automix_eval.analysis.comparable import ComparableRuns
from automix_eval.analysis.comparisons import compare_all
from automix_eval.analysis.figures import Board, CurvePoint, MethodFigures
from automix_eval.analysis.llm_point import single_model_place
from automix_eval.analysis.matched import matched
from automix_eval.analysis.method import MethodScore
from automix_eval.analysis.method_settings import MethodSettings
from automix_eval.analysis.play import ReplayData, play, play_own
from automix_eval.analysis.question_sets import QuestionSet
from automix_eval.analysis.reference_methods import (
    NOT_COMPARED,
    ZERO,
    ZERO_LABEL,
    name_alone,
    zero_router,
)
from automix_eval.analysis.references import References
from automix_eval.analysis.replayed import Replayed, oracle_routings
from automix_eval.analysis.routed_paths import (
    ChainRouting,
    Choice,
    GivenRouting,
    Method,
    MethodOnRun,
)
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.runs import Run
from automix_eval.records.single_model_runs import SingleModelRun
from automix_eval.safety.text import listing, printable

# Routers that are replayed unasked wherever they can be.
OPPONENTS = ("pairs",)


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
            data = self.data(questions)
            self._replayed[key] = play(data, spec) if spec else play_own(data)
        return self._replayed[key]

    def data(self, questions: QuestionSet) -> ReplayData:
        """The columns of a question set that routers are fitted and played on."""
        return self._data.setdefault(id(questions), ReplayData(questions))


@dataclass(slots=True)
class BoardColumns:
    """A board with its columns registered: figures are read from it."""

    table: BootstrapTable
    rows: list[MethodScore]
    references: Mapping[int, References]
    live: list[MethodScore]
    _methods: tuple[MethodFigures, ...] = ()

    def methods(self) -> tuple[MethodFigures, ...]:
        """Live rows, replays, runs of one model, each with its figures."""
        if self._methods:
            return self._methods
        made = [r.figures() for r in self.rows]
        pairs = [one for row in self.live for one in matched(row)]
        order = {"live": 0, "replay": 1, "plain": 2}
        self._methods = tuple(sorted([*made, *pairs], key=lambda m: order[m.kind]))
        return self._methods


def draft(
    sets: Sequence[QuestionSet], single_models: Sequence[SingleModelRun], cache: ReplayCache
) -> BoardColumns:
    """Register all columns of a board.

    Args:
        sets: Runs on the same questions, at least one unless there are others.
        single_models: Runs of one model on the same questions.
        cache: Replays and settings.
    """
    singles = single_model_methods(sets, single_models)
    live_ones, others = live_methods(sets, cache), [*replay_methods(sets, cache), *singles]
    documents = sets[0].rows.documents if sets else np.arange(len(single_models[0].scores))
    table = BootstrapTable(documents, cache.resamples, cache.seed)
    references = {id(s): References.of(table, s.tiers, GivenRouting.llm_of(s)) for s in sets}

    def score(method: Method) -> MethodScore:
        return MethodScore.of(
            table, method, [references.get(id(p.questions)) for p in method.parts]
        )

    live = [score(m) for m in live_ones]
    return BoardColumns(table, [*live, *map(score, others)], references, live)


def board(runs: ComparableRuns, cache: ReplayCache, columns: BoardColumns | None = None) -> Board:
    """The leaderboard of runs on the same questions."""
    sets, single_models = runs.sets, runs.single_models
    columns = columns or draft(sets, single_models, cache)
    methods = columns.methods()
    compared = [r for r in columns.rows if r.method.name not in NOT_COMPARED]
    if sets:
        rows, info = sets[0].rows, sets[0].run.tasks[sets[0].task]
        size, documents, task = len(rows), rows.num_documents, sets[0].task
        metric, sample = info.quality, info.sample
        tiers = tuple(t.label for t in sets[0].run.tiers)
        cost = sets[0].run.prices
    else:
        one, sample, tiers, cost = single_models[0], False, (), ""
        size = documents = len(one.scores)
        task, metric = one.task, one.quality
    return Board(
        key=runs.key,
        task=printable(task),
        metric=printable(metric),
        sample=sample,
        num_questions=size,
        num_documents=documents,
        tiers=tiers,
        cost=cost,
        methods=methods,
        oracle_curve=oracle_curve(columns.live[0]) if columns.live else (),
        comparisons=compare_all(compared, cache.seed),
        why_apart=runs.why_apart,
    )


# --------------------------------------------------------------------------- methods


def live_methods(sets: Sequence[QuestionSet], cache: ReplayCache) -> list[Method]:
    """One method a router; runs that differ in their seeds alone are one."""
    by_settings: dict[str, list[QuestionSet]] = {}
    for questions in sets:
        key = MethodSettings.of_method(questions.run).text()
        by_settings.setdefault(key, []).append(questions)
    found, groups = [], list(by_settings.values())
    for name, group in zip(_names(groups), groups, strict=True):
        group.sort(key=lambda s: s.run.seeds)
        seeds = _seeds(group)
        parts = []
        for questions, seed in zip(group, seeds, strict=True):
            one = MethodOnRun(ChainRouting.live(questions), questions, questions.run.run_id, seed)
            own = cache.played(questions, "")
            if isinstance(own, Replayed):
                one = replace(one, curve=own.curve, regions=own.regions, path=own.path)
            parts.append(one)
        judged = any((s.rows.judged & s.rows.on_path).any() for s in group)
        verifier = group[0].run.part("verifier") if judged else ""
        label = f"AutoMix ({name})"
        found.append(Method(name, "live", label, verifier, tuple(parts)))
    return found


def replay_methods(sets: Sequence[QuestionSet], cache: ReplayCache) -> list[Method]:
    """The closed forms, the opponents that can be played, and the baselines asked for."""
    if not sets:
        return []
    one_a_seed = _one_a_seed(sets)
    chosen = one_a_seed[0]
    seeds = _seeds(chosen)

    def method(
        name: str,
        label: str,
        routings: Sequence[ChainRouting | GivenRouting],
        curves: Sequence[tuple[Choice, ...]] = ((),) * len(chosen),
    ) -> Method:
        parts = zip(routings, chosen, seeds, curves, strict=True)
        made = (
            MethodOnRun(r, questions, questions.run.run_id, s, curve=curve)
            for r, questions, s, curve in parts
        )
        return Method(f"replay:{name}", "replay", label, "", tuple(made))

    found = [
        method("always_slm", "always_slm", [ChainRouting.only(s.tiers, 0) for s in chosen]),
        method("always_llm", "always_llm", [GivenRouting.llm_of(s) for s in chosen]),
    ]
    reason = next((r for s in chosen if (r := s.tiers.why_not_full())), None)
    if reason:
        found.append(Method("replay:oracle", "replay", "oracle", "", (), missing=reason))
    else:
        for tier in range(1, chosen[0].last):
            name = name_alone(tier, chosen[0].last)
            found.append(method(name, name, [ChainRouting.only(s.tiers, tier) for s in chosen]))
        zero = [zero_router(s.tiers) for s in chosen]
        found.append(method(ZERO, ZERO_LABEL, *zip(*zero, strict=True)))
        found.append(method("oracle", "oracle", [oracle_routings(s.tiers)[0] for s in chosen]))
    names = {m.name for m in found}
    for group in one_a_seed:
        suffix = f" on {group[0].run.part('verifier')}" if len(one_a_seed) > 1 else ""
        unasked = [o for o in OPPONENTS if o not in cache.baselines]
        opponents = (_baseline(spec, group, suffix, cache) for spec in unasked)
        found += [one for one in opponents if one.missing is None]
        asked = (_baseline(spec, group, suffix, cache) for spec in cache.baselines)
        found += [one for one in asked if one.name not in names]
    return found


def _baseline(spec: str, group: Sequence[QuestionSet], suffix: str, cache: ReplayCache) -> Method:
    played = [cache.played(s, spec) for s in group]
    name, label = f"replay:{printable(spec)}{suffix}", printable(spec) + suffix
    verifier = group[0].run.part("verifier")
    if reason := next((p for p in played if isinstance(p, Undefined)), None):
        return Method(name, "replay", label, "", (), missing=reason)
    parts = tuple(
        MethodOnRun(way, questions, questions.run.run_id, seed, p.curve, p.regions, p.path)
        for p, questions, seed in zip(played, group, _seeds(group), strict=True)
        if isinstance(p, Replayed)
        for way in p.ways
    )
    reads = any(np.any(way.pays) for p in played if isinstance(p, Replayed) for way in p.ways)
    return Method(name, "replay", label, verifier if reads else "", parts)


def single_model_methods(
    sets: Sequence[QuestionSet], single_models: Sequence[SingleModelRun]
) -> list[Method]:
    """Runs of one model by the harness alone."""
    found = []
    for run in single_models:
        questions = sets[0] if sets else None
        costs, tier = single_model_place(run, questions)
        routing = GivenRouting(run.scores, costs, tier)
        same = [p.label for p in single_models].count(run.label) > 1
        label = f"{run.label} ({run.shown})" if same else run.label
        parts = (MethodOnRun(routing, questions, run.shown, in_chain=tier is not None),)
        found.append(Method(f"plain:{label}", "plain", label, "", parts, note=run.note))
    return found


# --------------------------------------------------------------------------- names and seeds


def _plain_name(run: Run) -> str:
    return f"{run.part('meta_verifier')} on {run.part('verifier')}"


def _names(groups: Sequence[Sequence[QuestionSet]]) -> list[str]:
    """A name for each method: as short as tells them apart, or else with what differs."""
    runs = [group[0].run for group in groups]
    plain = [_plain_name(r) for r in runs]
    forms = [
        [r.part("meta_verifier") for r in runs],
        plain,
        [f"{name}, {printable(r.label)}" for name, r in zip(plain, runs, strict=True)],
        [", ".join([name, *_values(r, runs)]) for name, r in zip(plain, runs, strict=True)],
        [f"{name}, run {printable(r.run_id)}" for name, r in zip(plain, runs, strict=True)],
    ]
    return next((f for f in forms if len(set(f)) == len(runs)), forms[-1])


def _values(run: Run, runs: Sequence[Run]) -> list[str]:
    """The settings in which a run differs from others of the same router and verifier."""
    alike = [MethodSettings.of_method(r) for r in runs if _plain_name(r) == _plain_name(run)]
    own = {printable(k): v for k, v in MethodSettings.of_method(run).values.items()}
    keys = MethodSettings.unequal(alike)
    return [f"{key}={printable(own.get(key, 'unknown'), 40)}" for key in keys]


def notes(runs: ComparableRuns) -> list[str]:
    """What the reader should know of who was compared, and pooled, with whom."""
    found = []
    if runs.why_apart:
        found.append(f"{runs.key}: a table of its own, since {runs.why_apart}")
    by_name: dict[str, list[Run]] = {}
    for questions in runs.sets:
        by_name.setdefault(_plain_name(questions.run), []).append(questions.run)
    for name, several in by_name.items():
        if keys := MethodSettings.unequal(map(MethodSettings.of_method, several)):
            found.append(
                f"{runs.key}: {len(several)} runs of {name} differ in {listing(keys)}: those that "
                "do are rows of their own, not seeds of one method"
            )
    unknown = [s.run.run_id for s in runs.sets if not s.run.tasks[s.task].settings]
    if unknown and len(runs.sets) > 1:
        names = listing([f"run {printable(i)}" for i in unknown])
        found.append(
            f"{runs.key}: how the task was configured is not known of {names} (no config_hashes in "
            "the manifest, no results of the harness beside it): whether it was the same for all "
            "was judged by version, metric, prompts and gold answers alone"
        )
    return found


def _seeds(group: Sequence[QuestionSet]) -> list[int]:
    """The seed that tells the runs of a group apart: the run's own, else the calibration's."""
    own = [s.run.seeds[0] for s in group]
    inner = [s.run.seeds[1] for s in group]
    return inner if len(set(inner)) > len(set(own)) else own


def _one_a_seed(sets: Sequence[QuestionSet]) -> list[list[QuestionSet]]:
    """For each verifier, one run a seed: those to replay on, fully recorded and fitted if any."""
    groups: dict[str, dict[tuple[int, int], QuestionSet]] = {}
    ranked = sorted(
        sets, key=lambda s: (s.tiers.why_not_full() is not None, s.task not in s.run.calibration)
    )
    best = ranked[0].tiers.why_not_full() is None
    for questions in ranked:
        if best and questions.tiers.why_not_full():
            continue
        key = MethodSettings.of_verifier(questions.run).text()
        groups.setdefault(key, {}).setdefault(questions.run.seeds, questions)
    if not best:
        # nothing can be replayed: the first run that asked the SLM everything stands for all
        ranked.sort(key=lambda s: not s.rows.asked[:, 0].all())
        return [[ranked[0]]]
    return [[g[seeds] for seeds in sorted(g)] for g in groups.values()]


def oracle_curve(row: MethodScore) -> tuple[CurvePoint, ...]:
    """The oracle on a method's questions, from the SLM's cost upwards; empty if there is none."""
    corners, ends = row.oracle(), row.ends()
    if isinstance(corners, Undefined) or any(isinstance(v, Undefined) for v in ends):
        return ()
    points = [CurvePoint(float(c[0]), float(q[0]), float(e[0])) for q, c, e in corners]
    slm_cost, slm_quality = (float(np.asarray(v)[0]) for v in (ends.slm_cost, ends.slm_quality))
    points.append(CurvePoint(slm_cost, slm_quality, 0.0))
    return tuple(sorted(dict.fromkeys(points), key=lambda p: (p.cost, p.quality)))
