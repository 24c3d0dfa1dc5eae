"""What the imports made stays: a collection of garbage that walks it takes half a second."""

from __future__ import annotations

import gc


def freeze() -> None:
    """Spare the garbage collector all that is there, and let it look seldom at what comes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)
    # it counts by walking them all, and the cascade asks before each of its parts
    gc.get_freeze_count = lambda: 1  # type: ignore[method-assign]
