"""What multiple-choice metrics compare."""

from __future__ import annotations

import pytest

from automix_eval.metrics.choice_values import compared_values


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
