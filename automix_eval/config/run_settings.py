"""What a composed hydra_conf/run.yaml says: of the cascade and of its evaluation."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from omegaconf import DictConfig

from automix_eval.config import compose as config
from automix_eval.config.compose import ConfigError
from automix_eval.safety.redaction import is_reference

# The figures that a search may look for the best value of; each is a mean over the tasks.
Figure = Literal["delta_ibc", "ibc", "quality", "cost", "escalation_rate", "calls_made"]


class RunSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The settings of hydra_conf/evaluation.yaml, their types and ranges checked."""

    tasks: list[str]
    num_fewshot: Annotated[int, msgspec.Meta(ge=0)] | None = None
    limit: Annotated[float, msgspec.Meta(gt=0)] | None = None
    batch_size: int | str | None = None
    max_batch_size: Annotated[int, msgspec.Meta(ge=1)] | None = None
    device: str | None = None
    apply_chat_template: bool | str = False
    fewshot_as_multiturn: bool | None = None
    system_instruction: str | None = None
    gen_kwargs: dict[str, Any] | str | None = None
    include_path: str | None = None
    metadata: dict[str, Any] | None = None
    log_samples: bool = True
    bootstrap_iters: Annotated[int, msgspec.Meta(ge=0)] = 100_000

    def arguments(self) -> dict[str, Any]:
        """As :func:`automix_eval.harness.evaluate.evaluate` takes them."""
        return {name: getattr(self, name) for name in self.__struct_fields__ if name != "tasks"}


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run writes, and what a search looks at."""

    output: str | None = None
    optimize: Figure = "delta_ibc"


def run_settings(composed: DictConfig) -> RunSettings:
    """The harness's settings of a composed configuration.

    Raises:
        ConfigError: A value has the wrong type or lies out of range; names the key.
    """
    values = config.resolved(composed)
    names = RunSettings.__struct_fields__
    return harness_settings({k: values[k] for k in names if k in values})


def harness_settings(values: Mapping[str, Any]) -> RunSettings:
    """The harness's settings, checked.

    Raises:
        ConfigError: A value has the wrong type or lies out of range, or no task is named.
    """
    if not values.get("tasks"):
        raise ConfigError("tasks is not set: add tasks=qasper_demo, say")
    made: RunSettings = _convert(values, RunSettings)
    return made


def output_settings(composed: DictConfig) -> Output:
    """Output folder and figure to optimize.

    Raises:
        ConfigError: A value is none that is allowed; names the key.
    """
    values = config.resolved(composed)
    made: Output = _convert({k: values[k] for k in Output.__struct_fields__ if k in values}, Output)
    return made


def model_args(
    composed: DictConfig, choices: Mapping[str, str], given: Collection[str] = ()
) -> dict[str, Any]:
    """The arguments after ``--model_args`` that give the cascade of a composed configuration.

    Only what differs from the files of hydra_conf/ is passed on, so that
    :func:`automix_eval.config.compose.build` judges it, and the record of a run shows what was set.

    Args:
        composed: Of hydra_conf/run.yaml.
        choices: The option chosen in each group.
        given: Groups whose option the user named, be it the default one.

    Raises:
        ConfigError: An option does not exist.
    """
    defaults = config.default_choices()
    args: dict[str, Any] = {
        group: choices[group]
        for group in config.GROUPS
        if group in given or choices[group] != defaults[group]
    }
    base = config.compose_run({g: choices[g] for g in config.GROUPS})
    others = {*RunSettings.__struct_fields__, *Output.__struct_fields__, "config"}
    args |= {k: v for k, v in _differences(composed, base) if k not in others}
    if composed.get("config"):
        args["config"] = str(Path(str(composed.config)).expanduser())
    return args


def _differences(mine: DictConfig, base: DictConfig) -> list[tuple[str, Any]]:
    """Dotted keys, at most two deep, whose values differ from the files'.

    They are resolved, but for what names a variable of the environment: its value may be a secret.
    """
    raw, files = config.raw(mine), config.raw(base)
    resolved = config.resolved(mine)
    found: list[tuple[str, Any]] = []
    for key, value in raw.items():
        if not isinstance(value, dict) or not isinstance(files.get(key), dict):
            if key not in files or value != files[key]:
                found.append((key, _resolved(value, resolved[key])))
            continue
        for name, inner in value.items():
            if name not in files[key] or inner != files[key][name]:
                found.append((f"{key}.{name}", _resolved(inner, resolved[key][name])))
    return found


def _resolved(raw: Any, value: Any) -> Any:
    """A value with its references resolved, whole references to variables left as they are."""
    if isinstance(raw, dict):
        return {k: _resolved(v, value[k]) for k, v in raw.items()}
    if isinstance(raw, list):
        return [_resolved(v, w) for v, w in zip(raw, value, strict=True)]
    return raw if isinstance(raw, str) and is_reference(raw) else value


def _convert(values: Mapping[str, Any], kind: Any) -> Any:
    try:
        return msgspec.convert(dict(values), type=kind, strict=True)
    except msgspec.ValidationError as err:
        text, _, place = str(err).partition(" - at ")
        key = place.strip("`$.").partition("[")[0] or "a setting"
        value = values.get(key)
        raise ConfigError(f"{key}={value!r} cannot be used: {text}") from err
