"""``automix-eval compare``: two runs or methods on the same questions, and where they differ."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from automix_eval.analysis.compare import Compared, compare
from automix_eval.analysis.figures import Figure
from automix_eval.analysis.gather import Settings
from automix_eval.commands.report import natural, positive
from automix_eval.costs.from_config import parse_costs
from automix_eval.metrics.bootstrap import LEVEL, RESAMPLES
from automix_eval.report.blocks import Block, Heading, Paragraph, Reasons, Table, interval_text
from automix_eval.report.fixed_width import render_text
from automix_eval.report.formats import render_markdown
from automix_eval.report.json_report import to_json
from automix_eval.safety.files import write_file
from automix_eval.safety.text import show

FORMATS = ("text", "md", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the sub-command."""
    for name in ("A", "B"):
        parser.add_argument(
            name,
            help="a folder or manifest; FOLDER::METHOD for one of its methods, by the name that "
            "the report's CSV gives it (out::replay:always_llm, out::replay:threshold)",
        )
    parser.add_argument("--task", help="compare on this task only")
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")
    parser.add_argument(
        "--show", type=natural, default=10, metavar="N", help="questions to show (default: 10)"
    )
    parser.add_argument("--costs", type=parse_costs, metavar="PRICES", help="as in report")
    parser.add_argument("--seed", type=natural, default=0, help="seed of the bootstrap")
    parser.add_argument("--resamples", type=positive, default=RESAMPLES, help="bootstrap resamples")


def run(args: argparse.Namespace) -> int:
    """Print or write the comparison; returns the exit code.

    Raises:
        AutoMixError: One of the two cannot be found, or they answered different questions.
    """
    settings = Settings(seed=args.seed, costs=args.costs, resamples=args.resamples)
    text = render(compare(args.A, args.B, settings, args.task, args.show), args.format)
    if args.out is None:
        show(text)
    else:
        write_file(args.out, text)
    return 0


def render(found: Sequence[Compared], form: str) -> str:
    """The comparison as text, Markdown or JSON."""
    if form == "json":
        value = {"format": "automix-eval comparison", "version": 1, "level": LEVEL}
        tasks = [to_json(one) for one in found]
        return json.dumps({**value, "tasks": tasks}, indent=2, allow_nan=False) + "\n"
    blocks = [Heading("AutoMix comparison", 1), *(b for one in found for b in _blocks(one))]
    return render_markdown(blocks) if form == "md" else render_text(blocks)


def _blocks(one: Compared) -> list[Block]:
    reasons = Reasons()
    d = one.result
    rows = (
        *(
            (label, _both(q, ".4f", reasons), _both(c, ".4g", reasons))
            for label, q, c in zip(one.labels, one.qualities, one.costs, strict=True)
        ),
        ("first minus second", _both(d.quality, "+.4f", reasons), _both(d.cost, "+.4g", reasons)),
    )
    p = reasons.show(d.quality_p.value, ".3g")
    left = f"; {one.left_out} that only one of them answered are left out" if one.left_out else ""
    blocks: list[Block] = [
        Heading(f"Task {one.task}", 2),
        Paragraph(
            f"{one.num_questions} questions about {one.num_documents} documents{left}; metric: "
            f"{one.metric}."
        ),
        *(Paragraph(text, "! ") for text in one.excluded),
        Table(("", "Quality", "Cost"), rows),
        Paragraph(f"{d.words} (paired test by document: p {p})."),
        Paragraph(
            f"delta IBC, first minus second: {_both(d.delta_ibc, '+.1%', reasons)}; p "
            f"{reasons.show(d.delta_ibc_p.value, '.3g')}."
        ),
        Paragraph(
            f"The first has the higher score on {one.better} questions, the second on {one.worse}; "
            f"they agree on {one.num_questions - one.better - one.worse}."
        ),
    ]
    if one.differences:
        shown = tuple(
            (
                x.question or f"doc_id {x.doc_id}",
                str(x.doc_id),
                f"{x.first:.3f}",
                f"{x.second:.3f}",
                " / ".join("-" if t is None else str(t) for t in x.tiers),
            )
            for x in one.differences
        )
        header = ("Questions on which they differ", "doc_id", "First", "Second", "Tiers")
        blocks.append(Table(header, shown))
    return [*blocks, *reasons.blocks()]


def _both(figure: Figure, form: str, reasons: Reasons) -> str:
    ends = interval_text(figure, form, reasons)
    return reasons.show(figure.value, form) + ("" if ends == "-" else f" {ends}")
