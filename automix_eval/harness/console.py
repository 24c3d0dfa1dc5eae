"""What a run shows on the terminal, and the log that keeps everything.

The terminal has a line a stage, our own notices, and warnings, ours and of other libraries, each
once. Their notices and progress bars stand in the log beside the results, or on the terminal
too where that is asked for.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

from tqdm import tqdm

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.logs import guard_logs

__all__ = ["LOG", "console"]

#: The log's name in the folder of a run.
LOG = "automix_log.txt"

_OURS = "automix_eval"
# Libraries that show their lines themselves, past the root logger.
_APART = ("transformers", "datasets", "huggingface_hub")
# Said of every run by the harness although nothing is amiss: our tasks have metadata, our models
# behind an API know their end of text and their lengths, and a limit is what the user set.
_NOT_AMISS = (
    "Custom kwargs can be passed to",
    "Batch size > 1 detected",
    "Cannot determine EOS string",
    "--limit SHOULD ONLY BE USED FOR TESTING",
)
_LINES = logging.Formatter("%(asctime)s %(levelname)-8s [%(name)s] %(message)s")


@contextmanager
def console(folder: Path | None, verbose: bool = False) -> Iterator[None]:
    """Show a run on stderr in few lines, and keep all lines in the log of a folder.

    Args:
        folder: Of the run; made where it is missing. None: no log is kept.
        verbose: Whether the terminal has every line too.

    Raises:
        AutoMixError: The log cannot be written.
    """
    root, ours = logging.getLogger(), logging.getLogger(_OURS)
    log: logging.Handler = logging.NullHandler()
    try:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            log = logging.FileHandler(folder / LOG, encoding="utf-8")
    except OSError as err:
        raise AutoMixError(f"the log of {folder} cannot be written: {err}") from err
    log.setFormatter(_LINES)
    shown = _Terminal(verbose)
    before = root.level, list(root.handlers), ours.propagate, ours.level
    root.handlers = [log, shown]
    root.setLevel(logging.INFO)
    ours.propagate, ours.level = True, logging.NOTSET
    logging.captureWarnings(True)
    guard_logs()
    try:
        with _through_the_root():
            yield
    finally:
        logging.captureWarnings(False)
        log.close()
        root.level, root.handlers, ours.propagate, ours.level = before


class _Terminal(logging.Handler):
    """Writes what a user must know, each warning once, around the progress of a stage."""

    def __init__(self, everything: bool) -> None:
        super().__init__()
        self._everything = everything
        self._said: set[str] = set()
        if everything:
            self.setFormatter(_LINES)

    def emit(self, record: logging.LogRecord) -> None:
        """Show a line if it concerns who reads."""
        text = self.format(record)
        if not self._everything:
            if not _concerns(record):
                return
            if record.levelno >= logging.WARNING:  # a stage of another block may say the same
                if text in self._said:
                    return
                self._said.add(text)
                text = f"{record.levelname.lower()}: {text}"
        tqdm.write(text, file=sys.stderr)


def _concerns(record: logging.LogRecord) -> bool:
    """Whether the user of a run has anything to do with a line."""
    if record.name.split(".")[0] == _OURS:
        return record.levelno >= logging.INFO
    if record.levelno < logging.WARNING:
        return False
    said = record.getMessage()
    if record.name == "py.warnings":
        # what will change in a later release is for the library's developers
        return "FutureWarning" not in said and "DeprecationWarning" not in said
    return not any(text in said for text in _NOT_AMISS)


@contextmanager
def _through_the_root() -> Iterator[None]:
    """Have the libraries that show their own lines leave that to the root logger."""
    before = []
    for name in _APART:
        try:
            import_module(name)  # sets up its logger
        except ImportError:
            continue  # what is not installed says nothing
        logger = logging.getLogger(name)
        before.append((logger, logger.handlers, logger.propagate))
        logger.handlers, logger.propagate = [], True
    try:
        yield
    finally:
        for logger, handlers, propagates in before:
            logger.handlers, logger.propagate = handlers, propagates
