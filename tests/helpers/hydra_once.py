"""Hydra reads a file of configuration once a process, and composes once in place of twice."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from hydra.core.object_type import ObjectType
from hydra.plugins.config_source import ConfigResult

from automix_eval.paths import hydra_conf_dir

SOURCES = (f"file://{hydra_conf_dir().resolve()}", "pkg://hydra.conf")


def install() -> None:
    """For the rest of this process, and for its forks."""
    read, look = ConfigRepository.load_config, Hydra.get_mode
    kept: dict[tuple[str, str], ConfigResult] = {}

    def load_config(self: ConfigRepository, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.full_path() not in SOURCES:
            return read(self, config_path)
        key = source.full_path(), config_path
        if key not in kept:
            kept[key] = read(self, config_path)
        # its nodes become part of what is composed
        return dataclasses.replace(kept[key], config=copy.deepcopy(kept[key].config))

    def get_mode(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        # all would be composed only to see whether ``hydra.mode`` is set: look for it
        return look(self, config_name, overrides) if "hydra.mode" in str(overrides) else None

    ConfigRepository.load_config = load_config
    Hydra.get_mode = get_mode
