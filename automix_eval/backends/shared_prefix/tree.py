"""Prompts that begin alike, as columns of keys and values that each of them sees a part of.

A :class:`Tree` holds the keys and values of a shared start and of everything that branches from
it: questions about one document, samples of one prompt. Pieces are new tokens of a tree; a forward
pass (``reader.py``) reads those of any trees end to end. Every tree holds all tokens of all
layers, also where the model attends to a sliding window only, so a start of any length can be
reused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from automix_eval.backends.shared_prefix.cache import Layers

_GROWTH = 1.25
#: Columns are attended over in multiples of this: kernels want aligned masks.
_ALIGNED = 8

Span = tuple[int, int]


@dataclass(slots=True, eq=False)
class Tree:
    """Keys and values of a shared start and its branches, in columns.

    Attributes:
        capacity: Columns there is room for.
        used: Columns up to the last one that is in use.
        layers: By layer, keys and values [kv heads, capacity, head size].
        positions: Position of each column's token in its prompt.
    """

    capacity: int
    used: int = 0
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    positions: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    _holes: list[Span] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.capacity = aligned(self.capacity)
        self.positions = torch.zeros(self.capacity, dtype=torch.long)

    def take(self, number: int, position: int) -> Span:
        """Columns for consecutive tokens, the first at ``position``."""
        start = self._place(number)
        self.positions[start : start + number] = torch.arange(position, position + number)
        return start, start + number

    def _place(self, number: int) -> int:
        """The first columns side by side that nobody uses."""
        for i, (start, end) in enumerate(self._holes):
            if end - start >= number:
                self._holes[i : i + 1] = [(start + number, end)] if end - start > number else []
                return start
        start = self.used
        self.used += number
        if self.used > self.capacity:
            self._grow(aligned(max(self.used, int(self.capacity * _GROWTH))))
        return start

    def give_back(self, spans: Sequence[Span]) -> None:
        """Columns whose tokens nobody attends to any more; they are used again."""
        self._holes = joined_spans(sorted([*self._holes, *spans]))
        if self._holes and self._holes[-1][1] == self.used:
            self.used = self._holes.pop()[0]

    def hold(self, pieces: Sequence[Layers]) -> list[Span]:
        """Copy the keys and values of a known start into columns, and say which."""
        length = sum(layers[0][0].shape[1] for layers in pieces)
        if not length:
            return []
        span = self.take(length, 0)
        at = span[0]
        for layers in pieces:
            width = layers[0][0].shape[1]
            for index, (keys, values) in enumerate(layers):
                self._room(index, keys, values)
                self.layers[index][0][:, at : at + width] = keys
                self.layers[index][1][:, at : at + width] = values
            at += width
        return [span]

    def of(self, layer: int, spans: Sequence[Span]) -> tuple[torch.Tensor, torch.Tensor]:
        """Keys and values of some columns, end to end; of one stretch as views."""
        keys, values = (
            torch.cat([t[:, a:b] for a, b in spans], dim=1)
            if len(spans) > 1
            else t[:, slice(*spans[0])]
            for t in self.layers[layer]
        )
        return keys, values

    def write(
        self, layer: int, columns: slice | torch.Tensor, keys: torch.Tensor, values: torch.Tensor
    ) -> None:
        """Put a piece's keys and values, [kv heads, tokens, head size], into its columns."""
        self._room(layer, keys, values)
        self.layers[layer][0][:, columns] = keys
        self.layers[layer][1][:, columns] = values

    def _room(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        if layer not in self.layers:
            self.layers[layer] = (
                # zeros: a column not yet written is masked, but 0 x NaN would not be 0
                keys.new_zeros(keys.shape[0], self.capacity, keys.shape[2]),
                values.new_zeros(values.shape[0], self.capacity, values.shape[2]),
            )

    def _grow(self, capacity: int) -> None:
        more = capacity - self.capacity
        for index, (keys, values) in self.layers.items():
            self.layers[index] = (
                torch.cat([keys, keys.new_zeros(keys.shape[0], more, keys.shape[2])], dim=1),
                torch.cat(
                    [values, values.new_zeros(values.shape[0], more, values.shape[2])], dim=1
                ),
            )
        self.positions = torch.cat([self.positions, torch.zeros(more, dtype=torch.long)])
        self.capacity = capacity


@dataclass(slots=True, eq=False)
class TreeRow:
    """What one generation may see: columns of its prompt and of what it generated."""

    tree: Tree
    length: int
    visible: torch.Tensor
    own: list[int] = field(default_factory=list)

    @classmethod
    def after(cls, tree: Tree, spans: Sequence[Span]) -> TreeRow:
        """A row that continues a prompt."""
        visible = torch.zeros(tree.capacity, dtype=torch.bool)
        for start, end in spans:
            visible[start:end] = True
        return cls(tree, sum(end - start for start, end in spans), visible)

    def extend(self) -> int:
        """A column for the next token."""
        column, _ = self.tree.take(1, self.length)
        self.seen(self.tree.used)[column] = True
        self.own.append(column)
        self.length += 1
        return column

    def seen(self, used: int) -> torch.Tensor:
        """Which of the first ``used`` columns the row sees, as a view."""
        if len(self.visible) < used:
            more = torch.zeros(self.tree.capacity - len(self.visible), dtype=torch.bool)
            self.visible = torch.cat([self.visible, more])
        return self.visible[:used]

    def close(self) -> None:
        """Give the generated tokens' columns back."""
        self.tree.give_back([(column, column + 1) for column in self.own])
        self.own = []


def joined_spans(spans: Sequence[Span]) -> list[Span]:
    """The same columns in as few stretches as possible."""
    joined: list[Span] = []
    for start, end in spans:
        if start == end:
            continue
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined


def aligned(columns: int) -> int:
    """So many columns, rounded up to what kernels want."""
    return -(-columns // _ALIGNED) * _ALIGNED
