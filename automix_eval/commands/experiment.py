"""``automix-eval experiment``: run a preset study and write its table and picture."""

from __future__ import annotations

import argparse
import sys

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the preset's name and its settings."""
    parser.add_argument("name", nargs="?", help="a preset; without one they are listed")
    parser.add_argument(
        "changes", nargs="*", metavar="KEY=VALUE",
        help="size=smoke|full, tables=a.csv,b.csv, records=DIR, data=simulated|runs, seeds=10, "
        "out=DIR, and values of an axis such as router=pomdp,threshold; see docs/experiments.md",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Run a preset, print its page, and write its files.

    Returns:
        0 where every cell has figures.

    Raises:
        AutoMixError: A setting is wrong, or some cells failed; the others are written.
    """
    from automix_eval.analysis.experiments import preset
    from automix_eval.commands.experiments.run import run as run_preset

    if args.name is None:
        for name in preset.names():
            show(f"{name}\n    {preset.read(name).about}\n")
        return 0
    made = preset.read(args.name, args.changes)
    result = run_preset(made, _progress)
    _end()
    show(result.text)
    show("\nwritten: " + ", ".join(str(f) for f in result.files) + "\n")
    if result.failed:
        raise AutoMixError(
            f"{result.failed} failed, all else is written; the first: {result.first}"
        )
    return 0


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{printable(text, 100)}", end="", file=sys.stderr, flush=True)


def _end() -> None:
    if sys.stderr.isatty():
        print(file=sys.stderr)
