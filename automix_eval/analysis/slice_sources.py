"""Slices of finished runs, and of a table's routers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from automix_eval.analysis.beside_llm import six_columns
from automix_eval.analysis.gather import Settings
from automix_eval.analysis.llm_point import attach
from automix_eval.analysis.question_sets import PricedTiers
from automix_eval.analysis.replay_input import read_chain
from automix_eval.analysis.replayed import followed
from automix_eval.analysis.routed_paths import ChainRouting, GivenRouting
from automix_eval.analysis.selection import select
from automix_eval.analysis.slices import Slices, by_slice
from automix_eval.analysis.what_if import ChainQuestion, default_routers, fitted
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.doc_fields import FieldValues, field_of
from automix_eval.records.importers.chain import Choice
from automix_eval.records.importers.lm_eval_samples import SampleReading
from automix_eval.records.outcomes import FloatArray, Outcomes
from automix_eval.records.runs import read_all
from automix_eval.records.tables import read_table
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable


@dataclass(frozen=True, slots=True)
class RoutedColumns:
    """What a router does on a table's questions.

    Attributes:
        columns: (n, 6) as :func:`~automix_eval.analysis.beside_llm.six_columns` gives them.
        escalated: (n,) whether a tier above the first answered.
        documents: (n,) equal for questions that belong together.
    """

    columns: FloatArray
    escalated: np.ndarray
    documents: Sequence[object]

    @classmethod
    def of(cls, asked: ChainQuestion, option: str) -> RoutedColumns:
        """A router, fitted and followed.

        Args:
            asked: The chain.
            option: Of ``hydra_conf/meta_verifier``.

        Raises:
            AutoMixError: It cannot be fitted on these outcomes.
        """
        settings = config.build({"meta_verifier": option})
        router = fitted(lambda: parts.make_meta_verifier(settings), asked)
        return cls.played(router, asked.chain.outcomes, option)

    @classmethod
    def played(cls, router: MetaVerifier, test: Outcomes, option: str) -> RoutedColumns:
        """A fitted router, followed on questions that every tier was asked."""
        tiers = PricedTiers.of(test)
        routing = followed(router, test, tiers)
        slm, llm = (ChainRouting.only(tiers, t) for t in (0, tiers.last))
        columns = six_columns(routing, slm, llm, len(test))
        if isinstance(columns, Undefined):
            raise AutoMixError(f"{printable(option)} has no figures: {columns.reason}")
        first = routing.values("final 0", np.arange(len(test)))
        return cls(columns, first == 0, test.documents or range(len(test)))


def slices_of_runs(paths: Sequence[Path], settings: Settings, field: str) -> list[Slices]:
    """Every task of every run by a field of its documents or records.

    Args:
        paths: Folders with runs.
        settings: LLM, prices, seed and resamples, as of a report.
        field: As :func:`~automix_eval.records.doc_fields.field_of` takes it.

    Raises:
        AutoMixError: There is no run, or no task of one has the field, or the figures.
    """
    made, reasons = [], []
    for questions in attach(select(read_all(paths, settings.costs, settings.llm))):
        run, rows = questions.run, questions.rows
        about = f"{printable(questions.task)}, run {printable(run.run_id)}"
        about += f" ({printable(run.label)})" if run.label else ""
        try:
            held = field_of(field, paths, run.run_id, questions.task, rows)
            columns = six_columns(
                ChainRouting.live(questions), ChainRouting.only(questions.tiers, 0),
                GivenRouting.llm_of(questions), len(rows),
            )  # fmt: skip
            if isinstance(columns, Undefined):
                raise AutoMixError(f"{about} has no figures by slice: {columns.reason}")
            made.append(
                by_slice(about, field, held, columns, rows.final > 0, rows.documents,
                         settings.resamples, settings.seed)
            )  # fmt: skip
        except AutoMixError as err:
            reasons.append(str(err))
    if not made:
        raise AutoMixError("; ".join(dict.fromkeys(reasons)) or "there are no questions to slice")
    return made


def slices_of_chain(
    paths: Sequence[Path],
    field: str,
    choice: Choice,
    routers: Sequence[str],
    folds: int,
    settings: Settings,
) -> list[Slices]:
    """Routers on a table, or on runs of single models, by data set or by a column of the table.

    Args:
        paths: The table, public or one's own; or the runs.
        field: ``task`` where the input names data sets; else the column.
        choice: Models, data set, costs and missing cells.
        routers: Options of ``hydra_conf/meta_verifier``; none: those fitted in seconds.
        folds: To fit and score in.
        settings: Seed and resamples.

    Raises:
        AutoMixError: There is no such field, or the table lost rows.
    """
    held = read_chain(paths, choice, SampleReading())
    if field == "task" and held.tasks is not None:
        values = FieldValues.of(field, held.tasks, held.outcomes.ids)
    else:
        values = _column(paths, field, len(held.outcomes), held.tasks is not None)
    played = tuple(routers) or default_routers(held.outcomes)[0]
    asked = ChainQuestion(held, None, played, folds, settings.seed)
    made = []
    for option in played:
        one = RoutedColumns.of(asked, option)
        made.append(
            by_slice(f"{held.task}, {option}", field, values, one.columns, one.escalated,
                     one.documents, settings.resamples, settings.seed)
        )  # fmt: skip
    return made


def _column(paths: Sequence[Path], field: str, number: int, has_tasks: bool) -> FieldValues:
    path = paths[0]
    if len(paths) > 1 or not path.is_file():
        known = "--by task, its data sets" if has_tasks else "a table has columns"
        raise AutoMixError(f"{path} has no column {printable(field)} to slice by: {known}")
    labels = read_table(path, (), (field,)).texts(field)
    if len(labels) != number:
        raise AutoMixError(
            f"{len(labels)} rows of {path} are {number} questions, so that column "
            f"{printable(field)} cannot be laid beside them: take --missing zero, and a table with "
            "a row a question"
        )
    return FieldValues.of(field, labels, [f"row {i + 1}" for i in range(number)])
