"""Prompts that begin alike, as columns of keys and values that each of them sees a part of.

A :class:`Tree` holds the keys and values of a shared start and of everything that branches from
it: questions about one document, samples of one prompt. Pieces are new tokens of a tree; a forward
pass (``reader.py``) reads those of any trees end to end. Every tree holds all tokens of all
layers, also where the model attends to a sliding window only, so a start of any length can be
reused.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch.nn.functional import scaled_dot_product_attention

from automix_eval.backends.shared_prefix.cache import Layers

#: Up to this many queries a piece, query heads are folded onto their key head instead of copying
#: the keys for each of them.
_FEW = 64
#: Longest stretch that shares the attention of its neighbours.
_SHORT = 128
#: Columns before a stretch, by its tokens, from which a mask costs less than copies.
_BESIDE = 4
_GROWTH = 1.25

Span = tuple[int, int]


@dataclass(slots=True, eq=False)
class Tree:
    """Keys and values of a shared start and its branches, in columns.

    Attributes:
        capacity: Columns there is room for.
        used: Columns that were ever given out.
        layers: By layer, keys and values [kv heads, capacity, head size].
        positions: Position of each column's token in its prompt.
    """

    capacity: int
    used: int = 0
    layers: dict[int, tuple[torch.Tensor, torch.Tensor]] = field(default_factory=dict)
    positions: torch.Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.long))
    _free: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.positions = torch.zeros(self.capacity, dtype=torch.long)

    def take(self, number: int, position: int) -> Span:
        """Columns for consecutive tokens, the first at ``position``."""
        start = self.used
        self.used += number
        if self.used > self.capacity:
            self._grow(max(self.used, int(self.capacity * _GROWTH)))
        self.positions[start : self.used] = torch.arange(position, position + number)
        return start, self.used

    def take_one(self, position: int) -> int:
        """A column for one generated token; columns given back are used again."""
        if not self._free:
            return self.take(1, position)[0]
        column = self._free.pop()
        self.positions[column] = position
        return column

    def give_back(self, columns: Sequence[int]) -> None:
        """Columns whose tokens nobody attends to any more."""
        self._free.extend(columns)

    def start_with(self, pieces: Sequence[Layers]) -> None:
        """Copy the keys and values of a known start into the first columns."""
        length = sum(layers[0][0].shape[1] for layers in pieces)
        if not length:
            return
        self.take(length, 0)
        at = 0
        for layers in pieces:
            width = layers[0][0].shape[1]
            for index, (keys, values) in enumerate(layers):
                self._room(index, keys, values)
                self.layers[index][0][:, at : at + width] = keys
                self.layers[index][1][:, at : at + width] = values
            at += width

    def first(self, length: int) -> Layers:
        """Keys and values of the first columns, as views."""
        return [(k[:, :length], v[:, :length]) for _, (k, v) in sorted(self.layers.items())]

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


class Piece:
    """New tokens of one tree in a forward pass.

    Attributes:
        tokens: Their ids.
        positions: Their positions.
        keep: How many logits to return, counted from the last token.
    """

    tokens: list[int]
    positions: list[int]
    keep: int
    tree: Tree

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the piece's keys and values into the tree."""
        raise NotImplementedError

    def attend(
        self, layer: int, query: torch.Tensor, scale: float | None, window: int | None
    ) -> torch.Tensor:
        """Attention of the piece's queries [heads, tokens, size] over what they may see."""
        raise NotImplementedError


class Reading(Piece):
    """A stretch of a prompt: attends to the stretches before it and causally to itself.

    Args:
        tree: Where its keys and values go.
        tokens: The stretch, not empty.
        before: Columns of the stretches before it, in the order of the prompt.
        keep: How many logits to return.
    """

    def __init__(
        self, tree: Tree, tokens: Sequence[int], before: Sequence[Span], keep: int
    ) -> None:
        past = sum(end - start for start, end in before)
        self.tree = tree
        self.tokens = list(tokens)
        self.positions = list(range(past, past + len(tokens)))
        self.keep = keep
        self.own = tree.take(len(tokens), past)
        self.spans = _joined([*before, self.own])
        self._past = past
        self._masks: dict[int | None, torch.Tensor] = {}
        self._bands: dict[tuple[int, int], torch.Tensor] = {}

    @property
    def is_branch(self) -> bool:
        """Whether it is short, and short beside what stands before it."""
        return len(self.tokens) <= _SHORT and self._past >= _BESIDE * len(self.tokens)

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the piece's keys and values into the tree."""
        self.tree.write(layer, slice(*self.own), keys, values)

    def attend(
        self, layer: int, query: torch.Tensor, scale: float | None, window: int | None
    ) -> torch.Tensor:
        """Attention over the prompt up to each token."""
        keys, values = (
            torch.cat([t[:, a:b] for a, b in self.spans], dim=1)
            if len(self.spans) > 1
            else t[:, slice(*self.spans[0])]
            for t in self.tree.layers[layer]
        )
        total = self._past + len(self.tokens)
        if window is not None and window >= total:
            window = None
        if window is None and self._past <= len(self.tokens):
            # is_causal aligns rows and columns at the start, so rows for the past stand before the
            # queries; thrown away, they cost less than a mask, which rules out the fused kernel
            padded = torch.cat([query.new_zeros(len(query), self._past, query.shape[2]), query], 1)
            found = _attention(padded, keys, values, None, scale, causal=total > 1)
            return found[:, self._past :]
        if window is not None and len(self.tokens) > 2 * window:
            return self._banded(query, keys, values, scale, window)
        if window not in self._masks:
            rows = torch.arange(self._past, total)[:, None]
            columns = torch.arange(total)[None, :]
            visible = columns <= rows
            if window is not None:
                visible &= columns > rows - window
            self._masks[window] = _additive(visible, query)
        return _attention(query, keys, values, self._masks[window], scale)

    def _banded(
        self,
        query: torch.Tensor,
        keys: torch.Tensor,
        values: torch.Tensor,
        scale: float | None,
        window: int,
    ) -> torch.Tensor:
        """Attention to a sliding window, block by block, over the columns in reach of each."""
        found = []
        for start in range(0, len(self.tokens), window):
            part = query[:, start : start + window]
            at = self._past + start
            end, first = at + part.shape[1], max(0, at - window + 1)
            key = (part.shape[1], at - first)
            if key not in self._bands:
                rows = torch.arange(at, end)[:, None]
                columns = torch.arange(first, end)[None, :]
                self._bands[key] = _additive((columns <= rows) & (columns > rows - window), query)
            reach = slice(first, end)
            found.append(
                _attention(part, keys[:, reach], values[:, reach], self._bands[key], scale)
            )
        return torch.cat(found, dim=1)


class _Scattered(Piece):
    """Tokens of several prompts of one tree: a mask over all its columns tells them apart."""

    _masks: dict[int | None, torch.Tensor]

    def visible(self, used: int) -> torch.Tensor:
        """Which of the first ``used`` columns each token sees, [tokens, used]."""
        raise NotImplementedError

    def attend(
        self, layer: int, query: torch.Tensor, scale: float | None, window: int | None
    ) -> torch.Tensor:
        """Attention of each token over the columns it sees."""
        used = self.tree.used
        keys, values = (t[:, :used] for t in self.tree.layers[layer])
        if window is not None and window > max(self.positions):
            window = None
        if window not in self._masks:
            visible = self.visible(used)
            if window is not None:
                first = torch.tensor(self.positions)[:, None] - window
                visible &= self.tree.positions[None, :used] > first
            self._masks[window] = _additive(visible, query)
        return _attention(query, keys, values, self._masks[window], scale)


class _Branches(_Scattered):
    """Stretches of one tree, none of them its start, whose attention is computed at once.

    Args:
        pieces: Consecutive pieces of one pass with consecutive columns.
    """

    def __init__(self, pieces: Sequence[Reading]) -> None:
        self.tree = pieces[0].tree
        self.tokens = [t for p in pieces for t in p.tokens]
        self.positions = [i for p in pieces for i in p.positions]
        self.keep = sum(p.keep for p in pieces)
        self._pieces = pieces
        self._own = (pieces[0].own[0], pieces[-1].own[1])
        self._masks: dict[int | None, torch.Tensor] = {}

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the pieces' keys and values into the tree."""
        self.tree.write(layer, slice(*self._own), keys, values)

    def visible(self, used: int) -> torch.Tensor:
        """Each piece sees its own prompt."""
        return torch.cat([_visible(piece, used) for piece in self._pieces])


def _visible(piece: Reading, used: int) -> torch.Tensor:
    """Which of the first ``used`` columns each token of a stretch sees."""
    size = len(piece.tokens)
    visible = torch.zeros(size, used, dtype=torch.bool)
    start, own_end = piece.own
    for a, b in piece.spans:
        visible[:, a : min(b, start) if b == own_end else b] = True
    visible[:, start:own_end] = torch.ones(size, size, dtype=torch.bool).tril()
    return visible


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces of a pass, with short branches of one tree that stand side by side as one."""
    groups: list[list[Piece]] = []
    for piece in pieces:
        last = groups[-1][-1] if groups else None
        if (
            isinstance(piece, Reading)
            and isinstance(last, Reading)
            and piece.is_branch
            and last.is_branch
            and piece.tree is last.tree
            and piece.own[0] == last.own[1]
        ):
            groups[-1].append(piece)
        else:
            groups.append([piece])
    return [
        group[0] if len(group) == 1 else _Branches([p for p in group if isinstance(p, Reading)])
        for group in groups
    ]


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
        column = self.tree.take_one(self.length)
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
        self.tree.give_back(self.own)
        self.own = []


class TreeStep(_Scattered):
    """The next token of several rows of one tree, each seeing its own past alone."""

    def __init__(self, tree: Tree, rows: Sequence[TreeRow], tokens: Sequence[int]) -> None:
        self.tree = tree
        self.tokens = list(tokens)
        self.positions = [row.length for row in rows]
        self.keep = len(rows)
        self._columns = torch.tensor([row.extend() for row in rows])
        self._rows = rows
        self._masks: dict[int | None, torch.Tensor] = {}

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the rows' keys and values into their columns."""
        self.tree.write(layer, self._columns.to(keys.device), keys, values)

    def visible(self, used: int) -> torch.Tensor:
        """Each row sees its own past."""
        return torch.stack([row.seen(used) for row in self._rows])


def _attention(
    query: torch.Tensor,
    keys: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor | None,
    scale: float | None,
    causal: bool = False,
) -> torch.Tensor:
    """Scaled dot-product attention, [heads, queries, size] over [kv heads, columns, size]."""
    heads, queries, _ = query.shape
    fold = heads // keys.shape[0]
    if fold > 1 and queries <= _FEW and not causal:
        query = query.reshape(keys.shape[0], fold * queries, -1)
        mask = mask.repeat(fold, 1) if mask is not None else None
        fold = 1
    result = scaled_dot_product_attention(
        query[None],
        keys[None],
        values[None],
        attn_mask=None if mask is None else mask[None, None],
        is_causal=causal,
        scale=scale,
        enable_gqa=fold > 1,
    )
    return result.reshape(heads, queries, -1)


def _additive(visible: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    mask = torch.zeros(visible.shape, dtype=query.dtype)
    return mask.masked_fill_(~visible, -math.inf).to(query.device)


def _joined(spans: Sequence[Span]) -> list[Span]:
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
