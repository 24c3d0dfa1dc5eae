"""``automix-eval policy``: what a policy file says, in words and tables."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automix_eval.safety.text import printable, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the sub-command."""
    parser.add_argument(
        "path", nargs="+", type=Path, metavar="FILE",
        help="automix_policy_*.json, or the output of automix-eval replay",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Print every policy; returns the exit code.

    Raises:
        AutoMixError: A file is no policy, was changed, or is one of another release.
    """
    for path in args.path:
        show(describe(path))
    return 0


def describe(path: Path) -> str:
    """A policy as lines: its name and hyper-parameters, what it was fitted on, what it learned.

    The router is made by its name in hydra_conf/ with the file's checked values; the file names no
    code, and its texts are made printable.
    """
    from automix_eval.config import parts
    from automix_eval.records import policies as policy

    held = policy.load(path, inside="policy")
    router = parts.restore(held)
    values = dict(held["meta_verifier"])
    lines = [f"{path}", f"meta-verifier: {values.pop('name', None)}"]
    lines += [f"  {key}: {_shown(value)}" for key, value in values.items()]
    lines += ["fitted on:"]
    lines += [f"  {key}: {_shown(value)}" for key, value in held["fitted_on"].items()]
    lines += ["", *router.describe().splitlines()]
    notes = [n for n in router.notes() if n not in lines]
    lines += [f"note: {note}" for note in notes]
    return "\n".join(_printable(line) for line in lines) + "\n\n"


def _shown(value: Any) -> str:
    if isinstance(value, list) and len(value) > 12:
        return f"{len(value)} values"
    if isinstance(value, list) and all(isinstance(v, Mapping) and "label" in v for v in value):
        return ", ".join(str(v["label"]) for v in value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _printable(line: str) -> str:
    indent = len(line) - len(line.lstrip(" "))
    return " " * indent + printable(line.strip(" "), 2000)
