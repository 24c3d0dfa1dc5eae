"""What cost models that price every call by its own measurements share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Call, Verification


class MeteredCost:
    """A cost model whose answers and verifications cost the sum of their calls."""

    def price(self, call: Call) -> float:
        """Cost of one call."""
        raise NotImplementedError

    def answer_cost(self, answer: Answer) -> float:
        """Cost of all calls of one answer."""
        return math.fsum(self.price(c) for c in answer.calls)

    def verification_cost(self, verification: Verification) -> float:
        """Cost of all calls of one verification."""
        return math.fsum(self.price(c) for c in verification.calls)


def is_price(value: Any) -> bool:
    """Whether a value is a finite number of 0 or more."""
    return (
        isinstance(value, (int, float))
        and not isinstance(value, bool)
        and 0 <= value < float("inf")
    )


def check_numbers(key: str, values: Sequence[Any], unit: str) -> None:
    """Raise AutoMixError unless each value is None (unknown) or a finite number of 0 or more."""
    for tier, value in enumerate(values):
        if value is not None and not is_price(value):
            raise AutoMixError(
                f"{key}[{tier}] is {value!r}; {unit} is a finite number of 0 or more"
            )


def count(call: Call, kind: str, value: int | None, model: str) -> int:
    """A call's tokens of one kind.

    Raises:
        AutoMixError: The backend did not count them.
    """
    if value is None:
        raise AutoMixError(
            f"cost={model} cannot price a {call.role} call of tier {call.tier}: its backend did "
            f"not count its {kind} tokens. Give the tier a tokenizer (slm.tokenizer=..., "
            "llm.tokenizer=...) or use cost=paper"
        )
    return value
