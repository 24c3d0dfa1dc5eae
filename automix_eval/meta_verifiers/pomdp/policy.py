"""The learned policy of the POMDP: lookup tables from what was seen to the next tier."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.base import Walk, stand_in
from automix_eval.meta_verifiers.pomdp.costs import level_of
from automix_eval.meta_verifiers.pomdp.density import symbols
from automix_eval.meta_verifiers.pomdp.problem import Problem
from automix_eval.meta_verifiers.pomdp.solve import Actions, subsets
from automix_eval.records.outcomes import ABSTAIN, BoolArray, FloatArray, IntArray, Outcomes, Seen
from automix_eval.safety.errors import AutoMixError


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """A policy that decides, or a mixture of two.

    Attributes:
        edges: Edges of the bins of every tier but the last; see :mod:`density`. None of a tier that
            is never asked.
        levels: Edges of the cost levels of every tier but the last; see ``costs.py``.
        tiers: The tiers that it may ask, ascending.
        low: Next tier for every set of tiers asked, cost level of the first, and symbols seen.
        high: The same, for a share of the questions; ``low`` itself without a mixture.
        share: Share of questions that follow ``high``, drawn by the identity of each.
        parameter: Lambda (or the parameter of the reward table).
        escalation: Share of the fitting questions answered by a tier above the first.
        score: Mean score expected on questions like those of the fit.
        cost: Mean cost on the fitting questions.
        objective: The objective's value there; None where it is undefined or was not asked for.
        note: What the reader must know about the fit, else empty.
        summary: What explains the policy, one entry for every one of ``tiers`` but the last.
    """

    edges: tuple[FloatArray, ...]
    levels: tuple[FloatArray, ...]
    tiers: tuple[int, ...]
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

    @property
    def is_single(self) -> bool:
        """Whether it asks one tier alone, so that nothing is to be verified."""
        start = int(self.low[()])
        if self.high is not self.low:
            return False
        return start == self.tiers[-1] or bool((self.low[start,] == start).all())

    def next_tier(self, seen: Seen, confidences: FloatArray) -> IntArray:
        """(n,) the next tier of each question; equal to the tier reached to keep.

        Args:
            seen: What is known of the questions.
            confidences: (n, tier + 1) those of ``seen``, with what stands in for undefined ones.
        """
        tier = seen.tier
        if tier >= 0 and tier not in self.tiers[:-1]:
            return np.full(len(seen), tier)
        skipped = np.empty(0, dtype=np.intp)
        shown = [
            symbols(self.edges[t], confidences[:, t]) if t in self.tiers else skipped
            for t in range(tier + 1)
        ]
        level = self._level(seen)
        known = ~np.isnan((confidences if seen.costs is None else seen.costs)[:, :tier])
        sure = seen.costs is not None
        to = _act(self.low, level, shown, known, sure)
        if self.high is self.low:
            return to
        other = _act(self.high, level, shown, known, sure)
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

    def walk(self, outcomes: Outcomes, stand: str | float, known: dict[Any, Any]) -> Walk:
        """Where all rows lead, as :meth:`next_tier` would lead them one tier after the other.

        Args:
            outcomes: What every tier did.
            stand: What stands in for undefined confidences.
            known: Kept between the policies of a family, which share their edges.
        """
        key = (id(self.edges), self.tiers)
        if key not in known:
            values, asked = stand_in(outcomes.confidences, stand), self.tiers[:-1]
            shown = {t: symbols(self.edges[t], values[:, t]) for t in asked}
            levels = {t: level_of(self.levels[t], outcomes.answer_costs[:, t]) for t in asked}
            # the edges are held, so that no others have their identity
            known[key] = shown, levels, self.edges
        shown, levels, _ = known[key]

        def led(actions: Actions) -> Walk:
            # neighbours of a family are mixed from the same two policies
            held = known.get("walks", [])
            found = next((walk for one, walk in held if one is actions), None)
            if found is None:
                found = follow_tables(
                    actions, self.tiers, self.num_tiers, shown, levels, len(outcomes)
                )
                known["walks"] = [*held[-1:], (actions, found)]
            return found

        low = led(self.low)
        if self.high is self.low:
            return low
        high = led(self.high)
        if "coins" not in known:
            known["coins"] = coins(outcomes.ids)
        drawn = known["coins"] < self.share
        return Walk(*(np.where(drawn, b.T, a.T).T for a, b in zip(low[:3], high[:3], strict=True)))

    def _level(self, seen: Seen) -> IntArray:
        """(n,) the cost level of each question, read off the answer of the first tier asked."""
        level = np.zeros(len(seen), dtype=np.intp)
        if seen.tier < 0 or not any(len(edges) for edges in self.levels):
            return level
        costs = seen.costs
        if costs is None or np.isnan(costs[:, seen.tier]).any():
            raise AutoMixError(
                "this policy of meta_verifier=pomdp reads what a question's first answer has cost, "
                "which is not given here: give the costs, or fit with meta_verifier.cost_levels=1"
            )
        first = np.argmax(~np.isnan(costs), axis=1)
        for tier in (t for t in self.tiers if t <= seen.tier and len(self.levels[t])):
            here = first == tier
            level[here] = level_of(self.levels[tier], costs[here, tier])
        return level


@dataclass(frozen=True, slots=True)
class SubChain:
    """The tiers of a problem within a chain that may be longer.

    Attributes:
        tiers: Those of the problem, ascending.
        num_tiers: Of the chain.
    """

    tiers: tuple[int, ...]
    num_tiers: int

    def within(self, actions: Actions) -> Actions:
        """A solution's actions, in numbers of the chain."""
        if len(self.tiers) == self.num_tiers:
            return actions
        at = np.array([*self.tiers, ABSTAIN], dtype=np.int8)  # the last is also the one at -1
        return {tuple(self.tiers[t] for t in asked): at[to] for asked, to in actions.items()}

    def edges(self, problem: Problem) -> tuple[tuple[FloatArray, ...], tuple[FloatArray, ...]]:
        """Edges of the bins and of the cost levels of every tier of the chain but the last."""
        bins, levels = ([np.empty(0)] * (self.num_tiers - 1) for _ in range(2))
        for tier, axis, level in zip(self.tiers, problem.axes, problem.levels, strict=False):
            bins[tier], levels[tier] = axis.edges, level.edges
        return tuple(bins), tuple(levels)


def table_shapes(
    tiers: Sequence[int], edges: Sequence[FloatArray], levels: Sequence[FloatArray]
) -> dict[tuple[int, ...], tuple[int, ...]]:
    """Shape of the actions after every set of these tiers but the last: a level, then symbols."""
    asked = [tuple(tiers[t] for t in subset) for subset in subsets(len(tiers))]
    return {
        s: (*(len(levels[t]) + 1 for t in s[:1]), *(len(edges[t]) + 2 for t in s)) for s in asked
    }


def follow_tables(
    actions: Actions,
    tiers: Sequence[int],
    num_tiers: int,
    shown: Mapping[int, IntArray],
    levels: Mapping[int, IntArray],
    number: int,
) -> Walk:
    """Where tables of actions lead rows of which every tier's symbol is known.

    Args:
        actions: The tables.
        tiers: The tiers that may be asked, ascending; the last of them keeps its answer.
        num_tiers: Of the chain.
        shown: For every one of ``tiers`` but the last, (number,) the symbol of its confidence.
        levels: Likewise the cost level of its answer, which counts where it was asked first.
        number: Of rows.
    """
    final = np.empty(number, dtype=np.intp)
    visited = np.full((num_tiers, number), False)
    abstained = np.full(number, False)
    groups: list[tuple[tuple[int, ...], IntArray]] = []
    groups.append(((int(actions[()]),), np.arange(number)))
    while groups:
        asked, rows = groups.pop()
        tier = asked[-1]
        visited[tier, rows] = True
        if tier not in tiers[:-1]:
            final[rows] = tier
            continue
        to = actions[asked][(levels[asked[0]][rows], *(shown[t][rows] for t in asked))]
        ends = to <= tier  # kept, or abstained on
        final[rows[ends]] = tier
        abstained[rows] = to == ABSTAIN
        for after in tiers:
            if after > tier and len(here := rows[to == after]):
                groups.append(((*asked, after), here))
    return Walk(final, visited.T, abstained)


def coins(ids: Sequence[str]) -> FloatArray:
    """A number in [0, 1) for each identity, the same on every machine."""
    drawn = [zlib.crc32(i.encode(errors="surrogatepass")) for i in ids]
    mixed = (np.array(drawn, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(32)
    return mixed.astype(np.float64) / 2**32


def _act(
    actions: Actions, level: IntArray, shown: Sequence[IntArray], known: BoolArray, sure: bool
) -> IntArray:
    """The next tiers; ``known`` (n, tier) are the tiers asked, all of them if ``sure``."""
    if not shown:
        return np.full(len(level), int(actions[()]))
    if not sure and not known.all():
        known = known | _undefined_on_the_way(actions, level, shown, known)
    return _look_up(actions, level, shown, known)


def _look_up(
    actions: Actions, level: IntArray, shown: Sequence[IntArray], asked: BoolArray
) -> IntArray:
    """One lookup for every set of tiers ``asked``, (n, tier), before this one."""
    tier = asked.shape[1]
    if asked.all():
        found: IntArray = actions[tuple(range(tier + 1))][(level, *shown)].astype(np.intp)
        return found
    to = np.empty(len(asked), dtype=np.intp)
    patterns = asked @ (1 << np.arange(tier))
    for pattern in np.flatnonzero(np.bincount(patterns)).tolist():
        subset = (*(t for t in range(tier) if pattern >> t & 1), tier)
        here = patterns == pattern
        to[here] = actions[subset][(level[here], *(shown[t][here] for t in subset))]
    return to


def _undefined_on_the_way(
    actions: Actions, level: IntArray, shown: Sequence[IntArray], known: BoolArray
) -> BoolArray:
    """Which unknown confidences are those of a tier that was asked, and not of one skipped.

    The policy says so itself: it is walked from the start, as far as it leads to ``tier``.
    """
    tier = known.shape[1]
    asked = np.zeros_like(known)
    rows = np.flatnonzero(~known.all(axis=1))
    at = np.full(len(known), int(actions[()]))
    for t in range(tier):
        here = rows[at[rows] == t]
        if len(here):
            asked[here, t] = True
            before = [s[here] for s in shown[: t + 1]]
            at[here] = _look_up(actions, level[here], before, asked[here, :t])
    asked[at != tier] = False
    return asked
