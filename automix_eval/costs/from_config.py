"""The cost models that a report may use instead of the run's own, from names and settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from automix_eval.costs.flops import FlopsCost
from automix_eval.costs.paper import PaperCost
from automix_eval.costs.seconds import SecondsCost
from automix_eval.costs.tokens import TokenCost
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable
from automix_eval.safety.untrusted import MIB, parse_yaml, read_bytes
from automix_eval.types import CostModel

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


def cost_from(config: Any) -> CostModel:
    """The cost model a manifest names, built from checked numbers only.

    A ``_target_`` is left unread: a results folder must not choose code to run.

    Raises:
        AutoMixError: The name or a parameter is unknown, or a price is not a number.
    """
    name = config.get("name") if isinstance(config, Mapping) else None
    if not isinstance(name, str) or name not in _COST_MODELS:
        said = "no cost model is named" if name is None else f"the cost model {name!r} is unknown"
        raise AutoMixError(f"{said}; the report knows {', '.join(_COST_MODELS)}")
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
    config: dict[str, Any] = {"name": name}
    try:
        if name == "paper" and rest:
            first, *others = (float(part) for part in rest.split(","))
            if len(others) < 2:
                raise ValueError("that are no prices of two tiers and of the verifier")
            config |= {"tiers": [first, *others[1:]], "verifier": others[0]}
        elif name == "flops" and rest:
            config["parameters"] = [float(part) for part in rest.split(",")]
        elif name == "tokens" and rest:
            config["prices"] = _prices_file(Path(rest))
        elif text != "seconds":
            raise AutoMixError(f"--costs {printable(text)} is not understood. {_HOW_TO}")
    except ValueError as err:
        raise AutoMixError(f"--costs {printable(text)}: {printable(err)}. {_HOW_TO}") from err
    cost_from(config)
    return config


def _prices_file(path: Path) -> Any:
    try:
        value = parse_yaml(read_bytes(path, MIB))
    except (OSError, ValueError) as err:
        raise AutoMixError(f"--costs tokens:{path} cannot be read: {printable(err)}") from err
    if isinstance(value, dict):
        value = value.get("prices")
    if not isinstance(value, list):
        raise AutoMixError(
            f"--costs tokens:{path} must hold a list with one mapping a tier, such as "
            "'- {prompt: 0.1, generated: 0.4}'"
        )
    return value
