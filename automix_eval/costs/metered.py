"""What cost models that price every call by its own measurements share, and listed prices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number
from automix_eval.types import Answer, Call, Verification


class MeteredCost:
    """A cost model whose answers and verifications cost the sum of their calls."""

    def check(self, num_tiers: int) -> None:
        """Raise AutoMixError unless every tier has a price: a call without a token needs it too."""
        for tier in range(num_tiers):
            self.price(Call(tier, "answer", 0, 0, 0.0, 0))

    def price(self, call: Call) -> float:
        """Cost of one call."""
        raise NotImplementedError

    def answer_cost(self, answer: Answer) -> float:
        """Cost of all calls of one answer."""
        return math.fsum(self.price(c) for c in answer.calls)

    def verification_cost(self, verification: Verification) -> float:
        """Cost of all calls of one verification."""
        return math.fsum(self.price(c) for c in verification.calls)


def is_price(value: Any) -> bool:
    """Whether a value is a finite number of 0 or more."""
    return is_number(value, 0.0)


def check_numbers(key: str, values: Sequence[Any], unit: str) -> None:
    """Raise AutoMixError unless each value is None (unknown) or a finite number of 0 or more."""
    for tier, value in enumerate(values):
        if value is not None and not is_price(value):
            raise AutoMixError(
                f"{key}[{tier}] is {value!r}; {unit} is a finite number of 0 or more"
            )


def count(call: Call, kind: str, value: int | None, model: str) -> int:
    """A call's tokens of one kind.

    Raises:
        AutoMixError: The backend did not count them.
    """
    if value is None:
        raise AutoMixError(
            f"cost={model} cannot price calls ({call.role}) of tier {call.tier}: its backend does "
            f"not count their {kind} tokens. Give the tier a tokenizer (slm.tokenizer=..., "
            "llm.tokenizer=...) or use cost=paper"
        )
    return value


_MILLION = 1_000_000


def listed_prices(tier: int, model: str, provider: Any = None) -> dict[str, float | None]:
    """US dollars of a million prompt, cached and generated tokens.

    Args:
        tier: The tier, for messages.
        model: The model's name at its provider, as ``gpt-4o-mini``.
        provider: The provider's name, where several offer the model; None takes the list's guess.

    Returns:
        Prices by kind; ``cached`` is None where the provider grants no price of its own.

    Raises:
        AutoMixError: The package is missing, the model is not in its list, or its price depends on
            more than the number of tokens.
    """
    try:
        from genai_prices import Usage, calc_price
    except ImportError as err:
        raise AutoMixError(
            f"cost.prices[{tier}].model={model} needs the package genai-prices: pip install "
            "genai-prices, or write the prices out"
        ) from err
    where = f"cost.prices[{tier}].model={model}"

    def price(**tokens: int) -> float:
        try:
            found = calc_price(
                Usage(**tokens), model, provider_id=str(provider) if provider else None
            )
        except (LookupError, ValueError) as err:
            raise AutoMixError(
                f"{where}: genai-prices knows no such price ({err}). Name the provider in "
                f"cost.prices[{tier}].provider, upgrade genai-prices, or write the prices out"
            ) from err
        return float(found.total_price)

    # a small request and a large one: a price with steps has no one price of a token
    for kind in ("input_tokens", "output_tokens"):
        small, large = price(**{kind: 1000}) * 1000, price(**{kind: _MILLION})
        if abs(small - large) > 1e-9 * max(small, large):
            raise AutoMixError(
                f"{where}: its price of a token depends on the length of the request "
                f"({small:g} or {large:g} dollars a million): write out the one that applies"
            )
    prompt, generated = price(input_tokens=_MILLION), price(output_tokens=_MILLION)
    cached = price(input_tokens=_MILLION, cache_read_tokens=_MILLION)
    return {"prompt": prompt, "cached": cached, "generated": generated}
