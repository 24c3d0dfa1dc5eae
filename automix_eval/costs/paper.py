"""The paper's constant units: one price a call, whatever its length."""

from __future__ import annotations

from collections.abc import Sequence

from automix_eval.costs.metered import is_price
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Call, Verification


class PaperCost:
    """C = C_SLM + C_ver + w * C_LLM, w = 1 if escalated (arXiv 2310.12963, section 3).

    Args:
        tiers: Units of one answer of each tier, ascending; the paper's first version: 1 and 50.
        verifier: Units of one verification that makes model calls (however many samples);
            a verification without a call, such as the token margin, costs nothing.
    """

    def __init__(self, tiers: Sequence[float] = (1.0, 50.0), verifier: float = 1.0) -> None:
        if not tiers or not all(map(is_price, [*tiers, verifier])):
            raise AutoMixError(
                f"cost=paper needs finite numbers of 0 or more, got tiers={tiers}, "
                f"verifier={verifier}"
            )
        self.tiers = tiers
        self.verifier = verifier

    def check(self, num_tiers: int) -> None:
        """Raise AutoMixError unless there is one price per tier."""
        if len(self.tiers) != num_tiers:
            raise AutoMixError(
                f"cost=paper has {len(self.tiers)} prices for {num_tiers} tiers: set cost.tiers "
                "to one price per tier, cheapest first"
            )

    def price(self, call: Call) -> float:
        """Units of one call; a verification's calls together cost ``verifier``."""
        if call.role == "verify":
            return float(self.verifier)
        if call.tier >= len(self.tiers):
            raise AutoMixError(f"cost=paper has no price for tier {call.tier}: extend cost.tiers")
        return float(self.tiers[call.tier])

    def answer_cost(self, answer: Answer) -> float:
        """Units of one answer (a multiple-choice answer is one, whatever its options)."""
        return self.price(answer.calls[0]) if answer.calls else 0.0

    def verification_cost(self, verification: Verification) -> float:
        """``verifier`` units if the verification called the model, else 0."""
        return float(self.verifier) if verification.calls else 0.0
