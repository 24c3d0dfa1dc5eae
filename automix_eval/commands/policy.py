"""``automix-eval policy``: what a policy file says, in words, or as what a service can load."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable, show

_FORMS = ("python", "vllm-semantic-router", "litellm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the sub-command."""
    parser.add_argument(
        "path", nargs="+", type=Path, metavar="FILE",
        help="automix_policy_*.json, or the output of automix-eval replay",
    )  # fmt: skip
    parser.add_argument(
        "--as",
        dest="form",
        choices=_FORMS,
        help="write the policy for a service: a module of Python without dependencies, or the "
        "configuration of a gateway; refused, with the reason, where the form cannot say it",
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="with --as: write into this file")
    parser.add_argument(
        "--verifier-url",
        metavar="URL",
        help="with --as vllm-semantic-router: where its entailment verifier listens",
    )


def run(args: argparse.Namespace) -> int:
    """Print every policy, or write one for a service; returns the exit code.

    Raises:
        AutoMixError: A file is no policy, was changed, or is one of another release; or it cannot
            be written in the form.
    """
    if args.form is None:
        for name in ("out", "verifier_url"):
            if getattr(args, name) is not None:
                raise AutoMixError(f"--{name.replace('_', '-')} goes with --as {'|'.join(_FORMS)}")
        for path in args.path:
            show(describe(path))
        return 0
    if len(args.path) > 1:
        raise AutoMixError(f"--as takes one policy, and {len(args.path)} files are named")
    from automix_eval.commands.report import write_text
    from automix_eval.config.policy_files import load_policy
    from automix_eval.report.policy_export import export

    return write_text(export(load_policy(args.path[0]), args.form, args.verifier_url), args.out)


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
