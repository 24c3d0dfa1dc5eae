"""The command ``automix-eval``.

A sub-command is a module with ``add_arguments(parser)`` and ``run(args) -> int``; one line in
:data:`COMMANDS` adds it. Only the module of the command that is asked for is imported.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Mapping, Sequence

from automix_eval import __version__
from automix_eval.safety.errors import AutoMixError, one_line
from automix_eval.safety.logs import guard_logs

COMMANDS: Mapping[str, str] = {
    "report": "commands.report",
    "compare": "commands.compare",
    "run": "commands.run",
    "fit": "commands.fit",
    "replay": "commands.replay",
    "whatif": "commands.whatif",
    "policy": "commands.policy",
    "outcomes": "commands.outcomes",
    "experiment": "commands.experiment",
    "plan": "commands.plan",
    "doctor": "commands.doctor",
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
        description="AutoMix for the lm-evaluation-harness: what to do after a run.",
    )
    parser.add_argument("--version", action="version", version=f"automix-eval {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    given = list(sys.argv[1:] if argv is None else argv)
    if given[:1] == ["-sc"]:
        given = _completed(given)
    for name in given[:1] if given and given[0] in COMMANDS else COMMANDS:
        module = importlib.import_module(f"automix_eval.{COMMANDS[name]}")
        summary = (module.__doc__ or "").strip().splitlines()[0].split(": ", 1)[-1]
        child = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(child)
        child.set_defaults(run=module.run)
        if given[:1] == [name] and getattr(module, "OWN_GRAMMAR", False):
            # nothing that looks like an option may be taken for one of ours
            given.insert(1, "--")
    args = parser.parse_args(given)
    guard_logs()
    try:
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


def _completed(given: Sequence[str]) -> list[str]:
    """The shell asks the program, without its command, to complete ``COMP_LINE``."""
    program, _, rest = os.environ.get("COMP_LINE", "").lstrip().partition(" ")
    command, _, settings = rest.lstrip().partition(" ")
    if command not in COMMANDS:
        return list(given)
    os.environ["COMP_LINE"] = f"{program} {settings}"
    return [command, *given]
