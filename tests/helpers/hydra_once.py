"""Hydra reads a file of configuration, and composes what is asked for, once a process.

Where the files are this checkout's, what it makes of them depends on the overrides, on where the
process works and on the name of its job.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.hydra import Hydra
from hydra.core.object_type import ObjectType
from hydra.core.utils import JobRuntime
from hydra.plugins.config_source import ConfigResult
from omegaconf import DictConfig

from automix_eval.paths import hydra_conf_dir

SOURCES = (f"file://{hydra_conf_dir().resolve()}", "pkg://hydra.conf", "structured://")


def install() -> None:
    """For the rest of this process, and for its forks."""
    read, look = ConfigRepository.load_config, Hydra.get_mode
    compose = ConfigLoaderImpl.load_configuration
    kept: dict[tuple[str, str], bytes] = {}
    composed: dict[tuple[Any, ...], bytes] = {}

    def load_config(self: ConfigRepository, config_path: str) -> ConfigResult | None:
        source = self._find_object_source(config_path, ObjectType.CONFIG)
        if source is None or source.full_path() not in SOURCES:
            return read(self, config_path)
        key = source.full_path(), config_path
        if key not in kept:
            kept[key] = pickle.dumps(read(self, config_path))
        found: ConfigResult = pickle.loads(kept[key])  # its nodes become part of what is composed
        return found

    def load_configuration(
        self: ConfigLoaderImpl, config_name: str, overrides: list[str], run_mode: Any, *more: bool,
        **named: bool,
    ) -> DictConfig:  # fmt: skip
        sources = tuple(source.full_path() for source in self.get_sources())
        if not set(sources) <= set(SOURCES) or "searchpath" in str(overrides):
            return compose(self, config_name, overrides, run_mode, *more, **named)
        key = (
            config_name,
            *overrides,
            run_mode,
            *more,
            *named.items(),
            *sources,
            version.getbase(),
        )
        if key not in composed:
            made = compose(self, config_name, overrides, run_mode, *more, **named)
            composed[key] = pickle.dumps(made)
        found: DictConfig = pickle.loads(composed[key])
        found.hydra.runtime.cwd, found.hydra.job.name = str(Path.cwd()), JobRuntime().get("name")
        return found

    def get_mode(self: Hydra, config_name: str | None, overrides: list[str]) -> Any:
        # all would be composed only to see whether ``hydra.mode`` is set: look for it
        return look(self, config_name, overrides) if "hydra.mode" in str(overrides) else None

    ConfigRepository.load_config = load_config
    ConfigLoaderImpl.load_configuration = load_configuration
    Hydra.get_mode = get_mode
