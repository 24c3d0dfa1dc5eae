"""What somebody may have meant by a name that does not exist."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(name: object, known: Iterable[str], most: int = 3) -> str:
    """The end of an error's first sentence: the nearest names, or a full stop."""
    near = difflib.get_close_matches(str(name), list(known), most, cutoff=0.5)
    return f"; did you mean {' or '.join(near)}?" if near else "."
