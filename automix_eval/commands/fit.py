"""``automix-eval fit``: fit the meta-verifier of tasks and write its policies; evaluate nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from automix_eval.commands.job import checked, shown_on_console, single, takes_verbose
from automix_eval.commands.run import add_arguments
from automix_eval.commands.settings_help import command_help, wanted
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import show

if TYPE_CHECKING:
    import argparse

    from automix_eval.config.command_line import HydraJob

__all__ = ["OWN_GRAMMAR", "add_arguments", "run"]

OWN_GRAMMAR = True
EXAMPLES = """\
automix-eval fit tasks=coqa slm=hf slm.pretrained=NAME llm=hf llm.pretrained=NAME output=fitted

-v          the notices of other libraries too
--cfg job   the configuration, nothing is fitted
--help KEY  what is said of a group, option or key, such as --help calibration"""


def run(args: argparse.Namespace) -> int:
    """Fit and say where the policies are.

    Returns:
        0, or 2 where Hydra refused the configuration.

    Raises:
        AutoMixError: A setting or the fit is at fault, or several jobs are asked for.
    """
    from automix_eval.config import command_line as hydra_app

    app = hydra_app.RUN
    if wanted(args.arguments):
        show(command_help("fit", app, EXAMPLES, args.arguments))
        return 0
    line = hydra_app.read(app, takes_verbose(args.arguments))
    if line.is_multirun:
        raise AutoMixError("fit makes one policy a task: for sweeps use automix-eval run -m")
    return single(app, line, _fit)


def _fit(job: HydraJob) -> None:
    from automix_eval.harness.fit import fit

    settings, given = checked(job)
    path = job.folder / "results.json"
    with shown_on_console(job.folder):
        policies = list(fit(given, settings.tasks, path, **settings.arguments()))
    for policy in policies:
        print(f"policy: {policy}")
