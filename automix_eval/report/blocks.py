"""What a report is made of: its tasks, and the blocks that show them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from automix_eval.metrics.intervals import RESAMPLES
from automix_eval.report.figures import Board, MethodFigures, System, TaskFigures


@dataclass(frozen=True, slots=True)
class Heading:
    """A title; level 1 is the report's."""

    text: str
    level: int


@dataclass(frozen=True, slots=True)
class Paragraph:
    """Running text; ``hang`` is what stands before its first line."""

    text: str
    hang: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as texts; the first column is aligned to the left, the others to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


Block = Heading | Paragraph | Table


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One task of one run; every text in it is printable.

    Attributes:
        tiers: Labels of the tiers, SLM first.
        llm_source: Where the LLM-only figures come from; empty if there are none.
        methods: The run's own row (``live``) and the replays from its records.
        policy: The fitted policy as its file holds it; None if there is none.
    """

    run_id: str
    label: str
    created: str
    version: str
    task: str
    metric: str
    sample: bool
    meta_verifier: str
    verifier: str
    cost: str
    tiers: tuple[str, ...]
    figures: TaskFigures
    llm_source: str
    warnings: tuple[str, ...]
    methods: tuple[MethodFigures, ...] = ()
    policy: Mapping[str, Any] | None = None

    @property
    def method(self) -> str:
        """Name of the method's row."""
        return f"AutoMix ({self.meta_verifier})"

    @property
    def systems(self) -> tuple[tuple[str, str, System], ...]:
        """(name, model, figures) of the rows of the main table."""
        f = self.figures
        chain = " -> ".join(self.tiers)
        return (
            ("SLM", self.tiers[0], f.slm),
            ("LLM", self.tiers[-1], f.llm),
            (self.method, chain, f.method),
        )


@dataclass(frozen=True, slots=True)
class Report:
    """All tasks of all runs, oldest run first, and the leaderboard of each task.

    Attributes:
        tasks: One entry a task of a run.
        warnings: What concerns no single task.
        seed: Seed of the bootstrap.
        boards: One a task, more where its runs cannot be compared.
        resamples: Number of bootstrap resamples.
    """

    tasks: tuple[TaskReport, ...]
    warnings: tuple[str, ...]
    seed: int
    boards: tuple[Board, ...] = ()
    resamples: int = RESAMPLES
