"""The POMDP's policy as JSON, and back with every field checked."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.pomdp.policy import Rule, table_shapes
from automix_eval.meta_verifiers.pomdp.solve import Actions
from automix_eval.records.outcomes import ABSTAIN, FloatArray
from automix_eval.safety.numbers import is_number


def to_json(rule: Rule) -> dict[str, Any]:
    """The rule as JSON values; :func:`from_json` is its inverse."""
    return {
        "edges": [e.tolist() for e in rule.edges],
        "levels": [e.tolist() for e in rule.levels],
        # of a chain that is asked as a whole, as all were once, the tiers go without saying
        **({} if len(rule.tiers) == rule.num_tiers else {"tiers": list(rule.tiers)}),
        "low": _pack(rule.low),
        "high": None if rule.high is rule.low else _pack(rule.high),
        **{name: getattr(rule, name) for name in _NUMBERS},
        "objective": rule.objective,
        "note": rule.note,
        "summary": [dict(s) for s in rule.summary],
    }


def from_json(row: Mapping[str, Any]) -> Rule:
    """Rebuild a rule, checking every field.

    Raises:
        KeyError, TypeError, ValueError: A field is missing, unknown, of the wrong type or shape.
    """
    names = {"edges", "levels", "low", "high", *_NUMBERS, "objective", "note", "summary"}
    if set(row) - {"tiers"} != names:
        raise ValueError(f"expected {sorted(names)}, got {sorted(row)}")
    if not isinstance(row["edges"], list) or not row["edges"]:
        raise ValueError("edges must be a list of lists, one for every tier but the last")
    edges = tuple(_edges(e) for e in row["edges"])
    if not isinstance(row["levels"], list) or len(row["levels"]) != len(edges):
        raise ValueError("levels must be a list of lists, one for every tier but the last")
    levels = tuple(_edges(e) for e in row["levels"])
    values = [row[name] for name in _NUMBERS]
    values += [] if row["objective"] is None else [row["objective"]]
    if not all(map(is_number, values)):
        raise TypeError(f"{', '.join(_NUMBERS)} and objective must be finite numbers")
    if not isinstance(row["note"], str):
        raise TypeError(f"note is {row['note']!r}, expected a text")
    if not 0 <= row["share"] < 1 or not 0 <= row["escalation"] <= 1:
        raise ValueError("share and escalation must lie in [0, 1]")
    tiers = _tiers(row.get("tiers"), len(edges) + 1)
    shapes = table_shapes(tiers, edges, levels)
    low = _unpack(row["low"], tiers, shapes)
    high = low if row["high"] is None else _unpack(row["high"], tiers, shapes)
    summary = row["summary"]
    # of one tier alone, of those that no other policy asks, there is nothing to explain
    lengths = {len(tiers) - 1, *([0] if "tiers" in row else [])}
    if not isinstance(summary, list) or len(summary) not in lengths:
        raise ValueError("summary must have an entry for every tier but the last")
    found = tuple(
        _summary(s, len(levels[t]) + 1, len(tiers) - 1 - i)
        for i, (t, s) in enumerate(zip(tiers, summary, strict=False))
    )
    numbers = {name: float(row[name]) for name in _NUMBERS}
    return Rule(
        edges, levels, tiers, low, high, objective=row["objective"], note=row["note"],
        summary=found, **numbers,
    )  # fmt: skip


_NUMBERS = ("share", "parameter", "escalation", "score", "cost")
_SUMMARY = {
    "counts", "prior", "bounds", "observation", "belief", "scores", "next", "level_shares",
    "level_ratios", "level_kept",
}  # fmt: skip


def _summary(row: Any, levels: int, ahead: int) -> Mapping[str, Any]:
    if not isinstance(row, dict) or set(row) != _SUMMARY:
        raise ValueError(f"an entry of summary must have the keys {sorted(_SUMMARY)}")
    groups = len(row["next"])
    shapes = {
        "counts": (3,), "prior": (3,), "bounds": (groups - 2,), "scores": (3, 2),
        "observation": (3, groups), "belief": (groups, 3), "next": (groups,),
        "level_shares": (levels,), "level_ratios": (levels, ahead), "level_kept": (levels,),
    }  # fmt: skip
    for name, shape in shapes.items():
        table = np.asarray(row[name])
        if table.size and table.dtype.kind not in "if":
            raise TypeError(f"summary.{name} must hold numbers")
        if table.shape != shape or not np.isfinite(table).all():
            raise ValueError(f"summary.{name} must hold finite numbers of shape {shape}")
    return row


def _edges(values: Any) -> FloatArray:
    edges = np.asarray(values)
    if edges.size and edges.dtype.kind not in "if":
        raise TypeError("edges must hold numbers")
    edges = edges.astype(np.float64)
    if edges.ndim != 1 or not np.isfinite(edges).all() or (np.diff(edges) <= 0).any():
        raise ValueError("edges must be finite and ascend")
    return edges


def _tiers(values: Any, number: int) -> tuple[int, ...]:
    """The tiers asked, ascending; all of them where they are not named."""
    if values is None:
        return tuple(range(number))
    if not isinstance(values, list) or not all(type(t) is int for t in values):
        raise TypeError("tiers must be a list of integers")
    if not values or values != sorted(set(values)) or not 0 <= values[0] <= values[-1] < number:
        raise ValueError(f"tiers must ascend within a chain of {number}")
    return tuple(values)


def _pack(actions: Actions) -> str:
    flat = b"".join(actions[s].tobytes() for s in sorted(actions, key=lambda s: (len(s), s)))
    return base64.b64encode(zlib.compress(flat, 9)).decode()


def _unpack(
    text: Any, tiers: Sequence[int], shapes: Mapping[tuple[int, ...], tuple[int, ...]]
) -> Actions:
    if not isinstance(text, str):
        raise TypeError("low and high must be texts")
    sizes = [int(np.prod(shape)) for shape in shapes.values()]
    try:
        packed = base64.b64decode(text, validate=True)
        # one byte more than expected, and no more: the text may be anything
        flat = zlib.decompressobj().decompress(packed, sum(sizes) + 1)
    except (binascii.Error, zlib.error) as err:
        raise ValueError(f"low or high is no table of actions ({err})") from err
    if len(flat) != sum(sizes):
        raise ValueError(f"{len(flat)} actions, expected {sum(sizes)} for these edges")
    parts = np.split(np.frombuffer(flat, dtype=np.int8), np.cumsum(sizes)[:-1])
    actions = {s: p.reshape(shape) for (s, shape), p in zip(shapes.items(), parts, strict=True)}
    for subset, table in actions.items():
        goes = table[table != ABSTAIN] if subset else table
        if not np.isin(goes, tiers).all() or (subset and (goes < subset[-1]).any()):
            raise ValueError(f"an action after tiers {subset} leads out of the chain")
    return actions
