"""Prices of public models, from the list that the package genai-prices carries."""

from __future__ import annotations

from typing import Any

from automix_eval.safety.errors import AutoMixError

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
