"""What a run's router was to reach, and what it reached on the evaluated questions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from automix_eval.analysis.figures import Aim, Figure, TaskFigures
from automix_eval.metrics.ibc import Undefined, exceeds
from automix_eval.records.runs import Run
from automix_eval.safety.numbers import is_number
from automix_eval.safety.text import printable

Number = float | Undefined


def aim_of(run: Run, task: str, figures: TaskFigures) -> Aim | None:
    """The aim of a task of a run, as the fitted policy holds it, else the run's configuration.

    ``objective=budget`` aims at a mean cost of at most ``budget``; ``target``, and ``assured``,
    which wants it shown by the fitting data, at the share ``target`` of the last tier's quality.
    All others set no number.

    Returns:
        The aim; None for a router without an objective.
    """
    policy = run.policies.get(task)
    held = policy.get("meta_verifier") if policy else run.config.get("meta_verifier")
    settings: Mapping[str, Any] = held if isinstance(held, Mapping) else {}
    objective = settings.get("objective")
    if not isinstance(objective, str):
        return None
    key = {"budget": "budget", "target": "target", "assured": "target"}.get(objective)
    number = _number(settings.get(key)) if key else None
    if number is None:
        return Aim(printable(objective))
    if key == "budget":
        aimed = whole = _budget(number, run, policy)
        reached = figures.method.cost.value
        missed = _exceeds(reached, aimed)
    else:
        whole = _with_shares(figures.llm.quality.value)
        aimed = whole if isinstance(whole, Undefined) else number * whole
        reached = figures.method.quality.value
        missed = _exceeds(aimed, reached)
    return Aim(
        objective=objective,
        of="cost" if key == "budget" else "quality",
        value=number,
        aimed=Figure(aimed),
        reached=Figure(reached),
        share=Figure(_share(reached, whole)),
        missed=missed,
        confidence=_number(settings.get("confidence")) if objective == "assured" else None,
    )


def _number(value: Any) -> float | None:
    return float(value) if is_number(value, 0.0, float("inf")) else None


def _budget(number: float, run: Run, policy: Mapping[str, Any] | None) -> Number:
    """The budget in the unit of the report's costs."""
    fitted = (policy or {}).get("fitted_on", {}).get("cost")
    now = {k: v for k, v in run.config["cost"].items() if k != "_target_"}
    if fitted is None or fitted == now:
        return number
    return Undefined("the policy was fitted at other prices than those of this report")


def _with_shares(llm: Number) -> Number:
    if isinstance(llm, Undefined) or llm > 0:
        return llm
    return Undefined(f"the LLM's quality is {llm:.4g}, of which there is no share to reach")


def _share(part: Number, whole: Number) -> Number:
    if isinstance(part, Undefined) or isinstance(whole, Undefined):
        return whole if isinstance(whole, Undefined) else part
    return part / whole if whole > 0 else Undefined("it is aimed at 0, which has no shares")


def _exceeds(high: Number, low: Number) -> bool | None:
    if isinstance(high, Undefined) or isinstance(low, Undefined):
        return None
    return exceeds(high, low)
