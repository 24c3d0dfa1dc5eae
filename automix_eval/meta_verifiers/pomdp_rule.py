"""The learned policy of the POMDP: lookup tables from what was seen to the next tier."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.density import symbols
from automix_eval.meta_verifiers.pomdp_family import Member
from automix_eval.meta_verifiers.pomdp_solve import Actions, subsets
from automix_eval.outcomes import BoolArray, FloatArray, IntArray, Seen
from automix_eval.types import AutoMixError


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A policy that decides, or a mixture of two.

    Attributes:
        edges: Edges of the bins of every tier but the last; see :mod:`density`.
        low: Next tier for every set of tiers asked and symbols seen.
        high: The same, for a share of the questions; ``low`` itself without a mixture.
        share: Share of questions that follow ``high``, drawn by the identity of each.
        parameter: Lambda (or the parameter of the reward table).
        escalation: Share of the fitting questions answered by a tier above the first.
        score: Mean score expected on questions like those of the fit.
        cost: Mean cost on the fitting questions.
        objective: The objective's value there; None where it is undefined or was not asked for.
        note: What the reader must know about the fit, else empty.
        summary: What explains the policy, one entry for every tier but the last.
    """

    edges: tuple[FloatArray, ...]
    low: Actions
    high: Actions
    share: float
    parameter: float
    escalation: float
    score: float
    cost: float
    objective: float | None = None
    note: str = ""
    summary: tuple[Mapping[str, Any], ...] = field(default_factory=tuple)

    @property
    def num_tiers(self) -> int:
        """N."""
        return len(self.edges) + 1

    def next_tier(self, seen: Seen, confidences: FloatArray) -> IntArray:
        """(n,) the next tier of each question; equal to the tier reached to keep.

        Args:
            seen: What is known of the questions.
            confidences: (n, tier + 1) those of ``seen``, with what stands in for undefined ones.
        """
        tier = seen.tier
        if tier == self.num_tiers - 1:
            return np.full(len(seen), tier, dtype=np.intp)
        shown = [symbols(self.edges[t], confidences[:, t]) for t in range(tier + 1)]
        known = ~np.isnan(confidences[:, :tier])
        to = _act(self.low, shown, known, tier, len(seen))
        if self.high is self.low:
            return to
        other = _act(self.high, shown, known, tier, len(seen))
        differ = np.flatnonzero(to != other)
        if len(differ):
            if seen.ids is None:
                raise AutoMixError(
                    "this policy is a mixture and draws its share by the identity of a question, "
                    "which is not given here (see meta_verifier.mixtures)"
                )
            drawn = coins([seen.ids[i] for i in differ.tolist()]) < self.share
            to[differ] = np.where(drawn, other[differ], to[differ])
        return to


def make_rule(
    edges: tuple[FloatArray, ...], member: Member, low: FloatArray, high: FloatArray
) -> Rule:
    """The rule of one member of a family.

    Args:
        edges: Edges of the bins.
        member: One policy, or a mixture of two.
        low: Score, cost and escalated share of ``member.low``.
        high: The same of ``member.high``.
    """
    score, cost, escalation = ((1 - member.share) * low + member.share * high).tolist()
    # what a reward table or an odd price makes of the order, the second policy is the dearer
    swap = member.share > 0 and low[1] > high[1]
    first, second = (member.high, member.low) if swap else (member.low, member.high)
    share = 1 - member.share if swap else member.share
    return Rule(edges, first.actions, second.actions, share, member.x, escalation, score, cost)


def coins(ids: Sequence[str]) -> FloatArray:
    """A number in [0, 1) for each identity, the same on every machine."""
    drawn = [zlib.crc32(i.encode("utf-8", "surrogatepass")) for i in ids]
    mixed = (np.array(drawn, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return mixed.astype(np.float64) / 2**32


def _act(
    actions: Actions, shown: Sequence[IntArray], known: BoolArray, tier: int, number: int
) -> IntArray:
    if tier < 0:
        return np.full(number, int(actions[()]), dtype=np.intp)
    if not known.all():
        known = known | _undefined_on_the_way(actions, shown, known, tier)
    return _look_up(actions, shown, known, tier)


def _look_up(actions: Actions, shown: Sequence[IntArray], asked: BoolArray, tier: int) -> IntArray:
    """One lookup for every set of tiers ``asked``, (n, tier), before this one."""
    if asked.all():
        return actions[tuple(range(tier + 1))][tuple(shown)].astype(np.intp)
    to = np.empty(len(asked), dtype=np.intp)
    patterns = asked @ (1 << np.arange(tier))
    for pattern in np.unique(patterns).tolist():
        subset = (*(t for t in range(tier) if pattern >> t & 1), tier)
        here = patterns == pattern
        to[here] = actions[subset][tuple(shown[t][here] for t in subset)]
    return to


def _undefined_on_the_way(
    actions: Actions, shown: Sequence[IntArray], known: BoolArray, tier: int
) -> BoolArray:
    """Which unknown confidences are those of a tier that was asked, and not of one skipped.

    The policy says so itself: it is walked from the start, as far as it leads to ``tier``.
    """
    asked = np.zeros_like(known)
    rows = np.flatnonzero(~known.all(axis=1))
    at = np.full(len(known), int(actions[()]))
    for t in range(tier):
        here = rows[at[rows] == t]
        if len(here):
            asked[here, t] = True
            at[here] = _look_up(actions, [s[here] for s in shown[: t + 1]], asked[here, :t], t)
    asked[at != tier] = False
    return asked


# --------------------------------------------------------------------------- JSON


def to_json(rule: Rule) -> dict[str, Any]:
    """The rule as JSON values; :func:`from_json` is its inverse."""
    return {
        "edges": [e.tolist() for e in rule.edges],
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
    names = {"edges", "low", "high", *_NUMBERS, "objective", "note", "summary"}
    if set(row) != names:
        raise ValueError(f"expected {sorted(names)}, got {sorted(row)}")
    if not isinstance(row["edges"], list) or not row["edges"]:
        raise ValueError("edges must be a list of lists, one for every tier but the last")
    edges = tuple(_edges(e) for e in row["edges"])
    values = [row[name] for name in _NUMBERS]
    values += [] if row["objective"] is None else [row["objective"]]
    if not all(_is_number(v) for v in values):
        raise TypeError(f"{', '.join(_NUMBERS)} and objective must be finite numbers")
    if not isinstance(row["note"], str):
        raise TypeError(f"note is {row['note']!r}, expected a text")
    if not 0 <= row["share"] < 1 or not 0 <= row["escalation"] <= 1:
        raise ValueError("share and escalation must lie in [0, 1]")
    low = _unpack(row["low"], edges)
    high = low if row["high"] is None else _unpack(row["high"], edges)
    summary = row["summary"]
    if not isinstance(summary, list) or len(summary) != len(edges):
        raise ValueError("summary must have an entry for every tier but the last")
    numbers = {name: float(row[name]) for name in _NUMBERS}
    return Rule(
        edges, low, high, objective=row["objective"], note=row["note"],
        summary=tuple(_summary(s) for s in summary), **numbers,
    )  # fmt: skip


_NUMBERS = ("share", "parameter", "escalation", "score", "cost")
_SUMMARY = {"counts", "prior", "bounds", "observation", "belief", "scores", "next"}


def _summary(row: Any) -> Mapping[str, Any]:
    if not isinstance(row, dict) or set(row) != _SUMMARY:
        raise ValueError(f"an entry of summary must have the keys {sorted(_SUMMARY)}")
    groups = len(row["next"])
    shapes = {"counts": (3,), "prior": (3,), "bounds": (groups - 2,), "scores": (3, 2),
              "observation": (3, groups), "belief": (groups, 3), "next": (groups,)}  # fmt: skip
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


def _unpack(text: Any, edges: Sequence[FloatArray]) -> Actions:
    if not isinstance(text, str):
        raise TypeError("low and high must be texts")
    num_tiers = len(edges) + 1
    order = subsets(num_tiers)
    shapes = [tuple(len(edges[t]) + 2 for t in s) for s in order]
    sizes = [int(np.prod(shape)) for shape in shapes]
    try:
        packed = base64.b64decode(text, validate=True)
        # one byte more than expected, and no more: the text may be anything
        flat = zlib.decompressobj().decompress(packed, sum(sizes) + 1)
    except (binascii.Error, zlib.error) as err:
        raise ValueError(f"low or high is no table of actions ({err})") from err
    if len(flat) != sum(sizes):
        raise ValueError(f"{len(flat)} actions, expected {sum(sizes)} for these edges")
    parts = np.split(np.frombuffer(flat, dtype=np.uint8), np.cumsum(sizes)[:-1])
    actions = {s: p.reshape(shape) for s, p, shape in zip(order, parts, shapes, strict=True)}
    for subset, table in actions.items():
        least = subset[-1] if subset else 0
        if (table < least).any() or (table >= num_tiers).any():
            raise ValueError(f"an action after tiers {subset} leads out of the chain")
    return actions


def _is_number(value: Any) -> bool:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return number and bool(np.isfinite(value))
