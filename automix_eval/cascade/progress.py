"""One line a stage: how far it is and how long it takes."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

__all__ = ["progress_line"]

# Where lines stay (a log, a pipe) a long stage is heard of after so many seconds, then after twice,
# four times, ... as many.
_FIRST_WORD = 60.0
_BAR = "{desc}: {n_fmt}/{total_fmt}, {elapsed}, {remaining} left"


@contextmanager
def progress_line(
    title: str, total: int, stored: int, shown: bool
) -> Iterator[Callable[[], object]]:
    """Show how far a stage is: a line that changes on a terminal, lines on stderr elsewhere.

    Args:
        title: What is done.
        total: Calls of the stage.
        stored: Calls that need not be made.
        shown: False shows nothing.

    Yields:
        To be called after every call of the stage.
    """
    after = f", {stored} more from the store" if stored else ""
    if not shown or sys.stderr.isatty():
        with tqdm(
            total=total, desc=title, bar_format=_BAR + after, disable=not shown, dynamic_ncols=True
        ) as bar:
            yield bar.update
        return
    lines = _Lines(title, total, after)
    try:
        yield lines.advance
    finally:
        lines.say()


class _Lines:
    def __init__(self, title: str, total: int, after: str) -> None:
        self._title, self._total, self._after = title, total, after
        self._number = 0
        self._began = time.monotonic()
        self._next = _FIRST_WORD

    def advance(self) -> None:
        """One more is done; the time left is said at growing intervals."""
        self._number += 1
        took = time.monotonic() - self._began
        if took >= self._next and self._number < self._total:
            left = took / self._number * (self._total - self._number)
            self.say(f", {tqdm.format_interval(left)} left")
            self._next = 2 * took

    def say(self, left: str = "") -> None:
        """Print how far the stage is."""
        took = tqdm.format_interval(time.monotonic() - self._began)
        line = f"{self._title}: {self._number}/{self._total}, {took}{left}{self._after}"
        print(line, file=sys.stderr, flush=True)
