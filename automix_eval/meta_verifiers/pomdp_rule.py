"""What the POMDP meta-verifier learns for one tier: a lookup policy and what explains it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.selection import FloatArray

STATES = ("Simple", "Complex", "Unsolvable")


@dataclass(frozen=True, slots=True)
class PomdpRule:
    """All that is needed to decide and to explain, as JSON values.

    Attributes:
        edges: Edges of the bins of the confidence.
        escalate: The policy: whether each bin is escalated.
        keep_all: Every answer is kept, undefined confidences included.
        prior: P(state), in the order of :data:`STATES`.
        counts: Fitting questions of each state.
        observation: P(bin | state), one row a state.
        scores: Mean score of the tier and of the next one, one row a state.
        belief: P(state | bin), one row a bin.
        price: Mean cost of the next tier's answer.
        lambda_: Quality a unit of cost must buy.
        escalation: Share of the fitting questions the policy escalates.
        objective: The objective's value on the fitting data, None where it is undefined or
            ``lambda_`` was given.
        note: What the reader must know about the fit, else empty.
    """

    edges: list[float]
    escalate: list[bool]
    keep_all: bool
    prior: list[float]
    counts: list[int]
    observation: list[list[float]]
    scores: list[list[float]]
    belief: list[list[float]]
    price: float
    lambda_: float
    escalation: float
    objective: float | None
    note: str


def to_json(rule: PomdpRule) -> dict[str, Any]:
    """The rule as JSON values; :func:`from_json` is its inverse."""
    return asdict(rule)


def from_json(row: Mapping[str, Any]) -> PomdpRule:
    """Rebuild a rule, checking every field.

    Raises:
        TypeError: A field is missing, unknown or of the wrong type.
        ValueError: A field has the wrong shape or is no distribution.
    """
    rule = PomdpRule(**row)
    bins = len(rule.escalate)
    if not bins or not all(isinstance(x, bool) for x in [*rule.escalate, rule.keep_all]):
        raise TypeError("escalate and keep_all must be booleans, one a bin")
    edges = _numbers("edges", rule.edges, (bins + 1,))
    if edges[0] != 0 or edges[-1] != 1 or (np.diff(edges) <= 0).any():
        raise ValueError("edges must ascend from 0 to 1")
    for name, shape in (("prior", (3,)), ("observation", (3, bins)), ("belief", (bins, 3))):
        table = _numbers(name, getattr(rule, name), shape)
        if (table < 0).any() or not np.allclose(table.sum(axis=-1), 1.0, atol=1e-9):
            raise ValueError(f"{name} must hold probabilities that sum to 1")
    _numbers("counts", rule.counts, (3,))
    _numbers("scores", rule.scores, (3, 2))
    for name in ("price", "lambda_", "escalation"):
        _numbers(name, getattr(rule, name), ())
    if rule.objective is not None:
        _numbers("objective", rule.objective, ())
    if not isinstance(rule.note, str):
        raise TypeError(f"note is {rule.note!r}, expected a text")
    return rule


def describe(rule: PomdpRule, tier: int) -> str:
    """The rule as a table to read."""
    objective = "undefined" if rule.objective is None else f"{rule.objective:+.4f}"
    lines = [
        f"tier {tier} -> {tier + 1}: lambda {rule.lambda_:.6g} per unit of cost, escalation costs "
        f"{rule.price:.6g}",
        f"on the fitting data: escalates {rule.escalation:.1%}, objective {objective}",
    ]
    if rule.note:
        lines.append(f"note: {rule.note}")
    lines.append("")
    lines.append(f"{'state':<12}{'questions':>10}{'prior':>8}{'keep':>8}{'next':>8}{'gain':>8}")
    for name, count, share, (keep, after) in zip(
        STATES, rule.counts, rule.prior, rule.scores, strict=True
    ):
        lines.append(
            f"{name:<12}{count:>10}{share:>8.3f}{keep:>8.3f}{after:>8.3f}{after - keep:>+8.3f}"
        )
    head = "".join(f"{name:>12}" for name in STATES)
    lines += ["", f"{'':<18}{'P(bin | state)':>36}{'P(state | bin)':>36}"]
    lines.append(f"{'confidence':<18}{head}{head}  action")
    for index, escalate in enumerate(rule.escalate):
        low, high = rule.edges[index : index + 2]
        seen = "".join(f"{row[index]:>12.4f}" for row in rule.observation)
        believed = "".join(f"{p:>12.4f}" for p in rule.belief[index])
        close = "]" if index == len(rule.escalate) - 1 else ")"
        action = "escalate" if escalate and not rule.keep_all else "keep"
        lines.append(f"{f'[{low:.3f}, {high:.3f}{close}':<18}{seen}{believed}  {action}")
    return "\n".join(lines)


def _numbers(name: str, value: Any, shape: tuple[int, ...]) -> FloatArray:
    table = np.asarray(value)
    if table.dtype.kind not in "if":
        raise TypeError(f"{name} must hold numbers")
    if table.shape != shape or not np.isfinite(table).all():
        raise ValueError(f"{name} has the shape {table.shape}, expected finite numbers {shape}")
    return table.astype(np.float64)
