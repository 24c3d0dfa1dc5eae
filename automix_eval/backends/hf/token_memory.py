"""The tokens of the texts that were encoded last.

A prompt is counted when it is made to fit its window and read later on, for each of its samples.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence


class TokenMemory:
    """An encoder that remembers what it encoded last, least recently used first out.

    Args:
        encode: Token ids of a text.
        budget: Most tokens to hold, 4 bytes each; the texts are held as well.
    """

    def __init__(self, encode: Callable[[str], Sequence[int]], budget: int = 2_000_000) -> None:
        self._encode = encode
        self._budget = budget
        self._held: OrderedDict[str, array[int]] = OrderedDict()
        self._size = 0

    def __call__(self, text: str) -> Sequence[int]:
        """Token ids of a text."""
        if text in self._held:
            self._held.move_to_end(text)
            return self._held[text]
        tokens = array("i", self._encode(text))
        self._held[text] = tokens
        self._size += len(tokens)
        while self._size > self._budget:
            self._size -= len(self._held.popitem(last=False)[1])
        return tokens
