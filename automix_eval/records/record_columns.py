"""The records of one task and phase of a run as columns; texts stay in the file until asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from automix_eval.records.schema import RecordError, from_line
from automix_eval.types import Outcome, Record

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]
HashArray = npt.NDArray[np.uint64]
IntArray = npt.NDArray[np.signedinteger[Any]]

OUTCOMES: tuple[str, ...] = get_args(Outcome)


def digest(text: str) -> int:
    """64 bits of a text's hash, 0 for the empty text."""
    if not text:
        return 0
    return int.from_bytes(blake2b(text.encode("utf-8", "replace"), digest_size=8).digest(), "big")


@dataclass(frozen=True, slots=True, eq=False)
class Calls:
    """What the answers (or verifications) of every tier consumed; all (n, N).

    Attributes:
        number: Model calls.
        prompt_tokens: Of all calls together, NaN where a call was not counted.
        cached_tokens: Of them, those read from a cache; 0 where that is not known.
        generated_tokens: Of all calls together, NaN where a call was not counted.
        seconds: Likewise.
        demonstrations: Demonstrations dropped from the prompt.
        context_tokens: Tokens cut from the context.
        latency: Wall seconds of the longest call, NaN where one shared a batch.
    """

    number: IntArray
    prompt_tokens: FloatArray
    cached_tokens: FloatArray
    generated_tokens: FloatArray
    seconds: FloatArray
    demonstrations: IntArray
    context_tokens: IntArray
    latency: FloatArray

    def where(self, keep: BoolArray) -> Calls:
        """Those of some questions."""
        return Calls(*(getattr(self, f.name)[keep] for f in fields(self)))

    def without(self, some: Calls) -> Calls:
        """What the other calls consumed; latency and what was cut stay those of all."""
        names = ("number", "prompt_tokens", "cached_tokens", "generated_tokens", "seconds")
        return replace(self, **{n: getattr(self, n) - getattr(some, n) for n in names})


@dataclass(frozen=True, slots=True, eq=False)
class RecordColumns:
    """n questions of one task and phase, ascending in (doc_id, repeat); N tiers.

    Attributes:
        task: The task.
        path: The records file.
        offsets: (n,) where in the file each record begins, in bytes.
        doc_ids: (n,) the harness's index of the document.
        repeats: (n,) which repeat.
        documents: (n,) 0 .. D - 1: questions about one document share it.
        prompts: (n,) 64 bits of the hash of the harness's prompt; 0 where unknown.
        targets: (n,) 64 bits of the gold answers; 0 where unknown.
        final: (n,) tier whose answer counts.
        abstained: (n,) whether the router abstained, so that it does not count.
        asked: (n, N) whether the tier was asked.
        on_path: (n, N) whether that was on the routed path.
        scores: (n, N) NaN where the tier was not asked or not scored.
        judged: (n, N) whether the answer was verified.
        confidences: (n, N) NaN where there is none.
        outcomes: (n, N) index into :data:`OUTCOMES`; -1 where the answer was not verified.
        samples: (n, N) verification samples drawn.
        unparsable: (n, N) of them, those without a decision.
        saved: (n, N) samples not drawn because the routing decision was settled.
        signals: What several verifiers said, by name, each (n, N); NaN where missing.
        answers: What the answers consumed.
        verifications: What the verifications consumed.
        beside: Of it, what each model beside the tiers did (``verifier.second``), by its number.
    """

    task: str
    path: Path
    offsets: IntArray
    doc_ids: IntArray
    repeats: IntArray
    documents: IntArray
    prompts: HashArray
    targets: HashArray
    final: IntArray
    abstained: BoolArray
    asked: BoolArray
    on_path: BoolArray
    scores: FloatArray
    judged: BoolArray
    confidences: FloatArray
    outcomes: IntArray
    samples: IntArray
    unparsable: IntArray
    saved: IntArray
    signals: Mapping[str, FloatArray]
    answers: Calls
    verifications: Calls
    beside: Mapping[int, Calls] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.doc_ids)

    @property
    def num_tiers(self) -> int:
        """N."""
        return int(self.asked.shape[1])

    @property
    def num_documents(self) -> int:
        """Number of different documents."""
        return int(self.documents.max()) + 1

    @property
    def full(self) -> bool:
        """Whether every tier was asked and scored on every question."""
        return bool(self.asked.all() and np.isfinite(self.scores).all())

    def find_rows(self, among: RecordColumns) -> IntArray:
        """(n,) for each question its row among other records; -1 where it is not there."""
        repeats = 1 + int(max(self.repeats.max(), among.repeats.max()))
        ours, theirs = (r.doc_ids * repeats + r.repeats for r in (self, among))
        place = np.searchsorted(theirs, ours)
        found = theirs[np.minimum(place, len(theirs) - 1)] == ours
        return np.where(found, place, -1)

    def same_prompts(self, others: RecordColumns, place: IntArray) -> BoolArray:
        """(n,) whether questions and their rows among others were asked with one prompt."""
        one, other = self.prompts, others.prompts[place]
        return np.asarray((one == other) | (one == 0) | (other == 0))

    def same_targets(self, others: RecordColumns, place: IntArray) -> BoolArray:
        """(n,) whether questions and their rows among others have the same gold answers."""
        one, other = self.targets, others.targets[place]
        return np.asarray((one == other) | (one == 0) | (other == 0))

    def where(self, keep: BoolArray) -> RecordColumns:
        """Some of the questions, at least one."""
        cut: dict[str, Any] = {
            f.name: value[keep]
            for f in fields(self)
            if isinstance(value := getattr(self, f.name), np.ndarray)
        }
        cut["documents"] = np.unique(cut["documents"], return_inverse=True)[1].astype(np.intp)
        return replace(
            self,
            **cut,
            signals={name: table[keep] for name, table in self.signals.items()},
            answers=self.answers.where(keep),
            verifications=self.verifications.where(keep),
            beside={number: calls.where(keep) for number, calls in self.beside.items()},
        )

    def read(self, rows: Iterable[int]) -> Iterator[Record]:
        """The whole records of some rows, read from the file now; their texts are untrusted.

        Raises:
            RecordError: The file is gone, or no longer holds these records.
        """
        try:
            with self.path.open("rb") as lines:
                for row in rows:
                    lines.seek(int(self.offsets[row]))
                    yield self._record(lines.readline(), row)
        except OSError as err:
            raise RecordError(f"cannot read the records {self.path}: {err}") from err

    def _record(self, line: bytes, row: int) -> Record:
        problem = f"{self.path} changed while it was read: read the folder again"
        try:
            record = from_line(line)
        except RecordError as err:
            raise RecordError(f"{problem} ({err})") from err
        if (record.task, record.doc_id, record.repeat) != (
            self.task, int(self.doc_ids[row]), int(self.repeats[row]),
        ):  # fmt: skip
            raise RecordError(problem)
        return record
