"""The command ``automix-eval``.

A sub-command is a module with ``add_arguments(parser)`` and ``run(args) -> int``; its name in
:data:`PURPOSES` adds it. Only the module of the command that is asked for is imported.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from automix_eval import __version__
from automix_eval.safety.errors import AutoMixError, one_line
from automix_eval.safety.logs import guard_logs
from automix_eval.safety.text import did_you_mean, printable

# What people want to do -> the commands for it, each a module of this folder.
PURPOSES: Mapping[str, tuple[str, ...]] = {
    "Run a cascade": ("plan", "run", "fit"),
    "Read results": ("report", "compare", "policy"),
    "Try routers without a model": ("whatif", "replay", "outcomes", "experiment"),
    "Set up": ("init", "doctor", "completion"),
}
COMMANDS: Mapping[str, str] = {
    name: f"commands.{name}" for names in PURPOSES.values() for name in names
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one sub-command.

    Args:
        argv: Arguments without the program's name; None takes those of the process.

    Returns:
        The exit code: 0, or 2 after an error of one line on stderr.
    """
    parser = argparse.ArgumentParser(
        prog="automix-eval",
        usage="automix-eval COMMAND ...",
        description="Does a cascade of a small and a large language model pay?",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"automix-eval {__version__}")
    given = list(sys.argv[1:] if argv is None else argv)
    if not {"-v", "--verbose"} & set(given):
        # bars of other libraries; tqdm reads this when it is imported
        os.environ.setdefault("TQDM_DISABLE", "1")
    if given[:1] in (["-h"], ["--help"]):
        parser.epilog = _purposes()
    if "-sc" in given:  # as Hydra's programs are asked
        given = ["completion", *(w.removeprefix("install=") for w in given if "=" in w)]
    if given and not given[0].startswith("-") and given[0] not in COMMANDS:
        name = printable(given[0], 60)
        parser.error(f"there is no command {name}{did_you_mean(name, COMMANDS)} --help lists all")
    commands = parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help=argparse.SUPPRESS
    )
    try:
        for name in given[:1] if given and given[0] in COMMANDS else ():
            module = importlib.import_module(f"automix_eval.{COMMANDS[name]}")
            child = commands.add_parser(
                name, prog=f"automix-eval {name}", description=summary(name)
            )
            module.add_arguments(child)
            if hasattr(module, "prepared"):  # lm_eval's --KEY VALUE as KEY=VALUE
                given[1:] = module.prepared(given[1:])
            child.set_defaults(run=module.run)
            if given[:1] == [name] and getattr(module, "OWN_GRAMMAR", False):
                # nothing that looks like an option may be taken for one of ours
                given.insert(1, "--")
        args = parser.parse_args(given)
        guard_logs()
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except AutoMixError as err:
        print(one_line(err), file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain again while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def summary(name: str) -> str:
    """What a command does: the first line of its file, without marks; it is not imported."""
    with Path(__file__).with_name(f"{name}.py").open(encoding="utf-8") as file:
        return file.readline().strip().strip('"').split(": ", 1)[-1].replace("`", "")


def _purposes() -> str:
    lines = []
    for purpose, commands in PURPOSES.items():
        lines.append(f"{purpose}:")
        lines += [f"  {name.ljust(12)}{summary(name)}" for name in commands]
        lines.append("")
    return "\n".join([*lines, "automix-eval COMMAND --help tells more of each."])
