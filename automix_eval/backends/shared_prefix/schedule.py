"""Which prompts are read together: those that begin alike, in the order of their tokens.

That order puts the questions of one document side by side, whatever order they are asked in, and
each prompt next to the one it has most in common with.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch

from automix_eval.backends.shared_prefix.cache import shared_length
from automix_eval.backends.shared_prefix.reader import Reader
from automix_eval.backends.shared_prefix.tree import Reading, Span, Tree

#: Prompt tokens after which a pass takes no further prompt.
PASS_TOKENS = 1024
#: A prompt joins a tree if it shares at least this part of itself with all prompts of the tree.
_SHARE = 0.5

Tokens = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Stem:
    """One prompt and the numbers of what continues it.

    Attributes:
        prompt: Its tokens.
        items: The caller's numbers.
        group: The tree it is read into.
        spans: Columns of its tokens, once it is read.
        logits: Logits after it, [1, vocabulary], once it is read.
    """

    prompt: Tokens
    items: list[int]
    group: Group
    spans: list[Span] = field(default_factory=list)
    logits: torch.Tensor | None = None


@dataclass(slots=True, eq=False)
class Group:
    """Prompts that begin alike: their tree once it is open, and the one read last."""

    room: int
    tree: Tree | None = None
    last: Stem | None = None


def plan(prompts: Sequence[Tokens], batch_size: int, room: int) -> Iterator[Stem]:
    """Distinct prompts in the order of their tokens, those that begin alike in one group.

    Args:
        prompts: All prompts; equal ones become one stem.
        batch_size: Most prompts of a group.
        room: Columns a group needs beside its prompts.
    """
    items: dict[Tokens, list[int]] = defaultdict(list)
    for i, prompt in enumerate(prompts):
        items[prompt].append(i)
    # Sorted by tokens, neighbours share the longest starts: one look at the neighbour before finds
    # what any earlier prompt has in common with this one.
    order = sorted(items)
    at = 0
    while at < len(order):
        common, longest, end = len(order[at]), len(order[at]), at + 1
        columns = common + room
        while end < len(order) and end - at < batch_size:
            common = min(common, shared_length(order[at], order[end]))
            longest = max(longest, len(order[end]))
            # Steps of a tree attend over all its columns under a mask: prompts that share little
            # would pay for each other's columns at every token.
            if common < _SHARE * longest:
                break
            columns += len(order[end]) - shared_length(order[end - 1], order[end])
            end += 1
        group = Group(columns)
        yield from (Stem(prompt, items[prompt], group) for prompt in order[at:end])
        at = end


class ReadingPass:
    """Prompts that are read in one pass.

    Attributes:
        pieces: What the pass reads.
        stems: The prompts, each with how many of its tokens the pass computes.
        new_tokens: Tokens of all pieces.
    """

    def __init__(self, reader: Reader) -> None:
        self.pieces: list[Reading] = []
        self.stems: list[tuple[Stem, int]] = []
        self.new_tokens = 0
        self._reader = reader
        self._last: list[int] = []
        self._opened: list[tuple[Tokens, Tree]] = []

    def takes(self, stem: Stem) -> bool:
        """Whether reading this prompt now computes nothing that the pass computes already."""
        if stem.group.tree is not None or not self._opened:
            return True
        # What a pass computes is in the cache only after it. A prompt that shares more with one of
        # this pass than the cache knows waits for the next pass, which finds it there.
        known, _ = self._reader.cache.match(stem.prompt)
        return all(shared_length(prompt, stem.prompt) <= known for prompt, _ in self._opened)

    def add(self, stem: Stem) -> None:
        """Read a prompt: what is known of it is taken over, the rest becomes a piece."""
        group = stem.group
        if group.last is None:
            # the last token is always computed: its logits are what the prompt is read for
            group.tree, known = self._reader.open(stem.prompt, group.room, len(stem.prompt) - 1)
            before = [(0, known)]
            self._opened.append((stem.prompt, group.tree))
        else:
            known = shared_length(group.last.prompt, stem.prompt)
            before = _first(group.last.spans, known)
        assert group.tree is not None
        self._last.append(len(self.pieces))
        stem.spans = [*before, self._read(group.tree, stem.prompt[known:], before, keep=1)]
        self.stems.append((stem, len(stem.prompt) - known))
        group.last = stem

    def follow(self, stem: Stem, tokens: Sequence[int]) -> None:
        """Read a continuation of a prompt just added, keeping the logits of all its tokens."""
        assert stem.group.tree is not None
        if tokens:
            self._read(stem.group.tree, tokens, stem.spans, keep=len(tokens))

    def finish(self, logits: Sequence[torch.Tensor]) -> None:
        """Take the pass's logits and remember the prompts that opened a tree."""
        for (stem, _), position in zip(self.stems, self._last, strict=True):
            stem.logits = logits[position]
        for prompt, tree in self._opened:
            self._reader.cache.insert(prompt, tree.first(len(prompt)))

    def _read(self, tree: Tree, tokens: Sequence[int], before: Sequence[Span], keep: int) -> Span:
        piece = Reading(tree, tokens, before, keep)
        self.pieces.append(piece)
        self.new_tokens += len(tokens)
        return piece.own


def _first(spans: Sequence[Span], number: int) -> list[Span]:
    """The first columns of a prompt."""
    found = []
    for start, end in spans:
        if number <= 0:
            break
        found.append((start, min(end, start + number)))
        number -= end - start
    return found
