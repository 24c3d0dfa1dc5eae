"""What leaves a model of the harness: results as soon as they exist, and errors of its server."""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from automix_eval.safety.errors import AutoMixError, CallsFailedError


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


class FaultError(AutoMixError):
    """The model's server, or the way to it, failed."""


def raise_failed(failed: Mapping[int, FaultError]) -> None:
    """Raise CallsFailedError with the faults of requests, named after the first; or nothing."""
    if failed:
        reasons = {i: str(fault).partition("\n")[0] for i, fault in failed.items()}
        raise CallsFailedError(str(failed[min(failed)]), reasons)


def plain_prompt(prompt: Any) -> str:
    """The text of a prompt; the harness wraps chat prompts in a tuple of its own."""
    return str(getattr(prompt, "prompt", prompt))


def transport_errors() -> tuple[type[BaseException], ...]:
    """What the harness's classes raise where a server, or the way to it, fails."""
    import aiohttp
    import requests
    import tenacity

    return (
        requests.RequestException,
        aiohttp.ClientError,
        tenacity.RetryError,
        TimeoutError,
        ConnectionError,
    )


def null_placeholder() -> str:
    """The text that the harness puts in the place of an answer that a server did not give."""
    from lm_eval.models import api_models

    return str(getattr(api_models, "LMEVAL_MODEL_NONE_ANSWER_PLACEHOLDER", os.devnull))
