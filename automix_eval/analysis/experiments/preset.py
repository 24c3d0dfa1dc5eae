"""What an experiment varies and shows: hydra_conf/experiment/NAME.yaml, and the user's changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from automix_eval import paths
from automix_eval.config import described
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_whole
from automix_eval.safety.text import did_you_mean

# Axis -> its value where a part does not vary it, in the order of a table's columns.
AXES: Mapping[str, Any] = {
    "test": "same",
    "tiers": "ends",
    "ratio": None,
    "verify_cost": None,
    "votes": None,
    "shuffled": 0.0,
    "train": None,
    "objective": "ibc",  # the papers' protocol
    "calibrator": "none",
    "router": "pomdp",
}
SIZES = ("full", "smoke")
DATA = ("simulated", "runs")
# What a smoke run is: it shows that a preset works, and nothing else.
SMOKE_SEEDS = 2
SMOKE_RESAMPLES = 100


@dataclass(frozen=True, slots=True)
class Part:
    """One table and one picture of an experiment.

    Attributes:
        name: Of its files.
        title: One line above both.
        axes: Axis of :data:`AXES` -> the values it takes; a cell for every combination.
        x: Column on the horizontal axis: an axis, ``source`` or a figure.
        y: The figure shown.
        series: Axes whose values tell the lines apart.
        log_x: Whether the horizontal axis is logarithmic.
        boundary: Axis of which the table says up to where routing pays; None: no such table.
        needs_runs: Whether it is about verifiers of real runs only.
        one_source: Whether only the first source is used, where all have what the part looks at.
        together: Whether all sources stand in one panel.
    """

    name: str
    title: str
    axes: Mapping[str, tuple[Any, ...]]
    x: str
    y: str = "delta_ibc"
    series: tuple[str, ...] = ("router",)
    log_x: bool = False
    boundary: str | None = None
    needs_runs: bool = False
    one_source: bool = False
    together: bool = False


@dataclass(frozen=True, slots=True)
class Preset:
    """An experiment with the user's changes.

    Attributes:
        name: Of the YAML.
        about: Its leading comment.
        parts: What it shows.
        data: Outcomes used where neither tables nor records are given: of simulated chains, or of
            evaluations (``runs``) made first.
        size: ``full`` or ``smoke``.
        seeds: Seeds of the samples of training rows.
        seed: Of everything else that is drawn.
        resamples: Bootstrap resamples behind an interval.
        tables: Files of outcomes.
        outcomes: Tables that ``automix-eval outcomes`` wrote: runs, as numbers.
        columns: What the tables' columns are, as `tiers` of a replay; None: found by their names.
        split_column: Column that parts training from test rows.
        records: Folders of runs with record=full.
        simulated: Arguments of the simulated chains.
        tasks: Tasks evaluated with ``data=runs``.
        runs: Label -> arguments of the cascade, one evaluation each.
        model_args: Arguments of the cascade in every evaluation.
        limit: Questions of each task to evaluate; None: all.
        num_fewshot: Demonstrations in the evaluations' prompts.
        published: Task -> router -> figures of a paper to show beside the cells of that task.
        out: Folder to write.
    """

    name: str
    about: str
    parts: tuple[Part, ...]
    data: str = "simulated"
    size: str = "full"
    seeds: tuple[int, ...] = (0,)
    seed: int = 0
    resamples: int = 1000
    tables: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()
    columns: Any = None
    split_column: str = "split"
    records: tuple[str, ...] = ()
    simulated: Mapping[str, Any] = field(default_factory=dict)
    tasks: tuple[str, ...] = ()
    runs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    model_args: Mapping[str, Any] = field(default_factory=dict)
    limit: int | None = None
    num_fewshot: int | None = None
    published: Mapping[str, Any] = field(default_factory=dict)
    out: str | None = None


_SETTINGS = tuple(n for n in Preset.__slots__ if n not in ("name", "about", "parts", "published"))
_TUPLES = ("seeds", "tables", "outcomes", "records", "tasks")
_WHOLE = {"seed": 0, "resamples": 1, "limit": 1, "num_fewshot": 0}
_MAYBE = ("limit", "num_fewshot", "columns", "out")


def names() -> list[str]:
    """The presets there are."""
    return described.options("experiment")


def read(name: str, changes: Sequence[str] = ()) -> Preset:
    """A preset with the changes ``KEY=VALUE`` of the command line, values in YAML.

    Raises:
        AutoMixError: No such preset or key (with the nearest), or a value that cannot be used.
    """
    known = names()
    if name not in known:
        raise AutoMixError(
            f"there is no experiment {name!r}{did_you_mean(name, known)} "
            f"There are {', '.join(known)}"
        )
    path = paths.hydra_conf_dir() / "experiment" / f"{name}.yaml"
    held = yaml.safe_load(path.read_text(encoding="utf-8"))
    parts = {key: _part(path, key, value) for key, value in held.pop("parts").items()}
    published = held.pop("published", {})
    given = dict(_change(c) for c in changes)
    settings = held | {k: v for k, v in given.items() if k in _SETTINGS}
    for key, value in given.items():
        if key not in _SETTINGS:
            _set_axis(parts, key, value)
    about = described.description("experiment", name)
    made = Preset(name, about, tuple(parts.values()), published=published, **_checked(settings))
    return _smoke(made, "data" in given) if made.size == "smoke" else made


def _smoke(preset: Preset, chosen: bool) -> Preset:
    """The first and the last value of every axis, two seeds, few rows; no model unless asked."""
    parts = tuple(
        replace(p, axes={k: v if len(v) < 3 else (v[0], v[-1]) for k, v in p.axes.items()})
        for p in preset.parts
    )
    simulated = {**preset.simulated, "rows": 240}
    runs = dict(list(preset.runs.items())[:2])
    return replace(
        preset, parts=parts, simulated=simulated, runs=runs, seeds=preset.seeds[:SMOKE_SEEDS],
        resamples=min(SMOKE_RESAMPLES, preset.resamples),
        data=preset.data if chosen else "simulated",
    )  # fmt: skip


def _part(path: Path, name: str, held: Mapping[str, Any]) -> Part:
    known = Part.__slots__
    for key in held:
        if key not in known:
            raise AutoMixError(
                f"{path}: part {name} has the unknown key {key}{did_you_mean(key, known)}"
            )
    axes = {axis: _values(axis, values) for axis, values in held.get("axes", {}).items()}
    series = held.get("series", "router")
    rest = {k: v for k, v in held.items() if k not in ("axes", "series")}
    return Part(name, axes=axes, series=tuple(series.split("+")) if series else (), **rest)


def _values(axis: str, values: Any) -> tuple[Any, ...]:
    if axis not in AXES:
        raise AutoMixError(
            f"there is no axis {axis}{did_you_mean(axis, AXES)} Axes: {', '.join(AXES)}"
        )
    made = tuple(values) if isinstance(values, list) else (values,)
    if not made:
        raise AutoMixError(f"{axis}=[] leaves nothing to do: name a value")
    return made


def _set_axis(parts: dict[str, Part], key: str, value: Any) -> None:
    """``AXIS=VALUES`` for all parts that vary it, ``PART.AXIS=VALUES`` for one."""
    first, _, rest = key.rpartition(".")
    known = [*_SETTINGS, *AXES, *(f"{p.name}.{axis}" for p in parts.values() for axis in AXES)]
    if key not in known:
        raise AutoMixError(
            f"{key} is no setting of this experiment{did_you_mean(key, known)} Settings: "
            f"{', '.join(_SETTINGS)}; axes: {', '.join(AXES)}, or PART.AXIS with a part of "
            f"{', '.join(parts)}"
        )
    for name, part in parts.items():
        if first == name or (not first and rest in part.axes):
            parts[name] = replace(part, axes={**part.axes, rest: _values(rest, value)})
    if not first and not any(rest in part.axes for part in parts.values()):
        raise AutoMixError(
            f"no part of this experiment varies {key}: name the part, as in "
            f"{next(iter(parts))}.{key}=..."
        )


def _checked(settings: Mapping[str, Any]) -> dict[str, Any]:
    made = dict(settings)
    for key, value in settings.items():
        if key not in _SETTINGS:
            raise AutoMixError(f"{key} is no setting{did_you_mean(key, _SETTINGS)}")
        if value is None and key in _MAYBE:
            continue
        if key == "seeds" and is_whole(value):
            made[key] = value = list(range(value))
        if key in _TUPLES:
            made[key] = tuple(value if isinstance(value, list) else [value])
        if key in _WHOLE:
            _whole(key, value, _WHOLE[key])
        if key in ("simulated", "runs", "model_args") and not isinstance(value, Mapping):
            raise AutoMixError(f"{key}={value!r} must be a mapping such as {{KEY: VALUE}}")
    for key, allowed in (("size", SIZES), ("data", DATA)):
        if key in made and made[key] not in allowed:
            raise AutoMixError(f"{key}={made[key]!r} is unknown: {' or '.join(allowed)}")
    if not made.get("seeds", (0,)):
        raise AutoMixError("seeds=[] leaves nothing to do: name a seed, or how many (seeds=10)")
    for seed in made.get("seeds", ()):
        _whole("seeds", seed, 0)
    return made


def _whole(key: str, value: Any, least: int) -> None:
    if not is_whole(value, least):
        raise AutoMixError(f"{key}={value!r} must be an integer of at least {least}")


def _change(text: str) -> tuple[str, Any]:
    key, sign, value = text.partition("=")
    if not sign or not key.strip():
        raise AutoMixError(f"{text!r} is no setting: settings are written KEY=VALUE")
    if "," in value and value[0] not in "[{'\"":  # a list, as in the other commands
        value = f"[{value}]"
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as err:
        problem = str(err).splitlines()[0]
        raise AutoMixError(
            f"{key}={value} cannot be read as YAML ({problem}): put quotes around texts with "
            "special characters"
        ) from err
