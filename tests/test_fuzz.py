"""Files and texts of others never do more than fail as promised; see fuzz_targets.py."""

from __future__ import annotations

import random

import pytest
from fuzz_targets import Target, mutate, targets
from hypothesis import given, settings
from hypothesis import strategies as st

NAMES = list(targets())
EXAMPLES = 150  # `make fuzz` has many more


@pytest.mark.parametrize("name", NAMES)
def test_seeds_are_taken(name: str) -> None:
    """What is mutated is good input: a parser that refuses everything would pass every fuzzing."""
    target = targets()[name]
    for seed in target.seeds:
        try:
            target.run(seed)
        except target.promised:
            assert name in ("tiers", "reply", "store")


@pytest.mark.parametrize("name", NAMES)
def test_any_bytes(name: str) -> None:
    """Random bytes."""
    target = targets()[name]
    run_on(target, st.binary(max_size=300))


@pytest.mark.parametrize("name", NAMES)
def test_neighbours_of_good_input(name: str) -> None:
    """Good input with values or bytes exchanged."""
    target = targets()[name]
    seeds = st.sampled_from(target.seeds)
    numbers = st.integers(0, 2**32)
    run_on(target, st.builds(lambda s, n: mutate(s, random.Random(n)), seeds, numbers))


def run_on(target: Target, inputs: st.SearchStrategy[bytes]) -> None:
    """A few hundred inputs, the same ones every time."""
    examples = max(10, round(EXAMPLES * target.share))

    @settings(max_examples=examples, deadline=None, derandomize=True, database=None)
    @given(inputs)
    def run(data: bytes) -> None:
        target(data)

    run()
