"""What a replay reads, as its configuration says: records, a table, or a public table."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.records.from_run import from_records
from automix_eval.records.from_table import Source, from_tables
from automix_eval.records.importers.chain import Choice, from_imported
from automix_eval.records.table_columns import Columns, columns_of_header, parse_tiers
from automix_eval.safety.errors import AutoMixError


def source_of(settings: DictConfig) -> Source:
    """Training and test outcomes of a composed hydra_conf/replay.yaml.

    Raises:
        AutoMixError: The input is not given, or cannot be used.
    """
    given = [key for key in ("table", "records") if settings[key] is not None]
    if len(given) != 1:
        both = "both are given" if given else "neither is given"
        raise AutoMixError(
            f"a replay reads table=FILE or records=FOLDER, and {both}; "
            "automix-eval replay --help shows how"
        )
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
            return from_imported(found[1], found[0], path, other, choice_of(plain), splits)
    if path.is_dir():
        raise AutoMixError(
            f"the folder {path} is of no known format: table= takes a file, or one of the folders "
            f"that format= names ({', '.join(config.options('format'))})"
        )
    keys = ("split_column", "id_column", "question", "document_column")
    names = {key: None if plain[key] is None else str(plain[key]) for key in keys}
    missing, note = str(plain["missing"]), None
    if plain["tiers"] is None:
        columns, note = columns_of_header(path, names, missing)
    else:
        columns = Columns(parse_tiers(plain["tiers"]), **names, missing=missing)
    source = from_tables(columns, path, other, *splits)
    return replace(source, notes=(note, *source.notes)) if note else source


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
            "the table has no part of its own to fit on: name another one to score on "
            "(test_table=FILE), or a column that parts training from test rows (split_column=COL)"
        )
    if settings.split_column is None:
        return (
            "name the column that parts training from test rows (split_column=COL), or another "
            "file to score on (test_table=FILE)"
        )
    return (
        f"no row has the split {str(settings.train_split)!r} (train_split) in the column "
        f"{settings.split_column!r}"
    )


def _path(value: Any) -> Path | None:
    return None if value is None else Path(str(value)).expanduser()
