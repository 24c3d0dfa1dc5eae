"""From this project's own records to training and test outcomes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from automix_eval.records import policies as policy
from automix_eval.records import schema as records
from automix_eval.records.from_table import Source
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety import files
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import CostModel, Phase, Record

log = logging.getLogger(__name__)

# What a live run compares before it takes a policy, see automix_eval.records.policies.mismatches,
# and the questions that it must not score by it.
_VALID_FOR = (
    *("tiers", "verifier", "split", "doc_ids"),
    *("metric", "filter", "num_fewshot", "chat_template", "prompt"),
)


def from_records(
    path: Path,
    cost: CostModel,
    task: str | None = None,
    test_path: Path | None = None,
    test_task: str | None = None,
) -> Source:
    """Calibration records to fit on, evaluation records to score on.

    Args:
        path: A manifest, or a folder that holds one run.
        cost: Prices the calls.
        task: The task; None where the run has one.
        test_path: Another run to score on (out of domain).
        test_task: Another task to score on; needs no ``test_path``.

    Raises:
        AutoMixError: No run or several, an unknown task, no evaluation records, or records that do
            not have every tier (``record=routed``).
    """
    manifest_path = find_manifest(path)
    test_manifest = manifest_path if test_path is None else find_manifest(test_path)
    manifest, other = records.read_manifest(manifest_path), records.read_manifest(test_manifest)
    task = _task(manifest_path, manifest, task, "task")
    wanted = test_task or (task if test_path is None else None)
    test_task = _task(test_manifest, other, wanted, "test_task")
    fitting = _records_of(manifest_path, manifest, task, "calibration")
    scoring = _records_of(test_manifest, other, test_task, "evaluation")
    if test_task in other.get("unfinished", ()):
        log.warning("%s is the record of a run that was not finished", test_manifest)
    if not scoring:
        test_file = records.records_path(test_manifest, other)
        raise AutoMixError(f"{test_file} holds no evaluation records of {test_task}")
    labels = [str(t.get("label", t.get("name"))) for t in manifest.get("tiers", [])]
    about = {"records": str(manifest_path), "run_id": manifest.get("run_id"), "task": task}
    about |= {"test_records": str(test_manifest), "test_task": test_task}
    return Source(
        _outcomes(fitting, cost, labels) if fitting else None,
        _outcomes(scoring, cost, labels),
        about,
        {"task": task, **_valid_for(manifest_path, manifest, task, labels)},
        any(r.document for r in scoring),
    )


def _outcomes(rows: list[Record], cost: CostModel, labels: list[str]) -> Outcomes:
    made = Outcomes.from_records(rows, cost)
    return replace(made, names=tuple(labels)) if len(labels) == made.num_tiers else made


def find_manifest(path: Path) -> Path:
    """The manifest of the one run at or below a path.

    Raises:
        AutoMixError: There is none, or there are several.
    """
    if path.is_file():
        return path
    found = sorted(path.rglob(records.MANIFEST_GLOB)) if path.is_dir() else []
    if len(found) == 1:
        return found[0]
    if not found:
        raise AutoMixError(
            f"no run in {path}: name a manifest ({records.MANIFEST_GLOB}), or the folder of one run"
        )
    raise AutoMixError(
        f"{path} holds {len(found)} runs, and a replay reads one: name its manifest, one of "
        + ", ".join(str(f.relative_to(path)) for f in found[:10])
    )


def _task(path: Path, manifest: Mapping[str, Any], task: str | None, key: str) -> str:
    present = list(manifest.get("tasks", {}))
    if task is None and len(present) == 1:
        return str(present[0])
    if task in present:
        return str(task)
    asked = f"{key}={task} is not" if task is not None else f"{key} is not set, and there are more"
    raise AutoMixError(f"{asked} among the tasks of {path}: {', '.join(present)}")


def _valid_for(
    path: Path, manifest: Mapping[str, Any], task: str, labels: list[str]
) -> dict[str, Any]:
    """Tiers and verifier as the run's own policy states them, so that a live run takes ours."""
    named = manifest.get("policies")
    name = named.get(task) if isinstance(named, Mapping) else None
    if files.is_file_name(name) and path.with_name(name).is_file():
        fitted_on = policy.load(path.with_name(name))["fitted_on"]
        return {key: fitted_on[key] for key in _VALID_FOR if key in fitted_on}
    return {"tiers": [{"label": label} for label in labels], "verifier": manifest.get("verifier")}


def _records_of(path: Path, manifest: Mapping[str, Any], task: str, phase: Phase) -> list[Record]:
    file = records.records_path(path, manifest)
    try:
        version = files.version_of(file)
    except OSError as err:
        raise AutoMixError(f"cannot read the records {file}: {err.strerror}") from err
    rows = _read(file, records.records_bytes(manifest), version)
    return [r for r in rows if r.task == task and r.phase == phase]


@lru_cache(maxsize=4)
def _read(path: Path, size: int | None, _version: tuple[int, ...]) -> tuple[Record, ...]:
    return tuple(records.read_records(path, size))
