"""Log-probabilities of short continuations from the most probable next tokens alone.

Servers that generate rarely score a given text: llama.cpp's gives no log-probabilities of a prompt
at all. They do name the most probable next tokens. A continuation is followed through them token by
token: its first token is looked up after the prompt, its second after the prompt and the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from automix_eval.safety.errors import CallsFailedError
from automix_eval.types import UNSEEN, ScoreRequest, Scores


@dataclass(frozen=True, slots=True)
class NextToken:
    """The most probable tokens at one place.

    Attributes:
        top: Token -> natural-log probability; a token is its text, or its number where ``score``
            is given the numbers of the continuations.
    """

    top: Mapping[Any, float]
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    seconds: float | None = None
    events: tuple[str, ...] = ()
    latency: float | None = None


Place = tuple[int, tuple[Any, ...]]
Look = Callable[[Sequence[Place], Callable[[int, NextToken], None]], None]
Split = Callable[[ScoreRequest], Sequence[Sequence[Any]]]


@dataclass(slots=True)
class _Path:
    """How far one continuation has been followed; ``limit`` bounds what no list showed."""

    rest: Any  # the text left, or the tokens left
    done: tuple[Any, ...] = ()
    logprob: float = 0.0
    limit: float = -math.inf
    unseen: bool = False

    @property
    def is_open(self) -> bool:
        """Whether more tokens have to be looked up."""
        return bool(self.rest) and not self.unseen


def score(
    requests: Sequence[ScoreRequest],
    look: Look,
    on_result: Callable[[int, Scores], None],
    slice_size: int = 4,
    split: Split | None = None,
    patience: int = 0,
) -> None:
    """Score every continuation of every request.

    A token beyond the list has at most the probability of the list's last one, and at most what the
    list leaves; a continuation that needs it gets that bound and an event ``UNSEEN``, so that a
    reader knows which numbers are bounds. Without ``split`` the longest listed token that begins
    the text left is taken; a longer one beyond the list may then have been the model's own, which
    counts as unseen where it could be the more probable.

    Args:
        requests: Prompts with their continuations.
        look: Finds the most probable tokens at several places, each the number of a request and the
            tokens that follow its prompt.
        on_result: Receives natural-log probabilities; tokens and seconds are sums over the steps.
        slice_size: Requests followed at once: what an interrupted run may lose.
        split: The tokens of each continuation of a request, where the tokenizer is known.
        patience: Requests that may fail before no more are followed.

    Raises:
        CallsFailedError: Some requests failed, as ``look`` said of their places.
    """
    failed: dict[int, str] = {}
    texts: list[str] = []
    for start in range(0, len(requests), slice_size):
        indices = range(start, min(start + slice_size, len(requests)))
        paths = {i: [_Path(rest) for rest in (split or _texts)(requests[i])] for i in indices}
        _follow_all(paths, _bearing(look, paths, failed, texts, patience), on_result)
    if failed:
        raise CallsFailedError(texts[0], failed)


def margin(logprob: float, listed: Iterable[float]) -> float:
    """Lead of the best token over the second best; the probability of one known alone."""
    best = sorted(listed, reverse=True)[:2]
    return math.exp(best[0]) - math.exp(best[1]) if len(best) == 2 else math.exp(logprob)


def _texts(request: ScoreRequest) -> Sequence[str]:
    return request.continuations


def _bearing(
    look: Look,
    paths: dict[int, list[_Path]],
    failed: dict[int, str],
    texts: list[str],
    patience: int,
) -> Look:
    """A look that takes requests with a failed place out of those that are followed."""

    def bearing(places: Sequence[Place], deliver: Callable[[int, NextToken], None]) -> None:
        try:
            look(places, deliver)
        except CallsFailedError as err:
            texts.append(str(err))
            for number, why in err.reasons.items():
                failed.setdefault(places[number][0], why)
                paths.pop(places[number][0], None)
            if len(failed) > patience:
                raise CallsFailedError(texts[0], failed) from err

    return bearing


def _follow_all(
    paths: Mapping[int, Sequence[_Path]], look: Look, on_result: Callable[[int, Scores], None]
) -> None:
    steps: dict[int, list[NextToken]] = {i: [] for i in paths}
    while True:
        groups: dict[Place, list[_Path]] = {}
        for owner, own in paths.items():
            for path in own:
                if path.is_open:
                    groups.setdefault((owner, path.done), []).append(path)
        if not groups:
            return
        round_ = _Round(list(groups), list(groups.values()))

        def read(number: int, step: NextToken, round_: _Round = round_) -> None:
            owner = round_.places[number][0]
            steps[owner].append(step)
            for path in round_.paths[number]:
                _follow(path, step)
            round_.read.setdefault(owner, set()).add(number)
            expected = sum(place[0] == owner for place in round_.places)
            if len(round_.read[owner]) == expected and not any(p.is_open for p in paths[owner]):
                on_result(owner, _scores(paths[owner], steps[owner]))

        look(round_.places, read)


@dataclass(slots=True)
class _Round:
    """One look at many places, and which were read."""

    places: list[Place]
    paths: list[list[_Path]]
    read: dict[int, set[int]] = field(default_factory=dict)


def _follow(path: _Path, step: NextToken) -> None:
    """One step along a continuation."""
    listed = math.fsum(math.exp(v) for v in step.top.values())
    beyond = min(min(step.top.values()), math.log(max(1.0 - listed, 1e-12)))
    token, rest = _next(path.rest, step.top)
    if token is None:
        path.logprob = max(path.logprob + beyond, path.limit)
        path.unseen = True
        return
    if rest and isinstance(rest, str):
        path.limit = max(path.limit, path.logprob + beyond)
    path.logprob += step.top[token]
    path.done += (token,)
    path.rest = rest
    if not rest and path.logprob < path.limit:
        path.logprob, path.unseen = path.limit, True


def _next(rest: Any, top: Mapping[Any, float]) -> tuple[Any, Any]:
    """The listed token that comes next and what is left after it; None where none is listed."""
    if isinstance(rest, str):
        token = max((t for t in top if t and rest.startswith(t)), key=len, default=None)
        return token, rest[len(token or "") :]
    return (rest[0], rest[1:]) if rest[0] in top else (None, rest)


def _scores(paths: Sequence[_Path], steps: Sequence[NextToken]) -> Scores:
    return Scores(
        tuple(p.logprob for p in paths),
        prompt_tokens=_sum([s.prompt_tokens for s in steps]),
        seconds=math.fsum(s.seconds or 0.0 for s in steps),
        cached_tokens=_sum([s.cached_tokens for s in steps]),
        events=tuple(e for s in steps for e in s.events) + (UNSEEN,) * sum(p.unseen for p in paths),
        # which of several steps were waited for at once is not known here
        latency=steps[0].latency if len(steps) == 1 else None,
    )


def _sum(values: Sequence[int | None]) -> int | None:
    return None if None in values else sum(v for v in values if v is not None)
