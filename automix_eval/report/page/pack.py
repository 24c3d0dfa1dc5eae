"""Texts inside the page: compressed chunks that a browser opens one by one.

A chunk is a JSON list, deflated and written in base64 into a script element of a type that no
browser runs. The page's script looks an item up by its number, through the number of the first
item of each chunk.
"""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

# Large enough for the compression to find repetitions (its window is 32 KiB), small enough to be
# opened without a delay that one notices.
CHUNK_CHARS = 200_000


def pack(value: Any) -> str:
    """One JSON value as base64 of its deflated text (format ``deflate``, RFC 1950)."""
    return _packed(_json(value))


def unpack(text: str) -> Any:
    """The inverse of :func:`pack`."""
    return json.loads(zlib.decompress(base64.b64decode(text)))


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def _packed(text: str) -> str:
    return base64.b64encode(zlib.compress(text.encode(), 6)).decode("ascii")


@dataclass(frozen=True, slots=True)
class Chunk:
    """One script element: its id and its content, letters, digits, ``+/=`` only."""

    id: str
    data: str


@dataclass(slots=True)
class Packer:
    """Collects items and hands out a chunk whenever one is full.

    Attributes:
        name: Prefix of the chunks' ids.
        starts: Number of the first item of each chunk.
        count: Items so far.
        size: Characters handed out.
    """

    name: str
    starts: list[int] = field(default_factory=list)
    count: int = 0
    size: int = 0
    _items: list[str] = field(default_factory=list)
    _chars: int = 0

    def add(self, item: Any) -> Iterator[Chunk]:
        """Append an item; yields a chunk if that fills one."""
        if not self._items:
            self.starts.append(self.count)
        text = _json(item)
        self._items.append(text)
        self._chars += len(text)
        self.count += 1
        if self._chars >= CHUNK_CHARS:
            yield from self.flush()

    def flush(self) -> Iterator[Chunk]:
        """Yield what is left, if anything is."""
        if self._items:
            chunk = Chunk(
                f"{self.name}{len(self.starts) - 1}", _packed(f"[{','.join(self._items)}]")
            )
            self._items, self._chars = [], 0
            self.size += len(chunk.data)
            yield chunk
