"""Cost models: they price recorded calls, and never guess."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.costs.paper import PaperCost
from automix_eval.costs.tokens import TokenCost
from automix_eval.types import Answer, AutoMixError, Call, Verification


def answer(tier: int, calls: int = 1, prompt: int | None = 100, made: int | None = 10) -> Answer:
    """An answer that took some calls."""
    return Answer(tier, "x", (Call(tier, "answer", prompt, made, 0.1),) * calls)


def verification(samples: int) -> Verification:
    """A verification that drew some samples."""
    return Verification(0, 0.5, calls=(Call(0, "verify", 200, 20, 0.1),) * samples)


@given(st.integers(1, 32))
def test_the_paper_s_unit_is_a_call_whatever_its_length(samples: int) -> None:
    """K samples are one verification; a margin, without a call, is free."""
    cost = PaperCost((1, 50), 1)
    assert cost.answer_cost(answer(0)) == 1
    assert cost.answer_cost(answer(1, calls=4)) == 50
    assert cost.verification_cost(verification(samples)) == 1
    assert cost.verification_cost(verification(0)) == 0


@given(st.integers(1, 9), st.floats(0, 100), st.floats(0, 100))
def test_token_cost_is_linear_in_the_tokens(calls: int, prompt: float, made: float) -> None:
    """Every call is priced by its own tokens."""
    cost = TokenCost([{"prompt": prompt, "generated": made}])
    one = cost.answer_cost(answer(0))
    assert one == pytest.approx((100 * prompt + 10 * made) / 1e6)
    assert cost.answer_cost(answer(0, calls)) == pytest.approx(calls * one)


@pytest.mark.parametrize(
    "prices", [[{"prompt": 1.0, "generated": 2.0}], [None, None], [{"prompt": 1.0}] * 2]
)
def test_an_unknown_price_is_an_error(prices: list[dict[str, float] | None]) -> None:
    """Never 0: the error names the key."""
    with pytest.raises(AutoMixError, match=r"cost\.prices"):
        TokenCost(prices).check(2)


def test_uncounted_tokens_cannot_be_priced() -> None:
    """A backend that does not count is named with the remedy."""
    cost = TokenCost([{"prompt": 1.0, "generated": 2.0}])
    with pytest.raises(AutoMixError, match="tokenizer"):
        cost.answer_cost(answer(0, prompt=None))


@pytest.mark.parametrize(
    "make",
    [
        lambda: PaperCost((1, -1)),
        lambda: PaperCost((1, float("inf"))),
        lambda: PaperCost(("a", 1)),  # type: ignore[arg-type]
        lambda: TokenCost([{"prompt": -1.0}]),
        lambda: TokenCost([{"input": 1.0}]),
        lambda: PaperCost((1, 5, 50)).check(2),
    ],
)
def test_unusable_prices_are_refused(make: object) -> None:
    """Negative, infinite, misspelt or missing prices never enter a table."""
    with pytest.raises(AutoMixError, match="cost"):
        make()  # type: ignore[operator]
