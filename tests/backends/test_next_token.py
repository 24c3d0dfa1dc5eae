"""Continuations followed through lists of next tokens, on language models that are tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.backends.servers import next_token
from automix_eval.types import UNSEEN, Answer, Question, ScoreRequest, Scores
from automix_eval.verifiers.p_true import PTrue

WORDS = ("a", "b", "ab", "ba", "c")


def table(weights: Sequence[float]) -> dict[str, float]:
    """Log-probabilities of all words."""
    total = math.fsum(weights)
    return {w: math.log(v / total) for w, v in zip(WORDS, weights, strict=True)}


def follow(
    continuation: str, known: dict[str, float], listed: int, split: Sequence[str] | None = None
) -> Scores:
    """The score of one continuation where only the most probable words are listed."""
    top = dict(sorted(known.items(), key=lambda kv: -kv[1])[:listed])

    def look(
        places: Sequence[next_token.Place], deliver: Callable[[int, next_token.NextToken], None]
    ) -> None:
        for number in range(len(places)):
            deliver(
                number, next_token.NextToken(top, prompt_tokens=1, cached_tokens=0, seconds=0.5)
            )

    found: list[Scores] = []
    next_token.score(
        [ScoreRequest("p", (continuation,))],
        look,
        lambda _, scores: found.append(scores),
        split=None if split is None else lambda _: [split],
    )
    (scores,) = found
    return scores


WEIGHTS = st.lists(st.floats(0.01, 1), min_size=5, max_size=5)


@given(WEIGHTS, st.lists(st.sampled_from(WORDS), min_size=1, max_size=4))
def test_known_tokens_are_summed(weights: list[float], words: list[str]) -> None:
    """With the whole list the score is the sum over the tokenizer's own tokens."""
    known = table(weights)
    scores = follow("".join(words), known, len(WORDS), words)
    assert scores.logprobs[0] == pytest.approx(math.fsum(known[w] for w in words))
    assert scores.events == ()
    assert (scores.prompt_tokens, scores.seconds) == (len(words), 0.5 * len(words))


@given(WEIGHTS, st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), st.integers(1, 4))
def test_what_is_not_listed_is_bounded(weights: list[float], words: list[str], listed: int) -> None:
    """A score is exact, or an upper bound and says so."""
    known = table(weights)
    scores = follow("".join(words), known, listed, words)
    exact = math.fsum(known[w] for w in words)
    if UNSEEN in scores.events:
        assert scores.logprobs[0] >= exact - 1e-9
    else:
        assert scores.logprobs[0] == pytest.approx(exact)


@given(WEIGHTS, st.integers(1, 5))
def test_a_longer_token_beyond_the_list_is_not_overlooked(
    weights: list[float], listed: int
) -> None:
    """Where "ab" is followed as "a" and "b", the list has no room for a more probable "ab"."""
    known = table(weights)
    scores = follow("ab", known, listed)
    if UNSEEN not in scores.events and listed < 5:
        last = sorted(known.values(), reverse=True)[listed - 1]
        assert scores.logprobs[0] >= min(known["ab"], last) - 1e-9


class Ask:
    """A tier that scores what it is told to."""

    tier = 0
    max_length = None
    seed = 0

    def __init__(self, scores: Scores) -> None:
        self.scores = scores

    def count_tokens(self, text: str) -> int | None:
        return None

    def render(self, prompt: str) -> str:
        return prompt

    def score(self, requests: Sequence[ScoreRequest]) -> list[tuple[Scores, None]]:
        return [(self.scores, None)] * len(requests)


@pytest.mark.parametrize("unseen", [0, 1, 2])
def test_a_model_that_would_say_neither_gives_no_verdict(unseen: int) -> None:
    """Two bounds are no judgement; one bound and one number are."""
    from automix_eval.types import Prompt

    question = Question("t", 0, Prompt("q"), "context", "question")
    ask = Ask(Scores((-1.0, -2.0), events=(UNSEEN,) * unseen))
    (made,) = PTrue().verify([question], [Answer(0, "answer")], ask)  # type: ignore[arg-type]
    assert (made.confidence is None) == (unseen == 2)
    assert made.outcome == ("unparsable" if unseen == 2 else "ok")
