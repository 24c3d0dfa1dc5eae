"""Time: what a call took, at the price of a second of the machine it ran on."""

from __future__ import annotations

from collections.abc import Sequence

from automix_eval.costs.metered import MeteredCost, check_numbers
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Call


class SecondsCost(MeteredCost):
    """Cost of a call = its seconds x the price of a second of its tier.

    Measured times vary from run to run; calls taken from the store keep the time they took when
    they were made.

    Args:
        prices: Price of a second of each tier, ascending; None makes every second cost 1.
    """

    def __init__(self, prices: Sequence[float | None] | None = None) -> None:
        check_numbers("cost.prices", prices or (), "a price")
        self.prices = prices

    def price(self, call: Call) -> float:
        """Cost of one call."""
        if call.seconds is None:
            raise AutoMixError(
                f"cost=seconds cannot price calls ({call.role}) of tier {call.tier}: its backend "
                "does not time them; use cost=tokens or cost=paper"
            )
        return self._unit(call.tier) * call.seconds

    def _unit(self, tier: int) -> float:
        if self.prices is None:
            return 1.0
        value = self.prices[tier] if tier < len(self.prices) else None
        if value is None:
            raise AutoMixError(
                f"cost=seconds has no price for tier {tier}: set cost.prices to the price of a "
                "second of each tier, cheapest first, or to null for seconds as they are"
            )
        return float(value)
