"""Generation over prompt trees: prompts that begin alike are read once.

Rows join and leave a running batch one by one: no long answer holds a batch up, no short one is
padded.
"""

from __future__ import annotations

import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch

from automix_eval.backends.shared_prefix.pieces import TreeStep
from automix_eval.backends.shared_prefix.reader import Reader
from automix_eval.backends.shared_prefix.sampling import sample, top_two
from automix_eval.backends.shared_prefix.schedule import (
    ReadingPass,
    Stem,
    Tokens,
    columns_at_once,
    plan,
)
from automix_eval.backends.shared_prefix.tree import Tree, TreeRow

#: Columns for the tokens of each sample before a tree must grow.
_ROOM = 64


@dataclass(slots=True, eq=False)
class Sample:
    """One generation, in progress or done.

    Attributes:
        index: The caller's number of it.
        prompt: Tokens, at least one.
        most: Most tokens to generate, at least one.
        ended: Whether the generation ends with the tokens generated so far.
        temperature: Above 0 for a sample, which needs a generator; 0 for greedy decoding.
        watched: Whether to note the probabilities of its tokens.
        tokens: What was generated.
        logprobs: Log-probability of each token.
        margins: Lead of each token's probability over the second-best.
        cached: Prompt tokens that were not computed for it.
        seconds: Its part, by tokens, of the passes it took part in.
    """

    index: int
    prompt: Tokens
    most: int
    ended: Callable[[list[int]], bool]
    temperature: float = 0.0
    generator: torch.Generator | None = None
    watched: bool = False
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    margins: list[float] = field(default_factory=list)
    cached: int = 0
    seconds: float = 0.0
    row: TreeRow | None = None


def generate(
    reader: Reader, samples: Sequence[Sample], batch_size: int, done: Callable[[Sample], None]
) -> None:
    """Generate all samples.

    Args:
        reader: The model.
        samples: What to generate.
        batch_size: Most prompts in progress at once.
        done: Receives each sample as soon as it ends.
    """
    _Batch(reader, samples, batch_size, done).run()


class _Batch:
    """A running batch: prompts waiting, prompts read, samples in progress."""

    def __init__(
        self,
        reader: Reader,
        samples: Sequence[Sample],
        batch_size: int,
        done: Callable[[Sample], None],
    ) -> None:
        self._reader = reader
        self._samples = samples
        self._size = batch_size
        self._most = max(batch_size, reader.samples)
        self._done = done
        room = _ROOM * min(len(samples), reader.samples)
        stems = list(plan([s.prompt for s in samples], batch_size, 0 if reader.together else room))
        self._forest = Tree(room + columns_at_once(stems, batch_size)) if reader.together else None
        self._queue = deque(stems)
        self._stems: list[Stem] = []
        self._live: list[tuple[Sample, Stem]] = []

    @torch.inference_mode()
    def run(self) -> None:
        """One pass after the other until nothing is left."""
        while self._queue or self._stems:
            begun = time.perf_counter()
            # New prompts are read in the same pass as the next tokens of samples in progress: a
            # pass costs what its weights cost to read, however few tokens it computes.
            entry = ReadingPass(self._reader, self._forest)
            while self._queue and self._has_room(entry) and entry.takes(self._queue[0]):
                entry.add(self._queue.popleft())
            steps = self._steps()
            logits = self._reader.forward([*entry.pieces, *(step for step, _ in steps)])
            entry.finish(logits[: len(entry.pieces)])
            spent = self._charge(entry)
            spent += [(s, 1) for _, stepped in steps for s in stepped]
            drawn = [s for _, stepped in steps for s in stepped]
            rows = logits[len(entry.pieces) :]
            self._stems += [stem for stem, _ in entry.stems]
            # The first token of a sample comes from its prompt's logits, kept until the last of
            # its samples has begun: no sample of a prompt reads it again.
            for s, stem in self._start():
                assert stem.logits is not None
                drawn.append(s)
                rows.append(stem.logits)
            if drawn:
                _draw(drawn, torch.cat(rows))
            _share_out(time.perf_counter() - begun, spent)
            self._finish()

    def _has_room(self, entry: ReadingPass) -> bool:
        stems = len(self._stems) + len(entry.stems)
        return stems == 0 or (
            stems < self._size and not entry.is_full and len(self._live) < self._most
        )

    def _steps(self) -> list[tuple[TreeStep, list[Sample]]]:
        """The next token of every sample in progress, tree by tree."""
        by_tree: dict[int, list[Sample]] = defaultdict(list)
        for s, stem in self._live:
            by_tree[id(stem.group.tree)].append(s)
        steps = []
        for stepped in by_tree.values():
            rows = [s.row for s in stepped if s.row is not None]
            steps.append((TreeStep(rows[0].tree, rows, [s.tokens[-1] for s in stepped]), stepped))
        return steps

    def _charge(self, entry: ReadingPass) -> list[tuple[Sample, int]]:
        """The first sample of a prompt computed it, for the others it is known."""
        spent = []
        for stem, computed in entry.stems:
            for position, index in enumerate(stem.items):
                self._samples[index].cached = len(stem.prompt) - (0 if position else computed)
            spent.append((self._samples[stem.items[0]], computed))
        return spent

    def _start(self) -> list[tuple[Sample, Stem]]:
        """Begin samples of prompts that were read, as many as there is room for."""
        started = []
        for stem in self._stems:
            while stem.items and len(self._live) < self._most:
                s = self._samples[stem.items.pop(0)]
                assert stem.group.tree is not None
                s.row = TreeRow.after(stem.group.tree, stem.spans)
                self._live.append((s, stem))
                started.append((s, stem))
        return started

    def _finish(self) -> None:
        """Hand over what ended and forget prompts that nothing continues any more."""
        still = []
        for s, stem in self._live:
            if len(s.tokens) < s.most and not s.ended(s.tokens):
                still.append((s, stem))
                continue
            assert s.row is not None
            s.row.close()
            s.row = None
            self._done(s)
        self._live = still
        # A tree is freed with its last stem, so its memory is bounded by what is in progress.
        busy = {id(stem) for _, stem in still}
        for stem in self._stems:
            if not stem.items and id(stem) not in busy:
                stem.group.end_one()
        self._stems = [stem for stem in self._stems if stem.items or id(stem) in busy]


def _draw(samples: Sequence[Sample], logits: torch.Tensor) -> None:
    """Append the next token of each sample; logits [samples, vocabulary]."""
    greedy = logits.argmax(dim=-1).tolist()
    by_temperature: dict[float, list[int]] = defaultdict(list)
    for i, s in enumerate(samples):
        if s.temperature > 0:
            by_temperature[s.temperature].append(i)
        else:
            s.tokens.append(greedy[i])
    for temperature, rows in by_temperature.items():
        generators = [g for i in rows if (g := samples[i].generator) is not None]
        for i, token in zip(rows, sample(logits[rows], temperature, generators), strict=True):
            samples[i].tokens.append(token)
    watched = [i for i, s in enumerate(samples) if s.watched]
    if watched:
        for i, (logprob, margin) in zip(watched, top_two(logits[watched]), strict=True):
            samples[i].logprobs.append(logprob)
            samples[i].margins.append(margin)


def _share_out(seconds: float, spent: Sequence[tuple[Sample, int]]) -> None:
    total = sum(tokens for _, tokens in spent)
    for s, tokens in spent:
        s.seconds += seconds * tokens / total
