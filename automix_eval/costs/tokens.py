"""Prices per token, as serving providers state them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from automix_eval.types import Answer, AutoMixError, Call, Verification

_KINDS = ("prompt", "generated")


class TokenCost:
    """Cost of a call = prompt tokens x prompt price + generated tokens x generated price.

    Args:
        prices: For each tier, ascending, a mapping with the keys ``prompt`` and ``generated``:
            price of a million tokens, in any one currency. None means the price is unknown and
            is an error as soon as a call of that tier must be priced.
    """

    def __init__(self, prices: Sequence[Mapping[str, float | None] | None]) -> None:
        for tier, price in enumerate(prices):
            for kind, value in (price or {}).items():
                if kind not in _KINDS:
                    raise AutoMixError(
                        f"cost.prices[{tier}] has the unknown key {kind!r}; it takes "
                        "prompt and generated"
                    )
                if value is not None and (
                    isinstance(value, bool)
                    or not isinstance(value, (int, float))
                    or not 0 <= value < float("inf")
                ):
                    raise AutoMixError(
                        f"cost.prices[{tier}].{kind} is {value!r}; a price is a finite number of "
                        "0 or more"
                    )
        self.prices = prices

    def check(self, num_tiers: int) -> None:
        """Raise AutoMixError unless every tier has both prices."""
        for tier in range(num_tiers):
            for kind in _KINDS:
                self._unit(tier, kind)

    def price(self, call: Call) -> float:
        """Cost of one call in the currency of the prices."""
        counts = {"prompt": call.prompt_tokens, "generated": call.generated_tokens}
        total = 0.0
        for kind, count in counts.items():
            unit = self._unit(call.tier, kind)
            if count is None:
                raise AutoMixError(
                    f"cost=tokens cannot price a {call.role} call of tier {call.tier}: its backend "
                    f"did not count its {kind} tokens. Give the tier a tokenizer "
                    "(slm.tokenizer=..., llm.tokenizer=...) or use cost=paper"
                )
            total += unit * count / 1e6
        return total

    def answer_cost(self, answer: Answer) -> float:
        """Cost of all calls of one answer."""
        return sum(self.price(c) for c in answer.calls)

    def verification_cost(self, verification: Verification) -> float:
        """Cost of all calls of one verification."""
        return sum(self.price(c) for c in verification.calls)

    def _unit(self, tier: int, kind: str) -> float:
        value = (self.prices[tier] or {}).get(kind) if tier < len(self.prices) else None
        if value is None:
            raise AutoMixError(
                f"cost=tokens has no {kind} price for tier {tier}: set it in cost.prices (price "
                "of a million tokens; 0 must be written out)"
            )
        return float(value)
