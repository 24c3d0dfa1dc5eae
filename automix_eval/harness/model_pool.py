"""Models kept from run to run of one process, where a tier's configuration is the same.

Loading is most of what a run costs whose calls are in the store, so the jobs of a sweep keep the
tiers of the job before. Outside :func:`keep_models` every run makes its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from omegaconf import DictConfig, OmegaConf

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.types import Backend

_kept: dict[str, Backend] | None = None


@contextmanager
def keep_models() -> Iterator[None]:
    """Keep the models of each run for the next one, until the block ends."""
    global _kept
    before, _kept = _kept, {} if _kept is None else _kept
    try:
        yield
    finally:
        _kept = before


def keep_on() -> None:
    """Keep models from now on, in a process that does nothing but the jobs of one sweep."""
    global _kept
    if _kept is None:
        _kept = {}


def backends(settings: DictConfig, defaults: Mapping[str, Any]) -> list[Backend]:
    """The tiers' backends, cheapest first.

    Args:
        settings: The configuration of the run.
        defaults: Batch size and device of tiers that set none.
    """
    names = config.tier_names(settings)
    keys = [_key(settings, name, defaults) for name in names]
    if _kept is not None:
        # before anything is loaded: two chains need not fit into the memory together
        for key in set(_kept) - set(keys):
            del _kept[key]
    found = []
    for name, key in zip(names, keys, strict=True):
        backend = None if _kept is None else _kept.get(key)
        if backend is None:
            backend = parts.make_backend(settings, name)
            backend.set_defaults(defaults)
            if _kept is not None:
                _kept[key] = backend
        found.append(backend)
    return found


def _key(settings: DictConfig, name: str, defaults: Mapping[str, Any]) -> str:
    """Everything a backend is made of."""
    node = next(t for t in settings.tiers if t.tier == name) if settings.tiers else settings[name]
    values = OmegaConf.to_container(node, resolve=True)
    return json.dumps([name, values, dict(defaults)], sort_keys=True, default=str)
