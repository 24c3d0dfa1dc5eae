"""An interrupt (Ctrl-C) that was explained in the log: it ends the process without a traceback."""

from __future__ import annotations

import sys
from types import TracebackType

SAID = "interrupted; the same command resumes, and no finished call is made again"


def explained(interrupt: KeyboardInterrupt) -> KeyboardInterrupt:
    """The interrupt, to be raised again: uncaught it shows one line, and still ends as one does.

    A class of its own would change the exit code: Python ends by SIGINT, which a shell shows as
    130, for KeyboardInterrupt alone.
    """
    interrupt.args = (SAID,)
    before = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if error is interrupt:
            print(f"automix-eval: {SAID}", file=sys.stderr)
        else:
            before(kind, error, trace)

    sys.excepthook = show
    return interrupt
