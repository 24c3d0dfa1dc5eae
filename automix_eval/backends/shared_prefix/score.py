"""Scoring whole continuations over prompt trees: a prompt is read once for all of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from automix_eval.backends.shared_prefix.reader import Reader
from automix_eval.backends.shared_prefix.schedule import ReadingPass, Tokens, plan


@dataclass(frozen=True, slots=True)
class Scored:
    """Log-probabilities of one prompt's continuations, and what they cost."""

    index: int
    logprobs: tuple[float, ...]
    greedy: tuple[bool, ...]
    cached: int
    seconds: float


def score(
    reader: Reader,
    requests: Sequence[tuple[Tokens, Sequence[Tokens]]],
    batch_size: int,
    done: Callable[[Scored], None],
) -> None:
    """Score whole continuations; a prompt is read once for all of its continuations.

    Args:
        reader: The model.
        requests: Prompts, each with its continuations of at least one token.
        batch_size: Most prompts in a pass.
        done: Receives each result.
    """
    room = max((sum(len(c) for c in cs) for _, cs in requests), default=0)
    queue = deque(plan([prompt for prompt, _ in requests], batch_size, room))
    while queue:
        begun = time.perf_counter()
        entry = ReadingPass(reader)
        children: list[tuple[int, list[int]]] = []
        while queue and len(entry.stems) < batch_size and not entry.is_full:
            if not entry.takes(queue[0]):
                break
            stem = queue.popleft()
            entry.add(stem)
            for index in stem.items:
                places = []
                for continuation in requests[index][1]:
                    places.append(len(entry.pieces))
                    entry.follow(stem, continuation[:-1])
                children.append((index, places))
        logits = reader.forward(entry.pieces)
        entry.finish(logits)
        total = sum(max(computed, 1) for _, computed in entry.stems)
        seconds = time.perf_counter() - begun
        places_of = dict(children)
        for stem, computed in entry.stems:
            assert stem.logits is not None
            for position, index in enumerate(stem.items):
                found = [
                    _continuation(c, stem.logits, logits[place] if len(c) > 1 else None)
                    for c, place in zip(requests[index][1], places_of[index], strict=True)
                ]
                done(
                    Scored(
                        index,
                        tuple(logprob for logprob, _ in found),
                        tuple(greedy for _, greedy in found),
                        len(stem.prompt) - (0 if position else computed),
                        0.0 if position else seconds * max(computed, 1) / total,
                    )
                )


def _continuation(
    tokens: Tokens, first: torch.Tensor, rest: torch.Tensor | None
) -> tuple[float, bool]:
    logits = (first if rest is None else torch.cat([first, rest])).float()
    chosen = torch.tensor(tokens, device=logits.device)
    logprobs = logits.log_softmax(dim=-1).gather(1, chosen[:, None])
    return float(logprobs.double().sum()), bool((logits.argmax(dim=-1) == chosen).all())
