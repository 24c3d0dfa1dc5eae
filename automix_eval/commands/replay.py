"""``automix-eval replay``: fit and score any meta-verifier or baseline on stored outcomes."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automix_eval.commands.settings_help import command_help, wanted
from automix_eval.report.fixed_width import aligned, cell, render_text
from automix_eval.report.job_table import jobs_table, write_csv
from automix_eval.report.json_report import to_json
from automix_eval.report.point_blocks import task_points
from automix_eval.report.slice_report import render_slices
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import as_json_text, write_file
from automix_eval.safety.text import printable, show

if TYPE_CHECKING:
    import argparse

    from automix_eval.config.command_line import CommandLine, HydraJob

# The rest of the command line is read by Hydra, in its own grammar.
OWN_GRAMMAR = True
EXAMPLES = """\
automix-eval replay table=F.csv meta_verifier=pomdp output=out.json
automix-eval replay records=out meta_verifier=threshold objective=target target=0.95
automix-eval replay -m table=F.csv meta_verifier=threshold,pomdp seed=0,1,2

-m          every combination of the values that are given as A,B,C, one job each
--cfg job   the configuration, nothing is replayed
--help KEY  what is said of a group, option or key, such as --help meta_verifier"""


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
    from automix_eval.config import command_line as hydra_app

    if wanted(args.arguments):
        show(command_help("replay", hydra_app.REPLAY, EXAMPLES, args.arguments))
        return 0
    from automix_eval.analysis.replay import replay

    rows: list[dict[str, Any]] = []
    errors: list[AutoMixError] = []

    def replay_job(job: HydraJob) -> None:
        row: dict[str, Any] = {"job": job.number, **job.swept}
        rows.append(row)
        try:
            result, points, slices = replay(job.config)
            if slices is not None:
                result["slices"] = to_json(slices)
            path = output_path(job)
            if path is not None:
                write_file(path, as_json_text(result))
                row["output"] = str(path)
        except AutoMixError as err:
            errors.append(err)
            row["error"] = printable(err, 500)
            if job.number is not None:
                print(f"job {job.number} failed: {row['error']}", file=sys.stderr)
            return
        row |= summary(result)
        if job.number is None:
            show(render_text(task_points(points)) + "\n" + table(result))
            if slices is not None:
                show("\n" + render_slices([slices], "text"))
        else:
            show(f"job {job.number}  " + _line(job.swept, summary(result)) + "\n")
        if job.number is not None and path is not None:
            write_csv(_combined_path(job), rows)

    line = hydra_app.read(hydra_app.REPLAY, args.arguments)
    with _bookkeeping(line) as folders:
        code = hydra_app.run(hydra_app.REPLAY, line, replay_job, folders)
    if len(rows) > 1 or (rows and rows[0]["job"] is not None):
        show("\n" + jobs_table(rows, hidden=("n_train", "n_test")))
        if errors:
            raise AutoMixError(f"{len(errors)} of {len(rows)} jobs failed: {errors[0]}")
    elif errors:
        raise errors[0]
    return code


@contextmanager
def _bookkeeping(line: CommandLine) -> Iterator[dict[str, Path]]:
    """A folder that goes away for what Hydra itself notes of a sweep, unless the user names one."""
    if not line.is_multirun or "hydra.sweep.dir" in line.keys:
        yield {}
        return
    with tempfile.TemporaryDirectory() as folder:
        yield {"hydra.sweep.dir": Path(folder)}


def output_path(job: HydraJob) -> Path | None:
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
    left = result.get("abstention")
    return {
        "meta_verifier": result["meta_verifier"],
        "performance": result["performance"],
        "cost": result["cost"],
        "delta_ibc": result["delta_ibc"],
        "escalated": 1 - result["escalation"][0],
        **({"answered": left["coverage"], "loss": left["loss"]} if left else {}),
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
    best = result["references"]["best_single"]
    rivals = [*tiers, *(result["references"][k] for k in ("random", "zero", "pairs", "oracle"))]
    rows += [
        (f"{one['name']} alone{', the best' if one == best else ''}" if one in tiers
         else one["name"], f"{one['performance']:.4f}", "", f"{one['cost']:.6g}", "",
         _percent(one["delta_ibc"]) if "delta_ibc" in one else "")
        for one in rivals
        if one is not None
    ]  # fmt: skip
    lines = [*aligned(rows), ""]
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
    lines.append(f"cost down to which a share of the last tier's quality holds: {', '.join(costs)}")
    calls = [f"{float(s):.0%} {_percent(c, '.1f')}" for s, c in result["cpt"].items()]
    lines.append(
        f"share of the gap recovered, mean over all shares of the last tier's calls (APGR): "
        f"{_number(result['apgr'])}; calls that recover (CPT): {', '.join(calls)}"
    )
    lines.append(f"area under the curve of {len(result['curve'])} policies: "
                 f"{_number(result['auc'])}")  # fmt: skip
    if held := result.get("abstention"):
        spans = {name: _span(value) for name, value in held["intervals"].items()}
        shown = {k: "undefined" if held[k] is None else f"{held[k]:.4g}" for k in spans}
        share, quality, loss = (f"{shown[name]} ({spans[name]})" for name in spans)
        lines.append(
            f"abstained on {held['abstained']} rows: answered {share}, quality of the answered "
            f"{quality}, loss {loss}; the other figures take the answers at hand for them"
        )
    lines.append(f"fitted on {result['n_train']} rows, scored on {result['n_test']}")
    lines += [f"note: {note}" for note in result["notes"]]
    return "\n".join(printable(line, 1000) for line in lines) + "\n"


def _combined_path(job: HydraJob) -> Path:
    path = output_path(job)
    assert path is not None
    if job.output_varies:
        return path.with_name("replay.csv")
    return Path(str(job.config.output)).expanduser().with_suffix(".csv")


def _line(swept: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    hidden = _FIGURES - {*swept, "performance", "cost", "delta_ibc"}
    parts = [f"{k}={cell(v)}" for k, v in {**swept, **figures}.items() if k not in hidden]
    return "  ".join(printable(part, 200) for part in parts)


_FIGURES = frozenset(
    ["performance", "cost", "delta_ibc", "escalated", "auc", "n_train", "n_test", "seed"]
    + [f"cost_at_{s}" for s in ("0.95", "0.99", "1.0")]
)


def _number(value: float | None) -> str:
    return "never" if value is None else f"{value:.6g}"


def _percent(value: float | None, form: str = "+.1f") -> str:
    return "undefined" if value is None else f"{100 * value:{form}} %"


def _span(value: Sequence[float] | None) -> str:
    return "none" if value is None else f"{value[0]:.4g} to {value[1]:.4g}"
