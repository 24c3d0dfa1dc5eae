"""The note that each job of a sweep leaves in its folder, and what makes two jobs the same.

A job is finished once and for all under three hashes: of its configuration, of the code that ran
it, and of its tasks with their data. A sweep that is started again reads the notes, never a
configuration: nothing in a results folder chooses code to run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import msgspec

import automix_eval
from automix_eval import __version__
from automix_eval.harness.console import console
from automix_eval.harness.evaluate import task_manager, task_names
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import write_json

NAME = "job.json"
FORMAT = "automix-eval job"
VERSION = 1

Status = Literal["running", "finished", "failed"]


class Identity(msgspec.Struct, frozen=True):
    """What a job's figures depend on.

    Attributes:
        config: SHA-256 of the cascade's configuration and the harness's settings.
        code: Releases and a SHA-256 of this package's files.
        data: SHA-256 of the tasks' configurations and documents.
    """

    config: str
    code: str
    data: str


class JobNote(msgspec.Struct, frozen=True, kw_only=True):
    """What a job says of itself.

    Attributes:
        sweep: The sweep it was last a part of.
        run: Its files, relative to its folder; empty until it is finished.
        made: Model calls made.
        stored: Model calls taken from the store.
        figures: One mapping a task; a figure without a value is None, its reason beside it.
        reason: Why it failed.
        settings: Its configuration, secrets blanked; for the reader.
    """

    format: str = FORMAT
    version: int = VERSION
    status: Status
    identity: Identity
    sweep: str = ""
    number: int | None = None
    swept: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    started: str = ""
    seconds: float | None = None
    run: str = ""
    made: int = 0
    stored: int = 0
    figures: list[dict[str, Any]] = []
    reason: str = ""


def identity(
    settings: Mapping[str, Any], tasks: Sequence[str], include_path: str | None
) -> Identity:
    """The identity of a job.

    Args:
        settings: Its whole configuration as plain data.
        tasks: Its tasks, as the user named them.
        include_path: The user's own folder of tasks.

    Raises:
        AutoMixError: A task does not exist or its data cannot be read.
    """
    return Identity(
        _sha(json.dumps(settings, sort_keys=True, default=str)),
        _code(),
        _data(tuple(tasks), include_path),
    )


def forget() -> None:
    """Look at the code, the tasks and their data anew."""
    _code.cache_clear()
    _data.cache_clear()


def write(folder: Path, note: JobNote) -> None:
    """Write a job's note in one step.

    Raises:
        AutoMixError: The folder cannot be written.
    """
    try:
        write_json(folder / NAME, msgspec.to_builtins(note))
    except OSError as err:
        raise AutoMixError(f"cannot write {folder / NAME}: {err.strerror}") from err


def read(folder: Path) -> JobNote | None:
    """The note in a folder; None where there is none, or none that this release can read."""
    try:
        found = msgspec.json.decode((folder / NAME).read_bytes(), type=JobNote)
    except (OSError, UnicodeDecodeError, msgspec.MsgspecError):
        return None  # the job runs, which writes a new one
    if (found.format, found.version) != (FORMAT, VERSION) or Path(found.run).name != found.run:
        return None
    return found


def of_sweep(root: Path, sweep: str) -> list[tuple[Path, JobNote]]:
    """Folders and notes of the jobs of a sweep, by their numbers."""
    found = [(path.parent, read(path.parent)) for path in root.glob(f"*/{NAME}")]
    mine = [(folder, note) for folder, note in found if note is not None and note.sweep == sweep]
    return sorted(mine, key=lambda pair: (pair[1].number or 0, pair[0]))


def changes(before: Identity, now: Identity) -> list[str]:
    """What differs between two identities of jobs with the same configuration, in words."""
    said = []
    if before.code != now.code:
        said.append(f"the code changed ({before.code} -> {now.code})")
    if before.data != now.data:
        said.append("the tasks or their data changed")
    return said


@lru_cache(maxsize=1)
def _code() -> str:
    digest = hashlib.sha256()
    for path in sorted(_sources()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    harness = version("lm-eval")
    return f"automix-eval {__version__} {digest.hexdigest()[:12]}, lm-eval {harness}"


def _sources() -> Iterator[Path]:
    from automix_eval.paths import hydra_conf_dir

    yield from Path(automix_eval.__file__).parent.rglob("*.py")
    yield from hydra_conf_dir().rglob("*.yaml")


@lru_cache(maxsize=8)
@console(None)  # what the harness says of its tasks, each job says again
def _data(tasks: tuple[str, ...], include_path: str | None) -> str:
    """Hash of the tasks' configurations and of every document that a run may read."""
    manager = task_manager(include_path, tasks=tasks)
    digest = hashlib.sha256()
    try:
        loaded = manager.load(task_names(manager, tasks))["tasks"]
    except (OSError, ValueError, KeyError, ImportError) as err:
        raise AutoMixError(
            f"the data of {', '.join(tasks)} cannot be read: {type(err).__name__}: {err}"
        ) from err
    for name, task in sorted(loaded.items()):
        about = {k: v for k, v in task.dump_config().items() if k != "metadata"}
        digest.update(f"{name}\0{json.dumps(about, sort_keys=True, default=_text)}".encode())
        for split in _splits(task):
            for doc in split:
                digest.update(json.dumps(doc, sort_keys=True, default=_text).encode())
    return digest.hexdigest()


def _splits(task: Any) -> Iterator[Any]:
    if task.has_training_docs():
        yield task.training_docs()
    if task.has_validation_docs():
        yield task.validation_docs()
    if task.has_test_docs():
        yield task.test_docs()


def _text(value: object) -> str:
    """A value without a form in JSON, by its type: its text may hold an address."""
    return f"{type(value).__module__}.{type(value).__qualname__}"


def _sha(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
