"""The errors that a user can mend, and how they are shown where nobody catches them.

A program of another, such as ``lm_eval``, shows one line, as ``automix-eval`` does: where in our
code a mistake was noticed is no news to its user. With ``LMEVAL_LOG_LEVEL=DEBUG`` they see it all.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Mapping
from types import TracebackType

from automix_eval.safety.redaction import blank_text, scrub
from automix_eval.safety.text import harmless_lines, printable

SAID = "interrupted; the same command resumes, and no finished call is made again"
_MOST = 2000  # characters


def explained(interrupt: KeyboardInterrupt) -> KeyboardInterrupt:
    """An interrupt (Ctrl-C) to be raised again: uncaught it shows one line.

    A class of its own would change the exit code: Python ends by SIGINT, which a shell shows as
    130, for KeyboardInterrupt alone.
    """
    interrupt.args = (SAID,)
    return interrupt


def one_line(err: AutoMixError) -> str:
    """What the user is shown of an error."""
    return f"automix-eval: error: {printable(blank_text(str(err)), limit=_MOST)}"


def show_in_one_line() -> None:
    """Show our errors and explained interrupts in one line, where no one else has a say in it.

    A program that has put an ``excepthook`` of its own in Python's place keeps it.
    """
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if isinstance(error, AutoMixError) and not _is_debugging():
        print(one_line(error), file=sys.stderr)
    elif isinstance(error, KeyboardInterrupt) and error.args == (SAID,):
        print(f"automix-eval: {SAID}", file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


def _is_debugging() -> bool:
    return logging.getLogger("lm_eval").isEnabledFor(logging.DEBUG)


class AutoMixError(RuntimeError):
    """An error the user can mend: its message names the cause and the remedy.

    Shown without known secrets, and without what a terminal would obey.
    """

    def __str__(self) -> str:
        return harmless_lines(scrub(super().__str__()))


class CallsFailedError(AutoMixError):
    """Requests to a model failed for good. Every other one was handed over, or not sent.

    Attributes:
        reasons: Why, by the index of the request.
    """

    def __init__(self, text: str, reasons: Mapping[int, str]) -> None:
        super().__init__(text)
        self.reasons = dict(reasons)
