"""Streams a records file into columns: a million records in seconds, their texts left behind."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt

from automix_eval.records.record_columns import OUTCOMES, Calls, RecordColumns, digest
from automix_eval.records.schema import RecordError, vouched
from automix_eval.safety.text import printable
from automix_eval.safety.untrusted import bounded, open_file
from automix_eval.types import Outcome, Phase, Role

# Sums of larger scores may leave the range of floating-point numbers.
MAX_SCORE = 1e12
#: Most models that a verifier asks beside the tiers: a record that names more is damaged.
MOST_BESIDE = 16
_BATCH = 50_000  # records held as Python numbers

Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]


class _Call(msgspec.Struct, gc=False):
    tier: Count
    role: Role
    prompt_tokens: Count | None
    generated_tokens: Count | None
    seconds: float | None
    cached_tokens: Count | None = None
    latency: float | None = None


class _Answer(msgspec.Struct, gc=False):
    calls: list[_Call]
    dropped_demonstrations: Count
    cut_context_tokens: Count


class _Verification(msgspec.Struct, gc=False):
    calls: list[_Call]
    confidence: Share | None
    outcome: Outcome
    samples: list[msgspec.Raw]
    num_unparsable: Count
    dropped_demonstrations: Count
    cut_context_tokens: Count
    signals: dict[str, float] = {}
    saved_samples: Count = 0


class _Decision(msgspec.Struct, gc=False):
    abstains: bool = False


class _Tier(msgspec.Struct, gc=False):
    tier: int
    answer: _Answer
    score: float | None
    verification: _Verification | None
    on_path: bool
    decision: _Decision | None


class _Record(msgspec.Struct, gc=False):
    task: str
    doc_id: Count
    repeat: Count
    phase: Phase
    final: int
    tiers: list[_Tier]
    prompt_hash: str
    document: str
    references: list[str]


# One row of numbers a tier, in this order; the calls' part stands twice.
_CALLS = (
    "number", "prompt_tokens", "cached_tokens", "generated_tokens", "seconds", "demonstrations",
    "context_tokens", "latency",
)  # fmt: skip
_WHOLE = ("number", "demonstrations", "context_tokens")
_TIER = (
    "asked", "on_path", "score", "judged", "confidence", "outcome", "samples", "unparsable",
    "saved",
)  # fmt: skip
_WIDTH = len(_TIER) + 2 * len(_CALLS)
_NOT_ASKED = (0.0, 0.0, np.nan, 0.0, np.nan, -1.0, 0.0, 0.0, 0.0, *(0.0,) * (2 * len(_CALLS)))
_NO_CALLS: tuple[float | None, ...] = (0.0,) * len(_CALLS)
_NUMBERS = {name: float(i) for i, name in enumerate(OUTCOMES)}


@dataclass(slots=True)
class _Batch:
    """Records of one task and phase as they are read."""

    heads: list[tuple[int, int, int, int, bool]] = field(default_factory=list)
    prompts: list[int] = field(default_factory=list)
    targets: list[int] = field(default_factory=list)
    documents: list[int] = field(default_factory=list)
    tiers: list[tuple[float | None, ...]] = field(default_factory=list)


@dataclass(slots=True)
class _Columns:
    """Finished batches of one task and phase, and what is being read.

    Attributes:
        names: Document -> number.
        signals: Name -> (row, tier, value) of what verifiers said beside their confidence.
        beside: Number of a model beside the tiers -> (row, tier, what it spent).
        number: Records read.
    """

    names: dict[str, int] = field(default_factory=dict)
    signals: dict[str, list[tuple[int, int, float]]] = field(default_factory=dict)
    beside: dict[int, list[tuple[int, int, tuple[float, ...]]]] = field(default_factory=dict)
    number: int = 0
    open: _Batch = field(default_factory=_Batch)
    done: list[tuple[npt.NDArray[Any], ...]] = field(default_factory=list)

    def close(self, num_tiers: int) -> None:
        """Turn the rows read so far into arrays, and begin a new batch."""
        batch, self.open = self.open, _Batch()
        if batch.heads:
            wide = np.array(batch.tiers, dtype=np.float64)
            self.done.append(
                (
                    np.array(batch.heads, dtype=np.int64),
                    np.array(batch.prompts, dtype=np.uint64),
                    np.array(batch.targets, dtype=np.uint64),
                    np.array(batch.documents, dtype=np.int64),
                    # a float keeps all counts exactly and a third of the memory is enough
                    wide.reshape(len(batch.heads), num_tiers, _WIDTH),
                )
            )


@dataclass(frozen=True, slots=True)
class Contents:
    """What a records file holds.

    Attributes:
        rows: (phase, task) -> its records.
        defects: What was left out: damaged lines and duplicates, each with file and line.
    """

    rows: Mapping[tuple[Phase, str], RecordColumns]
    defects: tuple[tuple[str, str], ...]


def read_rows(
    path: Path, tasks: Mapping[str, Any], num_tiers: int, size: int | None = None
) -> Contents:
    """Read a records file; a damaged line is left out and named, the rest is read.

    Args:
        path: The file.
        tasks: The tasks that the manifest names.
        num_tiers: Length of the chain.
        size: Bytes that the manifest vouches for; None for the whole file.

    Raises:
        RecordError: The file cannot be read, or none of its lines can.
    """
    columns: dict[tuple[Phase, str], _Columns] = defaultdict(_Columns)
    damaged: list[str] = []
    decode = msgspec.json.Decoder(_Record).decode
    for number, offset, line in _lines(path, size):
        try:
            record = decode(line)
            problem = _problem(record, tasks, num_tiers)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
            problem = f"not a record of automix-eval: {err}"
        if problem:
            damaged.append(f"line {number}: {printable(problem)}")
            continue
        held = columns[record.phase, record.task]
        _take(held, record, offset, num_tiers)
        if len(held.open.heads) >= _BATCH:
            held.close(num_tiers)
    if damaged and not columns:
        raise RecordError(f"{path}, {damaged[0]}")
    defects = [("", f"left out {_some(path, damaged)}")] if damaged else []
    rows = {}
    for key, held in columns.items():
        held.close(num_tiers)
        rows[key], doubles = _rows(path, key[1], held)
        defects += [(key[1], text) for text in doubles]
    return Contents(rows, tuple(defects))


def _lines(path: Path, size: int | None) -> Iterator[tuple[int, int, bytes]]:
    offset = 0
    try:
        with open_file(path) as lines:
            for number, line in enumerate(vouched(bounded(lines), size), 1):
                yield number, offset, line
                offset += len(line)
    except (OSError, ValueError) as err:
        raise RecordError(f"cannot read the records {path}: {err}") from err


def _some(path: Path, lines: list[str]) -> str:
    rest = f"; and {len(lines) - 3} more lines" if len(lines) > 3 else ""
    return f"{len(lines)} damaged lines of {path}, " + "; ".join(lines[:3]) + rest


def _problem(record: _Record, tasks: Mapping[str, Any], num_tiers: int) -> str | None:
    """What is wrong with a record whose fields each have the right type."""
    indexes = [t.tier for t in record.tiers]
    if record.task not in tasks:
        return f"task {record.task!r} is not in the manifest"
    if indexes != sorted(set(indexes)) or not all(0 <= i < num_tiers for i in indexes):
        return f"tiers {indexes} are not ascending numbers below {num_tiers}"
    if record.final not in indexes:
        return f"final is tier {record.final}, which was not asked"
    path = [t.tier for t in record.tiers if t.on_path] or [record.final]
    if path[-1] != record.final:
        return f"final is tier {record.final}, but the routed path ends at tier {path[-1]}"
    for tier in record.tiers:
        if tier.score is not None and abs(tier.score) > MAX_SCORE:
            return f"a score is beyond {MAX_SCORE:g}"
        for part in (tier.answer, tier.verification):
            # models that the verifier asks beside the tiers stand after them
            limit = num_tiers + MOST_BESIDE * isinstance(part, _Verification)
            for one in part.calls if part is not None else ():
                if one.tier >= limit:
                    return f"a call names a tier outside 0 .. {limit - 1}"
    return None


def _take(held: _Columns, record: _Record, offset: int, num_tiers: int) -> None:
    batch = held.open
    batch.prompts.append(digest(record.prompt_hash))
    batch.targets.append(digest("\0".join(record.references)))
    name = record.document
    batch.documents.append(held.names.setdefault(name, len(held.names)) if name else -1)
    found = {t.tier: t for t in record.tiers}
    decision = found[record.final].decision
    abstains = decision is not None and decision.abstains
    batch.heads.append((offset, record.doc_id, record.repeat, record.final, abstains))
    batch.tiers.extend(
        _numbers(found[i]) if i in found else _NOT_ASKED for i in range(num_tiers)
    )  # fmt: skip
    for tier in record.tiers:
        if tier.verification and tier.verification.signals:
            for key, value in tier.verification.signals.items():
                held.signals.setdefault(key, []).append((held.number, tier.tier, value))
        calls = tier.verification.calls if tier.verification else ()
        for other in {call.tier for call in calls if call.tier >= num_tiers}:
            own = _spent(_Answer([call for call in calls if call.tier == other], 0, 0))
            held.beside.setdefault(other, []).append((held.number, tier.tier, own))
    held.number += 1


def _numbers(tier: _Tier) -> tuple[float | None, ...]:
    score = np.nan if tier.score is None else tier.score
    verification = tier.verification
    if verification is None:
        judged = (0.0, np.nan, -1.0, 0.0, 0.0, 0.0)
        spent = _NO_CALLS
    else:
        value = verification.confidence
        judged = (
            1.0,
            np.nan if value is None else value,
            _NUMBERS[verification.outcome],
            float(len(verification.samples)),
            float(verification.num_unparsable),
            float(verification.saved_samples),
        )
        spent = _spent(verification)
    return (1.0, float(tier.on_path), score, *judged, *_spent(tier.answer), *spent)


def _spent(part: _Answer | _Verification) -> tuple[float, ...]:
    """What the calls of an answer or a verification spent: one loop, for a million records."""
    prompt = cached = generated = seconds = latency = 0.0
    for call in part.calls:
        if call.cached_tokens and call.prompt_tokens:  # unknown means none, as in the cost models
            cached += min(call.cached_tokens, call.prompt_tokens)
        prompt += np.nan if call.prompt_tokens is None else call.prompt_tokens
        generated += np.nan if call.generated_tokens is None else call.generated_tokens
        seconds += np.nan if call.seconds is None else call.seconds
        if call.latency is None:
            latency = np.nan
        elif call.latency > latency:
            latency = call.latency
    lost = (float(part.dropped_demonstrations), float(part.cut_context_tokens))
    return (float(len(part.calls)), prompt, cached, generated, seconds, *lost, latency)


def _rows(path: Path, task: str, held: _Columns) -> tuple[RecordColumns, list[str]]:
    heads, prompts, targets, documents, tiers = (
        np.concatenate(parts) for parts in zip(*held.done, strict=False)
    )
    held.done.clear()
    order = np.lexsort((heads[:, 0], heads[:, 2], heads[:, 1]))
    same = np.zeros(len(order), dtype=bool)
    same[1:] = (np.diff(heads[order, 1:3], axis=0) == 0).all(axis=1)
    notes = _doubles(path, heads, tiers, order, same) if same.any() else []
    order = order[~same]
    column = partial(_column, tiers, order)
    shape = tiers.shape[:2]
    rows = RecordColumns(
        task=task,
        path=path,
        offsets=heads[order, 0],
        doc_ids=heads[order, 1],
        repeats=heads[order, 2],
        documents=_documents(documents[order], heads[order, 1]),
        prompts=prompts[order],
        targets=targets[order],
        final=heads[order, 3],
        abstained=heads[order, 4].astype(np.bool_),
        asked=column(0, np.bool_),
        on_path=column(1, np.bool_),
        scores=column(2, np.float64),
        judged=column(3, np.bool_),
        confidences=column(4, np.float64),
        outcomes=column(5, np.int8),
        samples=column(6, np.int32),
        unparsable=column(7, np.int32),
        saved=column(8, np.int32),
        signals={k: _table(v, shape, np.nan)[order] for k, v in held.signals.items()},
        answers=_calls(tiers, order, len(_TIER)),
        verifications=_calls(tiers, order, len(_TIER) + len(_CALLS)),
        beside={
            number: _calls(_table(own, (*shape, len(_CALLS)), 0.0), order, 0)
            for number, own in held.beside.items()
        },
    )
    return rows, notes


def _column(
    tiers: npt.NDArray[np.float64], order: npt.NDArray[np.intp], index: int, dtype: Any
) -> npt.NDArray[Any]:
    return np.ascontiguousarray(tiers[order, :, index].astype(dtype))


def _calls(tiers: npt.NDArray[np.float64], order: npt.NDArray[np.intp], first: int) -> Calls:
    kinds = [np.int32 if name in _WHOLE else np.float64 for name in _CALLS]
    return Calls(*(_column(tiers, order, first + i, kind) for i, kind in enumerate(kinds)))


def _table(
    entries: Sequence[tuple[int, int, Any]], shape: tuple[int, ...], missing: float
) -> npt.NDArray[np.float64]:
    table = np.full(shape, missing)
    rows, tiers, values = zip(*entries, strict=True)
    table[list(rows), list(tiers)] = values
    return table


def _documents(
    named: npt.NDArray[np.int64], doc_ids: npt.NDArray[np.int64]
) -> npt.NDArray[np.intp]:
    """Numbers 0 .. D - 1 in the order of appearance: of named documents, else of doc_ids."""
    keys = np.where(named < 0, -1 - doc_ids, named)
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first), dtype=np.intp)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse]


def _doubles(
    path: Path,
    heads: npt.NDArray[np.int64],
    tiers: npt.NDArray[np.float64],
    order: npt.NDArray[np.intp],
    same: npt.NDArray[np.bool_],
) -> list[str]:
    again = np.flatnonzero(same)
    kept = order[np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))[again]]
    other = order[again]
    scores = tiers[:, :, _TIER.index("score")]
    alike = (heads[kept, 3] == heads[other, 3]) & (
        (scores[kept] == scores[other]) | np.isnan(scores[kept]) & np.isnan(scores[other])
    ).all(axis=1)
    doc_ids = ", ".join(map(str, heads[other[:5], 1].tolist()))
    text = (
        f"{len(other)} records of {path} were read before (doc_id {doc_ids}"
        f"{', ...' if len(other) > 5 else ''}), as several ranks write them: the first of each "
        "counts"
    )
    if not alike.all():
        which = int(heads[other[~alike][0], 1])
        text += f"; {int((~alike).sum())} of them differ from it (doc_id {which})"
    return [text]
