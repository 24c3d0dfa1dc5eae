"""``--help`` of the commands that take KEY=VALUE: every group, option and key."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from automix_eval.config import described
from automix_eval.config.described import Setting
from automix_eval.config.overrides import TIERS

if TYPE_CHECKING:
    from automix_eval.config.command_line import Application

_WIDTH = 100
_LANGUAGE = (
    "KEY=VALUE sets a value, GROUP=OPTION picks an option of a group; the same names are used "
    "after --model_args, in a file (config=FILE), in run, fit, plan and replay. A,B is a list "
    "where a key takes one (tasks=coqa,qasper), and A+B everywhere, also after --model_args. "
    "lm_eval's --KEY VALUE is taken as well. null is no value."
)


def wanted(arguments: Sequence[str]) -> bool:
    """Whether help is asked for."""
    return any(a in ("-h", "--help") for a in arguments)


def command_help(
    command: str, app: Application, examples: str, arguments: Sequence[str] = ()
) -> str:
    """The help of a command.

    Args:
        command: Its name.
        app: Whose settings and groups it takes.
        examples: Lines that are shown at the top.
        arguments: Of the command line; a group, option or key among them is told alone.
    """
    topics = [a.partition("=")[0] for a in arguments if not a.startswith("-")]
    if topics:
        return _about(topics[0], app)
    head = f"usage: automix-eval {command} KEY=VALUE ...\n\n{textwrap.indent(examples, '  ')}\n\n"
    return head + settings_text(app, app.files)


def settings_text(app: Application, files: Sequence[str]) -> str:
    """Every key of some files, and every group with its options and their keys."""
    parts = [_wrapped(_LANGUAGE, 0), *(_file(name) for name in files)]
    meanings = _groups(files)
    return "\n\n".join([*parts, *(_group(group, meanings) for group in _shown(app.groups))]) + "\n"


@dataclass(frozen=True, slots=True)
class GroupKey:
    """A key that options of a group have alike.

    Attributes:
        setting: Its meaning and kind; the default is that of the first option.
        defaults: Default -> the options that have it.
    """

    setting: Setting
    defaults: Mapping[str, Sequence[str]]

    @property
    def options(self) -> list[str]:
        """All options that have the key."""
        return [option for options in self.defaults.values() for option in options]

    def default(self) -> str:
        """What the value is where none is given."""
        if len(self.defaults) == 1:
            return _default(self.setting.default)
        return ", ".join(f"{_default(d)} ({', '.join(o)})" for d, o in self.defaults.items())


def merged(group: str) -> list[GroupKey]:
    """The keys of a group, each once for all options that have it with one meaning and kind."""
    found: dict[Setting, dict[str, list[str]]] = {}
    for option in described.options(group):
        for one in described.of_option(group, option):
            alike = replace(one, meaning="" if one.inherits else one.meaning, default=one.inherits)
            defaults = found.setdefault(alike, {})
            defaults.setdefault(one.default, []).append(option)
    keys = [
        GroupKey(replace(alike, default=next(iter(defaults))), defaults)
        for alike, defaults in found.items()
    ]
    return sorted(keys, key=lambda k: (bool(k.setting.inherits), k.setting.key))


def _default(text: str) -> str:
    return "must be given" if text == "???" else f"default {text}"


def plain(text: str) -> str:
    """A comment without its marks."""
    return text.replace("`", "")


def _about(topic: str, app: Application) -> str:
    meanings = _groups(app.files)
    if topic in app.groups:
        return _group(topic, meanings) + "\n"
    keys = [s for name in app.files for s in described.of_file(name)]
    keys += [k.setting for group in _shown(app.groups) for k in merged(group)]
    parts = [_key(s) for s in dict.fromkeys(keys) if topic in s.key]
    named = (g for g in _shown(app.groups) if topic in described.options(g))
    parts += [_option(group, topic) for group in named]
    if not parts:
        return f"No group, option or key is named {topic}: automix-eval run --help lists all.\n"
    return "\n".join(parts) + "\n"


def _groups(files: Sequence[str]) -> dict[str, tuple[str, str]]:
    found: dict[str, tuple[str, str]] = {}
    for name in files:
        found |= described.group_meanings(name)
    return found


def _shown(groups: Sequence[str]) -> list[str]:
    """Slm stands for llm too: both choose among the same options."""
    return [group for group in groups if group != TIERS[1]]


def _file(name: str) -> str:
    head = plain(described.title(name))
    return "\n".join([f"== {head}", *(_key(s) for s in described.of_file(name))])


def _group(group: str, meanings: dict[str, tuple[str, str]]) -> str:
    return "\n".join(_group_lines(group, meanings))


def _group_lines(group: str, meanings: dict[str, tuple[str, str]]) -> Iterator[str]:
    names = TIERS if group in TIERS else (group,)
    for name in names:
        what, default = meanings[name]
        yield f"== {name}=OPTION, default {default}: {plain(what)}"
    options = described.options(group)
    wide = max(map(len, options)) + 4
    for option in options:
        first = f"  {option}".ljust(wide)
        yield _wrapped(plain(described.description(group, option)), wide, first)
    keys = merged(group)
    if keys and group in TIERS:
        yield "  Keys, of llm as of slm:"
    elif keys:
        yield "  Keys:"
    for key in keys:
        some = len(key.defaults) == 1 and len(key.options) < len(options)
        yield _key(key.setting, key.default(), ", ".join(key.options) if some else "")


def _option(group: str, option: str) -> str:
    first = f"== {group}={option}: "
    head = _wrapped(plain(described.description(group, option)), 6, first)
    return "\n".join([head, *(_key(s) for s in described.of_option(group, option))])


def _key(setting: Setting, default: str = "", holders: str = "") -> str:
    if setting.inherits:
        return f"  {setting.key.ljust(34)}default: the value of {setting.inherits}"
    first = f"  {setting.key.ljust(34)}"
    lines = [_wrapped(f"{setting.kind}; {default or _default(setting.default)}", 36, first)]
    if setting.meaning:
        lines.append(_wrapped(plain(setting.meaning), 6))
    if holders:
        lines.append(_wrapped(f"of {holders}", 6))
    return "\n".join(lines)


def _wrapped(text: str, indent: int, first: str | None = None) -> str:
    blank = " " * indent
    return textwrap.fill(
        text,
        _WIDTH,
        initial_indent=blank if first is None else first,
        subsequent_indent=blank,
        break_on_hyphens=False,
        break_long_words=False,
    )
