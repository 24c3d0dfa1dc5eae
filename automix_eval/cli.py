"""The command ``automix-eval``.

A sub-command is a module with ``add_arguments(parser)`` and ``run(args) -> int``; one line in
:data:`COMMANDS` adds it. Such a module imports what is slow inside ``run``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from types import ModuleType

from automix_eval import __version__, doctor, plan
from automix_eval.commands import policy, replay
from automix_eval.report import command as report
from automix_eval.report import compare_command as compare
from automix_eval.report.text import plain
from automix_eval.types import AutoMixError

COMMANDS: Mapping[str, ModuleType] = {
    "report": report,
    "compare": compare,
    "replay": replay,
    "policy": policy,
    "plan": plan,
    "doctor": doctor,
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
    for name, module in COMMANDS.items():
        summary = (module.__doc__ or "").strip().splitlines()[0].split(": ", 1)[-1]
        child = commands.add_parser(name, help=summary, description=summary)
        module.add_arguments(child)
        child.set_defaults(run=module.run)
    given = list(sys.argv[1:] if argv is None else argv)
    if given and getattr(COMMANDS.get(given[0]), "OWN_GRAMMAR", False):
        # nothing that looks like an option may be taken for one of ours
        given.insert(1, "--")
    args = parser.parse_args(given)
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except AutoMixError as err:
        print(f"automix-eval: error: {plain(err, limit=2000)}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader (head, less) has gone; Python would complain again while it shuts down.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
