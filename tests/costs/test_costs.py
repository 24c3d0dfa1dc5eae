"""Cost models: they price recorded calls, and never guess."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.costs.flops import FlopsCost
from automix_eval.costs.from_config import cost_from, cost_prices, parse_costs
from automix_eval.costs.paper import PaperCost
from automix_eval.costs.seconds import SecondsCost
from automix_eval.costs.tokens import TokenCost
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Call, CostModel, Verification


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
    second = Verification(0, 0.5, calls=(Call(2, "verify", 200, 20, 0.1),))
    assert cost.verification_cost(second) == 1
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


@pytest.mark.parametrize("prices", [5, "cheap", None, {"slm": 1}, [1, 2], [[{"prompt": 1}]]])
def test_prices_of_another_shape_are_one_clear_error(prices: Any) -> None:
    """It says the shape, and how it is written on the command line."""
    with pytest.raises(AutoMixError, match=r"must be a list .* cost\.prices\.0\.prompt"):
        TokenCost(prices)


@pytest.mark.parametrize(
    ("cost", "name"),
    [(TokenCost([{"prompt": 1.0, "generated": 2.0}]), "tokens"), (FlopsCost([1e9]), "flops")],
)
@pytest.mark.parametrize(("kind", "counts"), [("prompt", (None, 1)), ("generated", (1, None))])
def test_uncounted_tokens_cannot_be_priced(
    cost: CostModel, name: str, kind: str, counts: tuple[int | None, int | None]
) -> None:
    """A backend that does not count is named with the remedy."""
    said = f"^cost={name} cannot price calls .verify. of tier 0: .* {kind} tokens.* a tokenizer"
    with pytest.raises(AutoMixError, match=said):
        cost.price(Call(0, "verify", *counts, 0.1))


@pytest.mark.parametrize(
    ("cost", "prices"),
    [
        (PaperCost((2.0, 30.0)), (2.0, 30.0)),
        (TokenCost([{"prompt": 1e6, "generated": 2e6}, {"prompt": 3e6, "generated": 0}]),
         (120.0, 300.0)),
        (FlopsCost([1e9, 5e9]), (2.2e11, 1.1e12)),
        (SecondsCost([2.0, 7.0]), (0.2, 0.7)),
    ],
)  # fmt: skip
def test_every_tier_has_its_own_price(cost: CostModel, prices: tuple[float, float]) -> None:
    """An answer by 100 tokens of prompt and 10 generated ones; a tier too many is named."""
    cost.check(2)
    assert [cost.answer_cost(answer(t)) for t in (0, 1)] == pytest.approx(prices)
    for ask in (lambda: cost.check(3), lambda: cost.answer_cost(answer(2))):
        with pytest.raises(AutoMixError, match=r"^cost=.* (for tier 2|of tier 2|for 3 tiers): "):
            ask()


@pytest.mark.parametrize(
    "make",
    [
        lambda: PaperCost((1, -1)),
        lambda: PaperCost((1, float("inf"))),
        lambda: PaperCost(("a", 1)),  # type: ignore[arg-type]
        lambda: TokenCost([{"prompt": -1.0}]),
        lambda: TokenCost([{"input": 1.0}]),
        lambda: FlopsCost([-1.0]),
        lambda: FlopsCost([1e9, None]).check(2),
        lambda: FlopsCost([1e9]).check(2),
        lambda: SecondsCost([float("nan")]),
        lambda: SecondsCost([1.0]).check(2),
        lambda: PaperCost((1, 5, 50)).check(2),
    ],
)
def test_unusable_prices_are_refused(make: object) -> None:
    """Negative, infinite, misspelt or missing prices never enter a table."""
    with pytest.raises(AutoMixError, match="cost"):
        make()  # type: ignore[operator]


def call(prompt: int = 100, made: int = 10, cached: int | None = None) -> Call:
    """A call of the first tier that took half a second."""
    return Call(0, "answer", prompt, made, 0.5, cached)


@given(st.integers(0, 1000), st.integers(0, 1000), st.floats(0, 10), st.floats(0, 1))
def test_cached_tokens_have_their_own_price(
    prompt: int, cached: int, price: float, share: float
) -> None:
    """Without one they cost what fresh tokens cost; they never exceed the prompt."""
    known = min(prompt, cached)
    plain = TokenCost([{"prompt": price, "generated": 0.0}])
    apart = TokenCost([{"prompt": price, "cached": price * share, "generated": 0.0}])
    one = call(prompt, 0, cached)
    assert plain.price(one) == pytest.approx(price * prompt / 1e6)
    assert apart.price(one) == pytest.approx(price * (prompt - known + share * known) / 1e6)
    assert apart.price(call(prompt, 0)) == plain.price(call(prompt, 0))


def test_flops_count_what_is_computed() -> None:
    """Two operations a parameter and token; tokens of the cache are not computed again."""
    cost = FlopsCost([1e9])
    assert cost.price(call()) == 2e9 * 110
    assert cost.price(call(cached=60)) == 2e9 * 50
    assert cost.verification_cost(Verification(0, 0.5, calls=(call(), call()))) == 4e9 * 110


def test_seconds_are_priced_by_tier() -> None:
    """As they are, or at the price of the machine; an untimed call is an error."""
    assert SecondsCost().price(call()) == 0.5
    assert SecondsCost([3.0]).price(call()) == 1.5
    with pytest.raises(AutoMixError, match="does not time"):
        SecondsCost().price(Call(0, "answer", 1, 1, None))


def test_listed_prices_are_those_of_the_package() -> None:
    """By the model's name; what is written out goes first, an unknown model is an error."""
    pytest.importorskip("genai_prices")
    from genai_prices import Usage, calc_price

    cost = TokenCost([{"model": "gpt-4o-mini"}])
    listed = calc_price(
        Usage(input_tokens=1000, cache_read_tokens=400, output_tokens=100), "gpt-4o-mini"
    )
    assert cost.price(call(1000, 100, 400)) == pytest.approx(float(listed.total_price))
    dearer = TokenCost([{"model": "gpt-4o-mini", "generated": 1e6}])
    assert dearer.price(call(0, 1)) == pytest.approx(1.0)
    with pytest.raises(AutoMixError, match="genai-prices knows no such price"):
        TokenCost([{"model": "a-model-that-nobody-sells"}])


def test_prices_of_the_command_line_are_those_of_the_configuration(tmp_path) -> None:
    """The verifier's price is the second; what is no price is refused with the forms there are."""
    made = cost_from(parse_costs("paper:1,2,30,50"))
    assert vars(made) == vars(PaperCost([1.0, 30.0, 50.0], 2.0))
    assert parse_costs("flops:1e8,7e9") == {"name": "flops", "parameters": [1e8, 7e9]}
    assert parse_costs("seconds") == {"name": "seconds"}
    for wrong in ("paper:", "paper:1,x", "flops:", "flops:a", "dollars:1", "tokens:", "seconds:1"):
        with pytest.raises(AutoMixError, match=rf"^--costs {wrong}.*--costs takes paper:SLM"):
            parse_costs(wrong)
    with pytest.raises(AutoMixError, match=r"^--costs tokens:.*none.yaml cannot be read"):
        parse_costs(f"tokens:{tmp_path}/none.yaml")


@pytest.mark.parametrize(
    ("text", "fits"),
    [
        ("- {prompt: 0.1, generated: 0.4}\n- {prompt: 1, generated: 4}", True),
        ("prices: [{prompt: 0.1, generated: 0.4}, {prompt: 1, generated: 4}]", True),
        ("price: []", False),
        ("free", False),
    ],
)
def test_prices_of_a_file(tmp_path, text: str, fits: bool) -> None:
    """A list with a mapping a tier, or a mapping that holds it."""
    path = tmp_path / "prices.yaml"
    path.write_text(text, encoding="utf-8")
    if fits:
        prices = [{"prompt": 0.1, "generated": 0.4}, {"prompt": 1, "generated": 4}]
        assert parse_costs(f"tokens:{path}") == {"name": "tokens", "prices": prices}
    else:
        with pytest.raises(AutoMixError, match=f"^--costs tokens:{path} must hold a list"):
            parse_costs(f"tokens:{path}")


def test_a_cost_model_is_made_of_known_numbers() -> None:
    """Of a manifest: no other name or key, and no code; its prices, tier by tier, are shown."""
    made = cost_from({"name": "flops", "parameters": [1.0, 2.0], "_target_": "os.abort"})
    assert isinstance(made, FlopsCost)
    assert cost_prices(made) == [1.0, 2.0]
    assert cost_prices(SecondsCost([3.0])) == [3.0]
    assert cost_prices(SecondsCost()) == ()
    assert cost_prices(PaperCost((1, 9), 5)) == (1, 9)
    for wrong, said in (
        ({}, "^no cost model is named; the report knows paper, tokens, flops, seconds$"),
        ("paper", "^no cost model is named"),
        ({"name": "gold"}, "^the cost model 'gold' is unknown"),
        ({"name": "paper", "b": 1, "a": 1}, "^cost=paper has the unknown parameters 'a', 'b'; it "
                                            "takes tiers, verifier$"),
        ({"name": "flops"}, "^cost=flops cannot be built from {}"),
    ):  # fmt: skip
        with pytest.raises(AutoMixError, match=said):
            cost_from(wrong)
