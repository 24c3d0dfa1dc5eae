"""Random: the base line of the IBC, drawn by a coin."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.assured import ChoosingRouter
from automix_eval.meta_verifiers.base import require_fitted, require_rows
from automix_eval.meta_verifiers.baselines.common import (
    SWEEP,
    exactly,
    number,
    reading,
    text,
)
from automix_eval.meta_verifiers.objectives import Ends, select
from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number


@dataclass(eq=False)
class Random(ChoosingRouter):
    """Ask the last tier at once with probability ``rate``, else keep the first tier's answer.

    In the mean the rate r lies on the line between both ends of the comparison, the base of the
    IBC (AutoMix, arXiv 2310.12963): cost (1 - r) C_SLM + r C_LLM, score (1 - r) P_SLM + r P_LLM.
    So its delta IBC is 0, and a router is worth what it gains over this one at the same cost.

    The coin is hashed from the seed and the question's identity. It depends on no other question,
    and a question that a rate sends to the last tier is sent there by every higher rate.

    The rate is fitted to the *expected* cost and score, not to the coins that fell. By ``ibc`` all
    rates are equal, and the cheapest that ``min_escalation`` allows is taken.

    Args:
        rate: Share of questions to send to the last tier; None: chosen by the objective.
        seed: Seed of the coin.

    The others are those of :class:`~automix_eval.meta_verifiers.objectives.Selection`.

    Attributes:
        rate_: The rate in use; None before fitting.
    """

    needs_texts = True

    rate: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rate is not None and not is_number(self.rate, 0.0, 1.0):
            raise AutoMixError(
                f"meta_verifier.rate={self.rate!r} of random must be a share in [0, 1]"
            )
        self.needs_fit = self.rate is None
        self.rate_: float | None = self.rate

    def _fit(self, outcomes: Outcomes) -> Random:
        """Learn the rate from the means of the first and of the last tier."""
        if self.rate is not None:
            return self
        require_rows(outcomes, "random")
        ends = Ends.of(outcomes.canonical())
        rates = self._candidates(ends)
        cost = (1 - rates) * ends.slm_cost + rates * ends.llm_cost
        score = (1 - rates) * ends.slm_score + rates * ends.llm_score
        chosen = select(score, cost, rates, ends, self)
        self.rate_ = float(rates[chosen.index]) if chosen.index is not None else 0.0
        self.note_ = chosen.note
        return self

    def _take(self, chosen: Any, value: float, note: str) -> None:  # noqa: ARG002 - not kept
        self.rate_, self.note_ = chosen.rate_, note

    def choose(self, seen: Seen) -> IntArray:
        """The first or the last tier, by the question's coin.

        Raises:
            AutoMixError: A question has no identity to draw the coin from.
        """
        rate = require_fitted(self.rate_, "random")
        if seen.tier >= 0:
            return np.full(len(seen), seen.tier)
        if len(seen) and (seen.ids is None or not all(seen.ids)):
            raise AutoMixError(
                "meta_verifier=random draws its coin from the question's identity, and there is "
                "none: give the rows a column of ids"
            )
        heads = [self._coin(i) < rate for i in seen.ids or ()]
        return np.where(heads, seen.num_tiers - 1, 0)

    def sweep(self) -> list[tuple[float | None, Any]]:
        """Rates 0 to 1."""
        require_fitted(self.rate_, "random")
        rates = np.linspace(0.0, 1.0, SWEEP).tolist()
        return [(rate, Random(rate, self.seed)) for rate in rates]

    def describe(self) -> str:
        """The rate."""
        rate = require_fitted(self.rate_, "random")
        note = f" Note: {self.note_}." if self.note_ else ""
        return f"Ask the last tier at once with probability {rate:.6g}, else the first.{note}"

    def get_learned(self) -> dict[str, Any]:
        """The rate."""
        return {"rate": require_fitted(self.rate_, "random"), "note": self.note_}

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the rate."""
        with reading("random"):
            exactly(learned, "rate", "note")
            self.rate_, self.note_ = number(learned["rate"], 0, 1), text(learned["note"])

    def _coin(self, identity: str) -> float:
        key = f"{self.seed}\0{identity}".encode()
        drawn = int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "big")
        return (drawn >> 11) / 2**53  # the bits a float holds, so that it stays below 1

    def _candidates(self, ends: Ends) -> FloatArray:
        """Equal steps, and the very rates that meet the objective's number."""
        rates = [*np.linspace(0.0, 1.0, SWEEP).tolist(), self.min_escalation]
        if self.budget is not None:
            rates.append(_share(self.budget, ends.slm_cost, ends.llm_cost))
        if self.target is not None:
            rates.append(_share(self.target * ends.llm_score, ends.slm_score, ends.llm_score))
        return np.unique([r for r in rates if 0 <= r <= 1])


def _share(value: float, first: float, last: float) -> float:
    """How far a value lies on the way from first to last; NaN where both are the same."""
    return (value - first) / (last - first) if last != first else math.nan
