"""Files written at once or not at all, and names that are safe for them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

from automix_eval.safety.redaction import scrub


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write one JSON file atomically."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=2)
    write_text(path, scrub(text) + "\n")


def is_file_name(name: Any) -> TypeGuard[str]:
    """Whether a value is the name of a file and no path, on any system."""
    if not isinstance(name, str) or not name.isprintable() or name in ("", ".", ".."):
        return False
    return not set(name) & set('/\\:*?"<>|')


def write_text(path: Path, text: str) -> None:
    """Write a file under another name and rename it, so that a reader never meets half of it."""
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
        temporary.unlink(missing_ok=True)


def safe_name(name: str) -> str:
    """A task's or model's name as part of a file name, never a path."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip(".").lstrip("-.")[:100] or "task"
