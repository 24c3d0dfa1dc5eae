"""What tells one configuration of a task from another: its settings, and the code that it names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from automix_eval.records.task_settings import CODE, hashes, text_hash

_ASKED = ("description", "doc_to_text", "doc_to_choice", "generation_kwargs")


def config_hashes(task: Any) -> dict[str, str]:
    """A hash of each key of a task's configuration, and one of the files that hold its code.

    These are the files of the task's class and of the functions that its configuration names, but
    for the harness's own.
    """
    files = {p for part in (type(task), *_functions(task.config)) if (p := _file(part))}
    code = sorted(text_hash(p.read_text(encoding="utf-8", errors="replace")) for p in files)
    return {**hashes(task.dump_config()), CODE: text_hash("".join(code))}


def prompt_hashes(task: Any, system_instruction: str | None) -> dict[str, str]:
    """A hash of each setting that says what a model is asked, and how it answers."""
    found = {k: v for k, v in hashes(task.dump_config()).items() if k in _ASKED}
    given = {"system_instruction": text_hash(system_instruction)} if system_instruction else {}
    return found | given


def _functions(value: Any) -> Iterator[Callable[..., Any]]:
    """Functions at any depth of a configuration."""
    if isinstance(value, partial):
        value = value.func
    if is_dataclass(value) and not isinstance(value, type):
        for field in fields(value):
            yield from _functions(getattr(value, field.name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _functions(inner)
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _functions(inner)
    elif callable(value):
        yield value


def _file(part: Any) -> Path | None:
    if str(getattr(part, "__module__", "")).startswith("lm_eval.api."):
        return None
    try:
        path = Path(inspect.getfile(part))
    except (OSError, TypeError):  # built in, or an object that can be called
        return None
    return path if path.is_file() else None
