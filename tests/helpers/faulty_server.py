"""An OpenAI-compatible server that answers from scripts and fails on demand."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pytest_httpserver import HTTPServer
from scripted import Script
from werkzeug import Request, Response

Fault = Callable[[str, str], Response | None]


def refused(status: int = 400) -> Response:
    """An error that no further attempt mends, or that no attempt of a test outlives."""
    return Response("no", status=status)


class FaultyServer:
    """Two models behind one address, ``small`` and ``large``.

    Attributes:
        scripts: What each answers to a prompt.
        fault: The error for a model and a prompt; None where it answers.
        calls: (model, prompt) of every request, failed ones included.
        answered: Those that were answered.
        pause: Seconds before the answer to a prompt.
    """

    def __init__(self, server: HTTPServer, scripts: dict[str, Script]) -> None:
        self.scripts = scripts
        self.fault: Fault = lambda model, prompt: None
        self.pause: Callable[[str], float] = lambda prompt: 0.0
        self.calls: list[tuple[str, str]] = []
        self.answered: list[tuple[str, str]] = []
        server.expect_request("/v1/completions").respond_with_handler(self.reply)
        self.url = server.url_for("/v1/completions")

    def reply(self, request: Request) -> Response:
        """One completion, or an error."""
        payload = request.get_json()
        model, prompt = payload["model"], payload["prompt"]
        prompt = prompt if isinstance(prompt, str) else prompt[0]
        self.calls.append((model, prompt))
        if (error := self.fault(model, prompt)) is not None:
            return error
        time.sleep(self.pause(prompt))
        text = self.scripts[model](prompt, payload)
        self.answered += [(model, prompt)] * int(payload.get("n", 1))
        made = {
            "choices": [
                {"index": i, "text": text, "finish_reason": "stop"}
                for i in range(int(payload.get("n", 1)))
            ],
            "usage": {"prompt_tokens": len(prompt), "completion_tokens": len(text)},
        }
        return Response(json.dumps(made), content_type="application/json")

    def arguments(self, **more: Any) -> dict[str, Any]:
        """Model arguments of a cascade of the two."""
        tiers: dict[str, Any] = {}
        for tier, model in (("slm", "small"), ("llm", "large")):
            own = {"base_url": self.url, "model": model, "max_retries": 1, "num_concurrent": 4}
            tiers |= {tier: "local_completions", **{f"{tier}.{k}": v for k, v in own.items()}}
        return {
            **tiers,
            "verifier": "few_shot",
            "verifier.num_samples": 2,
            "progress": False,
            **more,
        }


@contextmanager
def faulty(scripts: dict[str, Script]) -> Iterator[FaultyServer]:
    """A server that answers several requests at once, until the block ends."""
    with HTTPServer(threaded=True) as server:
        yield FaultyServer(server, scripts)


def asks(question: str, prompt: str, answers: dict[str, str]) -> bool:
    """Whether a prompt asks this question, and not another of the sample."""
    found = max((q for q in answers if q in prompt), key=lambda q: prompt.rfind(q))
    return found == question
