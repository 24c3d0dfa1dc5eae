"""What a replay reads, as its configuration says: records, a table, or a public table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.records.evaluated_rows import repeats_together
from automix_eval.records.from_run import from_records
from automix_eval.records.from_table import Source, from_tables
from automix_eval.records.importers.chain import Choice, chain_of, chosen_models, from_imported
from automix_eval.records.importers.lm_eval_samples import SampleReading, read_runs
from automix_eval.records.outcomes import Outcomes
from automix_eval.records.table_columns import Columns, columns_of_header, parse_tiers
from automix_eval.safety.errors import AutoMixError

# Tiers of nearly one cost, as lengths of answers have it, are in order either way.
_NEAR = 1.05


def source_of(settings: DictConfig) -> Source:
    """Training and test outcomes of a composed hydra_conf/replay.yaml.

    Raises:
        AutoMixError: The input is not given, or cannot be used.
    """
    given = [key for key in ("table", "records", "samples") if settings[key] is not None]
    if len(given) != 1:
        both = f"of {' and '.join(given)} both are given" if given else "neither is given"
        raise AutoMixError(
            f"a replay reads table=FILE, records=FOLDER or samples=[FOLDER,FOLDER], and {both}; "
            "automix-eval replay --help shows how"
        )
    if settings.by is not None and given != ["table"]:
        raise _no_column(settings.by)
    if given == ["samples"]:
        return _from_samples(config.resolved(settings))
    if given == ["records"]:
        cost = parts.make_cost(settings)
        return from_records(
            _path(settings.records) or Path(), cost, settings.task,
            _path(settings.test_records), settings.test_task,
        )  # fmt: skip
    plain = config.resolved(settings)
    path, other = _path(settings.table), _path(settings.test_table)
    assert path is not None
    splits = str(settings.train_split), str(settings.test_split)
    if plain["tiers"] is None:
        option = config.name_of(settings, "format")
        if found := parts.make_importer(option, settings.format, path):
            if settings.by is not None:
                raise _no_column(settings.by)
            return from_imported(found[1], found[0], path, other, choice_of(plain), splits)
    if path.is_dir():
        raise AutoMixError(
            f"the folder {path} is of no known format: table= takes a file, or one of the folders "
            f"that format= names ({', '.join(config.options('format'))})"
        )
    keys = ("split_column", "id_column", "question", "document_column", "by")
    names = {key: None if plain[key] is None else str(plain[key]) for key in keys}
    missing, note = str(plain["missing"]), None
    if plain["tiers"] is None:
        columns, note = columns_of_header(path, names, missing)
    else:
        columns = Columns(parse_tiers(plain["tiers"]), **names, missing=missing)
    source = from_tables(columns, path, other, *splits)
    notes = (note, not_in_order(source.test)) if note else ()
    return replace(source, notes=(*filter(None, notes), *source.notes))


@dataclass(frozen=True, slots=True, eq=False)
class HeldChain:
    """A chain of models, read from whatever holds their outcomes.

    Attributes:
        outcomes: What every model did.
        task: For the reader, as ``metric`` and ``cost``.
        notes: Sentences for the reader.
        tasks: (n,) the data set of each question; None where nothing names them.
        grouped: Whether the input itself tells the questions' documents.
    """

    outcomes: Outcomes
    task: str
    metric: str
    cost: str
    notes: tuple[str, ...]
    tasks: tuple[str, ...] | None = None
    grouped: bool = False


def read_chain(paths: Sequence[Path], choice: Choice, reading: SampleReading) -> HeldChain:
    """Runs of one model each, or one table, whose rows of one question are one document.

    Args:
        paths: Results folders of the harness, at least two; or one table, public or one's own.
        choice: Models, data set, prices, missing cells.
        reading: How samples of the harness are read.

    Raises:
        AutoMixError: They cannot be read, paired or priced.
    """
    notes: tuple[str, ...] = ()
    found = None
    if len(paths) == 1:
        values = config.compose_application("replay", {}).format
        found = parts.make_importer("auto", values, paths[0], reading.metric)
        if found is None and paths[0].is_file():
            if reading.metric is not None:
                raise AutoMixError(f"metric {reading.metric}: {paths[0]} holds one score of a tier")
            return _together(_own_table(paths[0], choice))
    if found is None:
        held = read_runs(paths, reading)
    else:
        held, notes = found[1].read(paths[0]), (f"{paths[0]} is read as {found[0]}",)
    chain, more = chain_of(held, choice)
    names = sorted(set(held.tasks or ())) or [paths[0].stem]
    task = choice.task or (names[0] if len(names) == 1 else f"{len(names)} tasks")
    made = HeldChain(
        chain.outcomes, task, held.metric, chain.cost_note, (*notes, *more), chain.tasks,
        held.documents is not None,
    )  # fmt: skip
    return made if found is None else _together(made)  # runs tell documents and repeats themselves


def _together(held: HeldChain) -> HeldChain:
    outcomes, note = repeats_together(held.outcomes)
    return replace(held, outcomes=outcomes, notes=(*held.notes, note) if note else held.notes)


def not_in_order(rows: Outcomes) -> str:
    """A note on tiers that are not cheapest first, as every figure takes them to be; or empty."""
    means = rows.answer_costs.mean(axis=0)
    if not (np.maximum.accumulate(means) > _NEAR * means).any():
        return ""
    order = ", ".join(f"{name} {mean:.4g}" for name, mean in zip(rows.names, means, strict=True))
    return (
        f"the tiers are not cheapest first (mean cost {order}): --models of whatif or tiers= of "
        "replay puts them in order"
    )


def _own_table(path: Path, choice: Choice) -> HeldChain:
    """A table whose header names the chain; all of its rows."""
    if choice.prices is not None or choice.task is not None:
        raise AutoMixError(f"{path} is a table of your own: its header has the costs, and no tasks")
    columns, note = columns_of_header(path, {}, choice.missing)
    source = from_tables(
        replace(columns, split_column=None, by=columns.split_column), path, None, "", ""
    )
    outcomes = source.test
    if source.labels is not None and columns.id_column:  # one identity may stand in each split
        pairs = zip(source.labels, outcomes.ids, strict=True)
        outcomes = replace(outcomes, ids=tuple(map("/".join, pairs)))
    if choice.models is not None:
        outcomes = outcomes.select_tiers(chosen_models(outcomes.names, choice.models))
    notes = (note, "" if choice.models else not_in_order(outcomes), *source.notes)
    return HeldChain(
        outcomes, path.stem, "score", "the table's own", tuple(filter(None, notes)),
        grouped=outcomes.documents is not None,
    )  # fmt: skip


def _from_samples(plain: Any) -> Source:
    """Plain runs of the harness; nothing parts them into training and test rows."""
    paths = plain["samples"]
    if not isinstance(paths, list):
        raise AutoMixError(f"samples={paths!r} must be a list of folders: samples=[RUN_A,RUN_B]")
    choice = choice_of(plain)
    held = read_chain(
        [Path(str(p)).expanduser() for p in paths], choice, SampleReading(choice.task)
    )
    about = {"samples": [str(p) for p in paths], "models": list(held.outcomes.names)}
    fitted_on = {"task": choice.task, "verifier": None, "split": None, "cost": held.cost}
    grouped = held.outcomes.documents is not None
    return Source(None, held.outcomes, about, fitted_on, grouped, held.notes)


def choice_of(plain: Any) -> Choice:
    """What of a public table becomes a chain, as the settings say."""
    models = plain["models"]
    if models is not None and not isinstance(models, list):
        raise AutoMixError(f"models={models!r} must be a list of names: models=[A,B]")
    return Choice(
        None if models is None else tuple(map(str, models)),
        None if plain["task"] is None else str(plain["task"]),
        plain["prices"],
        str(plain["missing"]),
    )


def where_to_fit(settings: DictConfig) -> str:
    """What to do where there are no rows to fit on."""
    if settings.records is not None:
        return "the run has no calibration records of the task"
    if settings.tiers is None and settings.split_column is None:
        return (
            "nothing parts it into training and test rows: fit and score in folds (folds=5), name "
            "another table to score on (test_table=FILE), or a column that parts the rows "
            "(split_column=COL)"
        )
    if settings.split_column is None:
        return (
            "name the column that parts training from test rows (split_column=COL), or another "
            "file to score on (test_table=FILE), or fit and score in folds (folds=5)"
        )
    return (
        f"no row has the split {str(settings.train_split)!r} (train_split) in the column "
        f"{settings.split_column!r}"
    )


def _no_column(field: object) -> AutoMixError:
    return AutoMixError(
        f"by={field} is a column of a table of your own: slices of runs are made by automix-eval "
        f"report FOLDER --by FIELD, those of a public table by automix-eval whatif TABLE --by task"
    )


def _path(value: Any) -> Path | None:
    return None if value is None else Path(str(value)).expanduser()
