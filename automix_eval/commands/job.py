"""What ``run``, ``fit`` and the jobs of a sweep have in common."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.safety.errors import AutoMixError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from automix_eval.config.command_line import Application, CommandLine, HydraJob


RUNS = Path("results") / "runs"
SWEEPS = Path("results") / "sweeps"

# Set by -v; a variable, so that the processes of a launcher have it too.
_VERBOSE = "AUTOMIX_VERBOSE"


def single(app: Application, line: CommandLine, work: Callable[[HydraJob], None]) -> int:
    """Do the one job of a command line; its error comes through Hydra, which would print a trace.

    Folders that were made for a job that wrote nothing are taken away again.

    Returns:
        0, or 2 where Hydra refused the configuration.
    """
    from automix_eval.config import command_line as hydra_app

    errors: list[AutoMixError] = []

    def work_noting_errors(job: HydraJob) -> None:
        try:
            work(job)
        except AutoMixError as err:
            errors.append(err)

    folder = run_folder(line)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    code = hydra_app.run(
        app, line, work_noting_errors, {"hydra.run.dir": folder} if line.runs else None
    )
    if errors and folder in made:
        _forget_log(folder)
    for path in made:
        if not path.is_dir() or any(path.iterdir()):
            break
        path.rmdir()
    if errors:
        raise errors[0]
    return code


def _forget_log(folder: Path) -> None:
    """A run that was refused has nothing to log but its error, which is shown."""
    from automix_eval.harness.console import LOG

    if folder.is_dir() and [path.name for path in folder.iterdir()] == [LOG]:
        (folder / LOG).unlink()


def as_folder(given: object) -> Path:
    """The folder that ``output`` names.

    Raises:
        AutoMixError: A file is in its place, or in that of a folder above it.
    """
    folder = Path(str(given)).expanduser()
    for path in (folder, *folder.parents):
        if path.exists() and not path.is_dir():
            raise AutoMixError(f"output={folder} can be no folder: {path} is a file")
    return folder


def run_folder(line: CommandLine) -> Path:
    """Where a single run writes."""
    given = line.value("output")
    if given is not None:
        return as_folder(given)
    return RUNS / time.strftime("%Y-%m-%d") / time.strftime("%H-%M-%S")


def checked(job: HydraJob) -> tuple[Any, dict[str, Any]]:
    """Settings of the harness and arguments of the cascade, all of them checked.

    Raises:
        AutoMixError: A value has the wrong type or lies out of range, or a combination is refused.
    """
    from automix_eval.config.run_settings import model_args, output_settings, run_settings

    assert job.composed is not None
    settings = run_settings(job.composed)
    output_settings(job.composed)
    args = model_args(job.composed, job.choices, job.given)
    made = config.build(args)
    parts.checked_cost(made, parts.make_verifier(made))
    parts.live_meta_verifier(made)
    parts.make_budget(made)
    return settings, args


def takes_verbose(arguments: Sequence[str]) -> list[str]:
    """Read the option -v, which is not Hydra's; the jobs of a launcher inherit it.

    Returns:
        The other arguments.
    """
    others = [a for a in arguments if a not in ("-v", "--verbose")]
    if len(others) < len(arguments):
        os.environ[_VERBOSE] = "1"
    return others


def shown_on_console(folder: Path) -> AbstractContextManager[None]:
    """Show a run in few lines, and log it whole in its folder."""
    from automix_eval.harness.console import console

    return console(folder, verbose=_VERBOSE in os.environ)
