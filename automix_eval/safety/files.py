"""Files written at once or not at all, and names that are safe for them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeGuard

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.redaction import scrub


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON file atomically."""
    write_text(path, scrub(as_json_text(value)))


def as_json_text(value: Mapping[str, Any]) -> str:
    """JSON that a reader of any language takes: no NaN, a line a value."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2) + "\n"


def is_file_name(name: Any) -> TypeGuard[str]:
    """Whether a value is the name of a file and no path, on any system."""
    if not isinstance(name, str) or not name.isprintable() or name in ("", ".", ".."):
        return False
    return not set(name) & set('/\\:*?"<>|')


def version_of(path: Path) -> tuple[int, ...]:
    """What tells a file from another that took its name, and from itself written anew.

    Size and time of writing alone do not: a copy may keep both.

    Raises:
        OSError: There is no such file.
    """
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_ctime_ns, found.st_mtime_ns, found.st_size


def write_text(path: Path, text: str) -> None:
    """Write a file under another name and rename it, so that a reader never meets half of it.

    A device or a pipe, such as /dev/stdout, is written to as it stands.
    """
    if _is_special(path):
        with path.open("w", encoding="utf-8") as out:
            out.write(text)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.unlink(missing_ok=True)
        # "x" follows no link that somebody laid there
        with temporary.open("x", encoding="utf-8") as out:
            out.write(text)
            out.flush()
            os.fsync(out.fileno())
        temporary.replace(path)
    finally:
        with suppress(OSError):  # the disk that refused the text may refuse this as well
            temporary.unlink(missing_ok=True)


def write_file(path: Path, text: str) -> Path:
    """Write a text that a user asked for, without secrets, in one step.

    Raises:
        AutoMixError: It cannot be written; an old file is left as it was.
    """
    try:
        write_text(path, scrub(text))
    except OSError as err:
        raise AutoMixError(f"cannot write {path}: {err}") from err
    return path


def _is_special(path: Path) -> bool:
    """Whether renaming another file to this name would take a device or a pipe away."""
    if path.is_dir() or not path.exists():
        return False
    # /dev/stdout may lead to a common file, but the link is the system's.
    return not path.is_file() or path.parent.resolve() == Path(os.devnull).parent


def safe_name(name: str) -> str:
    """A task's or model's name as part of a file name, never a path."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip(".").lstrip("-.")[:100] or "task"
