"""A task's configuration as one hash a key: tells whether two runs had the same, and what differs.

The harness writes the configuration into its results, a run of the cascade writes these hashes into
its manifest; both are hashed in the same way, so that either can be compared with either.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from automix_eval.safety.redaction import blank
from automix_eval.safety.text import listing, printable

# The source files of the task's functions, which only the running task knows.
CODE = "code"
# Names, and what the harness merges into a task's metadata: the arguments of the model.
_NO_SETTINGS = frozenset(
    [
        "task",
        "task_alias",
        "tag",
        "metadata",
        "should_decontaminate",
        "doc_to_decontamination_query",
    ]
)
_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def hashes(config: Mapping[str, Any]) -> dict[str, str]:
    """48 bits of each key of a task's configuration, as the harness dumps it."""
    kept = {str(k): v for k, v in config.items() if k not in _NO_SETTINGS and v is not None}
    return {k: text_hash(_text(v)) for k, v in sorted(kept.items())}


def text_hash(text: str) -> str:
    """48 bits of a text, in hexadecimal digits."""
    return blake2b(text.encode("utf-8", "replace"), digest_size=6).hexdigest()


def differing(one: Mapping[str, str], other: Mapping[str, str]) -> list[str]:
    """Keys that differ; none where either configuration is unknown (empty)."""
    if not one or not other:
        return []
    keys = sorted(one.keys() | other.keys())
    if CODE not in one or CODE not in other:
        keys = [k for k in keys if k != CODE]
    return [printable(k) for k in keys if one.get(k) != other.get(k)]


def unlike_settings(one: str, other: str, keys: list[str]) -> str:
    """That two runs configured a task differently, in words."""
    return f"{one} and {other} have different settings of the task ({listing(keys)})"


def _text(value: Any) -> str:
    # functions that the harness cannot print are written with their place in memory
    text = json.dumps(blank(value), sort_keys=True, default=str, ensure_ascii=False)
    return _ADDRESS.sub("", text)
