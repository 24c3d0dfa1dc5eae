"""Which demonstrations a question gets: a function of the question, the seed and the task.

The harness draws them with one generator for all documents of a process in their order, so that a
question's prompt depends on the number of processes, the limit and the documents before it. Here
every question has a generator of its own.
"""

from __future__ import annotations

import copy
import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from automix_eval.safety.errors import AutoMixError


class Demonstrations:
    """Draws the demonstrations of the questions of one task.

    Args:
        task: The harness's task object.
    """

    def __init__(self, task: Any) -> None:
        self._task = task
        self._sampler = getattr(task, "sampler", None)
        self._pool: list[Any] | None = None
        self._places: dict[str, list[int]] = {}

    @property
    def are_drawn(self) -> bool:
        """Whether prompts hold demonstrations that are drawn, not the first ones of a list."""
        if self._sampler is None or not self._task.config.num_fewshot:
            return False
        from lm_eval.api.samplers import FirstNSampler

        return not isinstance(self._sampler, FirstNSampler)

    @contextmanager
    def of(self, doc: Mapping[str, Any], seed: str) -> Iterator[None]:
        """Have the task draw for one document: neither itself nor others on the same document."""
        if self._sampler is None or not self._task.config.num_fewshot:
            yield
            return
        own = copy.copy(self._sampler)
        own.df = self._without(doc)
        if len(own.df) == self._task.config.num_fewshot:
            # the harness would draw one more, lest it be the document itself, which is gone
            own.sample = lambda n, **_: type(own).sample(own, n)
        own._loaded = True
        own.rnd = random.Random(seed)
        self._task.sampler = own
        try:
            yield
        finally:
            self._task.sampler = self._sampler

    def check(self, docs: Callable[[], Iterable[Any]]) -> None:
        """Refuse a task that has fewer demonstrations for some document than a prompt is to hold.

        Args:
            docs: Gives the documents that are asked.

        Raises:
            AutoMixError: Names both numbers.
        """
        wanted = int(self._task.config.num_fewshot or 0)
        if self._sampler is None or not wanted:
            return
        pool = self._indexed()
        most = max(map(len, self._places.values()), default=0)
        if (
            len(pool) - most < wanted
            and (least := min((len(self._without(d)) for d in docs()), default=wanted)) < wanted
        ):
            raise AutoMixError(
                f"a prompt is to hold {wanted} demonstrations, and {least} of the {len(pool)} that "
                "the task has are on other documents than the question: lower --num_fewshot"
            )

    def _indexed(self) -> list[Any]:
        """The pool; where each document stands in it is known from then on."""
        if self._pool is None:
            assert self._sampler is not None
            self._pool = list(self._sampler.fewshot_docs())
            for place, other in enumerate(self._pool):
                for key in _keys(other):
                    self._places.setdefault(key, []).append(place)
        return self._pool

    def _without(self, doc: Mapping[str, Any]) -> list[Any]:
        pool = self._indexed()
        gone = {place for key in _keys(doc) for place in self._places.get(key, ())}
        return [d for i, d in enumerate(pool) if i not in gone] if gone else pool


def document_id(doc: Any) -> str:
    """Identity of the document that several questions share; empty where there is none."""
    value = doc.get("document_id") if isinstance(doc, Mapping) else None
    if value is None or value != value:  # a table's missing value is not equal to itself
        return ""
    return str(value)


def _keys(doc: Any) -> list[str]:
    """What documents that are the same have in common."""
    keys = ["doc " + json.dumps(doc, sort_keys=True, default=repr)]
    if name := document_id(doc):
        keys.append(f"id {name}")
    return keys
