"""``automix-eval completion``: print what makes a shell complete commands, options and settings."""

from __future__ import annotations

import argparse
import importlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from automix_eval.config import described
from automix_eval.config.described import Setting
from automix_eval.config.overrides import GROUPS

# Commands that take KEY=VALUE: the files and groups of their settings.
_SETTINGS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    **dict.fromkeys(("run", "fit", "plan"), (("evaluation", "run", "config"), GROUPS)),
    "replay": (("replay",), ("meta_verifier", "calibrator", "cost", "format")),
}
# bash parts words at = and :, and its script wants what follows the last of them.
_FILES = Path(__file__).with_name("completion_files")
_SHELLS = ("bash", "zsh", "fish")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the sub-command."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = (
        'bash and zsh: eval "$(automix-eval completion bash)" in ~/.bashrc, or zsh in ~/.zshrc\n'
        "fish: automix-eval completion fish | source, in ~/.config/fish/config.fish"
    )
    parser.add_argument("shell", choices=[*_SHELLS, "words"], help="words: asked by the shell")
    parser.add_argument("line", nargs="?", default="", help=argparse.SUPPRESS)


def run(args: argparse.Namespace) -> int:
    """Print the shell's script, or the words that may end a line."""
    if args.shell in _SHELLS:
        print((_FILES / f"{args.shell}.txt").read_text(encoding="utf-8"), end="")
    else:
        print("\n".join(words(args.line)))
    return 0


def words(line: str) -> list[str]:
    """What the last word of a command line may be, that word's beginning included.

    Args:
        line: Up to the cursor, the program's name first.
    """
    try:
        given = shlex.split(line)
    except ValueError:  # a quote is open
        return []
    if not given or line[-1:].isspace():
        given.append("")
    *before, last = given[1:] or [""]
    if not before:
        return [w for w in _commands() if w.startswith(last)]
    command = before[0]
    if command not in _commands():
        return []
    found = described.options("experiment") if command == "experiment" else []
    found += _options(command, before[-1])
    if command in _SETTINGS:
        found += _settings(*_SETTINGS[command], before[1:], last)
    # an option is asked for by its dash; without it a path may be meant
    return sorted({w for w in found if w.startswith(last) and (last or w[:1] != "-")})


def _commands() -> list[str]:
    from automix_eval.commands.main import COMMANDS

    return list(COMMANDS)


def _options(command: str, after: str) -> list[str]:
    from automix_eval.commands.main import COMMANDS

    module = importlib.import_module(f"automix_eval.{COMMANDS[command]}")
    parser = argparse.ArgumentParser()
    module.add_arguments(parser)
    found = [text for action in parser._actions for text in action.option_strings]
    for action in parser._actions:
        if not action.option_strings or after in action.option_strings:
            found += map(str, action.choices or ())
    return found


def _settings(
    files: Sequence[str], groups: Sequence[str], before: Sequence[str], last: str
) -> list[str]:
    key, equals, _ = last.partition("=")
    if not equals:
        return [f"{key}=" for key in _keys(files, groups, before)]
    if key in groups:
        return [f"{key}={option}" for option in described.options(key)]
    return [f"{key}={w}" for s in _known(files, groups, before) if s.key == key for w in s.choices]


def _keys(files: Sequence[str], groups: Sequence[str], before: Sequence[str]) -> list[str]:
    return [*groups, *(s.key for s in _known(files, groups, before))]


def _known(files: Sequence[str], groups: Sequence[str], before: Sequence[str]) -> Iterator[Setting]:
    """The settings of the options that are chosen so far; of the defaults where none is."""
    for file in files:
        yield from described.of_file(file)
    defaults = {g: o for file in files for g, (_, o) in described.group_meanings(file).items()}
    chosen = defaults | dict(word.partition("=")[::2] for word in before if "=" in word)
    for group in groups:
        if chosen[group] in described.options(group):
            yield from described.of_option(group, chosen[group])
