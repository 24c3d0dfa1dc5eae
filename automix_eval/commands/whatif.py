"""``automix-eval whatif``: what a cascade of models would do, from runs or tables that you have."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from automix_eval.commands.report import natural, output_formats, write
from automix_eval.metrics.bootstrap import RESAMPLES
from automix_eval.report import output
from automix_eval.safety.errors import AutoMixError

_STATISTICS = ("probability", "margin")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the sub-command."""
    parser.add_argument(
        "path",
        nargs="+",
        type=Path,
        help="results folders of lm_eval --log_samples, one a model, or one table of outcomes",
    )
    parser.add_argument("--task", help="one task or data set; default: all together")
    parser.add_argument("--metric", help="default: the first metric of the samples")
    parser.add_argument(
        "--models", type=_names, metavar="A,B", help="the chain; default: all, cheapest first"
    )
    parser.add_argument(
        "--costs",
        type=_costs,
        metavar="A=1,B=50",
        help="cost of an answer of each model; default: the table's own, listed prices, or FLOPs",
    )
    parser.add_argument(
        "--confidence",
        choices=_STATISTICS,
        default=_STATISTICS[0],
        help="of multiple choice: softmax of the best choice, or its lead over the second",
    )
    parser.add_argument(
        "--unpaired-prompts",
        action="store_true",
        help="pair runs whose versions, prompts or few-shot settings differ",
    )
    parser.add_argument(
        "--missing",
        choices=("refuse", "drop", "zero"),
        default="refuse",
        help="questions without a score or cost of some model",
    )
    parser.add_argument(
        "--train",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="runs or a table of other questions to fit on; default: fit and score in folds",
    )
    parser.add_argument("--folds", type=natural, default=5, help="default: 5, by whole documents")
    parser.add_argument(
        "--router",
        action="append",
        metavar="NAME",
        help="a meta_verifier to play; may be repeated (default: those fitted in seconds)",
    )
    parser.add_argument("--seed", type=natural, default=0, help="of the intervals (default: 0)")
    parser.add_argument(
        "--resamples", type=natural, default=RESAMPLES, help=f"default: {RESAMPLES}"
    )
    parser.add_argument(
        "--format",
        type=output_formats,
        metavar="FORMAT[,FORMAT]",
        help=f"{', '.join(output.NAMES)}; default: text, and all of them for a folder",
    )
    parser.add_argument("--out", type=Path, metavar="DIR|FILE", help="as automix-eval report")


def run(args: argparse.Namespace) -> int:
    """Print or write the leaderboard of the chain; returns the exit code.

    Raises:
        AutoMixError: The input cannot be read or paired, or nothing tells what it costs.
    """
    from automix_eval.analysis.gather import ReportAndRuns
    from automix_eval.analysis.replay_input import read_chain
    from automix_eval.analysis.what_if import ChainQuestion, default_routers, what_if
    from automix_eval.records.importers.chain import Choice
    from automix_eval.records.importers.lm_eval_samples import SampleReading

    if args.folds < 2:
        raise AutoMixError(f"--folds {args.folds}: a router is fitted and scored in at least 2")
    choice = Choice(args.models, args.task, args.costs, args.missing)
    reading = SampleReading(args.task, args.metric, args.confidence, args.unpaired_prompts)
    held = read_chain(args.path, choice, reading)
    train = None
    if args.train:
        # the same chain, whatever is cheapest among the other questions
        same = replace(choice, models=held.outcomes.names)
        train = read_chain(args.train, same, reading).outcomes
    documents = "" if held.outcomes.documents is None else ", whole documents"
    fitting = (
        f"fitted on {len(train)} other questions"
        if train is not None
        else f"fitted and scored in {args.folds} folds{documents}: no question is decided by a "
        "policy that saw its scores"
    )
    routers, unplayed = (tuple(args.router), ()) if args.router else default_routers(held.outcomes)
    report = what_if(
        ChainQuestion(
            held.outcomes, train, routers, held.task, held.metric, held.cost,
            (*held.notes, fitting, *unplayed), args.folds, args.seed, args.resamples,
        )
    )  # fmt: skip
    return write(ReportAndRuns(report, ()), args.out, args.format)


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _costs(text: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for part in text.split(","):
        name, equals, value = part.rpartition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            equals = ""
        if not equals or not name.strip():
            raise argparse.ArgumentTypeError(
                f"{part!r} is no cost: write MODEL=NUMBER,MODEL=NUMBER"
            )
    return found
