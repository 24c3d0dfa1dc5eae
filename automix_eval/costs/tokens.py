"""Prices per token, as serving providers state them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from automix_eval.costs.metered import MeteredCost, count, is_price, listed_prices
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Call

_KINDS = ("prompt", "cached", "generated")
_LISTED = ("model", "provider")


class TokenCost(MeteredCost):
    """Cost of a call = fresh prompt, cached prompt and generated tokens, each at its own price.

    Args:
        prices: For each tier, ascending, a mapping with the keys ``prompt``, ``generated`` and
            ``cached``: prices of a million tokens, in any one currency. A ``cached`` that is left
            out or None is the price of ``prompt``: nothing is taken off that nobody granted. Any
            other None means that the price is unknown, an error as soon as it is needed. Or a
            mapping with ``model`` (and ``provider``): US dollars from the list of the package
            genai-prices.

    Raises:
        AutoMixError: A price is no finite number of 0 or more, a key is unknown, or a model is not
            in the list.
    """

    def __init__(self, prices: Sequence[Mapping[str, Any] | None]) -> None:
        listed = isinstance(prices, Sequence) and not isinstance(prices, str)
        if not listed or not all(p is None or isinstance(p, Mapping) for p in prices):
            raise AutoMixError(
                f"cost.prices={prices!r} must be a list with the prices of each tier, as "
                "[{prompt: 0.1, generated: 0.4}, {prompt: 2, generated: 8}]; in --model_args "
                "cost.prices.0.prompt=0.1,... or a file, config=FILE.yaml"
            )
        for tier, price in enumerate(prices):
            _check(tier, price or {})
        self.prices = prices
        self._units = [_units(tier, price or {}) for tier, price in enumerate(prices)]

    def price(self, call: Call) -> float:
        """Cost of one call in the currency of the prices."""
        units = {kind: self._unit(call.tier, kind) for kind in _KINDS}
        prompt = count(call, "prompt", call.prompt_tokens, "tokens")
        made = count(call, "generated", call.generated_tokens, "tokens")
        cached = min(call.cached_tokens or 0, prompt)  # unknown: nothing came from a cache
        total = units["prompt"] * (prompt - cached) + units["cached"] * cached
        return (total + units["generated"] * made) / 1e6

    def _unit(self, tier: int, kind: str) -> float:
        units = self._units[tier] if tier < len(self._units) else {}
        value = units.get(kind)
        if value is None and kind == "cached":
            value = units.get("prompt")
        if value is None:
            raise AutoMixError(
                f"cost=tokens has no {kind} price for tier {tier}: set it in cost.prices (price "
                "of a million tokens; 0 must be written out), or name the model there "
                "({model: NAME} takes the price from the package genai-prices)"
            )
        return float(value)


def _check(tier: int, price: Mapping[str, Any]) -> None:
    for kind, value in price.items():
        if kind not in (*_KINDS, *_LISTED):
            raise AutoMixError(
                f"cost.prices[{tier}] has the unknown key {kind!r}; it takes prompt, cached and "
                "generated, or model and provider"
            )
        if kind in _KINDS and value is not None and not is_price(value):
            raise AutoMixError(
                f"cost.prices[{tier}].{kind} is {value!r}; a price is a finite number of 0 or more"
            )


def _units(tier: int, price: Mapping[str, Any]) -> Mapping[str, float | None]:
    """The prices of a tier; those written out go before those of the list."""
    own = {kind: price.get(kind) for kind in _KINDS}
    model = price.get("model")
    if model is None:
        return own
    listed = listed_prices(tier, str(model), price.get("provider"))
    return {kind: listed[kind] if own[kind] is None else own[kind] for kind in _KINDS}
