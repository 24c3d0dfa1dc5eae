"""Where an experiment's outcomes come from: tables, records of runs, or simulated chains."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from automix_eval.analysis.experiments.preset import Preset
from automix_eval.analysis.experiments.simulate import simulated
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.records import schema as records
from automix_eval.records.from_run import from_records
from automix_eval.records.from_table import from_tables
from automix_eval.records.outcomes import Outcomes
from automix_eval.records.table_columns import Columns, chain_of_header, parse_tiers
from automix_eval.records.tables import column_names
from automix_eval.safety.errors import AutoMixError

TEST_SPLITS = ("test", "validation", "val")


@dataclass(frozen=True, slots=True, eq=False)
class StudySource:
    """Outcomes to fit on and to score on.

    Attributes:
        name: What tables and pictures call it.
        kind: ``simulated``, ``table`` or ``run`` (records, or what a run left as numbers).
        train: Fitting rows.
        test: Rows to score on.
        about: Files and hashes, or the arguments of the simulation.
        task: Of a run.
    """

    name: str
    kind: str
    train: Outcomes
    test: Outcomes
    about: Mapping[str, Any]
    task: str | None = None


Failure = Mapping[str, str]


def open_all(preset: Preset, runs: Mapping[str, Path]) -> tuple[list[StudySource], list[Failure]]:
    """The sources a preset is to use, and those that could not be had, with the reason.

    Args:
        preset: Its tables and records; where it has none, and ``runs`` is empty, simulated chains.
        runs: Label -> folder of an evaluation that was made for it.

    Raises:
        AutoMixError: Not one source can be used.
    """
    sources: list[StudySource] = []
    failures: list[Failure] = []
    folders = {_label(r): Path(r).expanduser() for r in preset.records} | dict(runs)
    for name in preset.tables:
        _attempt(lambda n=name: [_table(preset, n, "table")], name, sources, failures)
    for name in preset.outcomes:
        _attempt(lambda n=name: [_table(preset, n, "run")], name, sources, failures)
    for label, folder in folders.items():
        _attempt(lambda a=label, f=folder: _runs(a, f), label, sources, failures)
    if not sources and not failures and preset.data == "simulated":
        sources += _simulated(preset)
    if not sources:
        raise AutoMixError(
            f"experiment {preset.name} has no outcomes to work on: "
            + "; ".join(f"{f['what']}: {f['reason']}" for f in failures)
        )
    return sources, failures


def _attempt(make: Any, what: str, sources: list[StudySource], failures: list[Failure]) -> None:
    try:
        sources += make()
    except AutoMixError as err:
        failures.append({"what": str(what), "reason": str(err)})


def _table(preset: Preset, name: str, kind: str) -> StudySource:
    path = Path(name).expanduser()
    tiers = parse_tiers(preset.columns) if preset.columns is not None else chain_of_header(path)
    split = preset.split_column
    columns = Columns(tiers, split)
    if kind == "run":  # as automix-eval outcomes names them, and named identities before
        held = column_names(path)
        document = "document" if "document" in held else None
        name = "id" if "id" in held else "question"
        columns = Columns(tiers, split, id_column=name, document_column=document)
    found = None
    for test in TEST_SPLITS:
        try:
            found = from_tables(columns, path, None, "train", test)
            break
        except AutoMixError as err:
            if test == TEST_SPLITS[-1] or "test_split" not in str(err):
                raise
    assert found is not None
    if found.train is None:
        raise AutoMixError(
            f"the table {path} has no row of the split 'train' in the column {split!r}: there is "
            "nothing to fit on"
        )
    _enough(str(path), found.train, found.test)
    return StudySource(path.stem, kind, found.train, found.test, found.about)


def _runs(label: str, folder: Path) -> list[StudySource]:
    """A source for each task of a run, priced in the paper's units."""
    manifests = sorted(folder.rglob(records.MANIFEST_GLOB)) if folder.is_dir() else [folder]
    if not manifests:
        raise AutoMixError(f"there is no run in {folder}: name the folder of one with record=full")
    made = []
    for path in manifests:
        manifest = records.read_manifest(path)
        prices = config.compose_application("replay", {"cost": "paper"})
        number = max(2, len(manifest.get("tiers", [])))
        if number != len(prices.cost.tiers):
            prices.cost.tiers = [50.0 ** (t / (number - 1)) for t in range(number)]
        for task in manifest.get("tasks", {}):
            found = from_records(path, parts.make_cost(prices), task)
            if found.train is None:
                raise AutoMixError(f"the run {path} has no calibration records of {task}")
            _enough(f"{path}, {task}", found.train, found.test)
            name = label if label == task else f"{task} {label}"
            made.append(StudySource(name, "run", found.train, found.test, found.about, task))
    return made


def _simulated(preset: Preset) -> list[StudySource]:
    """The chains of the preset's ``simulated``: its ``chains`` with the other values for all."""
    common = {k: v for k, v in preset.simulated.items() if k != "chains"}
    chains = preset.simulated.get("chains", {"simulated chain": {}})
    made = []
    for number, (name, own) in enumerate(chains.items()):
        given = {"seed": preset.seed + number, **common, **own}
        try:
            train, test = simulated(**given)
        except TypeError as err:
            raise AutoMixError(f"simulated.{name} cannot be made: {err}") from err
        about = {"simulated": given, "note": "a logistic model of questions and tiers, no model"}
        made.append(StudySource(f"{name} (simulated)", "simulated", train, test, about))
    return made


def _enough(what: str, train: Outcomes, test: Outcomes) -> None:
    if min(len(train), len(test)) < 10:
        raise AutoMixError(
            f"{what} has {len(train)} rows to fit on and {len(test)} to score on: an experiment "
            "needs at least 10 of each"
        )


def _label(folder: str) -> str:
    return Path(folder).name or str(folder)


def shown(value: Any) -> str:
    """A setting as one line of YAML."""
    text = str(yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=10**6))
    return text.strip().removesuffix("\n...")  # a bare number ends with YAML's end of a document
