"""The Hydra application behind a command: the job loop, ``-m``, ``--cfg`` and ``--help``.

Apart from config.py the only importer of Hydra: config.py composes a configuration inside other
programs, this file lets Hydra own the command line, so that its flags, its sweeper and its override
grammar are the user's.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from automix_eval.config import ConfigError, compose_replay, options, refuse_secrets, unknown_key
from automix_eval.paths import hydra_conf_dir
from automix_eval.redaction import blank_text

GROUPS = ("meta_verifier", "calibrator", "cost")


@dataclass(frozen=True, slots=True)
class Job:
    """One composed configuration.

    Attributes:
        config: Resolved; ``chosen`` names the option of each group.
        number: Of the job in its sweep; None for a single run.
        swept: The values that differ between the jobs of the sweep.
        output_varies: Whether the user's own ``output`` may differ from job to job.
    """

    config: DictConfig
    number: int | None = None
    swept: Mapping[str, Any] = field(default_factory=dict)
    output_varies: bool = False


def run(arguments: Sequence[str], do: Callable[[Job], None]) -> int:
    """Hand the arguments of ``automix-eval replay`` to Hydra, which calls ``do`` for every job.

    Returns:
        The exit code: 2 where Hydra refused the configuration (its message is on stderr).

    Raises:
        ConfigError: A key or option does not exist (with the nearest), or names code.
    """
    given = [a for a in arguments if _is_override(a)]
    flags = [a for a in arguments if not _is_override(a)]
    overrides = _check(given)
    swept = [o.key_or_group for o in overrides if o.is_sweep_override()]

    def task(composed: DictConfig) -> None:
        do(_job(composed, swept))

    # An absolute path; Hydra takes one relative to the file that declares the application.
    application = hydra.main(str(hydra_conf_dir().resolve()), "replay", version_base="1.3")(task)
    OmegaConf.register_new_resolver(
        "automix_options", lambda group: ", ".join(options(group)), replace=True
    )
    # Hydra's parser wants the settings in one piece, wherever the user put the flags.
    with _bookkeeping(arguments) as extra, _command_line([*given, *extra, *flags]):
        try:
            application()
        except SystemExit as end:
            return 2 if end.code else 0
    return 0


def _job(composed: DictConfig, swept: Sequence[str]) -> Job:
    state = HydraConfig.get()
    several = state.mode == RunMode.MULTIRUN
    chosen = {group: state.runtime.choices[group] for group in GROUPS}
    varies = OmegaConf.is_interpolation(composed, "output") or "output" in swept
    config = composed.copy()
    try:
        OmegaConf.resolve(config)
    except OmegaConfBaseException as err:
        raise ConfigError(f"the configuration cannot be composed: {err}") from err
    with open_dict(config):
        config.chosen = chosen
    values = {key: chosen.get(key, OmegaConf.select(config, key)) for key in swept}
    return Job(config, state.job.num if several else None, values, varies)


def _check(texts: Sequence[str]) -> list[Override]:
    try:
        overrides = OverridesParser.create().parse_overrides(list(texts))
    except HydraException as err:
        raise ConfigError(
            f"{blank_text(str(err))}. A value with special characters is quoted: key='a=b'"
        ) from err
    for override in overrides:  # before Hydra keeps them in its own files
        for value in _values(override):
            refuse_secrets(override.key_or_group, value)
    values = {o.key_or_group: o for o in overrides}
    chosen = [
        (group, str(value))
        for group in GROUPS
        if group in values
        for value in _values(values[group])
    ]
    defaults = compose_replay({})
    composed = {pair: compose_replay(dict([pair])) for pair in chosen}
    for override in overrides:
        key = override.key_or_group
        if key in GROUPS or key.startswith(("hydra.", "hydra/")):
            continue
        if any(part.startswith("_") for part in key.split(".")):
            raise ConfigError(f"{key} may not be set: what code runs is not configured here")
        group = key.partition(".")[0]
        for config in [c for pair, c in composed.items() if pair[0] == group] or [defaults]:
            if not _has(config, key):
                raise unknown_key(config, key, GROUPS)
    return overrides


def _values(override: Override) -> list[Any]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [override.value()]


def _has(config: DictConfig, key: str) -> bool:
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent) if parent else config
    return isinstance(node, DictConfig) and name in node


def _is_override(argument: str) -> bool:
    return not argument.startswith("-") and "=" in argument


@contextmanager
def _bookkeeping(arguments: Sequence[str]) -> Iterator[list[str]]:
    """A folder that goes away for what Hydra itself notes of a sweep, unless the user names one."""
    several = any(a in ("-m", "--multirun") for a in arguments)
    if not several or any(a.startswith("hydra.sweep.dir=") for a in arguments):
        yield []
        return
    with tempfile.TemporaryDirectory() as folder:
        yield [f"hydra.sweep.dir='{Path(folder).as_posix()}'"]


@contextmanager
def _command_line(arguments: Sequence[str]) -> Iterator[None]:
    """Hydra reads sys.argv, and nothing else."""
    before = sys.argv
    sys.argv = cast(list[str], ["automix-eval replay", *arguments])
    try:
        yield
    finally:
        sys.argv = before
