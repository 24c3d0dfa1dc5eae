"""What the sweeps and jobs that run at the same time wait for.

A sweep has its folder to itself. Of its jobs, those that share model calls let the first of them
go ahead: jobs that run at the same time find the call store empty together and would ask
everything once each. So the first job of those with the same tiers, tasks and seed holds a lock;
the others wait for it and find its calls. After that they run side by side.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from automix_eval.config.compose import ConfigError

log = logging.getLogger(__name__)

FOLDER = ".first"
# What all calls of a job depend on; verifiers, routers and prices change some of them or none.
_SHARED = ("llm", "seed", "slm", "tiers")


@contextmanager
def alone(root: Path) -> Iterator[None]:
    """Hold the sweep's folder.

    Raises:
        ConfigError: Another sweep holds it.
    """
    try:
        root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(root / ".lock", timeout=0)
        lock.acquire()
    except Timeout:
        raise ConfigError(
            f"another sweep is writing to {root}: wait until it ends, or name another folder as "
            "output=FOLDER"
        ) from None
    except OSError as err:
        raise ConfigError(f"the sweep's folder {root} cannot be used: {err.strerror}") from err
    try:
        yield
    finally:
        lock.release()


@contextmanager
def first_alone(root: Path, sweep: str, settings: Mapping[str, Any]) -> Iterator[None]:
    """Do the work of a job, after the first job that asks the same models the same questions.

    A first job that fails or is killed leaves its place to the next one.

    Args:
        root: The sweep's folder.
        sweep: Tells sweeps in one folder apart.
        settings: The job's whole configuration: ``cascade`` and ``harness``.
    """
    cascade = {k: v for k, v in settings["cascade"].items() if k in _SHARED}
    text = json.dumps([cascade, settings["harness"]], sort_keys=True, default=str)
    done = root / FOLDER / f"{sweep}-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if done.exists():
        yield
        return
    lock = _locked(done)
    try:
        if lock is not None and done.exists():
            lock.release()
        yield
        if lock is not None:
            done.touch()
    finally:
        if lock is not None:
            lock.release()


def forget(root: Path) -> None:
    """Remove the marks of a sweep that has ended."""
    for path in (root / FOLDER).glob("*"):
        path.unlink(missing_ok=True)
    if (root / FOLDER).is_dir():
        (root / FOLDER).rmdir()


def _locked(done: Path) -> FileLock | None:
    """The lock of a group of jobs; None where the file system has none, and all run at once."""
    try:
        done.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(f"{done}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.info("waiting for the first job with the same models and questions")
            lock.acquire()
    except (OSError, NotImplementedError) as err:
        log.warning("jobs that share calls may ask them twice: %s cannot be locked (%s)", done, err)
        return None
    return lock
