"""Questions that failed for good: no record, named in the manifest, and no more than a share."""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from automix_eval.cascade.tier import NotAskedError, Tier
from automix_eval.safety.errors import AutoMixError, CallsFailedError
from automix_eval.safety.redaction import scrub
from automix_eval.safety.text import printable
from automix_eval.types import Phase, Question, Role

log = logging.getLogger(__name__)

T = TypeVar("T")
_MOST_NAMED = 20  # documents named in a warning
_MOST_REASONS = 3
FITTED_ON = "its document is one that the router was fitted on (calibration.split_documents)"


class TooManyFailedError(AutoMixError):
    """More questions failed than ``fail_on_error`` allows; resumable."""


@dataclass(frozen=True, slots=True, order=True)
class Failure:
    """A question without a result.

    Attributes:
        tier: Index of the tier whose call failed.
        role: What the call was for.
        reason: Kind and text of the failure, without secrets, at most 300 characters.
    """

    task: str
    phase: Phase
    doc_id: int
    repeat: int
    tier: int
    role: Role
    reason: str

    @property
    def question(self) -> tuple[str, Phase, int, int]:
        """What tells one question of a run from another."""
        return self.task, self.phase, self.doc_id, self.repeat


class Failures:
    """The failed questions of one process, and how many more it tolerates.

    Questions to which the task gives no score are listed apart and count for no limit.

    Args:
        share: Of the questions of each task and phase that may fail; 0 ends the run at the first.
    """

    def __init__(self, share: float = 0.0) -> None:
        self.share = share
        self.found: list[Failure] = []
        self.unscored: list[Failure] = []
        self._of: dict[tuple[str, Phase], int] = {}

    def expect(self, task: str, phase: Phase, number: int) -> None:
        """Say how many questions a phase of a task has, all processes together; it begins anew."""
        self._of[task, phase] = number
        for name in ("found", "unscored"):
            kept = [f for f in getattr(self, name) if (f.task, f.phase) != (task, phase)]
            setattr(self, name, kept)

    def remaining(self, task: str, phase: Phase) -> int:
        """Questions that may still fail."""
        return max(0, self._allowed(task, phase) - len(self.of(task, phase)))

    def of(self, task: str, phase: Phase) -> list[Failure]:
        """The failures of one phase of a task."""
        return [f for f in self.found if (f.task, f.phase) == (task, phase)]

    def add(
        self, question: Question, tier: int, role: Role, reason: str, scored: bool = True
    ) -> None:
        """Note a question that failed, or, not ``scored``, one that the task gives no score."""
        (self.found if scored else self.unscored).append(
            Failure(
                question.task,
                question.phase,
                question.doc_id,
                question.repeat,
                tier,
                role,
                printable(scrub(reason)),
            )
        )

    def check(self, found: Iterable[Failure] | None = None) -> None:
        """See whether that is too much.

        Args:
            found: The failures of all processes; None for those of this one.

        Raises:
            TooManyFailedError: More than the share of some task and phase has failed.
        """
        by_phase: dict[tuple[str, Phase], list[Failure]] = {}
        for one in self.found if found is None else found:
            by_phase.setdefault((one.task, one.phase), []).append(one)
        for (task, phase), failed in by_phase.items():
            if len(failed) > self._allowed(task, phase):
                raise TooManyFailedError(
                    f"{task}, {phase}: {len(failed)} of {self._of.get((task, phase), 0)} questions "
                    f"failed, more than fail_on_error={self.share:g} allows: {reasons(failed)}. "
                    "Finished calls are kept: mend the cause, and the same command asks only what "
                    "failed or is still open"
                )

    def _allowed(self, task: str, phase: Phase) -> int:
        # a share such as 0.29 of 100 is 28.999999999999996 in floating point
        return math.floor(self.share * self._of.get((task, phase), 0) + 1e-9)


def reasons(failed: Sequence[Failure]) -> str:
    """The commonest reasons, each with a document it happened to."""
    counts = Counter((f.tier, f.role, f.reason) for f in failed)
    parts = []
    for (tier, role, why), number in counts.most_common(_MOST_REASONS):
        doc_id = next(f.doc_id for f in failed if (f.tier, f.role, f.reason) == (tier, role, why))
        times = f" ({number} times)" if number > 1 else ""
        parts.append(f"doc_id {doc_id}, tier {tier}, {role}: {why}{times}")
    more = len(counts) - len(parts)
    return "; ".join(parts) + (f"; and {more} other reasons" if more else "")


def note(failed: Sequence[Failure], number: int) -> str:
    """What the reader of a run must know of the failures of one phase of a task.

    Args:
        failed: At least one.
        number: Questions that have a record.
    """
    named = ", ".join(
        f"{f.doc_id}" + (f" (repeat {f.repeat})" if f.repeat else "")
        for f in sorted(failed)[:_MOST_NAMED]
    )
    more = f" and {len(failed) - _MOST_NAMED} more" if len(failed) > _MOST_NAMED else ""
    left_out = "the fit" if failed[0].phase == "calibration" else "every figure"
    return (
        f"{failed[0].phase}: {len(failed)} of {number + len(failed)} questions failed and are left "
        f"out of {left_out}, the same command asks them again: doc_id {named}{more}; "
        f"{reasons(failed)}"
    )


def note_unscored(found: Sequence[Failure]) -> str:
    """What the reader of a run must know of questions to which the task gives no score.

    Empty where there are none but those that are fitted on, which the fit has named.
    """
    found = [f for f in found if f.reason != FITTED_ON]
    if not found:
        return ""
    ids = sorted({f.doc_id for f in found})
    more = f" and {len(ids) - _MOST_NAMED} more" if len(ids) > _MOST_NAMED else ""
    left_out = "the fit" if found[0].phase == "calibration" else "every figure"
    return (
        f"{found[0].phase}: the task gives no score to {len(ids)} questions, which are left out of "
        f"{left_out}: doc_id {', '.join(map(str, ids[:_MOST_NAMED]))}{more}; {reasons(found)}"
    )


def without_failed(
    model: Tier,
    questions: Sequence[Question],
    role: Role,
    work: Callable[[list[int]], Sequence[T]],
    failures: Failures,
) -> dict[int, T]:
    """Do work for questions together, without those of which a call fails for good.

    A failed call ends an attempt, once all others have been made. The next one does without the
    questions that need the failed call, and finds the calls of the others in the store.

    Args:
        model: The tier that is asked.
        questions: What the work is for.
        role: What its calls are for.
        work: One result for each of some positions of ``questions``.
        failures: Takes those that fail.

    Returns:
        Position -> result.

    Raises:
        TooManyFailedError: More failed than the share.
        CallsFailedError: A call failed and no question does; or nothing may.
    """
    left = list(range(len(questions)))
    if not failures.share:
        model.tolerate(0)
        return dict(zip(left, work(left), strict=True))
    while left:
        model.tolerate(failures.remaining(questions[0].task, questions[0].phase))
        try:
            with model.attempt():
                return dict(zip(left, work(left), strict=True))
        except CallsFailedError:
            failed = {i: why for i in left if (why := _why(model, i, work))}
            if not failed:
                raise
        for i, why in failed.items():
            failures.add(questions[i], model.tier, role, why)
        failures.check()
        log.warning(
            "%s: %d questions failed and are left out: %s",
            questions[0].task,
            len(failed),
            reasons(failures.found[-len(failed) :]),
        )
        left = [i for i in left if i not in failed]
    return {}


def _why(model: Tier, position: int, work: Callable[[list[int]], Sequence[T]]) -> str:
    """Why a question has failed; empty if it has not, or not yet been asked everything."""
    try:
        with model.attempt(asks=False):
            work([position])
    except CallsFailedError as err:
        return str(err) or "no reason given"
    except NotAskedError:
        pass
    return ""
