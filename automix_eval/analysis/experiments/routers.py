"""Routers of an experiment's axis ``router``: an option, or one with values of its own."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, cast

from omegaconf import OmegaConf

from automix_eval.analysis.experiments.chained import Chained
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.safety.errors import AutoMixError

# Objective with a number -> the setting that holds it.
_NUMBERS = {"target": "target", "assured": "target", "budget": "budget", "loss": "error_price"}


def label_of(entry: Any) -> str:
    """What a table calls a router: its ``label``, else its option."""
    if isinstance(entry, Mapping):
        return str(entry.get("label") or entry.get("option"))
    return str(entry)


def make(entry: Any, objective: str, calibrator: str, seed: int) -> MetaVerifier:
    """An unfitted router.

    Args:
        entry: An option of meta_verifier, or ``{option, label, chained, KEY: VALUE, ...}``:
            ``chained`` fits it on every two tiers alone.
        objective: ``gain``, ``ibc``, ``target=SHARE``, ``assured=SHARE``, ``budget=COST`` or
            ``loss=PRICE`` of an error.
        calibrator: An option of calibrator.
        seed: Of routers that draw.

    Raises:
        AutoMixError: An option or value does not exist.
    """
    held = dict(entry) if isinstance(entry, Mapping) else {"option": str(entry)}
    held.pop("label", None)
    chained = bool(held.pop("chained", False))
    if "option" not in held:
        raise AutoMixError(f"the router {entry!r} names no option: {{option: pomdp, ...}}")
    made = _made(json.dumps([held, str(objective), str(calibrator), seed]))
    router = copy.deepcopy(made)
    return cast(MetaVerifier, Chained(router)) if chained else router


def is_seeded(entry: Any) -> bool:
    """Whether a router draws, so that seeds differ even on the same rows."""
    option = entry.get("option") if isinstance(entry, Mapping) else entry
    return (
        "seed" in config.compose_application("replay", {"meta_verifier": str(option)}).meta_verifier
    )


@lru_cache(maxsize=256)
def _made(key: str) -> MetaVerifier:
    held, objective, calibrator, seed = json.loads(key)
    option = held.pop("option")
    settings = config.compose_application(
        "replay", {"meta_verifier": option, "calibrator": calibrator}
    )
    aim, sign, value = objective.partition("=")
    settings.objective = aim
    settings.seed = seed
    if sign:
        if aim not in _NUMBERS:
            raise AutoMixError(
                f"objective={objective} is unknown: gain, ibc, target=SHARE, assured=SHARE, "
                "budget=COST, loss=PRICE"
            )
        try:
            settings[_NUMBERS[aim]] = float(value)
        except ValueError as err:
            raise AutoMixError(f"objective={objective}: {value!r} is no number") from err
    for name, setting in held.items():
        if name.startswith("_") or name not in settings.meta_verifier:
            raise config.unknown_key(settings, f"meta_verifier.{name}", ("meta_verifier",))
        OmegaConf.update(settings, f"meta_verifier.{name}", setting)
    return parts.make_meta_verifier(settings)
