"""In which phase a run is, as another process can see it: for kills that are aimed.

The marks are shared memory, so that they outlive the process that is killed. A phase lasts until
the next one begins; a write between two blocks of questions returns to the phase it interrupted.
"""

from __future__ import annotations

import functools
import mmap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from automix_eval.cascade.tier import Tier
from automix_eval.harness import evaluate as evaluation
from automix_eval.harness.run_log import RunLog

PHASES = (
    "start-up", "calibration", "answering", "verification", "escalation", "recording", "writing",
    "report",
)  # fmt: skip


class Marks:
    """The present phase of a run, and how often each phase was entered."""

    def __init__(self) -> None:
        self._cells = memoryview(mmap.mmap(-1, 8 * (1 + len(PHASES)))).cast("q")

    def reset(self) -> None:
        """A run begins."""
        for i in range(len(self._cells)):
            self._cells[i] = 0
        self.enter("start-up")

    def enter(self, phase: str) -> None:
        """A phase begins."""
        place = PHASES.index(phase)
        self._cells[0] = place
        self._cells[1 + place] += 1

    @contextmanager
    def during(self, phase: str) -> Iterator[None]:
        """A phase begins, and ends with the one it interrupted."""
        before = self._cells[0]
        self.enter(phase)
        yield
        self._cells[0] = before

    @property
    def phase(self) -> str:
        """The present phase."""
        return PHASES[self._cells[0]]

    def entries(self) -> dict[str, int]:
        """How often each phase was entered."""
        return dict(zip(PHASES, self._cells[1:].tolist(), strict=True))


def mark(marks: Marks) -> None:
    """Have every run of this process, and of its forks, say where it is."""
    _before(Tier, "_run", lambda tier, *_: marks.enter(_phase_of(tier)))
    _before(RunLog, "finish", lambda *_: marks.enter("writing"))
    _before(evaluation, "_save", lambda *_: marks.enter("writing"))
    for name in ("add", "add_policy"):
        _around(RunLog, name, marks)


def _phase_of(tier: Tier) -> str:
    phase, _, role = tier._context
    if phase == "calibration":
        return "calibration"
    if role == "verify":
        return "verification"
    if not tier.tier:
        return "answering"
    # record=full asks for what the routing did not need
    return "escalation" if "escalating" in tier._title else "recording"


def _before(owner: Any, name: str, say: Callable[..., None]) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def marked(*args: Any, **kwargs: Any) -> Any:
        say(*args)
        return original(*args, **kwargs)

    setattr(owner, name, marked)


def _around(owner: Any, name: str, marks: Marks) -> None:
    original = getattr(owner, name)

    @functools.wraps(original)
    def marked(*args: Any, **kwargs: Any) -> Any:
        with marks.during("writing"):
            return original(*args, **kwargs)

    setattr(owner, name, marked)
