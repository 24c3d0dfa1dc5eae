"""Ways through the questions of a run: who answers each, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from automix_eval.analysis.figures import Kind
from automix_eval.analysis.question_sets import PricedTiers, QuestionSet
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.record_columns import FloatArray
from automix_eval.records.repricing import Prices

Index = npt.NDArray[np.intp]
Mask = npt.NDArray[np.unsignedinteger[Any]]

_HIGHEST_BIT: Index = np.frexp(np.arange(256.0))[1].astype(np.intp) - 1


class Routing(Protocol):
    """One way of answering all questions of a question set.

    The figures have the names ``quality``, ``cost``, ``asked 0`` .. and ``final 0`` ..
    """

    def missing(self) -> Mapping[str, Undefined]:
        """Figures that do not exist, with the reason."""

    def values(self, name: str, rows: Index) -> FloatArray:
        """(len(rows),) a figure of some questions."""


@dataclass(frozen=True, slots=True, eq=False)
class GivenRouting:
    """A routing whose scores and costs are given.

    Attributes:
        scores: (n,) or why there are none.
        costs: (n,) or why there are none.
        tier: The tier that answers everything; None outside the chain.
    """

    scores: FloatArray | Undefined
    costs: Prices
    tier: int | None = None

    @classmethod
    def llm_of(cls, questions: QuestionSet) -> GivenRouting:
        """The LLM alone, wherever its answers come from."""
        return cls(questions.llm.scores, questions.llm.costs, questions.last)

    def missing(self) -> dict[str, Undefined]:
        """Figures that do not exist, with the reason."""
        pairs = {"quality": self.scores, "cost": self.costs}
        return {k: v for k, v in pairs.items() if isinstance(v, Undefined)}

    def values(self, name: str, rows: Index) -> FloatArray:
        """(len(rows),) a figure of some questions."""
        held = {"quality": self.scores, "cost": self.costs}.get(name)
        if isinstance(held, np.ndarray):
            return held[rows]
        return np.full(len(rows), float(name.endswith(f" {self.tier}")))


@dataclass(frozen=True, slots=True, eq=False)
class ChainRouting:
    """A routing through the chain, one bit a tier: a hundred of them fit into memory.

    Attributes:
        tiers: What every tier did.
        visited: (n,) bit t is set where tier t is asked; the highest bit is the final tier.
        pays: Bit t is set where the verification of tier t is paid, if t is asked; (n,) where that
            differs by question.
    """

    tiers: PricedTiers
    visited: Mask
    pays: int | Mask

    @classmethod
    def live(cls, questions: QuestionSet) -> ChainRouting:
        """What the run did."""
        rows = questions.rows
        ends = np.arange(rows.num_tiers) == rows.final[:, None]
        return cls(questions.tiers, pack(rows.on_path | ends), (1 << rows.num_tiers) - 1)

    @classmethod
    def only(cls, tiers: PricedTiers, tier: int) -> ChainRouting:
        """One tier for every question, unverified."""
        kind = np.min_scalar_type((2 << tiers.last) - 1)
        return cls(tiers, np.full(len(tiers), 1 << tier, dtype=kind), 0)

    def missing(self) -> dict[str, Undefined]:
        """Figures that do not exist, with the reason."""
        found: dict[str, Undefined] = {}
        if self.tiers.why_not_full() is None:
            return found
        final = self._final(self.visited)
        used = [t for t in range(self.tiers.last + 1) if (self.visited >> t & 1).any()]
        picked = np.arange(len(self.tiers))
        absent = int((~self.tiers.asked[picked, final]).sum())
        who = "the SLM" if used == [0] else "the LLM" if used == [self.tiers.last] else "the run"
        if absent:
            reason = Undefined(
                f"{who} was not asked {absent} of {len(picked)} questions in this run"
            )
            return {"quality": reason, "cost": reason}
        if unscored := int(np.isnan(self.tiers.scores[picked, final]).sum()):
            found["quality"] = Undefined(f"the task gave no score to {unscored} answers of {who}")
        unpriced = [c for t in used for c in self._prices(t) if isinstance(c, Undefined)]
        return {**found, "cost": unpriced[0]} if unpriced else found

    def values(self, name: str, rows: Index) -> FloatArray:
        """(len(rows),) a figure of some questions."""
        visited = self.visited[rows]
        if name == "quality":
            return np.asarray(self.tiers.scores[rows, self._final(visited)])
        if name == "cost":
            return self._cost(visited, rows)
        kind, tier = name.split(" ")
        if kind == "asked":
            return (visited >> int(tier) & 1).astype(float)
        return np.asarray(self._final(visited) == int(tier), dtype=float)

    def _final(self, visited: Mask) -> Index:
        if visited.dtype == np.uint8:
            return _HIGHEST_BIT[visited]
        return np.frexp(visited.astype(np.float64))[1].astype(np.intp) - 1

    def _prices(self, tier: int) -> list[Prices]:
        paid = [self.tiers.verifications[tier]] if np.any(self.pays >> tier & 1) else []
        return [self.tiers.answers[tier], *paid]

    def _cost(self, visited: Mask, rows: Index) -> FloatArray:
        total = np.zeros(len(rows))
        pays = self.pays[rows] if isinstance(self.pays, np.ndarray) else self.pays
        ways = visited, visited & pays
        for tier in range(self.tiers.last + 1):
            for price_of, way in zip(self._prices(tier), ways, strict=False):
                # a tier without a price is asked nothing here, see `missing`
                if isinstance(price_of, np.ndarray):
                    total += np.where((way >> tier & 1).astype(bool), price_of[rows], 0.0)
        return total


def pack(visited: npt.NDArray[np.bool_]) -> Mask:
    """(n, N) flags as one bit a tier, in the smallest type that holds them."""
    tiers = visited.shape[1]
    kind = np.min_scalar_type((1 << tiers) - 1)
    total = np.zeros(len(visited), dtype=kind)
    for tier in range(tiers):
        total |= (visited[:, tier].astype(kind) << kind.type(tier)).astype(kind)
    return total


# --------------------------------------------------------------------------- methods

Choice = tuple[float | None, ChainRouting]
"""(parameter of a policy, where it leads)"""


@dataclass(frozen=True, slots=True, eq=False)
class MethodOnRun:
    """What a method does in one run.

    Attributes:
        routing: Its way through the questions.
        questions: The run's questions; None for a run of one model beside no chain.
        run_id: The run.
        seed: Its seed, -1 where it names none.
        curve: Operating points of its range.
        regions: The policy for each of five cost regions, or the reason; empty for one point.
        path: Steps from the SLM to the LLM, chosen on the fitting questions; empty for one point.
        in_chain: False for a model that is no tier: no share of the questions ends at one.
    """

    routing: Routing
    questions: QuestionSet | None
    run_id: str
    seed: int = -1
    curve: tuple[Choice, ...] = ()
    regions: tuple[Choice | Undefined, ...] = ()
    path: tuple[Routing, ...] = ()
    in_chain: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """A row in the making: one part a seed, or a way of a router fitted in folds.

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

    @property
    def has_path(self) -> bool:
        """Whether every seed has a path, of as many steps."""
        lengths = {len(p.path) for p in self.parts}
        return len(lengths) == 1 and 0 not in lengths

    @property
    def runs(self) -> list[MethodOnRun]:
        """A part of each run."""
        return list({part.run_id: part for part in self.parts}.values())
