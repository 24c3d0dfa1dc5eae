"""``automix-eval outcomes``: a run with record=full as tables of numbers, to share and to replay.

One CSV a task, one row a question: its split (train: the calibration; test: the evaluation), the
number of its document where several share one, and every tier's score, confidence, cost and
verification cost. No text of the data set or of a model is in it. ``--as every-eval-ever`` writes
the shared schema of that name instead, with texts: answers, and their mean beside them.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from automix_eval.costs.from_config import cost_from, parse_costs
from automix_eval.records import schema as records
from automix_eval.records.every_eval_ever_export import evaluations
from automix_eval.records.from_run import find_manifest, from_records
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import safe_name, write_file
from automix_eval.safety.text import printable, show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of the sub-command."""
    parser.add_argument("path", type=Path, help="folder of one run with record=full")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder for TASK.csv"
    )
    parser.add_argument(
        "--as",
        dest="form",
        choices=("tables", "every-eval-ever"),
        default="tables",
        help="tables of numbers, or the answers of any run in the schema Every Eval Ever (two "
        "files a task and model), with the cascade as one of the models",
    )
    parser.add_argument("--task", action="append", help="only this task; may be repeated")
    parser.add_argument(
        "--costs",
        type=parse_costs,
        metavar="PRICES",
        help="price the calls anew: paper:SLM,VERIFIER,LLM (paper:1,1,100), "
        "tokens:PRICES.yaml, flops:PARAMETERS,... or seconds",
    )


def run(args: argparse.Namespace) -> int:
    """Write a table a task and print how each is replayed; returns the exit code.

    Raises:
        AutoMixError: There is not one run, it lacks a task or tiers, or a file cannot be written.
    """
    path = find_manifest(args.path)
    manifest = records.read_manifest(path)
    if args.form != "tables":
        if args.costs:
            raise AutoMixError("Every Eval Ever holds tokens and no costs: leave --costs out")
        return _write_instances(path, manifest, args.out, args.task)
    cost = cost_from(args.costs or (manifest.get("config") or {}).get("cost") or {})
    for task in args.task or list(manifest.get("tasks", {})):
        source = from_records(path, cost, task)
        parts = [("train", source.train), ("test", source.test)]
        held = [(split, rows) for split, rows in parts if rows is not None]
        file = args.out / f"{safe_name(task)}.csv"
        names = column_names(held[0][1].names)
        write_file(file, table(held, names, source.grouped))
        sizes = ", ".join(f"{len(rows)} {split}" for split, rows in held)
        how = f"automix-eval replay {shlex.quote(f'table={file}')}"
        show(f"{printable(str(file))} ({sizes}):\n  {printable(how, 1000)}\n")
    return 0


def _write_instances(
    path: Path, manifest: Mapping[str, Any], out: Path, tasks: Sequence[str] | None
) -> int:
    """Write instances and aggregate of a run, two files a task and model."""
    if unknown := set(tasks or ()) - set(manifest.get("tasks", {})):
        raise AutoMixError(f"the run has no task {', '.join(sorted(map(printable, unknown)))}")
    rows = records.read_records(
        records.records_path(path, manifest), records.records_bytes(manifest)
    )
    found = [e for e in evaluations(rows, manifest) if tasks is None or e.task in tasks]
    if not found:
        raise AutoMixError(f"{path} has no scored answers of an evaluation")
    for one in found:
        file = write_file(out / f"{one.path}_samples.jsonl", one.instances)
        about = one.aggregate(manifest, file, time.time())
        write_file(out / f"{one.path}.json", json.dumps(about, indent=2) + "\n")
        show(f"{printable(str(file))} ({len(one.lines)} answers)\n")
    return 0


def column_names(labels: Sequence[str]) -> list[str]:
    """The tiers' labels as parts of column names; the number of the tier where two are equal."""
    plain_names = [safe_name(label) for label in labels]
    return [
        name if plain_names.count(name) == 1 else f"{name}_{tier}"
        for tier, name in enumerate(plain_names)
    ]


def table(parts: Sequence[tuple[str, Outcomes]], names: Sequence[str], grouped: bool) -> str:
    """CSV of outcomes by split; an empty cell is a confidence that a tier does not have."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("score", "confidence", "cost", "verify_cost")
    head = [f"{name}:{column}" for name in names for column in columns]
    about = ["split", "id", *(["document"] if grouped else [])]
    writer.writerow([*about, *head])
    every = sorted({(split, d) for split, rows in parts for d in rows.documents or rows.ids})
    # in the order of the names and of one length: what goes by that order (folds) goes by theirs
    numbers = {name: str(at).zfill(len(str(len(every)))) for at, name in enumerate(every)}
    for split, rows in parts:
        documents = rows.documents or rows.ids
        for row, (question, document) in enumerate(zip(rows.ids, documents, strict=True)):
            cells = [
                _cell(float(column[row, tier]))
                for tier in range(rows.num_tiers)
                for column in (
                    rows.scores,
                    rows.confidences,
                    rows.answer_costs,
                    rows.verification_costs,
                )
            ]
            writer.writerow(
                [split, question, *([numbers[split, document]] if grouped else []), *cells]
            )
    return text.getvalue()


def _cell(value: float) -> str:
    return "" if math.isnan(value) else repr(int(value)) if value.is_integer() else repr(value)
