"""How many examples a law is tried on."""

from __future__ import annotations

from hypothesis import settings

SUITE, DEEP = 40, 1000  # of a law whose test names no number, by the profile


def examples(number: int) -> int:
    """The number a test names; all of the profile ``deep``, where that is asked for."""
    return max(number, DEEP) if settings.default.max_examples == DEEP else number
