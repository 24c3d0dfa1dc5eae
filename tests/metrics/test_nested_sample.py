"""Samples of calibration and training rows."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from automix_eval.metrics.nested_sample import nested_sample


@given(st.integers(1, 200), st.integers(0, 250), st.integers(0, 250), st.integers(0, 2**31))
def test_a_smaller_sample_is_part_of_a_larger_one(
    available: int, one: int, other: int, seed: int
) -> None:
    """More calibration data ask no question of less again; no row is drawn twice."""
    small, large = (nested_sample(available, n, seed) for n in sorted((one, other)))
    assert large[: len(small)] == small
    assert len(set(large)) == len(large) == min(max(one, other), available)
    assert set(large) <= set(range(available))


def test_the_stream_is_that_of_stored_calibration_calls() -> None:
    """Calls of a calibration made earlier are found again in the store."""
    assert nested_sample(2000, 50, 0) == random.Random(0).sample(range(2000), 50)
    assert sorted(nested_sample(20, 20, 0)) == list(range(20))
    assert nested_sample(1000, 4, 3) == [243, 606, 557, 133]
