"""Figures of runs for tests that let a change of prompt, model or policy pass or not.

An undefined figure raises with its reason, and so does a run that was not finished: a gate is never
passed by a missing number, or by that of some of the questions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from automix_eval.analysis.figures import (
    NOT_COMPARED,
    Comparison,
    Figure,
    MethodFigures,
    Report,
    TaskReport,
)
from automix_eval.analysis.gather import ReportAndRuns
from automix_eval.analysis.point_figures import OperatingPoint, OperatingPoints, PointName
from automix_eval.metrics.bootstrap import LEVEL
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.noninferiority import PairedScores
from automix_eval.records.runs import PARTIAL
from automix_eval.report.blocks import known_text
from automix_eval.report.columns import MEANINGS
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import did_you_mean


class GateError(AutoMixError):
    """A figure that a gate asks for does not exist; says which and why."""


@dataclass(frozen=True, slots=True)
class Gate:
    """A figure as numbers, with the ends of its 95 % interval.

    Attributes:
        name: What it is, for the error message.
        figure: The figure.
    """

    name: str
    figure: Figure

    @property
    def value(self) -> float:
        """The figure; a GateError with the reason where it is undefined."""
        if isinstance(self.figure.value, Undefined):
            raise GateError(f"{self.name} is undefined: {self.figure.value.reason}")
        return self.figure.value

    @property
    def low(self) -> float:
        """Lower end of the interval; a GateError where there is none."""
        return self._ends()[0]

    @property
    def high(self) -> float:
        """Upper end of the interval; a GateError where there is none."""
        return self._ends()[1]

    def __float__(self) -> float:
        return self.value

    def __bool__(self) -> bool:
        raise GateError(f"{self.name} alone asserts nothing: compare its .value, .low or .high")

    def __repr__(self) -> str:
        if isinstance(self.figure.value, Undefined):
            return f"{self.name} undefined ({self.figure.value.reason})"
        return f"{self.name} {known_text(self.figure, '.4g')}"

    def _ends(self) -> tuple[float, float]:
        number, ends = self.value, self.figure.interval
        if isinstance(ends, tuple):
            return ends
        reason = ends.reason if isinstance(ends, Undefined) else "it is exact"
        raise GateError(f"{self.name} is {number:.4g} and has no interval: {reason}")


@dataclass(frozen=True, slots=True)
class Holds:
    """Whether a share of the LLM's quality is shown to be kept; true where it is.

    Attributes:
        name: What is held against the LLM.
        share: The share.
        confidence: One-sided.
        bound: Lower confidence bound of the mean of score - share x the LLM's score.
    """

    name: str
    share: float
    confidence: float
    bound: float

    def __bool__(self) -> bool:
        return self.bound > 0

    def __repr__(self) -> str:
        return (
            f"{self.name}: {self.share:.4g} of the LLM's quality is {'' if self else 'not '}shown "
            f"to be kept ({self.confidence:.4g} one-sided; quality - {self.share:.4g} x LLM is at "
            f"least {self.bound:.4g})"
        )


@dataclass(frozen=True, slots=True)
class GatedRun:
    """One run: its figures by task, and by method for replays.

    Attributes:
        run_id: The run.
        label: Its label, empty if it has none.
        reports: Task -> what the report says of it.
        points: Task -> its operating points, with the verdict.
        paired: Task -> method -> its scores beside the LLM's, or why there are none.
    """

    run_id: str
    label: str
    reports: Mapping[str, TaskReport]
    points: Mapping[str, OperatingPoints] = field(default_factory=dict)
    paired: Mapping[str, Mapping[str, PairedScores | Undefined]] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks of the run."""
        return tuple(self.reports)

    def __getattr__(self, name: str) -> Callable[..., Gate]:
        """A figure by its field in ``report/columns.py``: ``delta_ibc(task)``, ``quality(task)``...

        Each takes the task and, for another row than the run's own, ``method``.
        """
        if name not in MEANINGS:
            raise AttributeError(f"a run has no figure {name}{did_you_mean(name, MEANINGS)}")
        return partial(self._gate, name)

    def __dir__(self) -> list[str]:
        return [*super(GatedRun, self).__dir__(), *MEANINGS]

    def cost_at(self, task: str, share: float, method: str | None = None) -> Gate:
        """Cost that reaches 0.95, 0.99 or 1.0 of the LLM's quality."""
        found = dict(self.method(task, method).cost_at)
        if share not in found:
            raise GateError(f"cost_at knows the shares {', '.join(map(str, found))}, not {share}")
        return Gate(f"cost at {share:.0%} of the LLM's quality on {task}", found[share])

    def latency(self, task: str, p: float = 95, part: str = "path") -> Gate:
        """Seconds within which p of 100 questions were answered on their routed path.

        Args:
            task: The task.
            p: 50, 95 or 99.
            part: ``path``, the whole; or ``slm``, ``verification`` or ``llm`` alone.
        """
        self.method(task)  # the task is there, and the run was finished
        found = self.reports[task].latency
        if part not in found or f"p{p:g}" not in found[part]:
            known = f"p of {', '.join(n[1:] for n in found['path'])} and part {', '.join(found)}"
            raise GateError(f"latency knows {known}, not p={p:g}, part={part}")
        return Gate(f"p{p:g} of the latency of {part} on {task}", found[part][f"p{p:g}"])

    def waits_for_two(self, task: str) -> Gate:
        """Share of questions whose path has more than one model."""
        self.method(task)
        return Gate(f"waits_for_two on {task}", self.reports[task].waits_for_two)

    def holds(
        self, task: str, share: float, confidence: float = LEVEL, method: str | None = None
    ) -> Holds:
        """Whether a method is shown to keep a share of the LLM's quality (non-inferiority).

        Args:
            task: The task.
            share: Share of the LLM's mean score, such as 0.95.
            confidence: Of the one-sided bound: a gate that passes is wrong with a chance of at
                most 1 - ``confidence``.
            method: Another row than the run's own.

        Raises:
            GateError: It cannot be told; says why.
        """
        shown = f"{method or self.reports[task].method} on {task}" if task in self.reports else task
        name = self.method(task, method).name
        found = self.paired.get(task, {}).get(name, NOT_COMPARED)
        if isinstance(found, Undefined):
            raise GateError(f"what {shown} keeps of the LLM's quality: {found.reason}")
        try:
            return Holds(shown, share, confidence, found.lower_bound(share, confidence))
        except ValueError as err:
            raise GateError(f"holds: {err}") from err

    def point(self, task: str, name: PointName = "live") -> OperatingPoint:
        """An operating point of a task: ``live``, ``gain``, ``keeps_95``, ``keeps_99``, ...

        Raises:
            GateError: There is none of this name; says why.
        """
        self.method(task)  # the task is there, and the run was finished
        held = self.points[task]
        found = next((p for p in held.points if p.name == name), None)
        if found is None:
            names = ", ".join(p.name for p in held.points)
            why = "; ".join(held.notes)
            raise GateError(f"{task} has no point {name}, only {names}{': ' if why else ''}{why}")
        return found

    def method(self, task: str, name: str | None = None) -> MethodFigures:
        """A row of the run: its own, or a replay such as ``always_llm`` or ``threshold``."""
        if task not in self.reports:
            raise GateError(f"run {self.run_id} has no task {task}: it has {', '.join(self.tasks)}")
        if unfinished := [w for w in self.reports[task].warnings if w.startswith(PARTIAL)]:
            raise GateError(f"run {self.run_id} passes no gate: {unfinished[0]}")
        rows = self.reports[task].methods
        if name is None:
            return rows[0]
        found = next((m for m in rows if name in (m.name, m.name.removeprefix("replay:"))), None)
        if found is None:
            names = ", ".join(m.name for m in rows)
            raise GateError(f"run {self.run_id} has no method {name} on {task}: it has {names}")
        return found

    def _gate(self, name: str, task: str, method: str | None = None) -> Gate:
        figure: Figure = getattr(self.method(task, method), name)
        return Gate(f"{name} of {method or self.reports[task].method} on {task}", figure)


@dataclass(frozen=True, slots=True)
class GatedRuns(Sequence[GatedRun]):
    """All runs below the folders, oldest first.

    Attributes:
        report: The whole report, leaderboards included.
        runs: The runs.
    """

    report: Report
    runs: tuple[GatedRun, ...]

    @classmethod
    def of(cls, assembled: ReportAndRuns) -> GatedRuns:
        """The runs of a report."""
        points = {(p.run_id, p.task): p for p in assembled.report.operating_points}
        by_run: dict[str, dict[str, TaskReport]] = {}
        for task in assembled.report.tasks:
            by_run.setdefault(task.run_id, {})[task.task] = task
        runs = tuple(
            GatedRun(
                run_id,
                next(iter(tasks.values())).label,
                tasks,
                {name: points[run_id, name] for name in tasks if (run_id, name) in points},
                {name: assembled.paired.get((run_id, name), {}) for name in tasks},
            )
            for run_id, tasks in by_run.items()
        )
        return cls(assembled.report, runs)

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        """A run by its place, its run_id or its label."""
        if not isinstance(key, str):
            return self.runs[key]
        found = [r for r in self.runs if key in (r.run_id, r.label)]
        if len(found) != 1:
            names = ", ".join(f"{r.run_id} ({r.label})" for r in self.runs)
            raise GateError(f"{len(found)} runs are named {key}; there are {names}")
        return found[0]

    def __len__(self) -> int:
        return len(self.runs)

    def __iter__(self) -> Iterator[GatedRun]:
        return iter(self.runs)

    def comparison(self, task: str, first: str, second: str) -> Comparison:
        """The paired comparison of two methods of a task's leaderboard, first minus second."""
        for board in self.report.boards:
            for one in board.comparisons if board.task == task else ():
                if (one.first, one.second) == (first, second):
                    return one
        raise GateError(f"no leaderboard of {task} compares {first} with {second}, in this order")
