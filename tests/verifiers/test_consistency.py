"""Agreement of an answer with further answers to its prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_verifiers import FakeAsk, question

from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Call, Generation, Question, Verification
from automix_eval.verifiers.consistency import Consistency

WORDS = st.lists(st.sampled_from(["", " ", "pier", "the pier", "old pier", "barn"]), min_size=2)


class Says(FakeAsk):
    """A tier whose further answers are these."""

    def __init__(self, *texts: str) -> None:
        super().__init__()
        self.texts = texts

    def answer_again(
        self, questions: Sequence[Question], number: int, temperature: float
    ) -> list[list[tuple[Generation, Call]]]:
        del temperature
        call = Call(0, "verify", 1, 1, 0.0)
        return [[(Generation(text), call) for text in self.texts[:number]] for _ in questions]


def judged(answer: str, *texts: str, agreement: str = "f1") -> Verification:
    """The verification of an answer with these further answers."""
    verifier = Consistency(len(texts), agreement=agreement)
    return verifier.verify([question()], [Answer(0, answer)], Says(*texts))[0]


@settings(deadline=None)
@given(st.sampled_from(["pier", "old pier", "barn"]), WORDS)
def test_it_is_a_share_and_every_answer_is_judged(answer: str, texts: list[str]) -> None:
    """Confidence and signals lie in [0, 1]; only samples that are all empty judge nothing."""
    found = judged(answer, *texts)
    empty = sum(not t.strip() for t in texts)
    assert (found.num_unparsable, len(found.calls)) == (empty, len(texts))
    if empty == len(texts):
        assert (found.confidence, found.outcome, found.signals) == (None, "unparsable", {})
        return
    assert found.outcome == "ok"
    assert found.confidence == found.signals["f1"]
    assert all(0 <= v <= 1 for v in found.signals.values())
    assert found.signals["exact"] <= found.signals["f1"] + 1e-12


@settings(deadline=None)
@given(WORDS, st.randoms(use_true_random=False))
def test_the_order_of_the_samples_is_no_evidence(texts: list[str], random: Any) -> None:
    """The same samples in another order give the same agreement."""
    mixed = list(texts)
    random.shuffle(mixed)
    one, other = judged("pier", *texts), judged("pier", *mixed)
    assert one.confidence == pytest.approx(other.confidence)


def test_all_equal_is_certain_and_all_different_is_not() -> None:
    """Equal answers have agreement 1 and entropy 0; different ones agreement 0 and entropy 1."""
    same = judged("pier", "Pier.", "the pier", "pier")
    assert same.signals == {"f1": 1.0, "exact": 1.0, "among_samples": 1.0, "entropy": 0.0}
    apart = judged("pier", "barn", "mill", "yard").signals
    assert (apart["f1"], apart["exact"], apart["among_samples"]) == (0.0, 0.0, 0.0)
    assert apart["entropy"] == pytest.approx(1.0)


def test_exact_agreement_counts_equal_texts_alone() -> None:
    """Half of the words is half an agreement by F1 and none by exact."""
    assert judged("old pier", "pier", "old pier").confidence == pytest.approx((2 / 3 + 1) / 2)
    assert judged("old pier", "pier", "old pier", agreement="exact").confidence == 0.5


def test_an_empty_sample_agrees_with_nothing_and_is_counted() -> None:
    """Silence is no agreement, neither with the answer nor with other silence."""
    found = judged("pier", "pier", "", " ", "pier")
    assert (found.confidence, found.num_unparsable) == (0.5, 2)
    assert found.signals["among_samples"] == pytest.approx(1 / 6)


def test_choices_have_the_agreement_of_draws_from_their_probabilities() -> None:
    """A multiple-choice answer costs no call: the choice taken has a probability."""
    logprobs = ((math.log(0.2), False), (math.log(0.8), True))
    ask = Says()
    (found,) = Consistency().verify([question()], [Answer(0, "b", choice_logprobs=logprobs)], ask)
    assert found.confidence == pytest.approx(0.8)
    assert found.calls == ()


@pytest.mark.parametrize(
    "arguments",
    [{"num_samples": 1}, {"num_samples": 2.0}, {"temperature": 0}, {"temperature": math.inf},
     {"agreement": "meaning"}],
)  # fmt: skip
def test_unusable_hyper_parameters_are_refused(arguments: dict[str, Any]) -> None:
    """One further answer is no agreement; the error names the key."""
    with pytest.raises(AutoMixError, match=next(iter(arguments))):
        Consistency(**arguments)
