"""Templates of the harness's tasks, compiled once while a run of the cascade goes on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

_MOST = 256  # templates kept; a task has a handful


@contextmanager
def templates_compiled_once() -> Iterator[None]:
    """The harness compiles a template for each document, which takes 20 times the filling in."""
    from lm_eval import utils

    if "from_string" in vars(utils.env):  # whoever began this will end it
        yield
        return
    compiled = utils.env.from_string

    @lru_cache(_MOST)
    def once(text: str) -> Any:
        template = compiled(text)
        # copied at each filling in: half of its time while it is a chain of mappings
        template.globals = dict(template.globals)
        return template

    utils.env.from_string = once
    try:
        yield
    finally:
        del utils.env.from_string
