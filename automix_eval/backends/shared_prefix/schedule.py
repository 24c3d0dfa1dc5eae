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
from automix_eval.backends.shared_prefix.pieces import Reading
from automix_eval.backends.shared_prefix.reader import Reader
from automix_eval.backends.shared_prefix.tree import Span, Tree, joined_spans

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
    """Prompts that begin alike.

    Attributes:
        room: Columns they need.
        waiting: How many of them have not ended.
        tree: Where they are read into, once the first is.
        last: The one read last.
        spans: Columns that were taken for them.
    """

    room: int
    waiting: int
    tree: Tree | None = None
    last: Stem | None = None
    spans: list[Span] = field(default_factory=list)

    def end_one(self) -> None:
        """Give the columns back with the last of them."""
        self.waiting -= 1
        if not self.waiting and self.tree is not None:
            self.tree.give_back(self.spans)


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
        group = Group(columns, end - at)
        yield from (Stem(prompt, items[prompt], group) for prompt in order[at:end])
        at = end


def columns_at_once(stems: Sequence[Stem], number: int) -> int:
    """Most columns that so many consecutive prompts need."""
    ends = [0]
    for before, stem in zip([None, *stems], stems, strict=False):
        alike = before is not None and before.group is stem.group
        known = shared_length(before.prompt, stem.prompt) if before and alike else 0
        ends.append(ends[-1] + len(stem.prompt) - known)
    last = len(stems)
    return max((ends[min(i + number, last)] - ends[i] for i in range(last)), default=0)


class ReadingPass:
    """Prompts that are read in one pass.

    Args:
        reader: The model.
        forest: The tree of all prompts, where there is one.

    Attributes:
        pieces: What the pass reads.
        stems: The prompts, each with how many of its tokens the pass computes.
        new_tokens: Tokens of all pieces.
    """

    def __init__(self, reader: Reader, forest: Tree | None = None) -> None:
        self.pieces: list[Reading] = []
        self.stems: list[tuple[Stem, int]] = []
        self.new_tokens = 0
        self._reader = reader
        self._last: list[int] = []
        self._opened: list[Stem] = []
        self._forest = forest or (Tree(0) if reader.together else None)

    @property
    def is_full(self) -> bool:
        """Whether it takes no further prompt."""
        return self.new_tokens >= self._reader.pass_tokens

    def takes(self, stem: Stem) -> bool:
        """Whether reading this prompt now computes nothing that the pass computes already."""
        if stem.group.tree is not None or not self._opened:
            return True
        # What a pass computes is in the cache only after it. A prompt that shares more with one of
        # this pass than the cache knows waits for the next pass, which finds it there.
        known, _ = self._reader.cache.match(stem.prompt)
        common = max(shared_length(o.prompt, stem.prompt) for o in self._opened)
        return not self._reader.is_worth_a_pass(common - known)

    def add(self, stem: Stem) -> None:
        """Read a prompt: what is known of it is taken over, the rest becomes a piece."""
        group = stem.group
        if group.last is None:
            group.tree = self._forest or Tree(group.room)
            # the last token is always computed: its logits are what the prompt is read for
            before = self._reader.known(stem.prompt[:-1], group.tree)
            known = sum(end - start for start, end in before)
            group.spans += before
            self._opened.append(stem)
        else:
            known = shared_length(group.last.prompt, stem.prompt)
            before = _first(group.last.spans, known)
        assert group.tree is not None
        self._last.append(len(self.pieces))
        stem.spans = [*before, self._read(group, stem.prompt[known:], before, keep=1)]
        self.stems.append((stem, len(stem.prompt) - known))
        group.last = stem

    def follow(self, stem: Stem, tokens: Sequence[int]) -> None:
        """Read a continuation of a prompt just added, keeping the logits of all its tokens."""
        if tokens:
            self._read(stem.group, tokens, stem.spans, keep=len(tokens))

    def finish(self, logits: Sequence[torch.Tensor]) -> None:
        """Take the pass's logits and remember the prompts that opened a tree."""
        for (stem, _), position in zip(self.stems, self._last, strict=True):
            stem.logits = logits[position]
        for stem in self._opened:
            assert stem.group.tree is not None
            self._reader.remember(stem.prompt, stem.group.tree, joined_spans(stem.spans))

    def _read(self, group: Group, tokens: Sequence[int], before: Sequence[Span], keep: int) -> Span:
        assert group.tree is not None
        piece = Reading(group.tree, tokens, before, keep)
        group.spans.append(piece.own)
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
