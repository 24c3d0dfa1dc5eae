"""Routers of an experiment's axis ``router``: an option, with its own values, or one in a row."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, cast

import numpy as np
from omegaconf import OmegaConf

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.records.outcomes import IntArray, Outcomes, Seen
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


class Chained:
    """Router t was fitted on tiers t and t + 1 alone, and decides at tier t.

    A router that skips its first tier without looking at an answer hands the question to the next
    router, at the start of the chain as on the way up.

    Args:
        pair: An unfitted router of two tiers, copied for each pair.
    """

    def __init__(self, pair: MetaVerifier) -> None:
        self.pair = pair
        self.routers_: Sequence[MetaVerifier] = ()

    def __getattr__(self, name: str) -> Any:
        # what the router needs to see is what its parts need; fitting may add to that, or end it
        if name.startswith("needs_"):
            return any(getattr(one, name) for one in self.routers_ or (self.pair,))
        raise AttributeError(name)

    def fit(self, outcomes: Outcomes) -> Chained:
        """Fit a copy of the router on each two tiers that follow each other."""
        made = []
        for tier in range(outcomes.num_tiers - 1):
            one = copy.deepcopy(self.pair)
            made.append(one.fit(outcomes.select_tiers([tier, tier + 1])) if one.needs_fit else one)
        self.routers_ = made
        return self

    def choose(self, seen: Seen) -> IntArray:
        """(n,) the tier to go to: the one reached, or a later one."""
        at = np.full(len(seen), max(seen.tier, 0), dtype=np.intp)
        going = np.ones(len(seen), dtype=np.bool_)
        if seen.tier >= 0:
            going = np.asarray(self.routers_[seen.tier].choose(_pair(seen, seen.tier))) > 0
            at += going
        for router in self.routers_[seen.tier + 1 :]:
            going &= np.asarray(router.choose(_pair(seen, seen.tier + 1))) > 0
            at += going
        return at


def _pair(seen: Seen, first: int) -> Seen:
    """What a router of two tiers sees if the first of them is this one, asked or not yet."""
    asked = first == seen.tier
    return Seen(
        0 if asked else -1,
        2,
        seen.confidences[:, first:],
        seen.ids,
        {name: table[:, first:] for name, table in seen.signals.items()},
        seen.questions,
        seen.answers if asked else None,
        None,
        None if seen.costs is None else seen.costs[:, first:],
    )
