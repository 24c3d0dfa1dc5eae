"""Arithmetic: two operations a parameter and token, as in scaling laws."""

from __future__ import annotations

from collections.abc import Sequence

from automix_eval.costs.metered import MeteredCost, check_numbers, count
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Call


class FlopsCost(MeteredCost):
    """Cost of a call = 2 x parameters x tokens computed, in floating-point operations.

    The forward pass of a dense transformer, attention over the context left out (arXiv
    2001.08361, section 2.1). Prompt tokens read from a cache are not computed again.

    Args:
        parameters: Parameters of each tier, ascending; of a mixture of experts those that are
            active. None means unknown, an error.
    """

    def __init__(self, parameters: Sequence[float | None]) -> None:
        check_numbers("cost.parameters", parameters, "a number of parameters")
        self.parameters = parameters

    def price(self, call: Call) -> float:
        """Operations of one call."""
        prompt = count(call, "prompt", call.prompt_tokens, "flops")
        made = count(call, "generated", call.generated_tokens, "flops")
        computed = prompt - min(call.cached_tokens or 0, prompt) + made
        return 2.0 * self._parameters(call.tier) * computed

    def _parameters(self, tier: int) -> float:
        value = self.parameters[tier] if tier < len(self.parameters) else None
        if value is None:
            raise AutoMixError(
                f"cost=flops does not know the parameters of tier {tier}: set cost.parameters to "
                "one number per tier, cheapest first (JSON or YAML: [135e6, 7e9])"
            )
        return float(value)
