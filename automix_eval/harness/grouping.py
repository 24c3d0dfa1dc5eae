"""Which of the harness's requests make one question, and which questions are asked together."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Grouping:
    """The requests of one task by question; some 30 bytes a request.

    A question is a document and a repeat, or a document with all its repeats: a multiple-choice
    question has one request a choice, and the harness lists a request once a repeat.

    Attributes:
        repeats: (n,) the repeat of each question, in the order of their first requests.
        copies: Position of a surplus request -> position of the one it repeats. A process with
            fewer documents than others is given its last request again, which must be answered
            and neither asked nor recorded.
    """

    repeats: Positions
    copies: dict[int, int]
    _order: Positions
    _starts: Positions

    def __len__(self) -> int:
        return len(self.repeats)

    def positions(self, question: int) -> list[int]:
        """Positions of a question's requests."""
        found: list[int] = self._order[self._starts[question] : self._starts[question + 1]].tolist()
        return found

    def blocks(self, size: int, document: Callable[[int], Hashable]) -> Iterator[range]:
        """Questions to ask together: about ``size``, and whole documents.

        Args:
            size: Least number of questions, but for the last block.
            document: What the questions of one document share, given a request's position. A
                document of more than ``size`` questions is split.
        """
        start = 0
        while start < len(self):
            end = min(start + size, len(self))
            limit = min(end + size, len(self))
            while end < limit and self._alike(end - 1, end, document):
                end += 1
            yield range(start, end)
            start = end

    def _alike(self, one: int, other: int, document: Callable[[int], Hashable]) -> bool:
        return document(self.positions(one)[0]) == document(self.positions(other)[0])


def group(requests: Sequence[Instance], as_unit: bool = False) -> Grouping:
    """Group the requests of one task by document and repeat.

    Args:
        requests: All of one task.
        as_unit: Whether the repeats of a document are one question.
    """
    number = len(requests)
    same = np.fromiter((id(r) for r in requests), dtype=np.uint64, count=number)
    listed = _occurrence(same)
    wanted = np.fromiter((max(r.repeats or 1, 1) for r in requests), dtype=np.int64, count=number)
    surplus = np.flatnonzero(listed >= wanted)
    copies = {}
    if len(surplus):
        first = {int(same[p]): p for p in range(number - 1, -1, -1)}
        copies = {p: first[int(same[p])] for p in surplus.tolist()}
    mine = np.flatnonzero(listed < wanted)
    docs = np.fromiter((r.doc_id or 0 for r in requests), dtype=np.int64, count=number)[mine]
    repeats = np.zeros_like(mine) if as_unit else listed[mine]
    keys = docs * (int(repeats.max(initial=0)) + 1) + repeats
    _, first_of, question = np.unique(keys, return_index=True, return_inverse=True)
    rank = np.empty(len(first_of), dtype=np.int64)
    rank[np.argsort(first_of)] = np.arange(len(first_of))
    order = np.argsort(rank[question], kind="stable")
    sizes = np.bincount(rank[question], minlength=len(first_of))
    starts = np.concatenate([[0], np.cumsum(sizes)])
    return Grouping(repeats[np.sort(first_of)], copies, mine[order], starts)


def _occurrence(values: npt.NDArray[np.uint64]) -> Positions:
    """How often each value stands before: 0 where it stands for the first time."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    begins = np.ones(len(values), dtype=bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    places = np.arange(len(values))
    found = np.empty(len(values), dtype=np.int64)
    found[order] = places - np.maximum.accumulate(np.where(begins, places, 0))
    return found
