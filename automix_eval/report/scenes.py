"""What the pictures of a board show, the same on paper and on the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from automix_eval.analysis.figures import (
    Board,
    CurvePoint,
    Figure,
    MethodFigures,
    Report,
    System,
    TaskReport,
)
from automix_eval.metrics.ibc import Undefined

Role = Literal["slm", "llm", "live", "replay", "bound", "plain"]
Across = Literal["cost", "escalation_rate"]
_ENDS: dict[str, Role] = {"always_slm": "slm", "always_llm": "llm"}
_LINE = ("slm", "llm")
# Not methods one could use: they say how bad and how good a router could be.
_BOUNDS = ("random", "oracle")
_ORDER: tuple[Role, ...] = ("slm", "llm", "live", "replay", "bound", "plain")


@dataclass(frozen=True, slots=True)
class Mark:
    """One point of the cost-quality plane.

    Attributes:
        name: Key of the method's row on the board; empty for an end of the line that has none.
        role: ``slm`` and ``llm`` are the ends of the line of always asking one model.
        kind: Running number for its shape: among those that ran, or among all others.
    """

    name: str
    label: str
    role: Role
    kind: int
    quality: Figure
    cost: Figure
    escalation_rate: Figure
    delta_ibc: Figure
    curve: tuple[CurvePoint, ...] = ()

    @property
    def at(self) -> tuple[float, float]:
        """(cost, quality), both defined for every mark of a scene."""
        return number(self.cost), number(self.quality)

    def sweep(self, across: Across) -> list[tuple[float, float]]:
        """Operating points of the method, ascending; empty if there is only its own."""
        return sweep(self.curve, across) if len(self.curve) > 1 else []


@dataclass(frozen=True, slots=True)
class Scene:
    """A board with the runs behind it.

    Attributes:
        marks: Those with a cost and a quality; SLM and LLM first, then what ran, then replays.
        tasks: The report's entries of the runs on this board.
    """

    board: Board
    marks: tuple[Mark, ...]
    tasks: tuple[TaskReport, ...]

    def end(self, role: Role) -> Mark | None:
        """The SLM's or the LLM's own mark; None where it has no figures."""
        return next((m for m in self.marks if m.role == role), None)

    @property
    def judged(self) -> tuple[MethodFigures, ...]:
        """The methods a verdict is passed on: what ran, or the replays if nothing did."""
        routers = [m for m in self.board.methods if role_of(m) in ("live", "replay")]
        live = tuple(m for m in routers if m.kind == "live")
        return live or tuple(routers)


def scenes(report: Report) -> tuple[Scene, ...]:
    """One scene a board."""
    return tuple(_scene(board, report) for board in report.boards)


def role_of(method: MethodFigures) -> Role:
    """What a method is in a picture."""
    if method.kind == "plain":
        return "plain"
    name = method.name.removeprefix("replay:")
    if name.split("@")[0] in _BOUNDS:
        return "bound"
    return _ENDS.get(name, method.kind)


def number(figure: Figure) -> float:
    """The value of a figure that is known to be defined.

    Raises:
        ValueError: It is not.
    """
    if isinstance(figure.value, Undefined):
        raise ValueError(f"the figure is undefined: {figure.value.reason}")
    return figure.value


def sweep(curve: Sequence[CurvePoint], across: Across) -> list[tuple[float, float]]:
    """(cost or escalation rate, quality) of the points of a curve that have both, ascending."""
    pairs = [(p.cost if across == "cost" else p.escalation_rate, p.quality) for p in curve]
    return sorted((x, y) for x, y in pairs if x is not None)


def defined(figure: Figure) -> bool:
    """Whether a figure has a value."""
    return not isinstance(figure.value, Undefined)


def ends_of(figure: Figure) -> tuple[float, float] | None:
    """The interval of a figure, None where it has none."""
    if figure.interval is None or isinstance(figure.interval, Undefined) or not defined(figure):
        return None
    return figure.interval


def _scene(board: Board, report: Report) -> Scene:
    runs = {run for method in board.methods for run in method.runs}
    tasks = tuple(t for t in report.tasks if t.task == board.task and t.run_id in runs)
    marks = _marks(board.methods)
    for role, label in (("slm", "SLM"), ("llm", "LLM")):
        if tasks and not any(m.role == role for m in marks):
            figures = tasks[0].figures
            marks.append(_end(label, figures.slm if role == "slm" else figures.llm))
    shown = [m for m in marks if defined(m.cost) and defined(m.quality)]
    shown.sort(key=lambda m: _ORDER.index(m.role))
    return Scene(board, tuple(shown), tasks)


def _marks(methods: Sequence[MethodFigures]) -> list[Mark]:
    marks: list[Mark] = []
    for method in methods:
        role = role_of(method)
        if role in _LINE and any(m.role == role for m in marks):
            continue  # the same point again, as a run of its own
        if "@" in method.name:
            continue  # at the cost of another mark: the line and the oracle's curve show it
        label = role.upper() if role in _LINE else method.label
        kind = sum((m.role == "live") == (role == "live") for m in marks if m.role not in _LINE)
        marks.append(
            Mark(
                method.name, label, role, kind, method.quality, method.cost,
                method.escalation_rate, method.delta_ibc, method.curve,
            )
        )  # fmt: skip
    return marks


def _end(label: str, system: System) -> Mark:
    role: Role = "slm" if label == "SLM" else "llm"
    none = Figure(Undefined("it is an end of the line that delta IBC is measured from"))
    return Mark("", label, role, 0, system.quality, system.cost, system.escalation_rate, none)
