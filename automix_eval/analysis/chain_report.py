"""From runs of single models, or a table, to the leaderboard of the chain that they would make."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from automix_eval.analysis.figures import Report
from automix_eval.analysis.replay_input import read_chain
from automix_eval.analysis.what_if import ChainQuestion, default_routers, what_if
from automix_eval.config import compose, parts
from automix_eval.metrics.bootstrap import RESAMPLES
from automix_eval.records.evaluated_rows import without_evaluated
from automix_eval.records.from_table import Source, refuse_same
from automix_eval.records.importers.chain import Choice
from automix_eval.records.importers.lm_eval_samples import SampleReading
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError


def is_public_table(path: Path) -> bool:
    """Whether a path is surely of a format of ``hydra_conf/format``."""
    values = compose.compose_application("replay", {}).format
    return parts.make_importer("auto", values, path) is not None


def report_on_chain(
    paths: Sequence[Path],
    choice: Choice,
    reading: SampleReading,
    *,
    train: Sequence[Path] = (),
    routers: Sequence[str] = (),
    folds: int = 5,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> tuple[Report, Outcomes]:
    """Read a chain, fit routers on it, and score them: the report, and what its models did.

    Args:
        paths: As :func:`~automix_eval.analysis.replay_input.read_chain` takes them.
        choice: Likewise.
        reading: Likewise.
        train: Runs or a table of other questions to fit on; none: fit and score in folds.
        routers: Options of ``hydra_conf/meta_verifier``; none: those fitted in seconds.
        folds: At least 2.
        seed: Of the intervals.
        resamples: Number of bootstrap resamples.

    Raises:
        AutoMixError: The input cannot be read or paired, or nothing tells what it costs.
    """
    if folds < 2:
        raise AutoMixError(f"folds {folds}: a router is fitted and scored in at least 2")
    for one, another in itertools.product(train, paths):
        refuse_same(one, another)
    held = read_chain(paths, choice, reading)
    other, left_out = None, tuple[str, ...]()
    if train:
        # the same chain, whatever is cheapest among the other questions
        same = replace(choice, models=held.outcomes.names)
        rows = read_chain(train, same, reading)
        source = Source(rows.outcomes, held.outcomes, {}, grouped=held.grouped and rows.grouped)
        source = without_evaluated(source)
        other, left_out = source.train, source.notes
    documents = set(held.outcomes.documents or ())
    alike = ", whole documents" if documents else ""
    if 0 < len(documents) < folds:
        alike = f" of questions, {len(documents)} documents being fewer"
    fitting = (
        f"fitted on {len(other)} other questions"
        if other is not None
        else f"fitted and scored in {folds} folds{alike}: no question is decided by a "
        "policy that saw its scores"
    )
    played, unplayed = (tuple(routers), ()) if routers else default_routers(held.outcomes)
    held = replace(held, notes=(*held.notes, *left_out, fitting, *unplayed))
    asked = ChainQuestion(held, other, played, folds, seed, resamples)
    return what_if(asked), held.outcomes
