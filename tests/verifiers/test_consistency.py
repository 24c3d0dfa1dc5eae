"""Agreement of an answer with further answers to its prompt."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_verifiers import FakeAsk, question
from tiny_models import save_tiny_encoder

from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Call, Generation, Question, Verification
from automix_eval.verifiers.consistency import Consistency

WORDS = st.lists(st.sampled_from(["", " ", "pier", "the pier", "old pier", "barn"]), min_size=2)


OTHER: Any = SimpleNamespace(label="other")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of a random encoder."""
    return str(save_tiny_encoder(tmp_path_factory.mktemp("tiny")))


class Says(FakeAsk):
    """A tier whose further answers are these, and what another model says."""

    def __init__(self, *texts: str, other: str = "") -> None:
        super().__init__()
        self.texts = texts
        self.other = other

    def answer_by(self, model: Any, questions: Sequence[Question]) -> list[Answer]:
        assert model is OTHER
        return [Answer(0, self.other, (Call(0, "verify", 1, 1, 0.0),)) for _ in questions]

    def answer_again(
        self, questions: Sequence[Question], number: int, temperature: float
    ) -> list[list[tuple[Generation, Call]]]:
        del temperature
        call = Call(0, "verify", 1, 1, 0.0)
        return [[(Generation(text), call) for text in self.texts[:number]] for _ in questions]


def judged(answer: str, *texts: str, other: str | None = None, **options: Any) -> Verification:
    """The verification of an answer with these further answers, and a second model's."""
    verifier = Consistency(len(texts), second=None if other is None else OTHER, **options)
    ask = Says(*texts, other=other or "")
    return verifier.verify([question()], [Answer(0, answer)], ask)[0]


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


@given(WORDS, st.randoms(use_true_random=False))
def test_the_order_of_the_samples_is_no_evidence(texts: list[str], random: Any) -> None:
    """The same samples in another order give the same agreement and the same signals."""
    mixed = list(texts)
    random.shuffle(mixed)
    one, other = judged("pier", *texts), judged("pier", *mixed)
    assert one.confidence == pytest.approx(other.confidence)
    assert one.signals == pytest.approx(other.signals)


def test_all_equal_is_certain_and_all_different_is_not() -> None:
    """Equal answers have agreement 1 and entropy 0; different ones agreement 0 and entropy 1."""
    same = judged("pier", "Pier.", "the pier", "pier")
    assert same.signals == {"f1": 1.0, "exact": 1.0, "among_samples": 1.0, "entropy": 0.0}
    apart = judged("pier", "barn", "mill", "yard").signals
    assert (apart["f1"], apart["exact"], apart["among_samples"]) == (0.0, 0.0, 0.0)
    assert apart["entropy"] == pytest.approx(1.0)


@given(st.sampled_from(["pier", "old pier", "barn"]), WORDS, st.floats(-1, 1))
def test_by_embedding_it_is_how_few_groups_of_meaning_there_are(
    tiny: str, answer: str, texts: list[str], similarity: float
) -> None:
    """One group is certain, n groups are not; in between less than n - 1 of n are."""
    found = judged(answer, *texts, agreement="embedding", encoder=tiny, similarity=similarity)
    if not any(t.strip() for t in texts):
        assert (found.confidence, found.outcome) == (None, "unparsable")
        return
    assert found.confidence == 1 - found.signals["entropy"]
    assert 0 <= found.confidence <= 1
    groups = {t.strip() for t in (answer, *texts)}
    if len(groups) == 1:  # a text is as near to itself as can be
        assert found.confidence == 1
    if similarity == -1 and "" not in groups:
        assert found.confidence == 1


def test_silence_is_a_group_of_its_own(tiny: str) -> None:
    """However near the encoder puts it, an empty answer says the same as no other."""
    # with the other text in memory the encoder would read silence alone, which has no token
    judged("pier", "pier", "pier", agreement="embedding", encoder=tiny)
    found = judged("pier", "pier", "", agreement="embedding", encoder=tiny, similarity=-1.0)
    thirds = -(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)) / math.log(3)
    assert found.confidence == pytest.approx(1 - thirds)
    assert found.num_unparsable == 1


def test_answers_of_one_meaning_need_not_share_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the encoder puts together counts as said twice, and a chain of likes is one group."""
    angle = {"pier": 0.0, "jetty": 0.6, "dock": 1.2, "barn": 3.0}
    monkeypatch.setattr(
        "automix_eval.verifiers.consistency.embed",
        lambda _, texts, __: np.array([[math.cos(angle[t]), math.sin(angle[t])] for t in texts]),
    )
    near = {"agreement": "embedding", "similarity": 0.8}
    assert judged("pier", "jetty", "dock", **near).confidence == 1
    halves = judged("pier", "jetty", "dock", "barn", **near)
    quarters = -(3 / 4 * math.log(3 / 4) + 1 / 4 * math.log(1 / 4)) / math.log(4)
    assert halves.confidence == pytest.approx(1 - quarters)
    assert halves.signals["f1"] == 0


def test_an_encoder_that_is_not_installed_is_refused_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Before any model is asked; of the other agreements none needs it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(AutoMixError, match="agreement=embedding: the encoder"):
        Consistency(agreement="embedding")
    assert Consistency().identity["agreement"] == "f1"


def test_a_second_model_is_one_more_to_agree_with() -> None:
    """It counts as each sample does, is a signal of its own, and is paid with them."""
    found = judged("pier", "pier", "barn", "pier", "barn", other="pier")
    assert (found.confidence, found.signals["second_f1"], len(found.calls)) == (0.6, 1.0, 5)
    assert judged("pier", "pier", "pier", "pier", other="barn").confidence == 0.75
    silent = judged("pier", "pier", "pier", "pier", other=" ")
    assert (silent.confidence, silent.num_unparsable) == (0.75, 1)


def test_a_second_model_alone_needs_no_samples() -> None:
    """K = 0: one call a question, and the confidence is whether both say the same."""
    found = judged("pier", other="The pier.")
    assert (found.confidence, len(found.calls), found.samples) == (1.0, 1, ("The pier.",))
    assert found.signals == {"f1": 1.0, "exact": 1.0, "second_f1": 1.0, "entropy": 0.0}
    assert judged("pier", other="barn").confidence == 0.0
    assert judged("pier", other="").outcome == "unparsable"


def test_a_second_model_chooses_too() -> None:
    """Its choice of a multiple-choice question weighs as one of k + 1 draws."""
    logprobs = ((math.log(0.2), False), (math.log(0.8), True))
    verifier = Consistency(num_samples=3, second=OTHER)
    for other, confidence in (("b", 0.85), ("a", 0.6)):
        given_answer = Answer(0, "b", choice_logprobs=logprobs)
        (found,) = verifier.verify([question()], [given_answer], Says(other=other))
        assert found.confidence == pytest.approx(confidence)
        assert len(found.calls) == 1


def test_a_policy_belongs_to_the_second_model_and_the_encoder() -> None:
    """What decides the confidence is part of the identity, and what does not is none."""
    plain = Consistency(similarity=0.7).identity
    assert set(plain) == {"name", "num_samples", "temperature", "agreement"}
    assert Consistency(second=OTHER).identity == {**plain, "second": "other"}


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
     {"agreement": "meaning"}, {"similarity": 1.5}, {"similarity": "high"},
     {"num_samples": -1, "second": OTHER}, {"num_samples": 1, "second": 0}],
)  # fmt: skip
def test_unusable_hyper_parameters_are_refused(arguments: dict[str, Any]) -> None:
    """One further answer is no agreement; the error names the key."""
    with pytest.raises(AutoMixError, match=next(iter(arguments))):
        Consistency(**arguments)
