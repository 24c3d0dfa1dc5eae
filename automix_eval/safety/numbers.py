"""What counts as a number where a user or a file gives one: finite, and no truth value."""

from __future__ import annotations

import math
from typing import Any, TypeGuard


def is_number(value: Any, low: float = -math.inf, high: float = math.inf) -> TypeGuard[float]:
    """Whether it is a finite number in [low, high], and no truth value."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # compared, not converted: an integer may be too large for a float
    return number and -math.inf < value < math.inf and low <= value <= high


def is_whole(value: Any, least: float = -math.inf) -> TypeGuard[int]:
    """Whether it is an integer of at least ``least``, and no truth value."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
