"""Tiers behind an OpenAI-compatible server, against a small server on loopback."""

from __future__ import annotations

import json
import statistics
import threading
from collections.abc import Iterator
from contextlib import nullcontext
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace
from typing import Any, cast

import pytest

from automix_eval.backends.servers.api import APIBackend
from automix_eval.harness.refusals import check_models
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import GenerateRequest, Generation, Message, Prompt
from automix_eval.verifiers.consistency import Consistency
from automix_eval.verifiers.ensemble import Ensemble
from automix_eval.verifiers.few_shot import FewShot
from automix_eval.verifiers.p_true import PTrue

GREEDY = {"do_sample": False, "max_gen_toks": 5, "until": ["\n"]}
SAMPLED = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 5, "until": ["---"]}


class Server:
    """Answers with the last word of a prompt, counts words as tokens, and keeps the payloads."""

    def __init__(self) -> None:
        self.payloads: list[dict[str, Any]] = []
        self.status = 200
        self.null = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                payload = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                server.payloads.append(payload)
                body = json.dumps(server.reply(payload)).encode()
                self.send_response(server.status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                """Keep the test's output clean."""

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def reply(self, payload: dict[str, Any]) -> dict[str, Any]:
        """One choice a prompt, with the usage of all."""
        if "messages" in payload:
            prompts = [payload["messages"][-1]["content"]]
        else:
            prompts = payload["prompt"]
            prompts = [prompts] if isinstance(prompts, str) else prompts
        choices = []
        for i, prompt in enumerate(prompts):
            text = None if self.null else prompt.split()[-1]
            choices.append({"index": i, "text": text, "message": {"content": text}})
        usage = {
            "prompt_tokens": sum(len(p.split()) for p in prompts),
            "completion_tokens": len(prompts),
        }
        return {"choices": choices, "usage": usage}

    def close(self) -> None:
        """Stop listening."""
        self._http.shutdown()
        self._http.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    """A server of its own for every test."""
    made = Server()
    yield made
    made.close()


def completions(server: Server, **arguments: Any) -> APIBackend:
    """A completion tier at the server."""
    return APIBackend(
        "local-completions",
        tier="llm",
        base_url=f"{server.url}/v1/completions",
        model="m",
        tokenized_requests=False,
        **arguments,
    )


def chat(server: Server) -> APIBackend:
    """A chat tier at the server."""
    return APIBackend(
        "local-chat-completions",
        tier="llm",
        base_url=f"{server.url}/v1/chat/completions",
        model="m",
    )


def generate(backend: APIBackend, requests: list[GenerateRequest]) -> list[Generation]:
    """Results in the order of the requests."""
    found: dict[int, Generation] = {}
    backend.generate(requests, found.__setitem__)
    return [found[i] for i in range(len(requests))]


@pytest.mark.parametrize("arguments", [{}, {"num_concurrent": 4}, {"batch_size": 3}])
def test_answers_and_usage_come_in_the_order_of_the_requests(
    server: Server, arguments: dict[str, Any]
) -> None:
    """One by one, concurrently or in batches."""
    prompts = [f"{'word ' * i}end{i}" for i in range(1, 8)]
    results = generate(
        completions(server, **arguments), [GenerateRequest(p, GREEDY) for p in prompts]
    )
    assert [r.text for r in results] == [f"end{i}" for i in range(1, 8)]
    counted = [(r.prompt_tokens, r.generated_tokens) for r in results]
    if "batch_size" in arguments:
        # six prompts in two requests, whose usage nobody can divide, and the last one alone
        assert sorted(counted, key=str) == [(8, 1)] + [(None, None)] * 6
    else:
        assert counted == [(len(p.split()), 1) for p in prompts]


def test_a_kept_connection_adds_no_wait(server: Server) -> None:
    """A server that sends head and body apart has its head acknowledged before Linux's 40 ms."""
    made = generate(completions(server), [GenerateRequest(f"say {i}", GREEDY) for i in range(20)])
    assert statistics.median(g.latency or 1.0 for g in made) < 0.03


def test_samples_carry_their_own_seed(server: Server) -> None:
    """K samples of one prompt are k requests with k seeds, not one answer k times."""
    generate(completions(server), [GenerateRequest("a b", SAMPLED, seed=s) for s in (5, 6, 7)])
    assert sorted(p["seed"] for p in server.payloads) == [5, 6, 7]
    assert all(p["temperature"] == 1.0 for p in server.payloads)


def test_a_chat_tier_gets_turns(server: Server) -> None:
    """A chat prompt as it is, a completion prompt as one user turn."""
    backend = chat(server)
    turns = Prompt(messages=(Message("system", "Be brief."), Message("user", "Where is it?")))
    results = generate(
        backend,
        [GenerateRequest(backend.render(turns), GREEDY), GenerateRequest("plain text", GREEDY)],
    )
    assert [r.text for r in results] == ["it?", "text"]
    sent = {json.dumps(p["messages"]) for p in server.payloads}
    assert sent == {
        json.dumps(
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "Where is it?"},
            ]
        ),
        json.dumps([{"role": "user", "content": "plain text"}]),
    }


@pytest.mark.parametrize("status", [400, 401, 500])
def test_an_error_status_is_an_error_not_a_wrong_answer(server: Server, status: int) -> None:
    """The message says that finished calls are kept."""
    server.status = status
    with pytest.raises(AutoMixError, match="run the same command to resume"):
        generate(completions(server, max_retries=0), [GenerateRequest("a", GREEDY)])


def test_null_content_is_an_empty_answer(server: Server) -> None:
    """The harness's placeholder text is not taken for an answer."""
    server.null = True
    (result,) = generate(completions(server), [GenerateRequest("a", GREEDY)])
    assert result.text == ""


def test_missing_probabilities_are_said_at_the_first_answer(server: Server) -> None:
    """Not after all answers of a calibration; an empty one has none to give."""
    asked = [GenerateRequest(f"say {word}", GREEDY) for word in ("one", "two", "three")]
    model = completions(server, top_logprobs=5)
    with pytest.raises(AutoMixError, match=r"llm \(m\) returns none: use verifier=consistency"):
        model.generate(asked, lambda i, g: None, token_probs=True)
    assert len(server.payloads) == 1
    server.null = True
    model.generate(asked, lambda i, g: None, token_probs=True)


@pytest.mark.parametrize("form", ["paper", "scored"])
def test_a_verifier_that_scores_is_refused_before_any_answer(server: Server, form: str) -> None:
    """Of all tiers that are verified, not of the last; also as a member."""
    sampling: Any = FewShot(form=form)
    tiers = [
        SimpleNamespace(backend=b) for b in (completions(server, top_logprobs=5), chat(server))
    ]
    last = SimpleNamespace(backend=chat(server))
    verifiers = [sampling, Ensemble({"a": sampling, "b": Consistency()})]
    verifiers += [PTrue(), Ensemble({"a": PTrue()})] if form == "scored" else []
    first = SimpleNamespace(request_type="generate_until", arguments=("q", {}))
    view = cast(Any, SimpleNamespace(run=SimpleNamespace(apply_chat_template=False)))
    for verifier in verifiers:
        check_models(view, cast(Any, first), cast(Any, [*tiers[:1], last]), verifier)
        with pytest.raises(AutoMixError, match="a chat API") if form == "scored" else nullcontext():
            check_models(view, cast(Any, first), cast(Any, [*tiers, last]), verifier)
    assert not server.payloads


def test_p_true_says_what_a_server_lacks(server: Server) -> None:
    """The error names few_shot."""
    for backend in (completions(server), chat(server)):
        with pytest.raises(AutoMixError, match="few_shot"):
            backend.score([], lambda i, s: None)
