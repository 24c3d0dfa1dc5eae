"""Laws of ending a verification early: in a sample, and before all samples are drawn."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_verifiers import FakeAsk, answer, question

from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Call, GenerateRequest, Generation
from automix_eval.verifiers.early_stopping import rounds, settled
from automix_eval.verifiers.few_shot import FewShot, parse_decision, until_decision

ROUTERS = st.lists(st.floats(0, 1), max_size=3).map(
    lambda cuts: lambda confidence: sum(confidence > cut for cut in cuts) % 2
)


def share(decisions: Sequence[bool | None]) -> float | None:
    """Confidence of samples with and without a decision."""
    parsed = [d for d in decisions if d is not None]
    return sum(parsed) / len(parsed) if parsed else None


class Scripted(FakeAsk):
    """A tier whose i-th sample decides as written, under a given router."""

    def __init__(self, decisions: Sequence[bool | None], router: object = None) -> None:
        super().__init__()
        self.decisions = decisions
        self.decide = None if router is None else lambda _, confidence: router(confidence)  # type: ignore[operator]

    def generate(
        self, requests: Sequence[GenerateRequest], token_probs: bool = False
    ) -> list[tuple[Generation, Call]]:
        self.requests += requests
        texts = {
            True: "x Verification Decision: The AI generated answer is Correct. More, Incorrect",
            False: "x Verification Decision: The AI generated answer is Incorrect.",
            None: "x",
        }
        return [
            (
                Generation(texts[self.decisions[(r.seed or 0) - self.seed]]),
                Call(0, "verify", 1, 1, 0.0),
            )
            for r in requests
        ]


@given(st.integers(1, 40))
def test_rounds_draw_every_sample_once(number: int) -> None:
    """Together the rounds are all samples in order; none is empty."""
    drawn = list(rounds(number))
    assert [sample for batch in drawn for sample in batch] == list(range(number))
    assert all(drawn)


@given(st.lists(st.sampled_from([True, False, None]), min_size=1, max_size=9), ROUTERS)
def test_stopping_at_error_rate_zero_changes_no_decision(
    decisions: list[bool | None], router: object
) -> None:
    """Whatever the samples and the router, the route is that of all; savings are counted."""
    ask = Scripted(decisions, router)
    verifier = FewShot(num_samples=len(decisions), stop_early=0)
    (found,) = verifier.verify([question()], [answer("pier")], ask)
    whole = share(decisions)
    if whole is None:
        assert found.confidence is None
    else:
        assert found.confidence is not None
        assert router(found.confidence) == router(whole)  # type: ignore[operator]
    assert (
        found.saved_samples
        == len(decisions) - len(ask.requests)
        == len(decisions) - len(found.calls)
    )


def test_samples_are_saved_where_the_route_is_clear() -> None:
    """Five of eight alike settle a majority: the first round of four does not, the second does."""
    ask = Scripted([True] * 8, lambda confidence: int(confidence <= 0.5))
    (found,) = FewShot(stop_early=0).verify([question()], [answer("pier")], ask)
    assert (found.confidence, found.saved_samples, len(found.samples)) == (1.0, 2, 6)
    ask = Scripted([True] * 8, lambda confidence: int(confidence <= 0.5))
    (found,) = FewShot(stop_early=0.1).verify([question()], [answer("pier")], ask)
    assert found.saved_samples == 4


def test_a_calibration_draws_all_samples() -> None:
    """Without a router there is nothing to settle."""
    ask = Scripted([True] * 8)
    (found,) = FewShot(stop_early=0.5).verify([question()], [answer("pier")], ask)
    assert (len(found.calls), found.saved_samples) == (8, 0)


def test_the_error_rate_is_kept() -> None:
    """Stopped decisions differ from those of all samples no more often than stated."""
    draw = random.Random(5)
    wrong = trials = 0
    for _ in range(4000):
        p = draw.random()
        decisions = [draw.random() < p for _ in range(16)]
        router = lambda confidence: int(confidence <= 0.5)  # noqa: E731
        for batch in rounds(16):
            drawn = decisions[: batch.stop]
            if settled(router, sum(drawn), len(drawn), 16 - len(drawn), 0.05):
                break
        trials += 1
        wrong += router(share(drawn) or 0.0) != router(share(decisions) or 0.0)
    assert 0 < wrong / trials < 0.05


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (
            "Why. Verification Decision: The AI generated answer is Correct.\n\nQuestion:",
            "Why. Verification Decision: The AI generated answer is Correct.",
        ),
        (
            "verification decision: the ai generated answer is correctly spelt",
            "verification decision: the ai generated answer is correctly spelt",
        ),
        ("The AI generated answer is Correct. No", "The AI generated answer is Correct. No"),
    ],
)
def test_a_sample_ends_at_its_decision(text: str, kept: str) -> None:
    """What a model invents after its decision is no part of its judgement."""
    assert until_decision(text) == kept
    assert parse_decision(text) == parse_decision(kept)


def test_the_first_verification_decision_counts() -> None:
    """A backend that cannot stop there returns more, and the outcome is the same."""
    told = "Verification Decision: The AI generated answer is Incorrect."
    assert parse_decision(f"{told} --- {told.replace('Incorrect', 'Correct')}") is False


@pytest.mark.parametrize("rate", [-0.1, 1, "0.1", True])
def test_an_unusable_error_rate_is_refused(rate: object) -> None:
    """The error names the key."""
    with pytest.raises(AutoMixError, match="stop_early"):
        FewShot(stop_early=rate)  # type: ignore[arg-type]
