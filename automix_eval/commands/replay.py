"""``automix-eval replay``: fit and score any meta-verifier or baseline on stored outcomes."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automix_eval.records import write_json, write_text
from automix_eval.report.text import csv_cell, plain
from automix_eval.types import AutoMixError

if TYPE_CHECKING:
    import argparse

    from automix_eval.hydra_app import Job

# The rest of the command line is read by Hydra, in its own grammar.
OWN_GRAMMAR = True


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare that everything that follows is Hydra's."""
    parser.add_argument("arguments", nargs="*", metavar="KEY=VALUE")


def run(args: argparse.Namespace) -> int:
    """Run one replay, or with ``-m`` every combination of the values given as lists.

    A job of several that fails is reported, and the others go on.

    Returns:
        0, or 2 where Hydra refused the configuration.

    Raises:
        AutoMixError: The replay, or some of several, failed.
    """
    from automix_eval.hydra_app import run as launch
    from automix_eval.replay.job import replay

    rows: list[dict[str, Any]] = []
    errors: list[AutoMixError] = []

    def do(job: Job) -> None:
        row: dict[str, Any] = {"job": job.number, **job.swept}
        rows.append(row)
        try:
            result = replay(job.config)
            path = output_path(job)
            if path is not None:
                _write(path, result)
                row["output"] = str(path)
        except AutoMixError as err:
            errors.append(err)
            row["error"] = plain(err, 500)
            if job.number is not None:
                print(f"job {job.number} failed: {row['error']}", file=sys.stderr)
            return
        row |= summary(result)
        if job.number is None:
            _print(table(result))
        else:
            _print(f"job {job.number}  " + _line({**job.swept, **summary(result)}) + "\n")
        if job.number is not None and path is not None:
            _combine(_combined_path(job), rows)

    code = launch(args.arguments, do)
    if len(rows) > 1 or (rows and rows[0]["job"] is not None):
        _print("\n" + jobs_table(rows))
        if errors:
            raise AutoMixError(f"{len(errors)} of {len(rows)} jobs failed: {errors[0]}")
    elif errors:
        raise errors[0]
    return code


def output_path(job: Job) -> Path | None:
    """Where a job writes: with its number in a sweep, unless the user's own name differs."""
    value = job.config.output
    if value is None:
        return None
    path = Path(str(value)).expanduser()
    if job.number is None or job.output_varies:
        return path
    return path.with_name(f"{path.stem}_{job.number}{path.suffix}")


def summary(result: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of one line a job."""
    return {
        "meta_verifier": result["meta_verifier"],
        "performance": result["performance"],
        "cost": result["cost"],
        "delta_ibc": result["delta_ibc"],
        "escalated": 1 - result["escalation"][0],
        "auc": result["auc"],
        **{f"cost_at_{share}": cost for share, cost in result["cost_at"].items()},
        "n_train": result["n_train"],
        "n_test": result["n_test"],
        "seed": result["seed"],
    }


def table(result: Mapping[str, Any]) -> str:
    """A result as lines for the screen."""
    tiers = result["references"]["tiers"]
    rows = [("", "performance", "95 % interval", "cost", "95 % interval", "delta IBC")]
    spans = {name: _span(value) for name, value in result["intervals"].items()}
    rows.append(
        (
            result["meta_verifier"],
            f"{result['performance']:.4f}",
            spans["performance"],
            f"{result['cost']:.6g}",
            spans["cost"],
            _percent(result["delta_ibc"]),
        )
    )
    rivals = [*tiers, result["references"]["random"], result["references"]["oracle"]]
    rows += [
        (f"{one['name']} alone" if one in tiers else one["name"],
         f"{one['performance']:.4f}", "", f"{one['cost']:.6g}", "", "")
        for one in rivals
        if one is not None
    ]  # fmt: skip
    lines = [*_aligned(rows), ""]
    lift = result["intervals"]["delta_ibc"]
    if result["delta_ibc"] is None:
        lines.append(f"delta IBC is undefined: {result['undefined_reason']}")
    elif lift is not None:
        lines.append(f"delta IBC {_percent(result['delta_ibc'])}, 95 % interval "
                     f"{_percent(lift[0])} to {_percent(lift[1])}")  # fmt: skip
    ends = [
        f"{t['name']} {share:.1%}" for t, share in zip(tiers, result["escalation"], strict=True)
    ]
    lines.append(f"questions end at: {', '.join(ends)}")
    costs = [f"{float(s):.0%} {_number(c)}" for s, c in result["cost_at"].items()]
    lines.append(f"least cost that reaches a share of the last tier: {', '.join(costs)}")
    lines.append(f"area under the curve of {len(result['curve'])} policies: "
                 f"{_number(result['auc'])}")  # fmt: skip
    lines.append(f"fitted on {result['n_train']} rows, scored on {result['n_test']}")
    lines += [f"note: {note}" for note in result["notes"]]
    return "\n".join(plain(line, 1000) for line in lines) + "\n"


def jobs_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """The jobs of a sweep as lines for the screen."""
    keys = [k for k in _keys(rows) if k not in ("output", "error", "n_train", "n_test")]
    cells = [tuple(keys), *(tuple(_cell(row.get(k)) for k in keys) for row in rows)]
    return "\n".join(plain(line, 1000) for line in _aligned(cells)) + "\n"


def _combine(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, _keys(rows), lineterminator="\n")
    writer.writeheader()
    writer.writerows({k: csv_cell(v) for k, v in row.items()} for row in rows)
    try:
        write_text(path, text.getvalue())
    except OSError as err:
        raise AutoMixError(f"cannot write {path}: {err.strerror}") from err


def _combined_path(job: Job) -> Path:
    path = output_path(job)
    assert path is not None
    if job.output_varies:
        return path.with_name("replay.csv")
    return Path(str(job.config.output)).expanduser().with_suffix(".csv")


def _write(path: Path, result: Mapping[str, Any]) -> None:
    try:
        write_json(path, result)
    except OSError as err:
        raise AutoMixError(f"cannot write output={path}: {err.strerror}") from err


def _keys(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return [*(k for k in keys if k not in ("output", "error")),
            *(k for k in ("output", "error") if k in keys)]  # fmt: skip


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _line(values: Mapping[str, Any]) -> str:
    shown = ("performance", "cost", "delta_ibc")
    parts = [f"{k}={_cell(v)}" for k, v in values.items() if k in shown or k not in _FIGURES]
    return "  ".join(plain(part, 200) for part in parts)


_FIGURES = frozenset(
    ["performance", "cost", "delta_ibc", "escalated", "auc", "n_train", "n_test", "seed"]
    + [f"cost_at_{s}" for s in ("0.95", "0.99", "1.0")]
)


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.5g}" if isinstance(value, float) else str(value)


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.6g}"


def _percent(value: float | None) -> str:
    return "undefined" if value is None else f"{100 * value:+.1f} %"


def _span(value: Sequence[float] | None) -> str:
    return "none" if value is None else f"{value[0]:.4g} to {value[1]:.4g}"


def _print(text: str) -> None:
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    sys.stdout.write(text.encode(encoding, "replace").decode(encoding))
