"""What the answers of named models cost, where nobody metered them as this project does."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from automix_eval.costs.metered import is_price, listed_prices
from automix_eval.records.outcomes import FloatArray
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import did_you_mean, listing

# 7b, 1.5B, 350M; not the 8x7b of a mixture of experts, whose active share the name does not tell,
# as the A3B of a 30B-A3B does.
_ACTIVE = re.compile(r"(?<![a-z0-9])a(\d+(?:\.\d+)?)(b)(?![a-z0-9])", re.IGNORECASE)
_SIZE = re.compile(r"(?<![\w.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)
_UNITS = {"b": 1e9, "m": 1e6}


def answer_costs(
    models: Sequence[str],
    number: int,
    own: FloatArray | None,
    tokens: tuple[FloatArray, FloatArray] | None,
    prices: Any,
    parameters: Sequence[float | None] = (),
) -> tuple[FloatArray, str]:
    """(n, N) cost of each model's answer to each question, and a sentence that says what it is.

    In this order: ``prices`` as the user gives them; the table's own costs; the prices of the
    package genai-prices, where it lists every model; FLOPs (2 x parameters x tokens, Kaplan et al.,
    arXiv 2001.08361) where the number of parameters is known of every one. Without tokens, the
    unit is a prompt token.

    Args:
        models: The chain.
        number: n.
        own: (n, N) costs of the table, NaN where missing; None where it has none.
        tokens: (n, N) prompt and generated tokens, likewise.
        prices: Mapping from each model to the cost of an answer, or to a mapping with ``prompt``
            and ``generated``, prices of a million tokens; None: not given.
        parameters: Of each model, where known otherwise than by name.

    Raises:
        AutoMixError: ``prices`` does not name every model once, has a price that is none, or prices
            tokens that the table lacks; or nothing tells what the answers cost.
    """
    if prices is not None:
        return _given(models, number, tokens, prices), "as given"
    if own is not None:
        return own, "the table's own"
    if (listed := _listed(models)) is not None:
        units = np.array(listed) / 1e6
        said = ", ".join(f"{m} {p:g} and {g:g}" for m, (p, g) in zip(models, listed, strict=True))
        said = f"(a million prompt and generated tokens by genai-prices: {said})"
        if tokens is None:
            costs = np.tile(units[:, 0], (number, 1))
            return costs, f"US dollars of a prompt token, tokens not being known {said}"
        costs = tokens[0] * units[:, 0] + tokens[1] * units[:, 1]
        return costs, f"US dollars of the tokens {said}"
    told = [*parameters, *[None] * len(models)]
    sizes = [p or parameters_of(m) for m, p in zip(models, told, strict=False)]
    if all(s is not None for s in sizes):
        known = np.array(sizes, dtype=np.float64)
        said = ", ".join(f"{m} {s:.3g}" for m, s in zip(models, known.tolist(), strict=True))
        if tokens is not None:
            flops = 2 * known * (tokens[0] + tokens[1])
            return flops, f"FLOPs, 2 x parameters x tokens ({said} parameters)"
        return (
            np.tile(2 * known, (number, 1)),
            f"FLOPs of a token, 2 x parameters, tokens not being known ({said} parameters)",
        )
    unknown = [m for m, s in zip(models, sizes, strict=True) if s is None]
    raise AutoMixError(
        f"nothing tells what an answer of {listing(unknown)} costs: the input has no costs, and "
        "neither a price list nor the name helps. Give the cost of an answer of every model, in "
        "one unit: " + _example(models)
    )


def parameters_of(model: str) -> float | None:
    """Parameters that compute a token, by a model's name such as ``Qwen2.5-7B``; else None."""
    named = _ACTIVE.findall(model) or _SIZE.findall(model)
    found = {float(n) * _UNITS[unit.lower()] for n, unit in named}
    return found.pop() if len(found) == 1 else None


def _given(
    models: Sequence[str], number: int, tokens: tuple[FloatArray, FloatArray] | None, prices: Any
) -> FloatArray:
    if not isinstance(prices, Mapping):
        raise AutoMixError(f"prices={prices!r} must be a mapping: {_example(models)}")
    held = {str(k): v for k, v in prices.items()}
    for name in held:
        if name not in models:
            raise AutoMixError(
                f"the prices name {name}, which is no model of the chain"
                f"{did_you_mean(name, list(models), 1)} It has {listing(list(models), 20)}"
            )
    if missing := [m for m in models if m not in held]:
        raise AutoMixError(f"the prices lack {listing(missing, 20)}: {_example(models)}")
    columns = []
    for column, model in enumerate(models):
        price = held[model]
        if isinstance(price, Mapping):
            if set(price) != {"prompt", "generated"}:
                raise AutoMixError(f"prices: {model} takes prompt and generated, got {dict(price)}")
            if tokens is None:
                raise AutoMixError(
                    f"prices: {model} is priced by tokens, and the input has none: give the cost "
                    "of an answer"
                )
            into, made = (_number(model, price[k]) / 1e6 for k in ("prompt", "generated"))
            columns.append(tokens[0][:, column] * into + tokens[1][:, column] * made)
        else:
            columns.append(np.full(number, _number(model, price)))
    return np.stack(columns, axis=1)


def _number(model: str, value: Any) -> float:
    if not is_price(value):
        raise AutoMixError(f"prices: {model} is {value!r}, expected a finite number of at least 0")
    return float(value)


def _listed(models: Sequence[str]) -> list[tuple[float, float]] | None:
    """Dollars of a million prompt and generated tokens; None where one model is not listed."""
    found = []
    for model in models:
        try:
            units = listed_prices(0, model.rpartition("/")[2])
        except AutoMixError:  # not in the list, or the list is not installed
            return None
        if units["prompt"] is None or units["generated"] is None:
            return None
        found.append((float(units["prompt"]), float(units["generated"])))
    return found


def _example(models: Sequence[str]) -> str:
    pairs = list(zip(models, ("1", "50"), strict=False))
    more = ", ..." if len(models) > 2 else ""
    costs = ",".join(f"{m}={c}" for m, c in pairs)
    prices = ", ".join(f"'{m}': {c}" for m, c in pairs)
    return f'whatif --costs "{costs}{more}", or replay "prices={{{prices}{more}}}"'
