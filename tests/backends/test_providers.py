"""Providers that cannot be asked here: what is sent to them and read from them."""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from automix_eval.backends.servers import replies, transport
from automix_eval.backends.servers.api import APIBackend
from automix_eval.backends.servers.batching import events_of
from automix_eval.backends.servers.faults import RequestError
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import GenerateRequest, Generation

SAMPLED = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 9, "until": ["---"]}
TURNS = json.dumps([{"role": "system", "content": "Brief."}, {"role": "user", "content": "Why?"}])


def generate(backend: APIBackend, *requests: GenerateRequest) -> list[Generation]:
    """Results in the order of the requests."""
    found: dict[int, Generation] = {}
    backend.generate(requests, found.__setitem__)
    return [found[i] for i in range(len(requests))]


def serve(server: HTTPServer, path: str, body: dict[str, Any]) -> list[Request]:
    """Give one reply for ever; the requests that came."""
    seen: list[Request] = []

    def reply(request: Request) -> Response:
        request.get_data()
        seen.append(request)
        return Response(json.dumps(body), content_type="application/json")

    server.expect_request(path).respond_with_handler(reply)
    return seen


def test_anthropic(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks are joined, cached tokens are part of the prompt, and no seed is sent."""
    monkeypatch.setenv("ANTHROPIC_API_KEY", "key")
    body = {
        "content": [{"type": "text", "text": "Because --- "}, {"type": "text", "text": "no"}],
        "stop_reason": "max_tokens",
        "usage": {
            "input_tokens": 5,
            "cache_read_input_tokens": 20,
            "cache_creation_input_tokens": 3,
            "output_tokens": 9,
        },
    }
    seen = serve(httpserver, "/v1/messages", body)
    backend = APIBackend("anthropic-chat", model="m", base_url=httpserver.url_for("/v1/messages"))
    (made,) = generate(backend, GenerateRequest(TURNS, SAMPLED, seed=1))
    assert made.text == "Because "
    assert (made.prompt_tokens, made.cached_tokens, made.generated_tokens) == (28, 20, 9)
    assert made.events == ("length",)
    sent = seen[0].get_json()
    assert "seed" not in sent
    assert sent["system"] == "Brief."
    assert seen[0].headers["x-api-key"] == "key"
    with pytest.raises(AutoMixError, match="few_shot"):
        backend.score([], lambda i, s: None)


def test_openai_samples_by_n(httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One request for all samples of a prompt; the shares add up to the usage."""
    monkeypatch.setenv("OPENAI_API_KEY", "key")
    choices = [{"index": i, "message": {"content": f"s{i}"}} for i in (2, 0, 1)]
    body = {"choices": choices, "usage": {"prompt_tokens": 11, "completion_tokens": 7}}
    seen = serve(httpserver, "/v1/chat/completions", body)
    url = httpserver.url_for("/v1/chat/completions")
    backend = APIBackend("openai-chat-completions", model="m", base_url=url, n=8)
    made = generate(backend, *(GenerateRequest(TURNS, SAMPLED, seed=s) for s in (4, 5, 6)))
    assert [g.text for g in made] == ["s0", "s1", "s2"]
    assert sum(g.prompt_tokens or 0 for g in made) == 11
    assert sum(g.generated_tokens or 0 for g in made) == 7
    assert [r.get_json()["n"] for r in seen] == [3]
    with pytest.raises(AutoMixError, match=r"missing_choices.*n=1"):
        generate(backend, *(GenerateRequest("other", SAMPLED, seed=s) for s in (4, 5)))


@pytest.mark.parametrize(
    ("lm", "variable"),
    [("openai-chat-completions", "OPENAI_API_KEY"), ("anthropic-chat", "ANTHROPIC_API_KEY")],
)
def test_a_missing_key_is_named_at_once(
    lm: str, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any call."""
    monkeypatch.delenv(variable, raising=False)
    with pytest.raises(AutoMixError, match=variable):
        APIBackend(lm, model="m").load()


def test_auth_token_reaches_the_server(httpserver: HTTPServer) -> None:
    """As a bearer token; it is no part of the identity."""
    seen = serve(httpserver, "/v1/completions", {"choices": [{"index": 0, "text": "x"}]})
    url = httpserver.url_for("/v1/completions")
    backend = APIBackend("local-completions", model="m", base_url=url, auth_token="hunter2")
    generate(backend, GenerateRequest("a", SAMPLED, seed=1))
    assert seen[0].headers["Authorization"] == "Bearer hunter2"
    assert "hunter2" not in str(backend.identity)


class ProviderError(Exception):
    """What LiteLLM raises, as far as it is read."""

    def __init__(self, status: int) -> None:
        super().__init__("the provider says no")
        self.status_code = status


def test_litellm(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its errors are classified by their status; its replies are read like OpenAI's."""
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.001)
    body = {
        "choices": [{"index": 0, "message": {"content": "yes"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 1},
    }
    plays: list[Any] = [ProviderError(429), body, ProviderError(401)]
    asked: list[dict[str, Any]] = []

    async def acompletion(**payload: Any) -> Any:
        asked.append(payload)
        play = plays.pop(0)
        if isinstance(play, Exception):
            raise play
        return SimpleNamespace(model_dump=lambda: play)

    fake = ModuleType("litellm")
    vars(fake)["acompletion"] = acompletion
    monkeypatch.setitem(sys.modules, "litellm", fake)
    backend = APIBackend("litellm", model="provider/m", timeout=7)
    (made,) = generate(backend, GenerateRequest("Why?", SAMPLED, seed=1))
    assert (made.text, made.prompt_tokens, made.events) == ("yes", 3, ("retry:http_429",))
    assert (asked[0]["model"], asked[0]["timeout"], asked[0]["num_retries"]) == ("provider/m", 7, 0)
    with pytest.raises(AutoMixError, match="http_401"):
        generate(backend, GenerateRequest("Why?", SAMPLED, seed=2))


def test_sglang_s_replies() -> None:
    """Its generate endpoint has neither choices nor usage of OpenAI's form."""
    body = {
        "text": "yes",
        "meta_info": {
            "prompt_tokens": 9,
            "cached_tokens": 4,
            "completion_tokens": 2,
            "finish_reason": {"type": "length"},
        },
    }
    replies.check(body)
    (choice,) = replies.choices_of(body)
    assert replies.text_of(choice) == "yes"
    assert replies.end_of(choice) == "length"
    assert replies.usage_of(body) == replies.Usage(9, 4, 2)


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"choices": []},
        {"choices": "none"},
        {"choices": [None]},
        {"choices": [{"index": 0}]},
        {"choices": [{"index": 0, "text": 5}]},
        {"choices": [{"index": 0, "message": {"content": ["x"]}}]},
        {"text": None},
        {"content": "x"},
    ],
)
def test_a_reply_of_no_known_shape_is_a_fault(body: dict[str, Any]) -> None:
    """It is never read as an answer."""
    with pytest.raises(RequestError):
        replies.check(body)


THOUGHT = [
    replies.Token(text, -float(i), {}, 0.1 * i)
    for i, text in enumerate(["4", " or 5?", "</th", "ink>", "\n", " 4", ".", "\n", "Q"], 1)
]


@pytest.mark.parametrize(
    ("end", "text", "first", "last"),
    [
        ("</think>", "4.", 6, 7),
        ("</think>", "4.\nQ", 6, 9),
        (None, "4 or", 1, 2),
        ("<no>", "4", 1, 1),
    ],
)
def test_token_probabilities_are_those_of_the_answer_alone(
    end: str | None, text: str, first: int, last: int
) -> None:
    """Thinking and what follows a stop sequence are left out; thinking without end is the text."""
    logprobs, margins = replies.probabilities(THOUGHT, text, end)
    assert logprobs == tuple(-float(i) for i in range(first, last + 1))
    assert margins == tuple(0.1 * i for i in range(first, last + 1))


@pytest.mark.parametrize(
    "spelled",
    [
        [("\ufffd", [0xC3]), ("\ufffd", [0xA9]), (" ", [0x20]), ("\ufffd", [0xC3]), ("", [0xA9])],
        [("bytes:\\xc3", None), ("bytes:\\xa9", None), (" ", None), ("bytes:\\xc3\\xa9", None)],
        [("", []), ("é", [0xC3, 0xA9]), (" ", None), ("é", [195, 169])],
    ],
)
def test_a_character_of_several_tokens_counts_once(spelled: list[tuple[str, Any]]) -> None:
    """Its parts have bytes and no text: of the answer all tokens are read, and none after it."""
    ending = [("\n", [10]), ("Q", None)]
    listed = [
        {"token": text, "logprob": -float(i), "top_logprobs": [], "bytes": data}
        for i, (text, data) in enumerate([*spelled, *ending], 1)
    ]
    tokens = replies.tokens_of({"logprobs": {"content": listed}})
    logprobs, _ = replies.probabilities(tokens, "é é")
    assert logprobs == tuple(-float(i) for i in range(1, len(spelled) + 1))


def test_an_answer_in_parts_is_their_text() -> None:
    """Some chat servers give content as parts; those that are thoughts are no answer."""
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}
    parts = [thought, {"type": "text", "text": "fo"}, {"type": "text", "text": "ur"}]
    for content, text in ((parts, "four"), ([thought], None), ([], None)):
        choice = {"index": 0, "message": {"role": "assistant", "content": content}}
        replies.check({"choices": [choice]})
        assert replies.text_of(choice) == text


def test_whole_numbers_are_counted_however_they_are_written() -> None:
    """Some servers have no integers; what is no whole number is not known."""
    usage = {"prompt_tokens": 5.0, "completion_tokens": 2.5}
    assert replies.usage_of({"usage": usage}) == replies.Usage(5, None, None)


@pytest.mark.parametrize(("status", "sent"), [(200, "\ufeff{}"), (201, "{}")])
def test_a_success_is_read(status: int, sent: str, httpserver: HTTPServer) -> None:
    """Whichever success it is called, and with a mark of its byte order before it."""
    made = json.dumps({"choices": [{"text": "four", "index": 0}]})
    reply = Response(sent.replace("{}", made), status)
    httpserver.expect_request("/v1/completions").respond_with_response(reply)
    url = httpserver.url_for("/v1/completions")
    backend = APIBackend("local-completions", model="m", base_url=url, max_retries=0)
    (found,) = generate(backend, GenerateRequest("What?", {"max_gen_toks": 4}))
    assert found.text == "four"


@pytest.mark.parametrize(
    ("text", "end", "reason", "counted"),
    [
        ("so 2 and 2 are", "</think>", "length", True),
        ("so 2 and 2 are", "</think>", "stop", False),  # it answered without a thought
        ("so</think> 4 and mo", "</think>", "length", False),
        ("so 2 and 2 are", None, "length", False),
    ],
)
def test_a_thought_that_is_cut_is_counted(
    text: str, end: str | None, reason: str, counted: bool
) -> None:
    """Also where the chat template began it, so that no mark of its beginning is in the text."""
    found = events_of({"text": text, "finish_reason": reason}, replies.Usage(1, 0, 9), end)
    assert ("thinking" in found) is counted
