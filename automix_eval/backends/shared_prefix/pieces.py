"""What a forward pass reads: new tokens of trees, and the attention of each over what it may see.

A processor pays for the columns that a token attends over, so there each start has a tree of its
own. An accelerator pays for calls: there one tree holds all starts, and one call serves them all.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch.nn.functional import scaled_dot_product_attention

from automix_eval.backends.shared_prefix.tree import Span, Tree, TreeRow, aligned, joined_spans

#: Up to this many queries a piece, query heads are folded onto their key head instead of copying
#: the keys for each of them.
_FEW = 64
#: Longest stretch that shares the attention of its neighbours.
_SHORT = 128
#: Columns before a stretch, by its tokens, from which a mask costs less than copies.
_BESIDE = 4
#: Most rows that prompts side by side are padded to, by their own.
_PADDED = 1.5


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
        self.spans = joined_spans([*before, self.own])
        self._past = past
        self._masks: dict[tuple[int | None, torch.device], torch.Tensor] = {}
        self._bands: dict[tuple[int, int, torch.device], torch.Tensor] = {}

    @property
    def total(self) -> int:
        """Tokens of the prompt up to its end."""
        return self._past + len(self.tokens)

    @property
    def is_branch(self) -> bool:
        """Whether it is short, and short beside what stands before it."""
        return len(self.tokens) <= _SHORT and self._past >= _BESIDE * len(self.tokens)

    @property
    def is_most(self) -> bool:
        """Whether it is at least half of its prompt."""
        return self._past <= len(self.tokens)

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the piece's keys and values into the tree."""
        self.tree.write(layer, slice(*self.own), keys, values)

    def attend(
        self, layer: int, query: torch.Tensor, scale: float | None, window: int | None
    ) -> torch.Tensor:
        """Attention over the prompt up to each token."""
        keys, values = self.tree.of(layer, self.spans)
        total = self.total
        if window is not None and window >= total:
            window = None
        if window is None and self.is_most:
            # is_causal aligns rows and columns at the start, so rows for the past stand before the
            # queries; thrown away, they cost less than a mask, which rules out the fused kernel
            padded = torch.cat([query.new_zeros(len(query), self._past, query.shape[2]), query], 1)
            found = _attention(padded, keys, values, None, scale, causal=total > 1)
            return found[:, self._past :]
        if window is not None and len(self.tokens) > 2 * window:
            return self._banded(query, keys, values, scale, window)
        place = window, query.device
        if place not in self._masks:
            rows = torch.arange(self._past, total)[:, None]
            columns = torch.arange(total)[None, :]
            visible = columns <= rows
            if window is not None:
                visible &= columns > rows - window
            self._masks[place] = _additive(visible, query)
        return _attention(query, keys, values, self._masks[place], scale)

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
            key = (part.shape[1], at - first, query.device)
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

    _masks: dict[tuple[int | None, torch.device], torch.Tensor]

    def visible(self, used: int) -> torch.Tensor:
        """Which of the first ``used`` columns each token sees, [tokens, used]."""
        raise NotImplementedError

    def attend(
        self, layer: int, query: torch.Tensor, scale: float | None, window: int | None
    ) -> torch.Tensor:
        """Attention of each token over the columns it sees."""
        used = aligned(self.tree.used)
        keys, values = (t[:, :used] for t in self.tree.layers[layer])
        if window is not None and window > max(self.positions):
            window = None
        place = window, query.device
        if place not in self._masks:
            visible = self.visible(used)
            if window is not None:
                first = torch.tensor(self.positions)[:, None] - window
                visible &= self.tree.positions[None, :used] > first
            self._masks[place] = _additive(visible, query)
        return _attention(query, keys, values, self._masks[place], scale)


class _Several(Piece):
    """Consecutive pieces of one tree and one pass, as one."""

    def __init__(self, pieces: Sequence[Reading]) -> None:
        self.tree = pieces[0].tree
        self.tokens = [t for p in pieces for t in p.tokens]
        self.positions = [i for p in pieces for i in p.positions]
        self.keep = sum(p.keep for p in pieces)
        self._pieces = pieces


class _Branches(_Several, _Scattered):
    """Stretches of one tree, none of them its start, whose attention is computed at once.

    Args:
        pieces: Consecutive pieces of one pass with consecutive columns.
    """

    def __init__(self, pieces: Sequence[Reading]) -> None:
        super().__init__(pieces)
        self._own = (pieces[0].own[0], pieces[-1].own[1])
        self._masks: dict[tuple[int | None, torch.device], torch.Tensor] = {}

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the pieces' keys and values into the tree."""
        self.tree.write(layer, slice(*self._own), keys, values)

    def visible(self, used: int) -> torch.Tensor:
        """Each piece sees its own prompt."""
        return torch.cat([_visible(piece, used) for piece in self._pieces])


class _Beside(_Several):
    """Prompts of one tree, or most of each, in one call: padded at the end to one length.

    Args:
        pieces: Consecutive pieces of one pass.
    """

    def __init__(self, pieces: Sequence[Reading]) -> None:
        super().__init__(pieces)
        self._width = max(p.total for p in pieces)
        rows: list[int] = []
        columns: list[int] = []
        for i, p in enumerate(pieces):
            rows += range(i * self._width + p.positions[0], i * self._width + p.total)
            mine = [c for a, b in p.spans for c in range(a, b)]
            # what is padded stands behind all rows that are looked at, so causality hides it
            columns += mine + mine[:1] * (self._width - len(mine))
        self._indices = [rows, columns, [c for p in pieces for c in range(*p.own)]]
        self._on_device: dict[torch.device, list[torch.Tensor]] = {}

    def _places(self, device: torch.device) -> list[torch.Tensor]:
        """Rows of the queries, columns of all rows, columns of the new tokens."""
        if device not in self._on_device:
            self._on_device[device] = [torch.tensor(i, device=device) for i in self._indices]
        return self._on_device[device]

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the pieces' keys and values into the tree."""
        self.tree.write(layer, self._places(keys.device)[2], keys, values)

    def attend(
        self, layer: int, query: torch.Tensor, scale: float | None, window: int | None
    ) -> torch.Tensor:
        """Attention of each token over its own prompt."""
        if window is not None and window < self._width:
            parts = torch.split(query, [len(p.tokens) for p in self._pieces], dim=1)
            each = zip(self._pieces, parts, strict=True)
            return torch.cat([p.attend(layer, part, scale, window) for p, part in each], dim=1)
        rows, columns, _ = self._places(query.device)
        shape = (len(self._pieces), self._width, query.shape[2])
        padded = query.new_zeros(len(query), shape[0] * shape[1], shape[2])
        padded[:, rows] = query
        keys, values = (t[:, columns] for t in self.tree.layers[layer])
        query, keys, values = (
            t.view(len(t), *shape).transpose(0, 1) for t in (padded, keys, values)
        )
        found = scaled_dot_product_attention(
            query,
            keys,
            values,
            is_causal=True,
            scale=scale,
            enable_gqa=query.shape[1] > keys.shape[1],
        )
        return found.transpose(0, 1).reshape(padded.shape)[:, rows]


def _visible(piece: Reading, used: int) -> torch.Tensor:
    """Which of the first ``used`` columns each token of a stretch sees."""
    size = len(piece.tokens)
    visible = torch.zeros(size, used, dtype=torch.bool)
    start, own_end = piece.own
    for a, b in piece.spans:
        visible[:, a : min(b, start) if b == own_end else b] = True
    visible[:, start:own_end] = torch.ones(size, size, dtype=torch.bool).tril()
    return visible


def joined(pieces: Sequence[Piece], together: bool = False) -> list[Piece]:
    """The pieces of a pass, with those as one whose attention is computed at once.

    Args:
        pieces: Short branches of one start that stand side by side become one.
        together: Whether prompts of one tree do as well.
    """
    groups: list[list[Reading]] = []
    units: list[Piece | list[Reading]] = []
    for piece in pieces:
        if not isinstance(piece, Reading):
            units.append(piece)
        elif units and groups and units[-1] is groups[-1] and _fits(groups[-1], piece, together):
            groups[-1].append(piece)
        else:
            groups.append([piece])
            units.append(groups[-1])
    return [
        unit
        if isinstance(unit, Piece)
        else unit[0]
        if len(unit) == 1
        else _Branches(unit)
        if unit[0].is_branch
        else _Beside(unit)
        for unit in units
    ]


def place(piece: Piece) -> tuple[int, int]:
    """Where a piece stands in a pass on an accelerator: like ones side by side."""
    if not isinstance(piece, Reading):
        return 2, 0
    return (1, 0) if piece.is_branch else (0, piece.total)


def _fits(group: Sequence[Reading], piece: Reading, together: bool) -> bool:
    """Whether the attention of a piece is computed with that of those before it."""
    last = group[-1]
    if piece.tree is not last.tree or piece.is_branch != last.is_branch:
        return False
    if piece.is_branch:
        return piece.own[0] == last.own[1] and piece.spans[0][0] == last.spans[0][0]
    if not (together and piece.is_most and last.is_most):
        return False
    totals = [p.total for p in (*group, piece)]
    return len(totals) * max(totals) <= _PADDED * sum(totals)


class TreeStep(_Scattered):
    """The next token of several rows of one tree, each seeing its own past alone."""

    def __init__(self, tree: Tree, rows: Sequence[TreeRow], tokens: Sequence[int]) -> None:
        self.tree = tree
        self.tokens = list(tokens)
        self.positions = [row.length for row in rows]
        self.keep = len(rows)
        self._columns = [row.extend() for row in rows]
        self._on_device: dict[torch.device, torch.Tensor] = {}
        self._rows = rows
        self._masks: dict[tuple[int | None, torch.device], torch.Tensor] = {}

    def store(self, layer: int, keys: torch.Tensor, values: torch.Tensor) -> None:
        """Write the rows' keys and values into their columns."""
        if keys.device not in self._on_device:
            self._on_device[keys.device] = torch.tensor(self._columns, device=keys.device)
        self.tree.write(layer, self._on_device[keys.device], keys, values)

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
    mask = query.new_zeros(visible.shape)
    return mask.masked_fill_(~visible.to(query.device), -math.inf)
