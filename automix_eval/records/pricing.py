"""Prices of recorded calls, and the cost models a report may use instead of the run's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from automix_eval.costs.flops import FlopsCost
from automix_eval.costs.paper import PaperCost
from automix_eval.costs.seconds import SecondsCost
from automix_eval.costs.tokens import TokenCost
from automix_eval.metrics.ibc import Undefined
from automix_eval.report.rows import Calls, FloatArray, Rows
from automix_eval.report.text import plain
from automix_eval.types import Answer, AutoMixError, Call, CostModel, Role, Verification
from automix_eval.untrusted import MIB, parse_yaml, read_bytes

Prices = FloatArray | Undefined
"""(n,) cost of each question, 0 where there was nothing to pay; or why it is not known."""

_COST_MODELS: dict[str, tuple[Callable[..., CostModel], set[str]]] = {
    "paper": (PaperCost, {"tiers", "verifier"}),
    "tokens": (TokenCost, {"prices"}),
    "flops": (FlopsCost, {"parameters"}),
    "seconds": (SecondsCost, {"prices"}),
}
_HOW_TO = (
    "--costs takes paper:SLM,VERIFIER,LLM (paper:1,1,50), tokens:PRICES.yaml, "
    "flops:PARAMETERS,PARAMETERS (flops:135e6,270e6) or seconds"
)


@dataclass(frozen=True, slots=True, eq=False)
class Priced:
    """What every tier costs on every question, one entry a tier."""

    answers: tuple[Prices, ...]
    verifications: tuple[Prices, ...]


def price(rows: Rows, cost: CostModel) -> Priced:
    """Price the recorded calls of some rows."""
    tiers = range(rows.num_tiers)
    timed = isinstance(cost, SecondsCost)

    def verification(call: Call) -> float:
        return cost.verification_cost(Verification(call.tier, None, calls=(call,)))

    return Priced(
        tuple(_column(rows.answers, t, "answer", answer_price(cost), timed=timed) for t in tiers),
        tuple(_column(rows.verifications, t, "verify", verification, timed=timed) for t in tiers),
    )


def price_answers(rows: Rows, tier: int, cost: CostModel, priced_as: int) -> Prices:
    """Cost of one tier's answers at the price of another tier."""
    timed = isinstance(cost, SecondsCost)
    return _column(rows.answers, tier, "answer", answer_price(cost), priced_as, timed=timed)


def answer_price(cost: CostModel) -> Callable[[Call], float]:
    """The price of an answer whose calls are summed up in one."""
    return lambda call: cost.answer_cost(Answer(call.tier, "", (call,)))


def _column(
    calls: Calls,
    tier: int,
    role: Role,
    of: Callable[[Call], float],
    priced_as: int | None = None,
    timed: bool = False,
) -> Prices:
    """Cost per question of one tier and role; equal consumption is priced once."""
    number = calls.number[:, tier]
    paid = number > 0
    used = [calls.prompt_tokens, calls.cached_tokens, calls.generated_tokens]
    used += [calls.seconds] if timed else []
    columns = [column[paid, tier] for column in used]
    kinds, inverse = _kinds(columns)
    costs = np.zeros(len(number))
    try:
        values = [
            of(
                Call(
                    tier if priced_as is None else priced_as,
                    role,
                    _count(prompt),
                    _count(generated),
                    None if not seconds or np.isnan(seconds[0]) else seconds[0],
                    _count(cached),
                )
            )
            for prompt, cached, generated, *seconds in zip(
                *(column[kinds].tolist() for column in columns), strict=True
            )
        ]
    except AutoMixError as err:
        return Undefined(plain(err))
    costs[paid] = np.array(values, dtype=float)[inverse] if values else 0.0
    return costs


def _kinds(columns: Sequence[FloatArray]) -> tuple[Any, Any]:
    """One row of each kind of equal rows, and the kind of every row."""
    inverse = np.zeros(len(columns[0]), dtype=np.int64)
    first: Any = np.zeros(0, dtype=np.int64)
    for column in columns:
        values, rank = np.unique(column, return_inverse=True)
        _, first, inverse = np.unique(
            inverse * len(values) + rank, return_index=True, return_inverse=True
        )
    return first, inverse


def _count(value: float) -> int | None:
    return None if np.isnan(value) else int(value)


# --------------------------------------------------------------------------- which prices


def cost_from(config: Mapping[str, Any]) -> CostModel:
    """The cost model a manifest names, built from checked numbers only.

    A ``_target_`` is left unread: a results folder must not choose code to run.

    Raises:
        AutoMixError: The name or a parameter is unknown, or a price is not a number.
    """
    name = config.get("name") if isinstance(config, Mapping) else config
    if not isinstance(name, str) or name not in _COST_MODELS:
        raise AutoMixError(
            f"the cost model {name!r} is unknown; the report knows {', '.join(_COST_MODELS)}"
        )
    build, known = _COST_MODELS[name]
    params = {k: v for k, v in config.items() if k not in {"name", "_target_"}}
    if unknown := set(params) - known:
        raise AutoMixError(
            f"cost={name} has the unknown parameters {', '.join(sorted(map(repr, unknown)))}; "
            f"it takes {', '.join(sorted(known))}"
        )
    try:
        return build(**params)
    except (AttributeError, TypeError, ValueError) as err:
        raise AutoMixError(f"cost={name} cannot be built from {params!r}: {err}") from err


def cost_prices(cost: CostModel) -> Sequence[Any]:
    """One entry a tier of a cost model of :func:`cost_from`; none where all tiers are alike."""
    if isinstance(cost, PaperCost):
        return cost.tiers
    return getattr(cost, "parameters", None) or getattr(cost, "prices", None) or ()


def parse_costs(text: str) -> dict[str, Any]:
    """The configuration that ``--costs`` stands for.

    ``paper:1,1,50`` is C_SLM, C_ver, C_LLM as the paper writes them; more tiers stand before the
    last number, the verifier's price is always the second. ``tokens:FILE`` names a YAML file: a
    list with one mapping ``{prompt: ..., generated: ...}`` a tier (price of a million tokens), or
    a mapping with the key ``prices`` that holds it. ``flops:P1,P2`` gives the parameters of each
    tier; ``seconds`` counts the recorded times.

    Raises:
        AutoMixError: It cannot be understood, or the file cannot be read.
    """
    name, _, rest = text.partition(":")
    if name == "paper" and rest:
        try:
            first, verifier, *others = (float(part) for part in rest.split(","))
        except ValueError as err:
            raise AutoMixError(f"--costs {plain(text)}: {plain(err)}. {_HOW_TO}") from err
        config: dict[str, Any] = {"name": name, "tiers": [first, *others], "verifier": verifier}
    elif name == "flops" and rest:
        try:
            config = {"name": name, "parameters": [float(part) for part in rest.split(",")]}
        except ValueError as err:
            raise AutoMixError(f"--costs {plain(text)}: {plain(err)}. {_HOW_TO}") from err
    elif text == "seconds":
        config = {"name": name}
    elif name == "tokens" and rest:
        config = {"name": name, "prices": _prices_file(Path(rest))}
    else:
        raise AutoMixError(f"--costs {plain(text)} is not understood. {_HOW_TO}")
    cost_from(config)
    return config


def _prices_file(path: Path) -> Any:
    try:
        value = parse_yaml(read_bytes(path, MIB))
    except (OSError, ValueError) as err:
        raise AutoMixError(f"--costs tokens:{path} cannot be read: {plain(err)}") from err
    if isinstance(value, dict):
        value = value.get("prices")
    if not isinstance(value, list):
        raise AutoMixError(
            f"--costs tokens:{path} must hold a list with one mapping a tier, such as "
            "'- {prompt: 0.1, generated: 0.4}'"
        )
    return value
