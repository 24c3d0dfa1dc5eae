"""``automix-eval whatif``: what a cascade of models would do, from runs or tables that you have."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automix_eval.commands.report import (
    add_format,
    first_format,
    natural,
    positive,
    write,
    write_text,
)
from automix_eval.metrics.bootstrap import RESAMPLES
from automix_eval.safety.errors import AutoMixError

if TYPE_CHECKING:
    from automix_eval.records.importers.chain import Choice

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
    parser.add_argument(
        "--metric",
        help="what is the score; default: the first metric of the samples, or the only one",
    )
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
        "--resamples", type=positive, default=RESAMPLES, help=f"default: {RESAMPLES}"
    )
    add_format(parser)
    parser.add_argument("--out", type=Path, metavar="DIR|FILE", help="as automix-eval report")
    parser.add_argument(
        "--by",
        metavar="COLUMN",
        help="instead: the routers by the values of a column of a table, as automix-eval report "
        "--by; task: by data set of a public table",
    )


def run(args: argparse.Namespace) -> int:
    """Print or write the leaderboard of the chain; returns the exit code.

    Raises:
        AutoMixError: The input cannot be read or paired, or nothing tells what it costs.
    """
    from automix_eval.analysis.chain_report import report_on_chain
    from automix_eval.analysis.gather import ReportAndRuns
    from automix_eval.backends import embeddings
    from automix_eval.records.importers.chain import Choice
    from automix_eval.records.importers.lm_eval_samples import SampleReading

    form = first_format(args)
    if args.by is not None:
        return _by_column(args, form, Choice(args.models, args.task, args.costs, args.missing))
    report, _ = report_on_chain(
        args.path,
        Choice(args.models, args.task, args.costs, args.missing),
        SampleReading(args.task, args.metric, args.confidence, args.unpaired_prompts),
        train=args.train or (),
        routers=args.router or (),
        folds=args.folds,
        seed=args.seed,
        resamples=args.resamples,
    )
    code = write(ReportAndRuns(report, ()), args.out, args.format)
    if said := embeddings.speed():  # no part of the report, which the same input gives again
        print(said, file=sys.stderr)
    return code


def _by_column(args: argparse.Namespace, form: str, choice: Choice) -> int:
    from automix_eval.analysis.gather import Settings
    from automix_eval.analysis.slice_sources import slices_of_chain
    from automix_eval.report.slice_report import render_slices

    if args.train:
        raise AutoMixError("--by fits and scores its routers in folds: leave --train out")
    if args.folds < 2:
        raise AutoMixError(f"folds {args.folds}: a router is fitted and scored in at least 2")
    settings = Settings(seed=args.seed, resamples=args.resamples)
    found = slices_of_chain(args.path, args.by, choice, args.router or (), args.folds, settings)
    return write_text(render_slices(found, form), args.out)


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
