"""What multiple-choice metrics compare."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.metrics.choice_values import choice_confidence, compared_values, softmax


@pytest.mark.parametrize(
    ("metric", "expected"),
    [
        ("acc", [-6.0, -2.0, -3.0]),
        ("acc_norm", [-2.0, -2.0, -3.0]),  # characters: 3, 1, and an empty choice counts as one
        ("acc_bytes", [-1.5, -2.0, -3.0]),  # bytes: 4, 1, 1
        ("acc_mutual_info", [-6.0, -2.0, -3.0]),
    ],
)
def test_choices_are_compared_as_the_harness_compares_them(
    metric: str, expected: list[float]
) -> None:
    """By length in characters or bytes, and less what the choice alone is worth."""
    texts = ["caf\u00e9"[1:], "a", ""]
    assert compared_values(metric, [-6.0, -2.0, -3.0], texts) == expected
    assert compared_values(metric, [-6.0, -2.0, -3.0], []) == [-6.0, -2.0, -3.0]
    both = compared_values(metric, [-6.0, -2.0, -3.0, -5.0, -1.0, 1.0], texts)
    assert both == ([-1.0, -1.0, -4.0] if metric == "acc_mutual_info" else expected)


@given(st.lists(st.floats(-900, 900), min_size=1, max_size=6))
def test_a_choice_is_as_sure_as_its_share(values: list[float]) -> None:
    """Shares of e to the values, largest first; the margin is the lead over the second best."""
    rates = sorted(1 / sum(math.exp(min(w - v, 700)) for w in values) for v in values)[::-1]
    assert softmax(values) == pytest.approx(rates)
    assert choice_confidence(values, "probability") == pytest.approx(rates[0])
    lead = rates[0] - (rates[1] if len(rates) > 1 else 0)
    assert choice_confidence(values, "margin") == pytest.approx(lead)
