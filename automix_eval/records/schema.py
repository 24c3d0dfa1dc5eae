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
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from automix_eval.records.plain import as_json
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import is_file_name, write_jsonl
from automix_eval.safety.untrusted import bounded, parse_json, read_json
from automix_eval.types import (
    Answer,
    Call,
    Decision,
    Outcome,
    Phase,
    Record,
    Role,
    TierRecord,
    Verification,
)

FORMAT = "automix-eval run"
VERSION = 1
MANIFEST_GLOB = "automix_run_*.json"
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False)


class RecordError(AutoMixError):
    """A record or manifest that cannot be read; names file, line and field."""


def to_json(record: Record) -> dict[str, Any]:
    """The record as JSON values; :func:`from_json` is its inverse."""
    row: dict[str, Any] = as_json(record)
    return row


def to_line(record: Record) -> bytes:
    """The record as a line of a file."""
    # half a surrogate pair, which a model may return, becomes its JSON escape
    return (_ENCODER.encode(to_json(record)) + "\n").encode("utf-8", "backslashreplace")


def from_json(row: Mapping[str, Any]) -> Record:
    """Rebuild a record, checking every field.

    Raises:
        RecordError: A field is missing or has the wrong type or value.
    """
    try:
        return Record(
            task=_str(row, "task"),
            doc_id=_int(row, "doc_id"),
            repeat=_int(row, "repeat"),
            phase=_choice(row, "phase", get_args(Phase)),
            final=_int(row, "final"),
            tiers=tuple(_tier(t) for t in _list(row, "tiers")),
            prompt_hash=_str(row, "prompt_hash"),
            document=_str(row, "document"),
            question=_str(row, "question"),
            references=tuple(str(r) for r in _list(row, "references")),
        )
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as err:
        raise RecordError(f"not a record of automix-eval: {err!r}") from err


def write_records(path: Path, records: Iterable[Record]) -> None:
    """Write records atomically."""
    write_jsonl(path, (to_json(r) for r in records))


def read_records(path: Path, size: int | None = None) -> Iterator[Record]:
    """Read records one by one.

    Args:
        path: The file.
        size: Bytes to read, see :func:`records_bytes`; None reads them all.

    Raises:
        RecordError: The file is missing or a line is damaged; names the line.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(vouched(bounded(lines), size), 1):
                try:
                    yield from_json(parse_json(line))
                except (ValueError, RecordError) as err:
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
        raise RecordError(f"cannot read the manifest {path}: {err}") from err
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
    if isinstance(size, bool) or not isinstance(size, int) or size < 0:
        raise RecordError(f"records_bytes is {size!r}, expected a number of 0 or more")
    return size


# --------------------------------------------------------------------------- field checks


def _tier(row: Any) -> TierRecord:
    verification, decision = row["verification"], row["decision"]
    return TierRecord(
        tier=_int(row, "tier"),
        answer=_answer(row["answer"]),
        score=_number(row, "score"),
        metrics={str(k): float(v) for k, v in row["metrics"].items()},
        verification=None if verification is None else _verification(verification),
        decision=None
        if decision is None
        else Decision(_int(decision, "tier"), _int(decision, "to"), _str(decision, "reason")),
        on_path=bool(row["on_path"]),
    )


def _answer(row: Any) -> Answer:
    return Answer(
        tier=_int(row, "tier"),
        text=_str(row, "text"),
        calls=tuple(_call(c) for c in _list(row, "calls")),
        choice_logprobs=tuple((float(p), bool(g)) for p, g in _list(row, "choice_logprobs")),
        token_logprobs=tuple(float(p) for p in _list(row, "token_logprobs")),
        token_margins=tuple(float(p) for p in _list(row, "token_margins")),
        dropped_demonstrations=_int(row, "dropped_demonstrations"),
        cut_context_tokens=_int(row, "cut_context_tokens"),
    )


def _verification(row: Any) -> Verification:
    return Verification(
        tier=_int(row, "tier"),
        confidence=_number(row, "confidence"),
        outcome=_choice(row, "outcome", get_args(Outcome)),
        calls=tuple(_call(c) for c in _list(row, "calls")),
        samples=tuple(str(s) for s in _list(row, "samples")),
        num_unparsable=_int(row, "num_unparsable"),
        dropped_demonstrations=_int(row, "dropped_demonstrations"),
        cut_context_tokens=_int(row, "cut_context_tokens"),
        signals={str(k): float(v) for k, v in row.get("signals", {}).items()},
        # absent from records of earlier releases
        saved_samples=_int(row, "saved_samples") if "saved_samples" in row else 0,
    )


def _call(row: Any) -> Call:
    return Call(
        tier=_int(row, "tier"),
        role=_choice(row, "role", get_args(Role)),
        prompt_tokens=None if row["prompt_tokens"] is None else _int(row, "prompt_tokens"),
        generated_tokens=None if row["generated_tokens"] is None else _int(row, "generated_tokens"),
        seconds=_number(row, "seconds"),
        # unknown in records of before it was metered
        cached_tokens=None if row.get("cached_tokens") is None else _int(row, "cached_tokens"),
    )


def _int(row: Any, key: str) -> int:
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{key} is {value!r}, expected an integer")
    return value


def _str(row: Any, key: str) -> str:
    value = row[key]
    if not isinstance(value, str):
        raise TypeError(f"{key} is {value!r}, expected a text")
    return value


def _list(row: Any, key: str) -> list[Any]:
    value = row[key]
    if not isinstance(value, (list, tuple)):
        raise TypeError(f"{key} is {value!r}, expected a list")
    return list(value)


def _number(row: Any, key: str) -> float | None:
    value = row[key]
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise TypeError(f"{key} is {value!r}, expected a finite number or null")
    return float(value)


def _choice(row: Any, key: str, allowed: tuple[Any, ...]) -> Any:
    value = row[key]
    if value not in allowed:
        raise ValueError(f"{key} is {value!r}, expected one of {', '.join(map(str, allowed))}")
    return value
