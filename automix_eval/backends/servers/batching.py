"""Which generation requests share one request to a server, in which order, and who pays."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automix_eval.backends.servers import replies
from automix_eval.backends.servers.replies import Usage
from automix_eval.types import GenerateRequest


@dataclass(frozen=True, slots=True)
class RequestBatch:
    """One request to the server: several prompts, or several samples of one."""

    indices: Sequence[int]
    prompts: Sequence[str]
    samples: int
    generation: Mapping[str, Any]
    seed: int | None

    @property
    def until(self) -> list[str]:
        """The stop sequences."""
        until = self.generation.get("until") or []
        return [until] if isinstance(until, str) else list(until)


def group(requests: Sequence[GenerateRequest], n: int, batch: int) -> list[RequestBatch]:
    """Requests to a server, those with a common beginning next to each other.

    Args:
        requests: What to generate.
        n: Samples of one prompt in one request; 1 keeps them apart.
        batch: Prompts in one request; 1 keeps them apart. One of the two is 1.
    """
    buckets: dict[Any, list[int]] = defaultdict(list)
    for i in sorted(range(len(requests)), key=lambda i: (requests[i].prompt, i)):
        request = requests[i]
        arguments = json.dumps(dict(request.generation), sort_keys=True)
        key: Any = i
        if n > 1 and request.seed is not None:
            key = (request.prompt, arguments)
        elif batch > 1:
            key = (arguments, request.seed)
        buckets[key].append(i)
    size = max(n, batch)
    batches = []
    for bucket in buckets.values():
        for start in range(0, len(bucket), size):
            indices = bucket[start : start + size]
            first = requests[indices[0]]
            samples = len(indices) if n > 1 else 1
            prompts = [requests[i].prompt for i in indices[::samples]]
            batches.append(RequestBatch(indices, prompts, samples, first.generation, first.seed))
    return batches


def divide(usage: Usage, batch: RequestBatch) -> list[Usage]:
    """The usage of each answer; sums are the server's, and a prompt of many samples counts once."""
    number = len(batch.indices)
    if number == 1:
        return [usage]
    if batch.samples == 1:
        return [Usage()] * number  # nobody can divide the tokens of several prompts
    total = usage.generated
    shares = [
        None if total is None else total // number + (i < total % number) for i in range(number)
    ]
    rest = Usage(None, None) if usage.prompt is None else Usage(0, 0)
    return [
        Usage((usage if i == 0 else rest).prompt, (usage if i == 0 else rest).cached, shares[i])
        for i in range(number)
    ]


def events_of(choice: Mapping[str, Any], usage: Usage, think_end: Any) -> tuple[str, ...]:
    """What is worth counting of one answer."""
    end, text = replies.end_of(choice), replies.text_of(choice) or ""
    unknown = usage.prompt is None or usage.generated is None
    return (
        *((end,) if end else ()),
        *(() if text else ("empty",)),
        *(("no_usage",) if unknown else ()),
        *replies.thought_cut(text, think_end, end == "length"),
    )
