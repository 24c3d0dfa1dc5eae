"""Rows of the leaderboard in the making: which runs a method rests on, and what it does in each."""

from __future__ import annotations

from dataclasses import dataclass

from automix_eval.analysis.figures import Kind
from automix_eval.analysis.play import Choice
from automix_eval.analysis.question_sets import QuestionSet
from automix_eval.analysis.routed_paths import Routing
from automix_eval.metrics.ibc import Undefined


@dataclass(frozen=True, slots=True, eq=False)
class MethodOnRun:
    """What a method does in one run.

    Attributes:
        routing: Its way through the questions.
        questions: The run's questions; None for a plain run beside no chain.
        run_id: The run.
        seed: Its seed, -1 where it names none.
        curve: Operating points of its range.
        regions: The policy for each of five cost regions, or the reason; empty for one point.
    """

    routing: Routing
    questions: QuestionSet | None
    run_id: str
    seed: int = -1
    curve: tuple[Choice, ...] = ()
    regions: tuple[Choice | Undefined, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """A row in the making: one part a seed.

    Attributes:
        verifier: Name of the verifier it reads; empty if none.
        missing: Why the row has no figures at all; None if it has.
    """

    name: str
    kind: Kind
    label: str
    verifier: str
    parts: tuple[MethodOnRun, ...]
    note: str = ""
    missing: Undefined | None = None
