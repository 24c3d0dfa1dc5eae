"""How a result leaves a model of the harness as soon as it exists."""

from __future__ import annotations

import json
import time
from collections import defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any


class Hook:
    """Stands in for the harness's cache hook: results arrive as soon as they exist.

    The harness may finish requests in any order; equal requests are exchangeable, so each result
    goes to the first of them still waiting. A batch's seconds go to its first result.
    """

    dbdict = None

    def __init__(
        self, keys: Sequence[tuple[Any, Any]], deliver: Callable[[int, Any, float], None]
    ) -> None:
        self._waiting: dict[tuple[str, str], deque[int]] = defaultdict(deque)
        for i, (prompt, argument) in enumerate(keys):
            self._waiting[plain_prompt(prompt), argument].append(i)
        self._deliver = deliver
        self._left = set(range(len(keys)))
        self._clock = time.perf_counter()

    def add_partial(self, attr: str, req: Sequence[Any], res: Any) -> None:
        """Called by the harness's model for each finished request."""
        argument = req[1]
        if attr == "generate_until":
            argument = json.dumps(argument, sort_keys=True)
        queue = self._waiting.get((plain_prompt(req[0]), argument))
        if queue:
            self._give(queue.popleft(), res)

    def rest(self, results: Sequence[Any]) -> None:
        """Deliver what a model without a cache hook only returned."""
        for i in sorted(self._left):
            self._give(i, results[i])

    def _give(self, index: int, result: Any) -> None:
        now = time.perf_counter()
        self._left.discard(index)
        self._deliver(index, result, now - self._clock)
        self._clock = time.perf_counter()


def plain_prompt(prompt: Any) -> str:
    """The text of a prompt; the harness wraps chat prompts in a tuple of its own."""
    return str(getattr(prompt, "prompt", prompt))
