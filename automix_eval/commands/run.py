"""``automix-eval run``: evaluate the cascade in this process; with ``-m`` a sweep that resumes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from automix_eval.commands.job import checked, shown_on_console, single, takes_verbose
from automix_eval.commands.settings_help import command_help, wanted
from automix_eval.safety.text import show

if TYPE_CHECKING:
    import argparse

    from automix_eval.config.command_line import HydraJob

# The rest of the command line is read by Hydra, in its own grammar.
OWN_GRAMMAR = True
EXAMPLES = """\
automix-eval run tasks=coqa slm=hf slm.pretrained=NAME llm=hf llm.pretrained=NAME record=full
automix-eval run -m tasks=coqa meta_verifier=threshold,pomdp seed=0,1,2
automix-eval run -m tasks=coqa slm=smollm2,gemma3 llm=hf llm.pretrained=NAME

-m          every combination of the values that are given as A,B,C; started again, only what is
            missing runs. With it: hydra/launcher=processes (joblib), slurm and submitit_here
            (submitit), ray_here (ray); hydra/sweeper=search (optuna)
-v          the notices of other libraries too
--cfg job   the configuration, nothing is run
--help KEY  what is said of a group, option or key, such as --help verifier"""


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
    from automix_eval.config import command_line as hydra_app

    app = hydra_app.RUN
    if wanted(args.arguments):
        show(command_help("run", app, EXAMPLES, args.arguments))
        return 0
    line = hydra_app.read(app, takes_verbose(args.arguments))
    if line.is_multirun and line.runs:
        from automix_eval.commands.sweep.run import sweep

        return sweep(app, line)
    return single(app, line, one_run)


def one_run(job: HydraJob) -> None:
    """Evaluate, and show the report.

    Raises:
        AutoMixError: A setting or the evaluation is at fault.
    """
    from automix_eval.analysis.gather import Settings, assemble
    from automix_eval.harness.evaluate import evaluate
    from automix_eval.records.schema import MANIFEST_GLOB
    from automix_eval.report import output

    settings, args = checked(job)
    before = set(job.folder.glob(MANIFEST_GLOB))
    with shown_on_console(job.folder):
        folder = evaluate(args, settings.tasks, job.folder / "results.json", **settings.arguments())
    (manifest,) = set(folder.glob(MANIFEST_GLOB)) - before
    show(output.render_screen(assemble([manifest], Settings())))
    print(f"Records, policy, samples and log of this run: {folder}")
