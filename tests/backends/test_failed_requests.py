"""The parts behind ``fail_on_error``: which request failed, what is counted, who is told."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from processes import bare, launch
from pytest_httpserver import HTTPServer
from scripted import SCRIPTS, read_run
from tiny_models import save_tiny
from werkzeug import Request, Response

from automix_eval.backends.harness_lm import HarnessBackend
from automix_eval.backends.servers import next_token, transport
from automix_eval.backends.servers.api import APIBackend
from automix_eval.backends.servers.faults import FailedRequests, RequestError
from automix_eval.cascade.failures import Failures, without_failed
from automix_eval.cascade.store import CallStore
from automix_eval.cascade.tier import Tier
from automix_eval.records import schema as records
from automix_eval.safety.errors import AutoMixError, CallsFailedError
from automix_eval.types import GenerateRequest, Prompt, Question, ScoreRequest, Scores

GREEDY = {"do_sample": False, "max_gen_toks": 5, "until": ["\n"]}
PURPOSE = ("evaluation", "coqa", "answer")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in milliseconds."""
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.001)


def fault(retried: bool = False) -> RequestError:
    """A failure of either kind."""
    return RequestError("http_500", "oops", retried=retried)


# ------------------------------------------------------------------- one exchange


def test_different_prompts_are_counted() -> None:
    """Samples of one prompt are one loss, and need not be sent once one of them failed."""
    failed = FailedRequests(lambda i: {"ab"[i // 3]}, most=1)
    assert failed.tolerate(0, fault())
    assert failed.tolerate(1, fault())
    assert failed.lost(2)
    assert not failed.lost(3)
    assert not failed.tolerate(3, fault())


def test_without_patience_the_first_is_enough() -> None:
    """As before there was a share."""
    assert not FailedRequests().tolerate(0, fault())


def test_a_row_of_exhausted_requests_is_a_server_that_is_gone() -> None:
    """An answer in between, or a refusal, shows that it is there."""
    failed = FailedRequests(lambda i: {str(i)}, most=99, in_a_row=3)
    for i in range(2):
        assert failed.tolerate(i, fault(retried=True))
    failed.answered()
    for i in range(2, 4):
        assert failed.tolerate(i, fault(retried=True))
    assert failed.tolerate(4, fault())
    for i in range(5, 7):
        assert failed.tolerate(i, fault(retried=True))
    assert not failed.tolerate(7, fault(retried=True))
    assert failed.gone is not None


class Marked:
    """A server that refuses every prompt with a mark in it."""

    def __init__(
        self, server: HTTPServer, good: Callable[[dict[str, Any]], dict[str, Any]]
    ) -> None:
        self.payloads: list[dict[str, Any]] = []
        self.good = good
        server.expect_request("/v1/completions").respond_with_handler(self.reply)
        self.url = server.url_for("/v1/completions")

    def reply(self, request: Request) -> Response:
        payload = request.get_json()
        self.payloads.append(payload)
        if "BAD" in json.dumps(payload["prompt"]):
            return Response("no", status=400)
        return Response(json.dumps(self.good(payload)), content_type="application/json")


def text(payload: dict[str, Any]) -> dict[str, Any]:
    """A completion for each prompt of a request."""
    prompts = payload["prompt"] if isinstance(payload["prompt"], list) else [payload["prompt"]]
    return {
        "choices": [
            {"index": i, "text": f" for {p}", "finish_reason": "stop"}
            for i, p in enumerate(prompts)
        ]
    }


@pytest.mark.parametrize("batch", [1, 2])
def test_the_others_are_answered_and_the_failed_are_named(
    batch: int, httpserver: HTTPServer
) -> None:
    """Every request of a payload that failed is named, and no other."""
    server = Marked(httpserver, text)
    backend = APIBackend(
        "local-completions", base_url=server.url, model="m", num_concurrent=2, batch_size=batch
    )
    backend.patience = 5
    prompts = ["a", "b BAD", "c", "d", "e BAD", "f"]
    done: dict[int, str] = {}
    with pytest.raises(CallsFailedError, match="asked once: http_400") as failed:
        backend.generate(
            [GenerateRequest(p, GREEDY) for p in prompts], lambda i, g: done.update({i: g.text})
        )
    assert set(done) | set(failed.value.reasons) == set(range(6))
    assert set(done).isdisjoint(failed.value.reasons)
    assert all(done[i] == f" for {prompts[i]}" for i in done)
    assert {1, 4} <= set(failed.value.reasons)
    assert batch == 2 or set(failed.value.reasons) == {1, 4}


def test_a_reply_that_answers_something_else_is_a_failure_of_its_request(
    httpserver: HTTPServer,
) -> None:
    """Too few choices for the samples that were asked for are no answer."""

    def few(payload: dict[str, Any]) -> dict[str, Any]:
        made = text(payload)
        return made if "odd" in str(payload["prompt"]) else {"choices": made["choices"] * 2}

    server = Marked(httpserver, few)
    backend = APIBackend("local-completions", base_url=server.url, model="m", n=2)
    backend.patience = 5
    sampled = {**GREEDY, "do_sample": True, "temperature": 1.0}
    done: dict[int, str] = {}
    requests = [GenerateRequest(p, sampled, seed=s) for p in ("a", "odd", "c") for s in (0, 1)]
    with pytest.raises(CallsFailedError, match="missing_choices") as failed:
        backend.generate(requests, lambda i, g: done.update({i: g.text}))
    assert set(failed.value.reasons) == {2, 3}
    assert set(done) == {0, 1, 4, 5}


def likely(payload: dict[str, Any]) -> dict[str, Any]:
    """A completion whose first token is surely one of two."""
    tops = [{" Correct": -0.1, " Incorrect": -2.5}]
    return {
        "choices": [
            {"index": 0, "text": " Correct", "finish_reason": "length",
             "logprobs": {"tokens": [" Correct"], "token_logprobs": [-0.1], "top_logprobs": tops}}
        ]
    }  # fmt: skip


def test_scores_of_the_others_are_complete(httpserver: HTTPServer) -> None:
    """p_true reads several tokens one after the other; a failed prompt is followed no further."""
    server = Marked(httpserver, likely)
    backend = APIBackend("local-completions", base_url=server.url, model="m", top_logprobs=2)
    backend.patience = 5
    prompts = ["a", "b BAD", "c", "d BAD", "e", "f"]
    done: dict[int, Scores] = {}
    with pytest.raises(CallsFailedError) as failed:
        backend.score(
            [ScoreRequest(p, (" Correct", " Incorrect")) for p in prompts],
            lambda i, s: done.update({i: s}),
        )
    assert set(failed.value.reasons) == {1, 3}
    assert {i: s.logprobs for i, s in done.items()} == dict.fromkeys((0, 2, 4, 5), (-0.1, -2.5))
    assert sum("BAD" in str(p["prompt"]) for p in server.payloads) == 2


@given(st.sets(st.integers(0, 11)), st.integers(1, 5), st.integers(0, 12))
def test_every_request_is_scored_or_failed_or_not_followed(
    bad: set[int], size: int, patience: int
) -> None:
    """Whatever fails in whichever round: within the patience all others are scored, once."""

    def look(
        places: Sequence[next_token.Place], deliver: Callable[[int, next_token.NextToken], None]
    ) -> None:
        lost = {}
        for number, (owner, done) in enumerate(places):
            # even ones fail at their first token, odd ones at their second
            if owner in bad and len(done) == owner % 2:
                lost[number] = "no"
            else:
                deliver(number, next_token.NextToken({" a": -1.0, "b": -1.0}))
        if lost:
            raise CallsFailedError("no", lost)

    scored: list[int] = []
    requests = [ScoreRequest(str(i), (" ab",)) for i in range(12)]
    failed: set[int] = set()
    try:
        next_token.score(requests, look, lambda i, _: scored.append(i), size, None, patience)
    except CallsFailedError as err:
        failed = set(err.reasons)
    assert len(scored) == len(set(scored))
    assert failed <= bad
    assert bad.isdisjoint(scored)
    if len(bad) <= patience:
        assert (failed, set(scored)) == (bad, set(range(12)) - bad)
    else:
        assert len(failed) > patience


def echoed(payload: dict[str, Any]) -> dict[str, Any]:
    """The log-probabilities of each prompt's own tokens, and of one more."""
    return {
        "choices": [
            {
                "index": i,
                "text": " x",
                "logprobs": {
                    "token_logprobs": [None, *(-float(t % 7) for t in tokens[1:]), -1.0],
                    "top_logprobs": [{"x": 0.0}] * (len(tokens) + 1),
                },
            }
            for i, tokens in enumerate(payload["prompt"])
        ]
    }


@pytest.mark.parametrize(("status", "kind"), [(400, "http_400"), (403, "content_filter")])
def test_choices_of_the_others_are_complete(
    status: int, kind: str, httpserver: HTTPServer, tmp_path: Path
) -> None:
    """A server that scores given texts: what is refused is named, and the rest has its numbers."""
    folder = save_tiny(tmp_path / "tiny", "llama")
    bad: list[list[int]] = []

    def reply(request: Request) -> Response:
        payload = request.get_json()
        if any(tokens[: len(b)] == b for tokens in payload["prompt"] for b in bad):
            return Response('{"error": {"code": "content_filter"}}' if status == 403 else "no",
                            status=status)  # fmt: skip
        return Response(json.dumps(echoed(payload)), content_type="application/json")

    httpserver.expect_request("/v1/completions").respond_with_handler(reply)
    backend = APIBackend(
        "local-completions",
        base_url=httpserver.url_for("/v1/completions"),
        model="m",
        tokenizer=str(folder),
        num_concurrent=2,
    )
    requests = [ScoreRequest(f"question {q}", (f" {c}",)) for q in "pqr" for c in ("a", "bb")]
    whole: dict[int, Scores] = {}
    backend.loglikelihood(requests, lambda i, s: whole.update({i: s}))
    assert sorted(whole) == [0, 1, 2, 3, 4, 5]
    bad.append(backend.lm.tok_encode("question q"))  # type: ignore[attr-defined]
    backend.patience = 3
    done: dict[int, Scores] = {}
    with pytest.raises(CallsFailedError, match=kind) as failed:
        backend.loglikelihood(requests, lambda i, s: done.update({i: s}))
    assert failed.value.reasons.keys() <= {2, 3}
    assert failed.value.reasons
    assert {i: s.logprobs for i, s in done.items()} == {
        i: s.logprobs for i, s in whole.items() if i not in (2, 3)
    }


# ------------------------------------------------------------------- any model of the harness


def generic(tmp_path: Path, patience: int = 3) -> Tier:
    """A tier of a scripted model, which names no request when it fails."""

    def script(prompt: str, generation: dict[str, Any]) -> str:
        if "BAD" in prompt:
            raise ConnectionError("gone")
        return "-1.5" if "continuation" in generation else f" for {prompt}"

    SCRIPTS["m"] = script
    backend = HarnessBackend("scripted", script="m")
    tier = Tier(0, "slm", backend, CallStore(tmp_path / "calls.sqlite"), progress=False)
    tier.tolerate(patience)
    return tier


def test_a_batch_that_failed_is_asked_one_by_one(tmp_path: Path) -> None:
    """So that the request that fails is known and the others are answered."""
    tier = generic(tmp_path)
    prompts = ["a", "b BAD", "c", "d BAD", "e"]
    with pytest.raises(CallsFailedError) as failed, tier.attempt():
        tier.generate([GenerateRequest(p, GREEDY) for p in prompts])
    assert set(failed.value.reasons) == {1, 3}
    made = tier.generate([GenerateRequest(p, GREEDY) for p in prompts if "BAD" not in p])
    assert [g.text for g, _ in made] == [" for a", " for c", " for e"]
    with pytest.raises(CallsFailedError) as failed:
        tier.score([ScoreRequest(p, ("x", "y")) for p in prompts])
    assert set(failed.value.reasons) == {1, 3}


def test_without_patience_a_batch_fails_as_a_whole(tmp_path: Path) -> None:
    """The error is the one of before, and names no request."""
    tier = generic(tmp_path, patience=0)
    with pytest.raises(AutoMixError, match="run the same command to resume") as failed:
        tier.generate([GenerateRequest(p, GREEDY) for p in ("a", "b BAD", "c")])
    assert not isinstance(failed.value, CallsFailedError)


# ------------------------------------------------------------------- questions


def question(doc_id: int, task: str = "coqa") -> Question:
    """A question by its number."""
    return Question(task, doc_id, Prompt(str(doc_id)), "context", "question")


def test_only_what_needs_a_failed_call_is_lost(tmp_path: Path) -> None:
    """A question may make several calls, in rounds, and share calls with others."""
    tier = generic(tmp_path, patience=0)
    found = Failures(0.5)
    found.expect("coqa", "evaluation", 6)
    rounds: list[list[str]] = []

    def work(at: list[int]) -> list[str]:
        first = [f"one {i}" + (" BAD" if i == 1 else "") for i in at]
        second = [f"two {i}" + (" BAD" if i == 4 else "") for i in at] + ["shared"]
        rounds.append(first)
        texts = [
            [g.text for g, _ in tier.generate([GenerateRequest(p, GREEDY) for p in prompts])]
            for prompts in (first, second)
        ]
        return [a + b for a, b in zip(*texts, strict=False)]

    questions = [question(i) for i in range(6)]
    made = without_failed(tier, questions, "verify", work, found)
    assert sorted(made) == [0, 2, 3, 5]
    assert made[3] == " for one 3 for two 3"
    assert [(f.doc_id, f.role, f.tier) for f in found.found] == [
        (1, "verify", 0),
        (4, "verify", 0),
    ]
    # ten calls of the four and the shared one, the first call of the one lost in round two
    assert tier.counts.made.total() == 4 * 2 + 1 + 1
    assert tier.counts.stored.total() == 0


def test_a_call_that_belongs_to_no_question_ends_the_run(tmp_path: Path) -> None:
    """A verifier that asks across questions cannot lose one of them."""
    tier = generic(tmp_path)
    found = Failures(0.9)
    found.expect("coqa", "evaluation", 3)

    def work(at: list[int]) -> list[str]:
        if len(at) > 1:
            tier.generate([GenerateRequest("all BAD", GREEDY)])
        return ["x"] * len(at)

    with pytest.raises(CallsFailedError):
        without_failed(tier, [question(i) for i in range(3)], "verify", work, found)
    assert found.found == []


# ------------------------------------------------------------------- several processes


@pytest.mark.slow
def test_several_processes_fail_like_one(tmp_path: Path) -> None:
    """Records, list of failed questions and warnings of two processes are those of one."""
    # some of either phase
    lost = json.dumps(
        ["Which sister steers", "What are the doughnuts", "What kind of loaves", "glass jars"]
    )
    runs = []
    for processes in (1, 2):
        output = tmp_path / str(processes)
        done = launch(output, processes, FAIL_ON=lost, FAIL_SHARE="0.2")
        assert done.returncode == 0, done.stderr[-3000:]
        manifest, _ = read_run(output)
        about, rows = bare(output)
        warnings = sorted(w["text"] for w in about["warnings"])
        runs.append((manifest["failed"], warnings, about["scores"], rows))
    assert {f["phase"] for f in runs[0][0]} == {"calibration", "evaluation"}
    assert runs[0] == runs[1]


@pytest.mark.slow
def test_several_processes_stop_together(tmp_path: Path) -> None:
    """What is too much in sum stops each of them, and none waits."""
    lost = json.dumps(["?"])
    done = launch(tmp_path / "two", 2, FAIL_ON=lost, FAIL_SHARE="0.2")
    assert done.returncode != 0
    assert "more than fail_on_error=0.2 allows" in done.stderr


@pytest.mark.slow
def test_what_is_too_much_in_sum_stops_every_process(tmp_path: Path) -> None:
    """Each process lost one question of seven, which it may; both together lost two."""
    lost = json.dumps(["Which sister steers", "What color are the sails"])
    done = launch(tmp_path / "two", 2, FAIL_ON=lost, FAIL_SHARE="0.15")
    assert done.returncode != 0
    assert "2 of 7 questions failed, more than fail_on_error=0.15 allows" in done.stderr
    (path,) = (tmp_path / "two").rglob(records.MANIFEST_GLOB)
    manifest = records.read_manifest(path)
    assert [f["doc_id"] for f in manifest["failed"]] == [3, 4]
    assert "coqa_demo" in manifest["unfinished"]
