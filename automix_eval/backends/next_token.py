"""Log-probabilities of short continuations from the most probable next tokens alone.

Servers that generate rarely score a given text: llama.cpp's gives no log-probabilities of a prompt
at all. They do name the most probable next tokens. A continuation is followed through them token by
token: its first token is looked up after the prompt, its second after the prompt and the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from automix_eval.types import ScoreRequest, Scores

UNSEEN = "unseen"


@dataclass(frozen=True, slots=True)
class Step:
    """The most probable tokens after one text.

    Attributes:
        top: Token's text -> natural-log probability.
    """

    top: Mapping[str, float]
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    seconds: float | None = None
    events: tuple[str, ...] = ()


Look = Callable[[Sequence[str], Callable[[int, Step], None]], None]


@dataclass(slots=True)
class _Path:
    """How far one continuation has been followed."""

    owner: int
    done: str
    rest: str
    logprob: float = 0.0
    unseen: bool = False

    @property
    def is_open(self) -> bool:
        return bool(self.rest) and not self.unseen


def score(
    requests: Sequence[ScoreRequest],
    look: Look,
    on_result: Callable[[int, Scores], None],
    slice_size: int = 4,
) -> None:
    """Score every continuation of every request.

    A token beyond the list has at most the probability of the list's last; the continuation then
    gets that bound and an event ``unseen``, so that a reader knows which numbers are bounds.

    Args:
        requests: Prompts with their continuations.
        look: Finds the most probable tokens after each of several texts.
        on_result: Receives natural-log probabilities; tokens and seconds are sums over the steps.
        slice_size: Requests followed at once: what an interrupted run may lose.
    """
    for start in range(0, len(requests), slice_size):
        _score_slice(
            range(start, min(start + slice_size, len(requests))), requests, look, on_result
        )


def _score_slice(
    indices: range,
    requests: Sequence[ScoreRequest],
    look: Look,
    on_result: Callable[[int, Scores], None],
) -> None:
    paths = {i: [_Path(i, "", c) for c in requests[i].continuations] for i in indices}
    steps: dict[int, list[Step]] = {i: [] for i in indices}
    while open_paths := [p for i in indices for p in paths[i] if p.is_open]:
        groups: dict[tuple[int, str], list[_Path]] = {}
        for path in open_paths:
            groups.setdefault((path.owner, path.done), []).append(path)
        order = list(groups)

        def read(
            number: int,
            step: Step,
            order: list[tuple[int, str]] = order,
            groups: dict[tuple[int, str], list[_Path]] = groups,
        ) -> None:
            owner = order[number][0]
            steps[owner].append(step)
            for path in groups[order[number]]:
                _follow(path, step)
            if not any(p.is_open for p in paths[owner]):
                on_result(owner, _scores(paths[owner], steps[owner]))

        look([requests[owner].prompt + done for owner, done in order], read)


def _follow(path: _Path, step: Step) -> None:
    """One step along a continuation: its longest token among those listed."""
    token = max((t for t in step.top if t and path.rest.startswith(t)), key=len, default="")
    if token:
        path.logprob += step.top[token]
        path.done += token
        path.rest = path.rest[len(token) :]
    else:
        listed = math.fsum(math.exp(v) for v in step.top.values())
        # no more than the last one listed, and no more than what the list leaves
        bound = min(min(step.top.values()), math.log(max(1.0 - listed, 1e-12)))
        path.logprob += bound
        path.unseen = True


def _scores(paths: Sequence[_Path], steps: Sequence[Step]) -> Scores:
    return Scores(
        tuple(p.logprob for p in paths),
        prompt_tokens=_sum([s.prompt_tokens for s in steps]),
        seconds=math.fsum(s.seconds or 0.0 for s in steps),
        cached_tokens=_sum([s.cached_tokens for s in steps]),
        events=tuple(e for s in steps for e in s.events) + (UNSEEN,) * sum(p.unseen for p in paths),
    )


def _sum(values: Sequence[int | None]) -> int | None:
    return None if None in values else sum(v for v in values if v is not None)
