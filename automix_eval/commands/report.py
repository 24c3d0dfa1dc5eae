"""``automix-eval report``: figures of finished runs, and the leaderboard of all of them."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from automix_eval.analysis.gather import ReportAndRuns, Settings, assemble
from automix_eval.costs.from_config import parse_costs
from automix_eval.metrics.bootstrap import RESAMPLES
from automix_eval.report import output
from automix_eval.report.slice_report import FORMATS, render_slices
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import write_file
from automix_eval.safety.text import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the sub-command."""
    parser.add_argument(
        "path", nargs="+", type=Path, help="folder with results, searched with its sub-folders"
    )
    parser.add_argument(
        "--llm",
        type=Path,
        metavar="DIR",
        help="folder with a run of the LLM alone (lm_eval --log_samples, or always_llm)",
    )
    parser.add_argument(
        "--costs",
        type=parse_costs,
        metavar="PRICES",
        help="price the recorded calls anew: paper:SLM,VERIFIER,LLM (paper:1,1,100), "
        "tokens:PRICES.yaml, flops:PARAMETERS,... or seconds; no new run is needed",
    )
    parser.add_argument(
        "--seed", type=natural, default=0, help="seed of the bootstrap intervals (default: 0)"
    )
    parser.add_argument(
        "--resamples",
        type=positive,
        default=RESAMPLES,
        help=f"bootstrap resamples (default: {RESAMPLES})",
    )
    add_format(parser)
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR|FILE",
        help=f"write {', '.join(output.NAMES.values())} and pictures into a folder, or one format "
        "into a file",
    )
    parser.add_argument(
        "--full",
        action="store_true",
        help="print every table, as --out writes it; default: what fits on a screen",
    )
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        metavar="NAME",
        help="also replay this meta-verifier (NAME or NAME:key=value) on runs with record=full; "
        "may be repeated",
    )
    parser.add_argument(
        "--by",
        metavar="FIELD",
        help="instead: quality lost against the LLM, delta IBC and escalation by the values of a "
        "field of the task's documents (with --log_samples), or of the records (document), as "
        f"{', '.join(FORMATS)}",
    )


def add_format(parser: argparse.ArgumentParser) -> None:
    """Declare in which formats a report is written."""
    parser.add_argument(
        "--format",
        type=output_formats,
        metavar="FORMAT[,FORMAT]",
        help=f"{', '.join(output.NAMES)}; default: text, and all of them for a folder",
    )


def run(args: argparse.Namespace) -> int:
    """Print or write the report; returns the exit code.

    Raises:
        AutoMixError: There is no run, or a file is damaged or cannot be written.
    """
    form = first_format(args)
    settings = Settings(args.llm, args.seed, args.costs, tuple(args.baseline), args.resamples)
    if args.by is not None:
        from automix_eval.analysis.slice_sources import slices_of_runs  # Hydra takes a second

        found = slices_of_runs(args.path, replace(settings, baselines=()), args.by)
        return write_text(render_slices(found, form), args.out)
    assembled = assemble(args.path, settings)
    if args.out is None and args.format is None and not args.full:
        show(output.render_screen(assembled))
        return 0
    return write(assembled, args.out, args.format)


def first_format(args: argparse.Namespace) -> str:
    """The format that was asked for, text where none was; before anything is computed.

    Raises:
        AutoMixError: Several were, and nothing takes them.
    """
    formats: tuple[str, ...] = args.format or ("text",)
    if len(formats) > 1 and args.by is not None:
        raise AutoMixError(f"slices are written in one format, not in {', '.join(formats)}")
    if len(formats) > 1 and not (args.out and output.is_folder(args.out)):
        raise AutoMixError(
            f"several formats ({', '.join(formats)}) need a folder: name one with --out"
        )
    return formats[0]


def write(assembled: ReportAndRuns, out: Path | None, chosen: tuple[str, ...] | None) -> int:
    """Print a report, or write it into a file or folder; returns the exit code.

    Args:
        assembled: The report.
        out: File or folder; None prints.
        chosen: Formats, several for a folder alone; None: text, and all of them for a folder.

    Raises:
        AutoMixError: A file cannot be written.
    """
    if out is not None and output.is_folder(out):
        formats = chosen or tuple(output.NAMES)
        written = output.write_folder(assembled, out, formats)
        show(f"wrote {len(written)} files into {out}\n")
        if "html" in formats:
            show(f"page: {out / output.NAMES['html']}\n")
        return 0
    return write_text(output.render(assembled, (chosen or ("text",))[0]), out)


def write_text(text: str, out: Path | None) -> int:
    """Print a text, or write it into a file; returns the exit code."""
    if out is None:
        show(text)
    else:
        write_file(out, text)
        print(f"wrote {out}", file=sys.stderr)  # stdout may be that file
    return 0


def natural(text: str) -> int:
    """A number of 0 or more."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("a number of 0 or more is needed")
    return value


def positive(text: str) -> int:
    """A number of 1 or more."""
    if (value := natural(text)) == 0:
        raise argparse.ArgumentTypeError("a number of 1 or more is needed")
    return value


def output_formats(text: str) -> tuple[str, ...]:
    """Names of formats, parted by commas."""
    names = tuple(dict.fromkeys(part.strip() for part in text.split(",")))
    if unknown := [n for n in names if n not in output.NAMES]:
        raise argparse.ArgumentTypeError(
            f"{', '.join(unknown)} is unknown: one or more of {', '.join(output.NAMES)}"
        )
    return names
