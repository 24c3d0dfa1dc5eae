"""The signals of an answer's token probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_verifiers import FakeAsk, question

from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Prompt, Question, Verification
from automix_eval.verifiers.margin import Margin
from automix_eval.verifiers.token_profile import TokenProfile

LOGPROBS = st.lists(st.floats(-40, 0), min_size=1, max_size=30)


def judged(answer: Answer, asked: Question | None = None) -> Verification:
    """The verification of one answer."""
    return TokenProfile().verify([asked or question()], [answer], FakeAsk())[0]


def choices(*continuations: str) -> Question:
    """A multiple-choice question."""
    return Question(
        "t", 0, Prompt("p"), "c", "q", choices=tuple((Prompt("p"), c) for c in continuations)
    )


@given(LOGPROBS)
def test_signals_are_order_statistics_of_the_tokens(logprobs: list[float]) -> None:
    """Minimum, quantiles and means are numpy's, and lie in order."""
    leads = tuple(0.5 for _ in logprobs)
    found = judged(Answer(0, "x", token_logprobs=tuple(logprobs), token_margins=leads))
    s = found.signals
    assert s["low_probability"] == pytest.approx(math.exp(np.quantile(logprobs, 0.1)))
    assert s["median_probability"] == pytest.approx(math.exp(np.median(logprobs)))
    assert s["mean_probability"] == pytest.approx(math.exp(np.mean(logprobs)))
    assert s["answer_probability"] <= s["min_probability"] <= s["low_probability"] + 1e-12
    assert s["num_tokens"] == pytest.approx(math.log1p(len(logprobs)))
    assert all(0 <= v <= 1 for name, v in s.items() if name != "num_tokens")
    assert found.calls == ()


def test_the_confidence_is_the_default_margin_s() -> None:
    """Without a calibrator the profile routes as margin does."""
    answers = [
        Answer(0, "x", token_logprobs=(-0.1, -2.0), token_margins=(0.5, 0.1)),
        Answer(0, "b", choice_logprobs=((-3.0, False), (-1.0, True))),
        Answer(0, " "),
    ]
    asked = [question()] * 3
    profile = TokenProfile().verify(asked, answers, FakeAsk())
    margin = Margin().verify(asked, answers, FakeAsk())
    assert [(v.confidence, v.outcome) for v in profile] == [
        (v.confidence, v.outcome) for v in margin
    ]
    assert profile[2].signals == {}


def test_choices_are_compared_whole_and_by_length() -> None:
    """A long choice loses probability with every letter; by letter it may be the first."""
    logprobs = (math.log(0.6), math.log(0.3), math.log(0.1))
    answer = Answer(0, "no", choice_logprobs=tuple((p, False) for p in logprobs))
    s = judged(answer, choices(" no", " certainly not", " yes")).signals
    assert s["choice_probability"] == pytest.approx(0.6)
    assert s["choice_margin"] == pytest.approx(0.3)
    assert 0 < s["choice_entropy"] < 1
    assert s["even_rank"] == 0.5
    flat = Answer(0, "no", choice_logprobs=((-1.0, False),) * 3)
    assert judged(flat, choices(" a", " b", " c")).signals["choice_entropy"] == pytest.approx(1)


def test_a_single_choice_has_defined_signals() -> None:
    """One choice is certain: no second best, no entropy, no other place."""
    s = judged(Answer(0, "a", choice_logprobs=((-9.0, True),)), choices(" a")).signals
    assert (s["choice_probability"], s["choice_margin"], s["choice_entropy"]) == (1.0, 1.0, 0.0)
    assert s["even_rank"] == 0.0


def test_no_token_probabilities_is_an_error_with_a_way_out() -> None:
    """A backend that gives none cannot be profiled."""
    with pytest.raises(AutoMixError, match="verifier=few_shot"):
        judged(Answer(0, "pier"))
