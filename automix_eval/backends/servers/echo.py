"""Log-likelihoods from a server that returns the prompt's log-probabilities (``echo``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from automix_eval.backends.servers.faults import CONTENT_FILTER, RequestError
from automix_eval.backends.servers.transport import Reply
from automix_eval.safety.errors import AutoMixError


class EchoScoring:
    """The harness's log-likelihoods, its requests and parser, without its sending loop."""

    exchange: Callable[
        [Sequence[Any], Callable[[int, Reply], None], Sequence[str], Sequence[Sequence[int]]], None
    ]

    def _loglikelihood_tokens(
        self,
        requests: Sequence[tuple[tuple[str, str], list[int], list[int]]],
        **_: Any,
    ) -> list[tuple[float, bool]]:
        lm: Any = self
        order = sorted(range(len(requests)), key=lambda i: requests[i][1] + requests[i][2])
        size = lm._batch_size
        chunks = [order[i : i + size] for i in range(0, len(order), size)]
        batches = [lm.batch_loglikelihood_requests([[requests[i] for i in c]]) for c in chunks]
        payloads = [
            lm._create_payload(lm.create_message(inputs), generate=False, seed=lm._seed)
            for inputs, _, _ in batches
        ]
        found: dict[int, tuple[float, bool]] = {}

        def read(number: int, reply: Reply) -> None:
            inputs, lengths, _ = batches[number]
            if reply.body is None:
                raise RequestError(
                    CONTENT_FILTER, "a content filter refused the prompt", retried=False
                )
            try:
                scored = lm.parse_logprobs(outputs=dict(reply.body), tokens=inputs, ctxlens=lengths)
            except (KeyError, TypeError, ValueError, IndexError, AttributeError) as err:
                raise AutoMixError(
                    "the server returns no log-probabilities of the prompt (echo), which "
                    "multiple-choice tasks need: use llama_cpp or hf for this tier"
                ) from err
            for i, value in zip(chunks[number], scored, strict=True):
                if not math.isfinite(value[0]):
                    raise AutoMixError(f"the server gave the log-probability {value[0]}")
                found[i] = value
                lm.cache_hook.add_partial("loglikelihood", requests[i][0], value)

        self.exchange(payloads, read, [request[0][0] for request in requests], chunks)
        return [found[i] for i in range(len(requests))]
