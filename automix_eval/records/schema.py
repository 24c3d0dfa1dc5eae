"""Records: one row a question and repeat, and the manifest of the run they belong to.

Files of a run, all in the folder of the harness's own output:

* ``automix_run_<run_id>.json``: the manifest (configuration, tiers, policies, counts of calls);
* ``automix_records_<run_id>.jsonl``: the records, calibration and evaluation;
* ``automix_policy_<task>_<run_id>.json``: the policy fitted for a task.

The records are appended block by block; the manifest, which is written to a temporary file and
renamed, says how many of their bytes it vouches for (``records_bytes``) and what is still to come
(``unfinished``) while a run goes on. Of a finished run both are absent. So a reader never meets
half a line, nor takes a run that was killed for a whole one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import is_file_name
from automix_eval.safety.numbers import is_whole
from automix_eval.safety.untrusted import bounded, open_file, parse_json, read_json
from automix_eval.types import Answer, Call, Decision, Record, TierRecord, Verification

FORMAT = "automix-eval run"
VERSION = 1
MANIFEST_GLOB = "automix_run_*.json"
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)
# Fields that came later than the first records of this version.
_LATER = frozenset({"cached_tokens", "signals", "saved_samples", "repeats", "latency", "abstains"})
_REQUIRED: dict[type, frozenset[str]] = {
    kind: frozenset(f.name for f in fields(kind)) - _LATER
    for kind in (Record, TierRecord, Answer, Verification, Call, Decision)
}


class RecordError(AutoMixError):
    """A record or manifest that cannot be read; names file, line and field."""


def to_json(value: Any) -> dict[str, Any]:
    """A record, or another value of :mod:`automix_eval.types`, as JSON values."""
    row: dict[str, Any] = msgspec.to_builtins(value, enc_hook=_python_number)
    for tier in row.get("tiers", ()):
        if not tier["answer"]["repeats"]:  # as they were written before there were any
            del tier["answer"]["repeats"]
        for part in (tier["answer"], tier["verification"] or {}):
            for call in part.get("calls", ()):
                if call["latency"] is None:  # likewise
                    del call["latency"]
        if tier["decision"] and not tier["decision"]["abstains"]:  # likewise
            del tier["decision"]["abstains"]
    return row


def to_line(record: Record) -> bytes:
    """The record as a line of a file.

    Raises:
        ValueError: A number is not finite.
    """
    row = to_json(record)
    if all(not n or 1e-4 <= abs(n) < 1e16 for n in _numbers(record)):
        with suppress(UnicodeEncodeError, OverflowError):
            return msgspec.json.format(msgspec.json.encode(row), indent=0) + b"\n"
    # A third of this speed; but msgspec writes NaN as null, other numbers in other digits, and of
    # texts with half a surrogate pair, which a model may return and is written as its escape, none
    return (_ENCODER.encode(row) + "\n").encode("utf-8", "backslashreplace")


def from_json(row: Any) -> Record:
    """Rebuild a record, checking every field; the inverse of :func:`to_json`.

    Raises:
        RecordError: A field is missing or has the wrong type or value.
    """
    try:
        record = msgspec.convert(row, Record)
        _check_fields(row)
    except (msgspec.ValidationError, RecursionError) as err:
        raise RecordError(f"not a record of automix-eval: {err}") from err
    return record


def from_line(line: bytes) -> Record:
    """Rebuild a record from a line of a file; the inverse of :func:`to_line`.

    Raises:
        RecordError: The line is no JSON, or no record.
    """
    try:
        # msgspec refuses the escape of half a surrogate pair
        row = parse_json(line) if b"\\ud" in line else msgspec.json.decode(line)
    except (msgspec.DecodeError, ValueError, RecursionError) as err:
        raise RecordError(f"not a record of automix-eval: {err}") from err
    return from_json(row)


def read_records(path: Path, size: int | None = None) -> Iterator[Record]:
    """Read records one by one.

    Args:
        path: The file.
        size: Bytes to read, see :func:`records_bytes`; None reads them all.

    Raises:
        RecordError: The file is missing or a line is damaged; names the line.
    """
    try:
        with open_file(path) as lines:
            for number, line in enumerate(vouched(bounded(lines), size), 1):
                try:
                    yield from_line(line)
                except RecordError as err:
                    raise RecordError(f"{path}, line {number}: {err}") from err
    except (OSError, ValueError) as err:
        raise RecordError(f"cannot read the records {path}: {err}") from err


def vouched(lines: Iterable[bytes], size: int | None) -> Iterator[bytes]:
    """The lines within the first ``size`` bytes, all of them where it is None."""
    for line in lines:
        if size is not None:
            size -= len(line)
            if size < 0:
                return
        yield line


def read_manifest(path: Path) -> dict[str, Any]:
    """Read and check a run's manifest.

    Raises:
        RecordError: Not a manifest, or of a newer version.
    """
    try:
        value = read_json(path)
    except (OSError, ValueError) as err:
        raise RecordError(
            f"cannot read the manifest {path}: {err}. Name the folder of a run; tables and samples "
            "of single models are read by automix-eval whatif"
        ) from err
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise RecordError(f"{path} is not a manifest of an automix-eval run")
    if value.get("version") != VERSION:
        raise RecordError(
            f"{path} has version {value.get('version')!r}, this release reads {VERSION}: "
            "upgrade automix-eval"
        )
    for key, kind in (("config", dict), ("tasks", dict), ("policies", dict), ("tiers", list)):
        if key in value and not isinstance(value[key], kind):
            expected = "a list" if kind is list else "an object"
            raise RecordError(f"{path}: {key} is {value[key]!r:.200}, expected {expected}")
    if not all(isinstance(tier, dict) for tier in value.get("tiers", [])):
        raise RecordError(f"{path}: tiers is {value['tiers']!r:.200}, expected a list of objects")
    return value


def records_path(manifest_path: Path, manifest: Mapping[str, Any]) -> Path:
    """The records file a manifest names; only a plain file name beside it is accepted."""
    name = manifest.get("records")
    if not is_file_name(name):
        raise RecordError(f"{manifest_path} names no records file beside it: {name!r:.200}")
    return manifest_path.with_name(name)


def records_bytes(manifest: Mapping[str, Any]) -> int | None:
    """Bytes of the records file that a manifest vouches for; None for all, the run is finished."""
    size = manifest.get("records_bytes")
    if size is None:
        return None
    if not is_whole(size, 0):
        raise RecordError(f"records_bytes is {size!r}, expected a number of 0 or more")
    return size


# --------------------------------------------------------------------------- field checks


def _check_fields(row: Mapping[str, Any]) -> None:
    """Refuse a record that lacks what every writer has written: msgspec would take the default."""
    parts: list[tuple[type, Mapping[str, Any]]] = [(Record, row)]
    for tier in row["tiers"]:
        judged, decision = tier.get("verification"), tier.get("decision")
        inner = ((Answer, tier["answer"]), (Verification, judged), (Decision, decision))
        parts += [(TierRecord, tier), *((kind, part) for kind, part in inner if part is not None)]
        for part in (tier["answer"], judged or {}):
            parts += [(Call, call) for call in part.get("calls", ())]
    for kind, part in parts:
        if missing := _REQUIRED[kind] - part.keys():
            raise msgspec.ValidationError(f"{kind.__name__} lacks {', '.join(sorted(missing))}")


def _numbers(record: Record) -> Iterator[float | None]:
    """Everything in a record that need not be a whole number."""
    for tier in record.tiers:
        answer, judged = tier.answer, tier.verification
        yield tier.score
        yield from tier.metrics.values()
        yield from answer.token_logprobs
        yield from answer.token_margins
        for logprob, _ in answer.choice_logprobs:
            yield logprob
        if judged:
            yield judged.confidence
            yield from judged.signals.values()
        for call in answer.calls + (judged.calls if judged else ()):
            yield call.seconds
            yield call.latency


def _python_number(value: Any) -> Any:
    """A number of numpy's as one of Python's."""
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{value!r:.200} is no value of a record")
