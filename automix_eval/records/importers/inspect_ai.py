"""Logs of inspect_ai: a .json or .eval file for each task and model."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from automix_eval.records.importers.model_outcomes import (
    Long,
    ModelOutcomes,
    field_of,
    json_of,
    lacks,
    list_of,
    number_of,
    part_of,
    tokens_of,
)
from automix_eval.records.tables import TableError
from automix_eval.safety.text import listing
from automix_eval.safety.untrusted import MIB, parse_json

# What inspect's metrics count a text as: correct, incorrect, partial, no answer, a truth value.
_WORDS = {"C": 1.0, "I": 0.0, "P": 0.5, "N": 0.0, "yes": 1.0, "true": 1.0, "no": 0.0, "false": 0.0}
_MOST = 512 * MIB


class InspectLogs:
    """A folder of logs, one or more for each model; samples are joined by task and id.

    Epochs are averaged. There are tokens of the evaluated model, and US dollars where every sample
    has its ``total_cost``. A score that is NaN (inspect's ``unscored``) is none.

    Args:
        scorer: Whose score is taken; None: the only one of the log.
    """

    def __init__(self, scorer: str | None = None) -> None:
        self.scorer = scorer

    def recognises(self, path: Path) -> bool:
        """By the suffix .eval, or the keys of the first JSON file that can be read."""
        for file in _files(path):
            if file.suffix == ".eval":
                return True
            try:
                found = json_of(file)
            except TableError:  # reading all of them tells what is wrong with it
                continue
            return isinstance(found, dict) and {"eval", "plan", "version"} <= set(found)
        return False

    def read(self, path: Path) -> ModelOutcomes:
        """Read the logs; a damaged or unfinished one is refused."""
        files = _files(path)
        if not files:
            raise lacks(path, "inspect_ai", "log (.json or .eval)")
        long = Long(str(path))
        for file in files:
            log, samples = _zipped(file) if file.suffix == ".eval" else _plain(file)
            if (status := field_of(log, file, "status")) != "success":
                raise TableError(f"{file} is the log of an evaluation that ended as {status!r}")
            model, task = (str(field_of(log, file, "eval", k)) for k in ("model", "task"))
            for sample in samples:
                self._add(long, file, task, model, sample)
        found = long.columns("mean")
        unpriced = found.costs is None or (np.isnan(found.costs) & ~np.isnan(found.scores)).any()
        return replace(found, costs=None) if unpriced else found

    def _add(self, long: Long, path: Path, task: str, model: str, sample: Any) -> None:
        key = field_of(sample, path, "id")
        question = f"{task}/{key}"
        usage = part_of(part_of(sample, "model_usage"), model)
        place = f"sample {key}"
        numbers = {
            "score": self._score(path, place, sample),
            "cost": number_of(usage.get("total_cost"), path, f"{place}: total_cost"),
            **tokens_of(usage, path, place),
        }
        output = sample.get("output")
        answer = output.get("completion") if isinstance(output, Mapping) else None
        long.add(question, model, numbers, None if answer is None else str(answer))
        long.tell(question, questions=_text(field_of(sample, path, "input")), tasks=task)

    def _score(self, path: Path, place: str, sample: Mapping[str, Any]) -> float | None:
        scores = sample.get("scores")
        if not isinstance(scores, Mapping) or not scores:
            return None  # an error ended the sample
        names = list(scores)
        if self.scorer is None and len(names) > 1:
            raise TableError(
                f"{path}: {place} has the scores {listing(names)}: choose one with "
                "format.scorer=NAME (whatif --metric NAME)"
            )
        value = field_of(scores, path, self.scorer or names[0], "value")
        if isinstance(value, str):
            value = _WORDS.get(value, _WORDS.get(value.lower(), value))
            with suppress(ValueError):
                value = float(value)
        return number_of(value, path, f"{place}: score")


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(p for p in path.rglob("*") if p.suffix in (".eval", ".json") and p.is_file())
    return [path] if path.suffix in (".eval", ".json") and path.is_file() else []


def _plain(path: Path) -> tuple[Any, list[Any]]:
    log = json_of(path)
    return log, list_of(log, path, "samples")


def _zipped(path: Path) -> tuple[Any, list[Any]]:
    try:
        with zipfile.ZipFile(path) as file:
            header = parse_json(_member(file, "header.json"), nan_is_none=True)
            names = sorted(n for n in file.namelist() if n.startswith("samples/"))
            samples = (_member(file, name) for name in names)
            return header, [parse_json(sample, nan_is_none=True) for sample in samples]
    except NotImplementedError as err:
        raise TableError(
            f"{path} is compressed in a way that this Python cannot read ({err}): convert it with "
            "inspect log convert --to json"
        ) from err
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as err:
        raise TableError(f"{path} is damaged: {err}") from err


def _member(file: zipfile.ZipFile, name: str) -> bytes:
    """A member's bytes; the size that the archive states is not trusted."""
    with file.open(name) as member:
        data = member.read(_MOST + 1)
    if len(data) > _MOST:
        raise ValueError(f"{name} is larger than {_MOST // MIB} MiB")
    return data


def _text(value: Any) -> str:
    """A sample's input as text: itself, or the contents of its messages."""
    if not isinstance(value, list):
        return str(value)
    contents = [m.get("content") for m in value if isinstance(m, Mapping)]
    return "\n".join(c for c in contents if isinstance(c, str))
