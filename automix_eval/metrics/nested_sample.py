"""Random samples of which a smaller one is part of a larger one of the same seed."""

from __future__ import annotations

import random


def nested_sample(available: int, number: int, seed: int) -> list[int]:
    """Different numbers below ``available``; a smaller sample is the beginning of a larger one.

    So more calibration data repeat no model call of less; ``Random.sample`` promises no such thing.

    Args:
        available: Numbers to choose from.
        number: How many to choose; all where there are no more.
        seed: Of the draws, at least 0.
    """
    generator = random.Random(seed)
    found: dict[int, None] = {}
    while len(found) < min(number, available):
        found[generator.randrange(available)] = None
    return list(found)
