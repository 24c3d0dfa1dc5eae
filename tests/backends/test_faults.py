"""A server that fails: every fault has a kind and a defined outcome, and none becomes an answer."""

from __future__ import annotations

import inspect
import itertools
import json
import threading
import time
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from automix_eval.backends.servers import transport
from automix_eval.backends.servers.api import APIBackend
from automix_eval.backends.servers.faults import classify
from automix_eval.cascade.store import CallStore
from automix_eval.cascade.tier import Tier
from automix_eval.paths import hydra_conf_dir
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import GenerateRequest, Generation

GREEDY = {"do_sample": False, "max_gen_toks": 5, "until": ["\n"]}
GOOD = {
    "choices": [{"index": 0, "text": " yes", "finish_reason": "stop"}],
    "usage": {
        "prompt_tokens": 7,
        "completion_tokens": 2,
        "prompt_tokens_details": {"cached_tokens": 3},
    },
}


def choice(**changes: Any) -> dict[str, Any]:
    """The good reply with its choice changed."""
    return GOOD | {"choices": [GOOD["choices"][0] | changes]}  # type: ignore[index]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in milliseconds."""
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.001)


class Script:
    """A server that plays replies one after the other, then the good one for ever."""

    def __init__(self, server: HTTPServer, *replies: Response | dict[str, Any]) -> None:
        self.left = list(replies)
        self.times: list[float] = []
        self.payloads: list[dict[str, Any]] = []
        server.expect_request("/v1/completions").respond_with_handler(self.reply)
        self.url = server.url_for("/v1/completions")

    def reply(self, request: Request) -> Response:
        self.times.append(time.monotonic())
        self.payloads.append(request.get_json())
        made = self.left.pop(0) if self.left else GOOD
        if isinstance(made, Response):
            return made
        return Response(json.dumps(made), content_type="application/json")


def tier(script: Script, tmp_path: Path, **arguments: Any) -> Tier:
    """A metered tier at the scripted server."""
    backend = APIBackend(
        "local-completions", tier="llm", base_url=script.url, model="m", **arguments
    )
    return Tier(1, "llm", backend, CallStore(tmp_path / "calls.sqlite"), progress=False)


def ask(asked: Tier, *prompts: str) -> list[Generation]:
    """Greedy answers."""
    return [g for g, _ in asked.generate([GenerateRequest(p, GREEDY) for p in prompts])]


def kinds(asked: Tier) -> dict[str, int]:
    """Events counted, by kind."""
    counted: dict[str, int] = {}
    for (*_, kind), number in asked.counts.events.items():
        counted[kind] = counted.get(kind, 0) + number
    return counted


def short_of_its_length() -> Response:
    """A reply whose connection closes before its announced end."""
    response = Response('{"choices": [', content_type="application/json")
    response.headers["Content-Length"] = "4000"
    response.automatically_set_content_length = False
    return response


PASSING = {
    "retry:http_429": Response("slow down", status=429),
    "retry:http_500": Response("oops", status=500),
    "retry:http_503": Response("loading", status=503),
    "retry:http_529": Response("overloaded", status=529),
    "retry:malformed": Response("{not json", content_type="application/json"),
    "retry:empty_choices": Response('{"choices": []}'),
    "retry:dropped": short_of_its_length(),
    "retry:http_502": Response('{"error": {"code": 502, "message": "upstream"}}'),
}


@pytest.mark.parametrize("kind", PASSING)
def test_a_passing_fault_is_retried_and_counted(
    kind: str, httpserver: HTTPServer, tmp_path: Path
) -> None:
    """The answer comes with the second attempt, the first is counted by its kind."""
    script = Script(httpserver, PASSING[kind])
    asked = tier(script, tmp_path)
    (made,) = ask(asked, "a")
    assert (made.text, made.prompt_tokens, made.cached_tokens, made.generated_tokens) == (
        " yes",
        7,
        3,
        2,
    )
    assert kinds(asked) == {kind: 1}
    assert len(script.times) == 2


FINAL = {
    "http_400": Response('{"error": "bad"}', status=400),
    "http_401": Response("who are you", status=401),
    "http_404": Response("no such model", status=404),
    "quota": Response('{"error": {"code": "insufficient_quota"}}', status=429),
    "http_501": Response("never", status=501),
}


@pytest.mark.parametrize("kind", FINAL)
def test_what_cannot_succeed_is_sent_once(
    kind: str, httpserver: HTTPServer, tmp_path: Path
) -> None:
    """The error names the kind and that nothing finished is lost."""
    script = Script(httpserver, FINAL[kind])
    with pytest.raises(AutoMixError, match=rf"asked once: {kind}.*same command to resume"):
        ask(tier(script, tmp_path), "a")
    assert len(script.times) == 1


def test_retries_end(httpserver: HTTPServer, tmp_path: Path) -> None:
    """A server that is down for good stops the run after max_retries, with no answer made up."""
    script = Script(httpserver, *[Response("oops", status=500)] * 9)
    with pytest.raises(AutoMixError, match="asked 3 times: http_500"):
        ask(tier(script, tmp_path, max_retries=2), "a")
    assert len(script.times) == 3


def test_finished_calls_survive_a_failure(httpserver: HTTPServer, tmp_path: Path) -> None:
    """The same command resumes with the call that failed."""
    script = Script(httpserver, GOOD, GOOD, Response("no", status=401))
    with pytest.raises(AutoMixError, match="http_401"):
        ask(tier(script, tmp_path), "a", "b", "c")
    again = tier(script, tmp_path)
    assert [g.text for g in ask(again, "a", "b", "c")] == [" yes"] * 3
    assert len(script.times) == 4
    assert again.counts.stored.total() == 2


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_obeyed_by_all(form: str, httpserver: HTTPServer, tmp_path: Path) -> None:
    """No request of any worker is sent before the time the server named."""
    script = Script(httpserver)
    asked = tier(script, tmp_path, num_concurrent=1)
    ask(asked, "what a first request imports is there")
    # of a date's seconds the fraction is cut, and the request takes its time to arrive
    value = "1" if form == "seconds" else formatdate(time.time() + 3, usegmt=True)
    script.left.append(Response("slow", status=429, headers={"Retry-After": value}))
    ask(asked, "a", "b", "c")
    assert len(script.times) == 5
    assert script.times[2] - script.times[1] >= 0.9


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Retry-After": "7"}, 7.0),
        # a server whose clock is years behind ours
        ({"Retry-After": formatdate(1e9 + 30), "Date": formatdate(1e9)}, 30.0),
        ({"Retry-After": formatdate(1e9), "Date": formatdate(1e9 + 30)}, 0.0),
        ({"Retry-After": formatdate(1e9), "Date": "today"}, 0.0),
        ({"Retry-After": "soon", "Date": formatdate(1e9)}, None),
        ({"Date": formatdate(1e9)}, None),
    ],
)
def test_a_date_to_retry_at_is_read_by_the_servers_own_clock(
    headers: dict[str, str], expected: float | None
) -> None:
    """A clock that is wrong, here or there, makes no wait of years."""
    assert classify(429, "slow down", headers).retry_after == expected


def test_the_default_bridges_a_minute() -> None:
    """The waits between the attempts of one request are at least those of a minute's outage."""
    first = 1.0
    attempts = inspect.signature(transport.Transport).parameters["max_retries"].default
    assert sum(first * 2**i for i in range(attempts)) >= 60
    for file in sorted((hydra_conf_dir() / "tier").glob("*.yaml")):
        held = yaml.safe_load(file.read_text(encoding="utf-8"))
        assert held.get("max_retries", attempts) == attempts, file.name


def test_an_outage_is_bridged(
    httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that is gone for a while and comes back costs attempts, and no answer."""
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.05)
    script = Script(httpserver)
    well = script.reply

    def reply(request: Request) -> Response:
        made = well(request)
        gone = script.times[-1] < script.times[0] + 0.4
        return Response("gone", status=503) if gone else made

    httpserver.clear()
    httpserver.expect_request("/v1/completions").respond_with_handler(reply)
    asked = tier(script, tmp_path, num_concurrent=3, max_retries=8)
    assert [g.text for g in ask(asked, *"abcdef")] == [" yes"] * 6
    assert asked.counts.made.total() == 6
    assert kinds(asked)["retry:http_503"] == len(script.times) - 6 > 0


def test_no_more_are_unkept_than_in_flight() -> None:
    """Where keeping a reply takes longer than getting it, the workers wait for it."""
    sent: list[int] = []
    kept: list[int] = []
    unkept: list[int] = []

    async def send(_session: Any, payload: int) -> dict[str, Any]:
        sent.append(payload)
        unkept.append(len(sent) - len(kept))
        return {}

    def keep(index: int, _reply: Any) -> None:
        time.sleep(0.005)
        kept.append(index)

    transport.Transport(send, lambda _body: None, concurrency=3).run(range(20), keep)
    assert sorted(kept) == sorted(sent) == list(range(20))
    assert max(unkept) == 3


def test_a_request_starts_no_thread_unless_the_environment_names_a_proxy(
    httpserver: HTTPServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Threads of aiohttp would add to each latency; a proxy that is named is used all the same."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    httpserver.expect_request("/v1").respond_with_json({})
    started: list[str] = []
    start = threading.Thread.start
    monkeypatch.setattr(
        threading.Thread, "start", lambda self: (started.append(self.name), start(self))[1]
    )

    def asked(host: str) -> None:
        """Four requests to an address of a host."""
        send = transport.post(f"http://{host}/v1", {})
        transport.Transport(send, lambda _body: None).run([{}] * 4, lambda *_: None)

    address = f"127.0.0.1:{httpserver.port}"  # a name is looked up in a thread
    asked(address)
    assert [name for name in started if not name.startswith("Thread-")] == ["automix-requests"]
    monkeypatch.setenv("http_proxy", f"http://{address}")
    asked("models.example")
    assert [request.host for request, _ in httpserver.log[4:]] == ["models.example"] * 4


def test_replies_out_of_order_reach_their_own_requests(tmp_path: Path) -> None:
    """The first request is answered last, and each prompt gets the answer made for it."""
    order: list[str] = []
    others = threading.Event()

    def reply(request: Request) -> Response:
        prompt = request.get_json()["prompt"]
        prompt = prompt if isinstance(prompt, str) else prompt[0]
        if prompt == "a":
            others.wait(60)
        order.append(prompt)
        others.set()
        made = choice(text=f" for {prompt}")
        return Response(json.dumps(made), content_type="application/json")

    with HTTPServer(threaded=True) as server:
        script = Script(server)
        server.clear()
        server.expect_request("/v1/completions").respond_with_handler(reply)
        asked = tier(script, tmp_path, num_concurrent=3)
        assert [g.text for g in ask(asked, *"abcdef")] == [f" for {p}" for p in "abcdef"]
    assert order[0] != "a"


@pytest.mark.parametrize("every", [2, 3])
def test_every_kth_call_that_fails_for_good_is_asked_again_by_the_same_command(
    every: int, httpserver: HTTPServer, tmp_path: Path
) -> None:
    """Each run ends at the next failure and keeps what it has; no finished call is repeated."""
    replies: list[Response | dict[str, Any]] = []
    for i in range(1, 9):
        replies.append(GOOD if i % every else Response("no", status=401))
    script = Script(httpserver, *replies)
    failures = 0
    while True:
        try:
            made = ask(tier(script, tmp_path), *"abcdef")
        except AutoMixError:
            failures += 1
            continue
        break
    assert [g.text for g in made] == [" yes"] * 6
    assert failures > 0
    assert len(script.times) == 6 + failures


def test_an_endless_retry_after_is_an_error(httpserver: HTTPServer, tmp_path: Path) -> None:
    """A server that wants an hour is not waited for."""
    script = Script(httpserver, Response("slow", status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(AutoMixError, match="asks to wait 3600 s"):
        ask(tier(script, tmp_path), "a")


def test_a_slow_answer_is_a_time_out(httpserver: HTTPServer, tmp_path: Path) -> None:
    """The whole answer counts, not the time between two of its bytes."""

    def drip() -> Iterator[bytes]:
        for _ in range(80):
            time.sleep(0.1)
            yield b" "
        yield json.dumps(GOOD).encode()

    script = Script(httpserver, Response(drip(), content_type="application/json"))
    asked = tier(script, tmp_path, timeout=2)
    (made,) = ask(asked, "a")
    assert made.text == " yes"
    assert kinds(asked) == {"retry:timeout": 1}


def test_nothing_listens(httpserver: HTTPServer, tmp_path: Path) -> None:
    """A server that is gone is named before anything is asked."""
    script = Script(httpserver)
    script.url = "http://127.0.0.1:9/v1/completions"
    with pytest.raises(AutoMixError, match=r"nothing answers at 127\.0\.0\.1:9"):
        ask(tier(script, tmp_path), "a")


ENDINGS = {
    "length": choice(finish_reason="length"),
    "content_filter": choice(text="", finish_reason="content_filter"),
    "empty": choice(text=None),
    "no_usage": {"choices": GOOD["choices"]},
}


@pytest.mark.parametrize("kind", ENDINGS)
def test_an_unusual_ending_is_an_answer_and_is_counted(
    kind: str, httpserver: HTTPServer, tmp_path: Path
) -> None:
    """What the server gave is kept as it is, from the store as well."""
    script = Script(httpserver, ENDINGS[kind])
    for _ in range(2):
        asked = tier(script, tmp_path)
        (made,) = ask(asked, "a")
        assert made.text == ("" if kind in ("content_filter", "empty") else " yes")
        assert kinds(asked)[kind] == 1
    assert len(script.times) == 1
    if kind == "no_usage":
        assert (made.prompt_tokens, made.generated_tokens) == (None, None)


def test_a_refused_prompt_is_an_empty_answer(httpserver: HTTPServer, tmp_path: Path) -> None:
    """Azure refuses a prompt by status 400; the run goes on and counts it."""
    refusal = Response('{"error": {"code": "content_filter"}}', status=400)
    asked = tier(Script(httpserver, refusal), tmp_path)
    assert [g.text for g in ask(asked, "a", "b")] == ["", " yes"]
    assert kinds(asked) == {"content_filter": 1}


def test_no_more_requests_in_flight_than_allowed(tmp_path: Path) -> None:
    """Concurrency is bounded, and used."""
    flying: list[int] = []
    most = [0]
    together = threading.Barrier(3)

    def reply(request: Request) -> Response:
        flying.append(1)
        most[0] = max(most[0], len(flying))
        together.wait(60)
        time.sleep(0.05)
        flying.pop()
        return Response(json.dumps(GOOD))

    with HTTPServer(threaded=True) as server:
        server.expect_request("/v1/completions").respond_with_handler(reply)
        backend = APIBackend(
            "local-completions",
            base_url=server.url_for("/v1/completions"),
            model="m",
            num_concurrent=3,
        )
        asked = Tier(0, "slm", backend, CallStore(tmp_path / "calls.sqlite"), progress=False)
        begun = time.perf_counter()
        made = ask(asked, *map(str, range(12)))
        wall = time.perf_counter() - begun
    assert most[0] == 3
    # each moment is shared by the requests in flight: the sum never exceeds the wall clock
    assert 0.15 < sum(g.seconds or 0.0 for g in made) < wall


def test_an_interrupted_run_keeps_what_it_has(httpserver: HTTPServer, tmp_path: Path) -> None:
    """An interruption while requests are in flight ends them and loses no finished call."""
    script = Script(httpserver)
    asked = tier(script, tmp_path, num_concurrent=2)
    finished = []

    def stop(index: int, made: Generation) -> None:
        finished.append(made)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        asked.backend.generate([GenerateRequest(str(i), GREEDY) for i in range(50)], stop)
    assert len(finished) == 1
    assert len(script.times) < 50


@given(st.integers(0, 60), st.integers(1, 9))
def test_what_flies_together_comes_from_different_parts(number: int, lanes: int) -> None:
    """Every request once; neighbours in the order of prompts are not sent at the same time."""
    order = transport._spread(number, lanes)
    assert sorted(order) == list(range(number))
    if lanes > 1 and number >= 2 * lanes:
        assert all(b != a + 1 for a, b in itertools.pairwise(order))
