"""The Hydra application behind a command: the job loop, ``-m`` and ``--cfg``.

Apart from config.py the only importer of Hydra: config.py composes a configuration inside other
programs, this file lets Hydra own the command line, so that its flags, its sweeper and its override
grammar are the user's.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from automix_eval.config import compose as config
from automix_eval.config import described
from automix_eval.config.compose import unknown_key
from automix_eval.config.overrides import ConfigError, has_key, refuse_secrets, refuse_shape
from automix_eval.config.plugins import check_plugin
from automix_eval.paths import hydra_conf_dir
from automix_eval.safety.redaction import blank_text
from automix_eval.safety.untrusted import parse_json, parse_yaml

_QUOTED = "'\""
# Letters of other languages and other signs, which Hydra's grammar knows in quotes alone; and what
# is more than a text to it.
_UNREAD = re.compile(r"[^\w\s/\\+.$%*@?|:-]|[^\x00-\x7f]")
_IN_GRAMMAR = re.compile(r"[\[\]{}()=\\'\"]")
# Flags of Hydra that say what is done; it takes one, and answers two with a trace.
_MODES = ("-r", "--run", "-m", "--multirun", "-c", "--cfg", "-i", "--info")
_TAKING_A_WORD = ("-c", "--cfg", "-i", "--info", "-p", "--package", "-h", "--help")
# They would have another configuration composed than the one whose keys are checked.
_NOT_TAKEN = re.compile("(--config-(path|name|dir)|-c[pnd]|--experimental-rerun)(=.*)?")


@dataclass(frozen=True, slots=True)
class Application:
    """A command whose command line is Hydra's.

    Attributes:
        name: Of its file in hydra_conf/, and of the command.
        groups: The groups of which options are chosen.
        files: Files of hydra_conf/ with its settings, in the order in which help shows them.
        open_groups: Groups that take keys which their files do not name; whoever reads the
            configuration judges them.
    """

    name: str
    groups: tuple[str, ...]
    files: tuple[str, ...]
    open_groups: tuple[str, ...] = ()


REPLAY = Application("replay", ("meta_verifier", "calibrator", "cost", "format"), ("replay",))
# Of `run`, `fit` and `plan`.
RUN = Application("run", config.GROUPS, ("evaluation", "run", "config"), config.TIERS)


@dataclass(frozen=True, slots=True)
class HydraJob:
    """One composed configuration.

    Attributes:
        config: Resolved; ``chosen`` names the option of each group.
        number: Of the job in its sweep; None for a single run.
        swept: The values that differ between the jobs of the sweep.
        output_varies: Whether the user's own ``output`` may differ from job to job.
        folder: Hydra's folder of the job.
        given: Keys and groups that the user set.
        composed: As Hydra composed it, not resolved.
    """

    config: DictConfig
    number: int | None = None
    swept: Mapping[str, Any] = field(default_factory=dict)
    output_varies: bool = False
    folder: Path = Path()
    given: frozenset[str] = frozenset()
    composed: DictConfig | None = None

    @property
    def choices(self) -> dict[str, str]:
        """The option of each group."""
        return {str(k): str(v) for k, v in self.config.chosen.items()}


@dataclass(frozen=True, slots=True)
class CommandLine:
    """The arguments of a command, taken apart and checked.

    Attributes:
        given: The settings, as Hydra is to be given them.
        flags: Everything else.
        swept: Keys of which there are several values.
    """

    given: tuple[str, ...]
    flags: tuple[str, ...]
    overrides: tuple[Override, ...]

    @property
    def swept(self) -> tuple[str, ...]:
        """Keys of which there are several values."""
        return tuple(o.key_or_group for o in self.overrides if o.is_sweep_override())

    @property
    def keys(self) -> frozenset[str]:
        """Keys and groups that the user set."""
        return frozenset(o.key_or_group for o in self.overrides)

    @property
    def is_multirun(self) -> bool:
        """Whether several jobs are asked for."""
        return any(f in ("-m", "--multirun") for f in self.flags)

    @property
    def runs(self) -> bool:
        """Whether jobs are run, and not a configuration, help or completion shown."""
        return all(f in ("-m", "--multirun", "-r", "--run") for f in self.flags)

    def value(self, key: str) -> Any:
        """The value of a setting, None where the user gave none."""
        found = [o.value() for o in self.overrides if o.key_or_group == key]
        return found[-1] if found else None


def read(app: Application, arguments: Sequence[str]) -> CommandLine:
    """Take the arguments of a command apart.

    Raises:
        ConfigError: A key or option does not exist (with the nearest), or names code, or a
            launcher is not installed.
    """
    words = as_settings(app, arguments)
    given = [a for a in words if _is_override(a)]
    flags = [a for a in words if not _is_override(a)]
    for flag in flags:  # a setting by mistake: the error would repeat it
        name, _, value = flag.lstrip("-").partition("=")
        refuse_secrets(name, value)
    for before, word in zip(["", *words], words, strict=False):
        if _NOT_TAKEN.fullmatch(word):
            name = word.partition("=")[0]
            raise ConfigError(
                f"{name} is not taken: settings are KEY=VALUE, and options the files of hydra_conf/"
            )
        if word[:1] == "~" or not (word[:1] == "-" or "=" in word or before in _TAKING_A_WORD):
            raise ConfigError(f"{blank_text(word)} is no setting: KEY=VALUE, or KEY=null for none")
    if len(modes := [f for f in flags if f.partition("=")[0] in _MODES]) > 1:
        raise ConfigError(f"{' and '.join(modes)} exclude each other: give one of them")
    overrides = _check(app, given)
    several = [o for o in overrides if o.is_sweep_override()]
    if several and not any(f in ("-m", "--multirun") for f in flags):
        key, values = several[0].key_or_group, ", ".join(map(str, _values(several[0])))
        raise ConfigError(f"{key} has several values, {values}: add -m to run each, or give one")
    opened = tuple(
        f"++{text.lstrip('+')}" if _is_open(app, o.key_or_group) else text
        for text, o in zip(given, overrides, strict=True)
    )
    return CommandLine(opened, tuple(flags), tuple(overrides))


def as_settings(app: Application, arguments: Sequence[str]) -> list[str]:
    """A command line in the one language: KEY=VALUE, lists with commas, and flags as they are.

    ``--KEY VALUE`` of lm_eval and its ``--model_args A=B,C=D`` are taken too. ``tasks=a,b`` is a
    list of two and ``gen_kwargs=a=1,b=2`` a mapping, of every key that takes one; lists to be
    swept over are written ``cost.tiers=1+10,1+50``.
    """
    words = list(_without_dashes(app, arguments))
    return [_spelled_out(app, w) if _is_override(w) else w for w in words]


def _kind(app: Application, key: str) -> str | None:
    return described.kind(key, app.files, app.groups)


def _without_dashes(app: Application, arguments: Sequence[str]) -> Iterator[str]:
    rest = list(arguments)
    while rest:
        word = rest.pop(0)
        name, equals, value = word.removeprefix("--").partition("=")
        key = "output" if name == "output_path" else name
        kind = _kind(app, key) or ""
        known = word.startswith("--") and (kind or name == "model_args")
        if not known or "." in key:
            yield word
            continue
        if not equals and kind.startswith("true | false"):
            own = re.compile(r"[^-=][^=]*" if kind.endswith("text") else "(?i)true|false")
            value = rest.pop(0) if rest and own.fullmatch(rest[0]) else "true"
            value = value.lower() if value.lower() in ("true", "false") else value
        elif not equals:
            if not rest:
                raise ConfigError(f"{word} needs a value: {key}=VALUE")
            value = rest.pop(0)
        if name == "model_args":
            yield from re.split(r",(?=[\w.]+=)", value)
        elif (key, value) != ("model", "automix"):  # what lm_eval calls the cascade
            # in lm_eval's words a text is one value, whatever stands in it
            one = kind == "text" and re.search(r"[^\w.:/@+-]", value)
            yield f"{key}={_in_hydra(value) if one and value[0] not in _QUOTED else value}"


def _spelled_out(app: Application, word: str) -> str:
    key, _, value = word.partition("=")
    kind = _kind(app, key.lstrip("+")) or ""
    if kind.startswith("mapping") and value.startswith("{"):
        try:
            return f"{key}={_in_hydra(parse_json(value.encode('utf-8', 'replace')))}"
        except ValueError:
            return word  # in Hydra's grammar
    if not value or value[0] in f"[{{${_QUOTED}" or value == "null":
        return word
    if kind.startswith("list"):
        parts = value.split(",") if described.PLUS.search(value) else [value]
        lists = (map(_plain, described.PLUS.split(p)) for p in parts)
        return f"{key}=" + ",".join(f"[{','.join(one)}]" for one in lists)
    if kind.startswith("mapping") and re.fullmatch(r"[^=,]+=[^=,]*(,[^=,]+=[^=,]*)*", value):
        pairs = (part.partition("=") for part in value.split(","))
        return f"{key}={{{','.join(f'{k}: {_plain(v)}' for k, _, v in pairs)}}}"
    return f"{key}={_plain(value)}"


def _plain(value: str) -> str:
    """Values with commas between them, those in quotes that Hydra reads only so: a path, a name."""
    if _IN_GRAMMAR.search(value):
        return value
    return ",".join(_in_hydra(v) if _UNREAD.search(v) else v for v in value.split(","))


def _in_hydra(value: Any) -> str:
    """A plain value of JSON in Hydra's grammar."""
    if isinstance(value, dict):
        return "{" + ",".join(f"{k}:{_in_hydra(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_in_hydra, value)) + "]"
    if isinstance(value, str):
        return str(QuotedString(value, Quote.single).with_quotes())
    return json.dumps(value)


def run(
    app: Application,
    line: CommandLine,
    do: Callable[[HydraJob], Any],
    folders: Mapping[str, Path] | None = None,
) -> int:
    """Hand a command line to Hydra, which calls ``do`` for every job.

    Args:
        app: The command.
        line: Its arguments.
        do: Called with each job, in another process where a launcher starts one (it is pickled
            then); what it returns is what a search looks at.
        folders: Settings of Hydra's that are folders, such as ``hydra.sweep.dir``.

    Returns:
        The exit code: 2 where Hydra refused the configuration (its message is on stderr).
    """
    task = _Task(app, do, line.swept, line.keys)
    # An absolute path; Hydra takes one relative to the file that declares the application.
    application = hydra.main(str(hydra_conf_dir().resolve()), app.name, version_base="1.3")(task)
    extra = [f"{key}={_in_hydra(Path(path).as_posix())}" for key, path in (folders or {}).items()]
    fixed = sorted(line.keys - set(line.swept))
    if folders and "hydra.sweep.dir" in folders:
        shown = ",".join(f"'{key}'" for key in fixed)
        extra.append(f"hydra.job.config.override_dirname.exclude_keys=[{shown}]")
    # Hydra's parser wants the settings in one piece, wherever the user put the flags.
    with _command_line(app, [*line.given, *extra, *line.flags]):
        try:
            application()
        except SystemExit as end:
            return 2 if end.code else 0
    return 0


@dataclass(frozen=True, slots=True)
class _Task:
    """What Hydra calls, in this process or, by a launcher, in another."""

    app: Application
    do: Callable[[HydraJob], Any]
    swept: tuple[str, ...]
    given: frozenset[str]

    def __call__(self, composed: DictConfig) -> Any:
        return self.do(self._job(composed))

    def _job(self, composed: DictConfig) -> HydraJob:
        state = HydraConfig.get()
        several = state.mode == RunMode.MULTIRUN
        chosen = {group: state.runtime.choices[group] for group in self.app.groups}
        varies = OmegaConf.is_interpolation(composed, "output") or "output" in self.swept
        resolved = composed.copy()
        try:
            OmegaConf.resolve(resolved)
        except OmegaConfBaseException as err:
            raise ConfigError(f"the configuration cannot be composed: {err}") from err
        with open_dict(resolved):
            resolved.chosen = chosen
        values = {key: chosen.get(key, OmegaConf.select(resolved, key)) for key in self.swept}
        number = state.job.num if several else None
        folder = Path(state.runtime.output_dir)
        return HydraJob(resolved, number, values, varies, folder, self.given, composed)


def parse(texts: Sequence[str]) -> list[Override]:
    """Settings in Hydra's grammar.

    Raises:
        ConfigError: One is none.
    """
    try:
        made: list[Override] = OverridesParser.create().parse_overrides(list(texts))
    except HydraException as err:
        raise ConfigError(
            f"{blank_text(str(err))}. A value with special characters is quoted: key='a=b'"
        ) from err
    return made


def bracketed(text: str) -> Any:
    """The list or mapping of ``KEY=VALUE``: in Hydra's grammar, or JSON as lm_eval takes it.

    Raises:
        ConfigError: It is neither.
    """
    key, _, value = text.partition("=")
    try:
        return parse([text])[0].value()
    except ConfigError:
        try:
            return parse_yaml(value.encode("utf-8", "replace"))
        except ValueError as err:
            raise ConfigError(f"{key} is no list or mapping: {err}") from err


def _check(app: Application, texts: Sequence[str]) -> list[Override]:
    overrides = parse(texts)
    for override in overrides:  # before Hydra keeps them in its own files
        for value in _values(override):
            refuse_secrets(override.key_or_group, value)
    values = {o.key_or_group: o for o in overrides}
    chosen = [
        (group, str(value))
        for group in app.groups
        if group in values
        for value in _values(values[group])
    ]
    defaults = config.compose_application(app.name, {})
    composed = {pair: config.compose_application(app.name, dict([pair])) for pair in chosen}
    for override in overrides:
        key = override.key_or_group
        if key in ("hydra/launcher", "hydra/sweeper"):
            check_plugin(key, str(override.value()), config.hydra_options(key))
        if key in app.groups or key.startswith(("hydra.", "hydra/")):
            continue
        if any(part.startswith("_") for part in key.split(".")):
            raise ConfigError(f"{key} may not be set: what code runs is not configured here")
        if _is_open(app, key):
            continue
        group = key.partition(".")[0]
        for found in [c for pair, c in composed.items() if pair[0] == group] or [defaults]:
            if not has_key(found, key):
                raise unknown_key(found, key, app.groups, app.name)
            swept = _values(override) if override.is_sweep_override() else ()
            for one in parse([f"{key}={value}" for value in swept]) or [override]:
                refuse_shape(found, key, one.value())
    return overrides


def _is_open(app: Application, key: str) -> bool:
    group, _, name = key.partition(".")
    return group in app.open_groups and bool(name)


def _values(override: Override) -> list[Any]:
    if override.is_sweep_override():
        return list(override.sweep_string_iterator())
    return [override.value()]


def _is_override(argument: str) -> bool:
    return not argument.startswith("-") and "=" in argument


def _job_name(differing: str, overrides: Sequence[str]) -> str:
    """A job's folder: the settings that differ, readable, and a hash of all settings."""
    readable = re.sub(r"[^A-Za-z0-9_.=,-]+", "_", str(differing)).strip("._")[:60]
    digest = hashlib.sha256("\n".join(sorted(map(str, overrides))).encode()).hexdigest()[:8]
    return f"{readable or 'job'}-{digest}"


# At import: a launcher's processes import this file and compose configurations of their own.
OmegaConf.register_new_resolver("automix_job", _job_name, replace=True)


@contextmanager
def _command_line(app: Application, arguments: Sequence[str]) -> Iterator[None]:
    """Hydra reads sys.argv, and nothing else."""
    before = sys.argv
    sys.argv = cast(list[str], [f"automix-eval {app.name}", *arguments])
    try:
        yield
    finally:
        sys.argv = before
