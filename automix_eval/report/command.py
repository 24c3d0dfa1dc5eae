"""``automix-eval report``: figures of finished runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from automix_eval.records import MANIFEST_GLOB
from automix_eval.report.blocks import report_blocks
from automix_eval.report.formats import render_csv, render_json, render_markdown
from automix_eval.report.load import Run, find_runs
from automix_eval.report.parts import Report, TaskReport
from automix_eval.report.samples import check_samples, find_results
from automix_eval.report.sources import Folders, find_llm
from automix_eval.report.summary import summarise
from automix_eval.report.table import render_text
from automix_eval.report.text import plain
from automix_eval.types import AutoMixError

FORMATS = ("text", "md", "csv", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the sub-command."""
    parser.add_argument(
        "path", nargs="+", type=Path, help="folder with results, searched with its sub-folders"
    )
    parser.add_argument("--format", choices=FORMATS, default="text", help="default: text")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write there instead of printing")
    parser.add_argument(
        "--llm",
        type=Path,
        metavar="DIR",
        help="folder with a run of the LLM alone (lm_eval --log_samples, or always_llm)",
    )
    parser.add_argument(
        "--seed", type=_seed, default=0, help="seed of the bootstrap intervals (default: 0)"
    )


def run(args: argparse.Namespace) -> int:
    """Print or write the report; returns the exit code.

    Raises:
        AutoMixError: There is no run, or a file is damaged or cannot be written.
    """
    report = build(args.path, llm=args.llm, seed=args.seed)
    text = render(report, args.format)
    if args.out is None:
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
        return 0
    try:
        args.out.write_text(text, encoding="utf-8")
    except OSError as err:
        raise AutoMixError(f"cannot write {args.out}: {err}") from err
    return 0


def build(paths: Sequence[Path], llm: Path | None = None, seed: int = 0) -> Report:
    """The report on all runs at or below some folders.

    Args:
        paths: Folders, or manifests.
        llm: A folder whose run stands for the LLM alone.
        seed: Seed of the bootstrap.

    Raises:
        AutoMixError: There is no run, or a file is damaged.
    """
    runs = find_runs(paths)
    if not runs:
        raise AutoMixError(
            f"no run in {', '.join(map(str, paths))}: looked for {MANIFEST_GLOB} there and below. "
            "A run with --output_path writes it beside the results of the harness"
        )
    results, warnings = find_results(paths)
    llm_paths = [] if llm is None else [llm]
    llm_runs = find_runs(llm_paths)
    llm_results, llm_warnings = find_results(llm_paths)
    folders = Folders(runs, results, llm_runs, llm_results, None if llm is None else str(llm))
    tasks = []
    for one in runs:
        for task in one.tasks:
            if one.records.get(task):
                tasks.append(_task_report(one, task, folders, seed))
            else:
                warnings.append(f"run {one.run_id} has no evaluation records of {task}")
    if not tasks:
        raise AutoMixError(f"the runs hold no evaluation records: {'; '.join(warnings)}")
    notes = dict.fromkeys(plain(w) for w in [*warnings, *llm_warnings])
    return Report(tuple(tasks), tuple(notes), seed)


def render(report: Report, form: str) -> str:
    """The report in one of :data:`FORMATS`."""
    if form == "json":
        return render_json(report)
    if form == "csv":
        return render_csv(report)
    blocks = report_blocks(report)
    return render_markdown(blocks) if form == "md" else render_text(blocks)


def _task_report(one: Run, task: str, folders: Folders, seed: int) -> TaskReport:
    records, info = one.records[task], one.tasks[task]
    llm = find_llm(one, task, folders)
    warnings = [*check_samples(one, task, folders.results), *llm.warnings]
    warnings += [text for about, text in one.warnings if about == task]
    # Repeats are records of their own, so either count may be the one the manifest states.
    if info.num_questions not in {None, len(records), len({r.doc_id for r in records})}:
        warnings.append(
            f"the manifest counts {info.num_questions} questions, the records hold {len(records)}"
        )
    calls = [c for c in one.calls if c.task == task]
    return TaskReport(
        run_id=plain(one.run_id),
        label=plain(one.label),
        created=plain(one.created),
        version=plain(one.version),
        task=plain(task),
        metric=plain(info.metric or "none"),
        sample=info.sample,
        meta_verifier=one.part("meta_verifier"),
        verifier=one.part("verifier"),
        cost=_cost_text(one),
        tiers=tuple(t.label for t in one.tiers),
        figures=summarise(records, one.cost, len(one.tiers), llm, calls, seed),
        llm_source=plain(llm.source),
        warnings=tuple(dict.fromkeys(plain(w, 600) for w in warnings)),
    )


def _cost_text(one: Run) -> str:
    config = {k: v for k, v in one.config["cost"].items() if k not in {"name", "_target_"}}
    return plain(one.part("cost") + "".join(f", {k} {v}" for k, v in config.items()))


def _seed(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("a seed is 0 or more")
    return value
