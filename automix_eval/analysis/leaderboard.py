"""Leaderboards: runs that answered the same questions, side by side, seeds pooled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from automix_eval.analysis.bootstrap_table import Ledger
from automix_eval.analysis.comparisons import compare_all
from automix_eval.analysis.entries import Entry, Part
from automix_eval.analysis.figures import Board, CurvePoint, MethodFigures
from automix_eval.analysis.matched import matched
from automix_eval.analysis.method import Row
from automix_eval.analysis.plain_runs import PlainRun
from automix_eval.analysis.play import Played, Stage, oracle_tracks, play, play_own, why_not_full
from automix_eval.analysis.references import Ends
from automix_eval.analysis.routed_paths import Fixed, Sheet, Track
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.runs import Run
from automix_eval.safety.listing import plain

_NOT_THE_METHOD = ("policy", "transfer", "seed", "_target_")


@dataclass(slots=True)
class Desk:
    """What is computed once a report: the bootstrap's settings and the replays of each sheet.

    Attributes:
        baselines: Meta-verifiers to replay, as ``--baseline`` names them.
        resamples: Number of bootstrap resamples.
        seed: Seed of the bootstrap.
    """

    baselines: Sequence[str]
    resamples: int
    seed: int
    _stages: dict[int, Stage] = field(default_factory=dict)
    _played: dict[tuple[int, str], Played | Undefined] = field(default_factory=dict)

    def played(self, sheet: Sheet, spec: str) -> Played | Undefined:
        """A baseline on a sheet; the empty name is the run's own router."""
        key = (id(sheet), spec)
        if key not in self._played:
            stage = self._stages.setdefault(id(sheet), Stage(sheet))
            self._played[key] = play(stage, spec) if spec else play_own(stage)
        return self._played[key]


@dataclass(slots=True)
class Drafted:
    """A board with its columns registered: figures are read from it."""

    rows: list[Row]
    ends: Mapping[int, Ends]
    live: list[Row]
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


def draft(sheets: Sequence[Sheet], plains: Sequence[PlainRun], desk: Desk) -> Drafted:
    """Register all columns of a board.

    Args:
        sheets: Runs on the same questions, at least one unless there are plain runs.
        plains: Plain runs on the same questions.
        desk: Replays and settings.
    """
    documents = sheets[0].rows.documents if sheets else np.arange(len(plains[0].scores))
    ledger = Ledger(documents, desk.resamples, desk.seed)
    ends = {id(s): Ends.of(ledger, s) for s in sheets}
    live = [Row.of(ledger, e, ends) for e in live_entries(sheets, desk)]
    others = [*replay_entries(sheets, desk), *plain_entries(sheets, plains)]
    return Drafted([*live, *(Row.of(ledger, e, ends) for e in others)], ends, live)


def board(
    key: str,
    sheets: Sequence[Sheet],
    plains: Sequence[PlainRun],
    desk: Desk,
    why_apart: str = "",
    drafted: Drafted | None = None,
) -> Board:
    """The leaderboard of runs on the same questions."""
    drafted = drafted or draft(sheets, plains, desk)
    methods = drafted.methods()
    compared = [r for r in drafted.rows if r.entry.name != "replay:oracle"]
    if sheets:
        rows, info = sheets[0].rows, sheets[0].run.tasks[sheets[0].task]
        size, documents, task = len(rows), rows.num_documents, sheets[0].task
        metric, sample = info.metric or "none", info.sample
        codes = rows.documents
        tiers = tuple(t.label for t in sheets[0].run.tiers)
        cost = cost_text(sheets[0].run)
    else:
        size = documents = len(plains[0].scores)
        task, metric, sample, tiers, cost = plains[0].task, plains[0].metric, False, (), ""
        codes = np.arange(size)
    return Board(
        key=key,
        task=plain(task),
        metric=plain(metric),
        sample=sample,
        num_questions=size,
        num_documents=documents,
        tiers=tiers,
        cost=cost,
        methods=methods,
        comparisons=compare_all(compared, codes, desk.seed),
        oracle_curve=_oracle_curve(drafted),
        why_apart=why_apart,
    )


def cost_text(run: Run) -> str:
    """The prices of a run in words."""
    config = {k: v for k, v in run.config["cost"].items() if k not in {"name", "_target_"}}
    return plain(run.part("cost") + "".join(f", {k} {v}" for k, v in config.items()))


# --------------------------------------------------------------------------- entries


def live_entries(sheets: Sequence[Sheet], desk: Desk) -> list[Entry]:
    """One entry a router; runs that differ in their seeds alone are one."""
    groups: dict[str, list[Sheet]] = {}
    for sheet in sheets:
        groups.setdefault(_method_key(sheet.run), []).append(sheet)
    found = []
    for names, group in zip(_names(groups.values()), groups.values(), strict=True):
        seeds = _seeds(group)
        parts, note = [], ""
        for sheet, seed in zip(group, seeds, strict=True):
            own = desk.played(sheet, "")
            curve = () if isinstance(own, Undefined) else own.curve
            regions = () if isinstance(own, Undefined) else own.regions
            parts.append(Part(Track.live(sheet), sheet, sheet.run.run_id, seed, curve, regions))
        judged = any((s.rows.judged & s.rows.on_path).any() for s in group)
        verifier = group[0].run.part("verifier") if judged else ""
        found.append(Entry(names[0], "live", names[1], verifier, tuple(parts), note))
    return found


def replay_entries(sheets: Sequence[Sheet], desk: Desk) -> list[Entry]:
    """The closed forms, and the baselines that were asked for."""
    if not sheets:
        return []
    one_a_seed = _one_a_seed(sheets)
    chosen = one_a_seed[0]
    seeds = _seeds(chosen)

    def entry(name: str, label: str, lanes: Sequence[Track | Fixed]) -> Entry:
        parts = zip(lanes, chosen, seeds, strict=True)
        return Entry(
            f"replay:{name}", "replay", label, "",
            tuple(Part(lane, sheet, sheet.run.run_id, seed) for lane, sheet, seed in parts),
        )  # fmt: skip

    llm = [Fixed(s.llm.scores, s.llm.costs, s.last) for s in chosen]
    found = [
        entry("always_slm", "always_slm", [Track.only(s, 0) for s in chosen]),
        entry("always_llm", "always_llm", llm),
    ]
    reason = next((r for s in chosen if (r := why_not_full(s))), None)
    if reason:
        found.append(Entry("replay:oracle", "replay", "oracle", "", (), missing=reason))
    else:
        found.append(entry("oracle", "oracle", [oracle_tracks(s)[0] for s in chosen]))
    for group in one_a_seed:
        suffix = f" on {group[0].run.part('verifier')}" if len(one_a_seed) > 1 else ""
        found += [_baseline(spec, group, suffix, desk) for spec in desk.baselines]
    return found


def _baseline(spec: str, group: Sequence[Sheet], suffix: str, desk: Desk) -> Entry:
    played = [desk.played(s, spec) for s in group]
    name, label = f"replay:{plain(spec)}{suffix}", plain(spec) + suffix
    verifier = group[0].run.part("verifier")
    if reason := next((p for p in played if isinstance(p, Undefined)), None):
        return Entry(name, "replay", label, "", (), missing=reason)
    parts = tuple(
        Part(p.lane, sheet, sheet.run.run_id, seed, p.curve, p.regions)
        for p, sheet, seed in zip(played, group, _seeds(group), strict=True)
        if isinstance(p, Played)
    )
    reads = any(p.lane.pays for p in played if isinstance(p, Played))
    return Entry(name, "replay", label, verifier if reads else "", parts)


def plain_entries(sheets: Sequence[Sheet], plains: Sequence[PlainRun]) -> list[Entry]:
    """Runs of one model by the harness alone."""
    found = []
    for run in plains:
        sheet = sheets[0] if sheets else None
        lane = Fixed(run.scores, run.cost(sheet))
        same = [p.label for p in plains].count(run.label) > 1
        label = f"{run.label} ({run.shown})" if same else run.label
        parts = (Part(lane, sheet, run.shown),)
        found.append(Entry(f"plain:{label}", "plain", label, "", parts, note=run.note))
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
        [f"{r.part('meta_verifier')} on {r.part('verifier')}, {plain(r.label)}" for r in runs],
        [f"{r.part('meta_verifier')} on {r.part('verifier')}, run {plain(r.run_id)}" for r in runs],
    ]
    best = next((f for f in forms if len(set(f)) == len(runs)), forms[-1])
    return [(name, f"AutoMix ({name})") for name in best]


def _seeds(group: Sequence[Sheet]) -> list[int]:
    """The seed that tells the runs of a group apart: the run's own, else the calibration's."""
    own = [s.run.seeds[0] for s in group]
    inner = [s.run.seeds[1] for s in group]
    return inner if len(set(inner)) > len(set(own)) else own


def _one_a_seed(sheets: Sequence[Sheet]) -> list[list[Sheet]]:
    """For each verifier, one run a seed: those to replay on, fully recorded and fitted if any."""
    groups: dict[str, dict[tuple[int, int], Sheet]] = {}
    ranked = sorted(
        sheets, key=lambda s: (why_not_full(s) is not None, s.task not in s.run.calibration)
    )
    best = why_not_full(ranked[0]) is None
    for sheet in ranked:
        if best and why_not_full(sheet):
            continue
        key = json.dumps(_part(sheet.run, "verifier"))
        groups.setdefault(key, {}).setdefault(sheet.run.seeds, sheet)
    if not best:
        # nothing can be replayed: the first run that asked the SLM everything stands for all
        ranked.sort(key=lambda s: not s.rows.asked[:, 0].all())
        return [[ranked[0]]]
    return [list(g.values()) for g in groups.values()]


def _oracle_curve(drafted: Drafted) -> tuple[CurvePoint, ...]:
    if not drafted.live:
        return ()
    row = drafted.live[0]
    corners, four = row.oracle(), row.four()
    if isinstance(corners, Undefined) or any(isinstance(v, Undefined) for v in four):
        return ()
    points = [CurvePoint(float(c[0]), float(q[0]), float(e[0])) for q, c, e in corners]
    points.append(CurvePoint(float(np.asarray(four[1])[0]), float(np.asarray(four[0])[0]), 0.0))
    return tuple(sorted(points, key=lambda p: (p.cost, p.quality)))
