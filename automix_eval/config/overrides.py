"""Settings as users give them: flat keys, and nothing that chooses code or shows a secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, ListConfig, OmegaConf

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.redaction import expand_references, literal_secret
from automix_eval.safety.text import listing
from automix_eval.safety.untrusted import MIB, parse_yaml, read_bytes

GROUPS = ("slm", "llm", "verifier", "calibrator", "meta_verifier", "cost", "calibration")
TIERS = ("slm", "llm")
_MOST_CONFIG = MIB


class ConfigError(AutoMixError):
    """An option or key that does not exist, or a value that cannot be used."""


def read_file(path: Any) -> Mapping[str, Any]:
    """The settings of ``config=FILE``, a mapping in YAML."""
    file = Path(str(path)).expanduser()
    try:
        value = parse_yaml(read_bytes(file, _MOST_CONFIG))
    except (OSError, ValueError) as err:
        raise ConfigError(f"config={path} cannot be read as YAML: {err}") from err
    if not isinstance(value, dict):
        raise ConfigError(f"config={path} must be a mapping such as 'slm: hf'")
    return cast(Mapping[str, Any], value)


def flatten(arguments: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested settings as dotted keys with their values, references to the environment read.

    Raises:
        ConfigError: A key or value would choose code, or shows a secret.
    """
    for raw, value in arguments.items():
        key = prefix + str(raw).lstrip("+")
        if key == "defaults" and isinstance(value, list):
            for entry in value:
                if not isinstance(entry, dict) or len(entry) != 1:
                    raise ConfigError(f"defaults takes entries such as 'slm: hf', got {entry!r}")
                yield from flatten(entry)
            continue
        if any(part.startswith("_") for part in key.split(".")):
            raise ConfigError(f"{key} may not be set: what code runs is not configured here")
        # deeper mappings are values: arguments of a model, a table of rewards
        if isinstance(value, Mapping) and "." not in key:
            inner = {str(k): v for k, v in value.items()}
            if key in GROUPS and "option" in inner:
                yield key, inner.pop("option")
            yield from flatten(inner, key + ".")
        else:
            _refuse_code(key, value)
            refuse_secrets(key, value)
            yield key, expand_references(key, value)


def refuse_secrets(key: str, value: Any) -> None:
    """Raise ConfigError where a secret is written out: arguments reach logs, results and files.

    For every program that keeps its arguments, before it keeps them.
    """
    if found := literal_secret(key, value):
        raise ConfigError(
            f"{found} would show a secret, and arguments are kept in logs and results. Put the "
            "secret into a variable of the environment and name that one where the secret belongs: "
            "llm.auth_token=env:NAME; a header and base_url take one too"
        )


def has_key(found: DictConfig, key: str) -> bool:
    """Whether a configuration has a key, whatever its value."""
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(found, parent) if parent else found
    return isinstance(node, DictConfig) and name in node


def refuse_shape(config: DictConfig, key: str, value: Any, is_list: bool = False) -> None:
    """Raise ConfigError where a list is given as a mapping, or several keys as one value.

    Args:
        config: Has the key.
        key: Its name.
        value: What is given.
        is_list: Whether it is a list where its default, null, does not say so.
    """
    held = OmegaConf.select(config, key)
    if (is_list or isinstance(held, ListConfig)) and isinstance(value, Mapping):
        raise ConfigError(f"{key} is a list, in the order of its entries: {key}=[...,...]")
    if isinstance(held, DictConfig) and not isinstance(value, Mapping):
        inside = listing([f"{key}.{name}" for name in map(str, held)])
        raise ConfigError(f"{key} holds several values, and {value!r} is none of them: {inside}")


def _refuse_code(key: str, value: Any) -> None:
    """Raise ConfigError where a value, at any depth, would choose code to run."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if str(name).startswith("_"):
                raise ConfigError(
                    f"{key}.{name} may not be set: what code runs is not configured here"
                )
            _refuse_code(f"{key}.{name}", inner)
    elif isinstance(value, (list, tuple)):
        for index, inner in enumerate(value):
            _refuse_code(f"{key}.{index}", inner)
