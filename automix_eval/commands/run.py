"""``automix-eval run``: evaluate the cascade in this process; with ``-m`` a sweep that resumes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automix_eval import config
from automix_eval.types import AutoMixError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from automix_eval.hydra_app import Application, CommandLine, Job

# The rest of the command line is read by Hydra, in its own grammar.
OWN_GRAMMAR = True
RUNS = Path("results") / "runs"
SWEEPS = Path("results") / "sweeps"


def application() -> Application:
    """The command line of this command, or of ``fit``, which takes the same settings."""
    from automix_eval.hydra_app import Application

    return Application("run", config.GROUPS, config.TIERS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare that everything that follows is Hydra's."""
    parser.add_argument("arguments", nargs="*", metavar="KEY=VALUE")


def run(args: argparse.Namespace) -> int:
    """Run one evaluation, or with ``-m`` one for every combination of the values given as lists.

    Returns:
        0, or 2 where Hydra refused the configuration or a job of a sweep failed.

    Raises:
        AutoMixError: A setting, the evaluation or the output is at fault.
    """
    from automix_eval import hydra_app

    app = application()
    line = hydra_app.read(app, args.arguments)
    if line.is_multirun and line.runs:
        from automix_eval.commands.sweep import sweep

        return sweep(app, line)
    return single(app, line, one_run)


def single(app: Application, line: CommandLine, work: Callable[[Job], None]) -> int:
    """Do the one job of a command line; its error comes through Hydra, which would print a trace.

    Returns:
        0, or 2 where Hydra refused the configuration.
    """
    from automix_eval import hydra_app

    errors: list[AutoMixError] = []

    def do(job: Job) -> None:
        try:
            work(job)
        except AutoMixError as err:
            errors.append(err)

    code = hydra_app.run(app, line, do, {"hydra.run.dir": run_folder(line)} if line.runs else None)
    if errors:
        raise errors[0]
    return code


def run_folder(line: CommandLine) -> Path:
    """Where a single run writes."""
    given = line.value("output")
    if given is not None:
        return Path(str(given)).expanduser()
    return RUNS / time.strftime("%Y-%m-%d") / time.strftime("%H-%M-%S")


def one_run(job: Job) -> None:
    """Evaluate, and show the report.

    Raises:
        AutoMixError: A setting or the evaluation is at fault.
    """
    from automix_eval.evaluation import evaluate
    from automix_eval.records import MANIFEST_GLOB
    from automix_eval.report import output
    from automix_eval.report.assemble import Settings, assemble

    settings, args = checked(job)
    log_like_the_harness()
    before = set(job.folder.glob(MANIFEST_GLOB))
    folder = evaluate(args, settings.tasks, job.folder / "results.json", **settings.arguments())
    (manifest,) = set(folder.glob(MANIFEST_GLOB)) - before
    output.show(output.render(assemble([manifest], Settings()), "text"))
    print(f"Records, policies and samples of this run: {folder}")


def checked(job: Job) -> tuple[Any, dict[str, Any]]:
    """Settings of the harness and arguments of the cascade, all of them checked.

    Raises:
        AutoMixError: A value has the wrong type or lies out of range, or a combination is refused.
    """
    from automix_eval.runsettings import model_args, output_settings, run_settings

    assert job.composed is not None
    settings = run_settings(job.composed)
    output_settings(job.composed)
    args = model_args(job.composed, job.choices, job.given)
    made = config.build(args)
    config.make_verifier(made)
    config.make_meta_verifier(made)
    config.make_cost(made).check(len(config.tier_names(made)))
    config.make_budget(made)
    return settings, args


def log_like_the_harness() -> None:
    """Show the harness's lines as its own command does."""
    from lm_eval.utils import setup_logging

    setup_logging()
