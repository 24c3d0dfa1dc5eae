"""The POMDP's policy as JSON, and back with every field checked."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.pomdp.policy import Rule
from automix_eval.meta_verifiers.pomdp.solve import Actions, subsets
from automix_eval.records.outcomes import ABSTAIN, FloatArray


def to_json(rule: Rule) -> dict[str, Any]:
    """The rule as JSON values; :func:`from_json` is its inverse."""
    return {
        "edges": [e.tolist() for e in rule.edges],
        "levels": [e.tolist() for e in rule.levels],
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
    if set(row) != names:
        raise ValueError(f"expected {sorted(names)}, got {sorted(row)}")
    if not isinstance(row["edges"], list) or not row["edges"]:
        raise ValueError("edges must be a list of lists, one for every tier but the last")
    edges = tuple(_edges(e) for e in row["edges"])
    if not isinstance(row["levels"], list) or len(row["levels"]) != len(edges):
        raise ValueError("levels must be a list of lists, one for every tier but the last")
    levels = tuple(_edges(e) for e in row["levels"])
    values = [row[name] for name in _NUMBERS]
    values += [] if row["objective"] is None else [row["objective"]]
    if not all(_is_number(v) for v in values):
        raise TypeError(f"{', '.join(_NUMBERS)} and objective must be finite numbers")
    if not isinstance(row["note"], str):
        raise TypeError(f"note is {row['note']!r}, expected a text")
    if not 0 <= row["share"] < 1 or not 0 <= row["escalation"] <= 1:
        raise ValueError("share and escalation must lie in [0, 1]")
    low = _unpack(row["low"], edges, levels)
    high = low if row["high"] is None else _unpack(row["high"], edges, levels)
    summary = row["summary"]
    if not isinstance(summary, list) or len(summary) != len(edges):
        raise ValueError("summary must have an entry for every tier but the last")
    found = tuple(_summary(s, len(levels[t]) + 1, len(edges) - t) for t, s in enumerate(summary))
    numbers = {name: float(row[name]) for name in _NUMBERS}
    return Rule(
        edges, levels, low, high, objective=row["objective"], note=row["note"],
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


def _pack(actions: Actions) -> str:
    order = subsets(1 + max(len(s) for s in actions))
    flat = b"".join(actions[s].tobytes() for s in order)
    return base64.b64encode(zlib.compress(flat, 9)).decode("ascii")


def _unpack(text: Any, edges: Sequence[FloatArray], levels: Sequence[FloatArray]) -> Actions:
    if not isinstance(text, str):
        raise TypeError("low and high must be texts")
    num_tiers = len(edges) + 1
    order = subsets(num_tiers)
    shapes = [
        (*(len(levels[t]) + 1 for t in s[:1]), *(len(edges[t]) + 2 for t in s)) for s in order
    ]
    sizes = [int(np.prod(shape)) for shape in shapes]
    try:
        packed = base64.b64decode(text, validate=True)
        # one byte more than expected, and no more: the text may be anything
        flat = zlib.decompressobj().decompress(packed, sum(sizes) + 1)
    except (binascii.Error, zlib.error) as err:
        raise ValueError(f"low or high is no table of actions ({err})") from err
    if len(flat) != sum(sizes):
        raise ValueError(f"{len(flat)} actions, expected {sum(sizes)} for these edges")
    parts = np.split(np.frombuffer(flat, dtype=np.int8), np.cumsum(sizes)[:-1])
    actions = {s: p.reshape(shape) for s, p, shape in zip(order, parts, shapes, strict=True)}
    for subset, table in actions.items():
        least = subset[-1] if subset else 0
        goes = table[table != ABSTAIN] if subset else table
        if (goes < least).any() or (goes >= num_tiers).any():
            raise ValueError(f"an action after tiers {subset} leads out of the chain")
    return actions


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and bool(np.isfinite(value))
