"""A fitted router as a table from what was seen to the next tier, with no router left in it.

Every rule on confidences is constant between a few edges. So a router that reads confidences (and
what the first answer has cost), and no text, is a table over bins; this is what an export holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.always import AlwaysLLM, AlwaysSLM, AlwaysTier
from automix_eval.meta_verifiers.baselines.token_margin import TokenMargin
from automix_eval.meta_verifiers.calibrated import Calibrated
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.meta_verifiers.fixed_answer import FixedAnswer
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.meta_verifiers.rules.bins import middles, points
from automix_eval.meta_verifiers.rules.rule_router import RuleRouter
from automix_eval.meta_verifiers.self_consistency import MAJORITY, SelfConsistency
from automix_eval.records.outcomes import IntArray, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number


class NotCompiledError(AutoMixError):
    """A router that is no table over confidences; says why."""


@dataclass(frozen=True, slots=True, eq=False)
class CompiledPolicy:
    """What to do after each set of tiers asked.

    A confidence v of tier t has the symbol ``bisect_right(edges[t], v)``; one that is undefined has
    the symbol ``len(edges[t]) + 1``. A cost has the level ``bisect_right(levels[t], cost)``.

    Attributes:
        first: The tier asked first.
        num_tiers: N.
        edges: For every tier but the last, edges of its confidences, ascending.
        levels: Likewise of the cost of its answer, which counts where it was asked first.
        tables: Tiers asked -> next tier, an axis for the level of the first and one for the symbol
            of each; the last tier asked means: keep its answer.
        by_path: Whether the tiers asked before matter; if not, keys hold the last one only.
    """

    first: int
    num_tiers: int
    edges: tuple[tuple[float, ...], ...]
    levels: tuple[tuple[float, ...], ...]
    tables: Mapping[tuple[int, ...], IntArray]
    by_path: bool

    @property
    def single(self) -> bool:
        """Whether one tier is asked alone, whatever its confidence."""
        if self.first == self.num_tiers - 1:
            return True
        return bool((self.tables[self.first,] == self.first).all())


def compile_policy(router: MetaVerifier, num_tiers: int) -> CompiledPolicy:
    """The table that a fitted router is.

    Raises:
        NotCompiledError: It reads more than confidences and costs, or draws by chance.
    """
    if getattr(router, "abstain_price", None) is not None:
        raise NotCompiledError("it may abstain, for which a table of next tiers has no entry")
    if isinstance(router, Pomdp):
        return _pomdp(router)
    name = getattr(router, "name", type(router).__name__)
    if isinstance(router, FixedAnswer):
        raise NotCompiledError("the fixed-answer rule reads answers, not only their confidence")
    if isinstance(router, Calibrated):
        read = ", ".join(dict.fromkeys(n for names in router.names_ for n in names))
        raise NotCompiledError(f"a calibrator turns {read} into the confidence that it decides on")
    if isinstance(router, TokenMargin):
        raise NotCompiledError(f"it reads the signal {router.signal}, not the confidence")
    if not isinstance(router, (RuleRouter, SelfConsistency, AlwaysSLM, AlwaysLLM, AlwaysTier)):
        raise NotCompiledError(f"{name} decides by more than confidences and costs")
    edges = [_edges_of(router)] * (num_tiers - 1)
    tables: dict[tuple[int, ...], IntArray] = {}
    for tier, cuts in enumerate(edges):
        shown = [0.0, *cuts, math.nan]
        tables[tier,] = _choices(router, tier, num_tiers, shown)[None]
    first = int(router.choose(Seen(-1, num_tiers, np.empty((1, 0))))[0])
    return _merged(first, num_tiers, edges, [()] * (num_tiers - 1), tables, by_path=False)


def _choices(router: MetaVerifier, tier: int, num_tiers: int, values: Sequence[float]) -> IntArray:
    """(len(values),) the next tier for confidences of one tier."""
    table = np.full((len(values), tier + 1), np.nan)
    table[:, tier] = values
    return router.choose(Seen(tier, num_tiers, table))


def _edges_of(router: MetaVerifier) -> tuple[float, ...]:
    """All confidences at which a router by rules may change its mind."""
    found = {MAJORITY} if isinstance(router, SelfConsistency) else set[float]()
    if isinstance(router, RuleRouter):
        assert router.policy_ is not None
        found |= set(_numbers(list(router.policy_.rules)))
        if (number := getattr(router, "num_bins", None)) is not None:
            found |= {*middles(number).tolist(), *points(number).tolist()}
    # a rule may change at a number or right after it
    both = {x for v in found for x in (v, math.nextafter(v, math.inf))}
    return tuple(sorted(x for x in both if 0.0 < x <= 1.0))


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from _numbers(item)
    elif is_number(value):
        yield float(value)


def _pomdp(router: Pomdp) -> CompiledPolicy:
    rule = router.rule_
    if rule is None:
        raise NotCompiledError("the policy has learned nothing yet")
    if rule.high is not rule.low:
        raise NotCompiledError(
            "it is a mixture of two policies, drawn by the identity of a question: fit it with "
            "meta_verifier.mixtures=false"
        )
    learned = isinstance(router.undefined, str)
    stands_in = 0.0 if learned else float(router.undefined)
    tables: dict[tuple[int, ...], IntArray] = {}
    for subset, actions in rule.low.items():
        if not subset:
            continue
        table = actions.astype(np.intp)
        for axis, tier in enumerate(() if learned else subset, 1):
            at = int(np.searchsorted(rule.edges[tier], stands_in, side="right"))
            last = [slice(None)] * table.ndim
            last[axis] = slice(-1, None)
            table[tuple(last)] = np.take(table, [at], axis=axis)
        tables[subset] = table
    if (end := rule.tiers[-1]) < rule.num_tiers - 1:
        # the last tier that is asked keeps its answer, though others lie ahead
        shapes = {(): (len(rule.levels[end]) + 1,), **{s: t.shape for s, t in tables.items()}}
        for subset, shape in shapes.items():
            tables[(*subset, end)] = np.full((*shape, len(rule.edges[end]) + 2), end)
    edges = [tuple(e.tolist()) for e in rule.edges]
    levels = [tuple(e.tolist()) for e in rule.levels]
    return _merged(int(rule.low[()]), rule.num_tiers, edges, levels, tables, by_path=True)


def _merged(
    first: int,
    num_tiers: int,
    edges: Sequence[tuple[float, ...]],
    levels: Sequence[tuple[float, ...]],
    tables: dict[tuple[int, ...], IntArray],
    by_path: bool,
) -> CompiledPolicy:
    """The same decisions without the edges on both sides of which they are alike."""
    kept_edges, kept_levels = list(edges), list(levels)
    for tier in range(num_tiers - 1):
        axes = {s: 1 + s.index(tier) for s in tables if tier in s}
        kept_edges[tier] = _merge(tables, axes, edges[tier])
        axes = {s: 0 for s in tables if s[0] == tier}
        kept_levels[tier] = _merge(tables, axes, levels[tier])
    return CompiledPolicy(first, num_tiers, tuple(kept_edges), tuple(kept_levels), tables, by_path)


def _merge(
    tables: dict[tuple[int, ...], IntArray],
    axes: Mapping[tuple[int, ...], int],
    edges: tuple[float, ...],
) -> tuple[float, ...]:
    """Drop equal neighbours along an axis of some tables; the edges that are left."""
    apart = [
        i
        for i in range(len(edges))
        if any(
            not np.array_equal(tables[s].take(i, axis), tables[s].take(i + 1, axis))
            for s, axis in axes.items()
        )
    ]
    for subset, axis in axes.items():
        size = tables[subset].shape[axis]
        after = range(len(edges) + 1, size)  # the symbol of an undefined confidence
        tables[subset] = tables[subset].take([0, *(i + 1 for i in apart), *after], axis)
    return tuple(edges[i] for i in apart)
