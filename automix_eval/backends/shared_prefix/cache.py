"""What a tier has read before: keys and values of prompt starts, within a memory budget.

A radix tree over tokens. Prompts that begin alike share the nodes of their common start, so a
document or a set of demonstrations is held once however many prompts begin with it. What was not
used for longest goes first, leaves before their stems.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

#: Keys and values of every layer, each [kv heads, tokens, head size].
Layers = list[tuple[torch.Tensor, torch.Tensor]]


@dataclass(slots=True, eq=False)
class _Node:
    tokens: tuple[int, ...]
    layers: Layers
    parent: _Node | None
    children: dict[int, _Node] = field(default_factory=dict)
    used: int = 0

    @property
    def size(self) -> int:
        """Bytes of the keys and values."""
        return sum(k.nbytes + v.nbytes for k, v in self.layers)


class PrefixCache:
    """Keys and values by token prefix, least recently used first out.

    Args:
        budget: Most bytes to hold; 0 holds nothing.
    """

    def __init__(self, budget: int) -> None:
        self.budget = budget
        self.held = 0
        self._root = _Node((), [], None)
        self._clock = 0

    def match(self, tokens: Sequence[int]) -> tuple[int, list[Layers]]:
        """The longest known start of ``tokens``.

        Returns:
            Its length, and its keys and values piece by piece; they are views, to be copied.
        """
        self._clock += 1
        node, length, pieces = self._root, 0, []
        while length < len(tokens) and (child := node.children.get(tokens[length])):
            common = shared_length(child.tokens, tokens, length)
            child.used = self._clock
            pieces.append([(k[:, :common], v[:, :common]) for k, v in child.layers])
            length += common
            if common < len(child.tokens):
                break
            node = child
        return length, pieces

    def insert(self, tokens: Sequence[int], layers: Layers) -> None:
        """Hold the keys and values of a prompt's start, copying what is not held yet.

        A start that does not fit the budget is not held at all: it would only drive out others.
        """
        if not tokens or len(tokens) * _bytes_per_token(layers) > self.budget:
            return
        self._clock += 1
        node, length = self._root, 0
        while length < len(tokens) and (child := node.children.get(tokens[length])):
            common = shared_length(child.tokens, tokens, length)
            if common < len(child.tokens):
                child = _split(child, common)
            child.used = self._clock
            length += common
            node = child
        if length < len(tokens):
            rest = [(k[:, length:].clone(), v[:, length:].clone()) for k, v in layers]
            leaf = _Node(tuple(tokens[length:]), rest, node, used=self._clock)
            node.children[leaf.tokens[0]] = leaf
            self.held += leaf.size
            self._evict()

    def clear(self) -> None:
        """Forget everything."""
        self._root = _Node((), [], None)
        self.held = 0

    def _evict(self) -> None:
        while self.held > self.budget:
            oldest = min(self._leaves(), key=lambda n: n.used)
            assert oldest.parent is not None
            del oldest.parent.children[oldest.tokens[0]]
            self.held -= oldest.size

    def _leaves(self) -> list[_Node]:
        leaves, waiting = [], list(self._root.children.values())
        while waiting:
            node = waiting.pop()
            waiting += node.children.values()
            if not node.children:
                leaves.append(node)
        return leaves


def shared_length(a: Sequence[int], b: Sequence[int], start: int = 0) -> int:
    """Length of the longest common start of ``a`` and ``b[start:]``."""
    # by halving: a comparison of slices is one call, whatever it compares
    most = min(len(a), len(b) - start)
    if tuple(a[:most]) == tuple(b[start : start + most]):
        return most
    least = 0
    while most - least > 1:
        middle = (least + most) // 2
        if tuple(a[least:middle]) == tuple(b[start + least : start + middle]):
            least = middle
        else:
            most = middle
    return least


def _split(node: _Node, at: int) -> _Node:
    """Cut a node in two; the new upper half takes its place. Both own their memory."""
    assert node.parent is not None
    upper = _Node(
        node.tokens[:at],
        [(k[:, :at].clone(), v[:, :at].clone()) for k, v in node.layers],
        node.parent,
        used=node.used,
    )
    node.parent.children[upper.tokens[0]] = upper
    node.tokens = node.tokens[at:]
    node.layers = [(k[:, at:].clone(), v[:, at:].clone()) for k, v in node.layers]
    node.parent = upper
    upper.children[node.tokens[0]] = node
    return upper


def _bytes_per_token(layers: Layers) -> int:
    return sum((k.nbytes + v.nbytes) // max(k.shape[1], 1) for k, v in layers)
