"""Ways through the questions of a run: who answers each, and what it costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from automix_eval.analysis.question_sets import QuestionSet
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.columns import FloatArray
from automix_eval.records.pricing import Prices

Index = npt.NDArray[np.intp]
Mask = npt.NDArray[np.unsignedinteger[Any]]


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
        questions: The questions.
        visited: (n,) bit t is set where tier t is asked; the highest bit is the final tier.
        pays: Bit t is set where the verification of tier t is paid, if t is asked.
    """

    questions: QuestionSet
    visited: Mask
    pays: int

    @classmethod
    def live(cls, questions: QuestionSet) -> ChainRouting:
        """What the run did."""
        rows = questions.rows
        ends = np.arange(rows.num_tiers) == rows.final[:, None]
        return cls(questions, pack(rows.on_path | ends), (1 << rows.num_tiers) - 1)

    @classmethod
    def only(cls, questions: QuestionSet, tier: int) -> ChainRouting:
        """One tier for every question, unverified."""
        kind = pack(np.zeros((1, questions.rows.num_tiers), dtype=bool)).dtype
        return cls(questions, np.full(len(questions.rows), 1 << tier, dtype=kind), 0)

    def missing(self) -> dict[str, Undefined]:
        """Figures that do not exist, with the reason."""
        found: dict[str, Undefined] = {}
        rows, priced = self.questions.rows, self.questions.priced
        final = self._final(self.visited)
        tiers = [t for t in range(rows.num_tiers) if (self.visited >> t & 1).any()]
        picked = np.arange(len(rows))
        absent = int((~rows.asked[picked, final]).sum())
        who = (
            "the SLM"
            if tiers == [0]
            else "the LLM"
            if tiers == [self.questions.last]
            else "the run"
        )
        if absent:
            reason = Undefined(f"{who} was not asked {absent} of {len(rows)} questions in this run")
            return {"quality": reason, "cost": reason}
        if unscored := int(np.isnan(rows.scores[picked, final]).sum()):
            found["quality"] = Undefined(f"the task gave no score to {unscored} answers of {who}")
        for tier in tiers:
            parts = [priced.answers[tier]]
            parts += [priced.verifications[tier]] if self.pays >> tier & 1 else []
            for part in parts:
                if isinstance(part, Undefined):
                    return {**found, "cost": part}
        return found

    def values(self, name: str, rows: Index) -> FloatArray:
        """(len(rows),) a figure of some questions."""
        visited = self.visited[rows]
        if name == "quality":
            return np.asarray(self.questions.rows.scores[rows, self._final(visited)])
        if name == "cost":
            return self._cost(visited, rows)
        kind, tier = name.split(" ")
        if kind == "asked":
            return (visited >> int(tier) & 1).astype(float)
        return np.asarray(self._final(visited) == int(tier), dtype=float)

    def _final(self, visited: Mask) -> Index:
        return np.frexp(visited.astype(np.float64))[1].astype(np.intp) - 1

    def _cost(self, visited: Mask, rows: Index) -> FloatArray:
        total = np.zeros(len(rows))
        for tier in range(self.questions.rows.num_tiers):
            asked = (visited >> tier & 1).astype(bool)
            parts = [self.questions.priced.answers[tier]]
            parts += [self.questions.priced.verifications[tier]] if self.pays >> tier & 1 else []
            for part in parts:
                # a tier without a price is asked nothing here, see `missing`
                if isinstance(part, np.ndarray):
                    total += np.where(asked, part[rows], 0.0)
        return total


def pack(visited: npt.NDArray[np.bool_]) -> Mask:
    """(n, N) flags as one bit a tier, in the smallest type that holds them."""
    tiers = visited.shape[1]
    kind = np.min_scalar_type((1 << tiers) - 1)
    total = np.zeros(len(visited), dtype=kind)
    for tier in range(tiers):
        total |= (visited[:, tier].astype(kind) << kind.type(tier)).astype(kind)
    return total
