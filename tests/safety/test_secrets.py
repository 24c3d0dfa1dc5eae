"""No key reaches anything that is kept or shown: canaries in every place one could enter."""

from __future__ import annotations

import base64
import json
import logging
import os
import shlex
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import forks
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples
from processes import python_path
from pytest_httpserver import HTTPServer
from scripted import REPO, SCRIPTS, gold_answers, knows, run_harness, scripted_args
from werkzeug import Request, Response

from automix_eval.backends.servers import transport
from automix_eval.backends.servers.api import APIBackend
from automix_eval.commands import main as cli
from automix_eval.config import compose as config
from automix_eval.harness.model import AutoMixLM
from automix_eval.safety import redaction
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.logs import ArgumentsFilter, LogFilter, harmless
from automix_eval.types import GenerateRequest

TASK = "coqa_demo"
TIERS = ("slm", "llm")
# characters that URLs and JSON write differently, and a digit as every real key has
CANARY = 'sk/CAN+ARY="7f3a91'
GREEDY = {"do_sample": False, "max_gen_toks": 5, "until": ["\n"]}


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is known of earlier tests; back-off in milliseconds."""
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.001)
    monkeypatch.setattr(redaction, "_MET", {})
    arguments = ArgumentsFilter()
    logging.getLogger("lm_eval.evaluator").addFilter(arguments)  # as the installed bridge does
    yield
    logging.getLogger("lm_eval.evaluator").removeFilter(arguments)
    for logger in (logging.getLogger(), logging.getLogger("lm_eval")):
        for handler in logger.handlers:
            for one in [f for f in handler.filters if isinstance(f, LogFilter)]:
                handler.removeFilter(one)


def shapes(secret: str) -> dict[str, str]:
    """A secret as it may be written: plain, in JSON, in a URL, in base64 at any place."""
    raw = secret.encode()
    coded = {
        f"base64 after {n} bytes": base64.b64encode(b"ab"[:n] + raw + b"xyz").decode()[
            (0, 2, 3)[n] : (n + len(raw)) * 8 // 6
        ]
        for n in range(3)
    }
    return {
        "plain": secret,
        "JSON": json.dumps(secret)[1:-1],
        "URL": quote(secret, safe=""),
        "form": quote_plus(secret),
        **coded,
    }


def assert_absent(where: str, text: str, secret: str = CANARY) -> None:
    """The secret is nowhere in a text, in any shape."""
    assert [shape for shape, form in shapes(secret).items() if form in text] == [], where


def search(folder: Path, secret: str = CANARY) -> int:
    """The secret is in no file below a folder, nor in its name; returns how many were read."""
    number = 0
    for path in folder.rglob("*"):
        assert_absent("name", str(path), secret)
        if path.is_file():
            number += 1
            assert_absent(str(path), path.read_bytes().decode("utf-8", "replace"), secret)
    return number


def echo(wrap: Callable[[str], str] = lambda s: s) -> Callable[[Request], Response]:
    """A server that answers with every header, address and body it was sent."""

    def reply(request: Request) -> Response:
        heard = f"{dict(request.headers)} {request.url} {request.get_data(as_text=True)[-50:]}"
        choice = {"index": 0, "text": " " + wrap(heard), "finish_reason": "stop"}
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        return Response(json.dumps({"choices": [choice], "usage": usage}))

    return reply


def served(url: str, **more: Any) -> dict[str, Any]:
    """A cascade whose LLM is behind a server; every question goes there."""
    args = scripted_args(meta_verifier="always_llm", record="full", **more)
    del args["llm.lm"], args["llm.script"]
    return args | {"llm": "local_completions", "llm.base_url": url, "llm.model": "m"}


# --------------------------------------------------------------------------- written out: refused


WRITTEN_OUT = [
    {"llm.auth_token": CANARY},
    {"llm.auth_token": 123456789012},
    {"llm.token": CANARY},
    {"llm.api_key": CANARY},
    {"llm.header": {"Authorization": f"Bearer {CANARY}"}},
    {"llm.header": {"X-Own": CANARY}},
    {"llm.extra": {"extra_body": {"nested": [{"api_key": CANARY}]}}},
    {"llm": {"option": "local_completions", "auth_token": CANARY}},
    {"llm.base_url": f"http://me:{quote(CANARY, safe='')}@127.0.0.1:9/v1"},
    {"llm.base_url": f"http://127.0.0.1:9/v1?api_key={quote(CANARY, safe='')}"},
    {"llm.base_url": f"http://127.0.0.1:9/v1?sig={quote(CANARY, safe='')}"},
    {"llm.auth_token": "${oc.env:NONE," + CANARY + "}"},
    {"llm.model": "sk-canary7f3a91aaaaaaaaaaaaaaaaaaaa"},
    {"tiers": ["smollm2", {"option": "hf", "pretrained": "x", "token": CANARY}]},
    {"tiers": "smollm2+gemma3", "tiers.1.auth_token": CANARY},
    {"llm.model": "${oc.env:OPENAI_API_KEY}"},
    {"llm.model": "${llm.auth_token}"},
    {"model": "x-${oc.env:SIGNING_KEY}"},
]


@pytest.mark.parametrize("given", WRITTEN_OUT, ids=lambda g: "+".join(g))
def test_a_secret_written_out_is_refused(given: dict[str, Any]) -> None:
    """The error names the key and the way out, never the value."""
    with pytest.raises(config.ConfigError, match=r"would show a secret.*=env:NAME") as caught:
        config.build(given)
    assert_absent("error", "".join(traceback.format_exception(caught.value)))
    assert "sk-canary7f3a91" not in str(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"llm": "hf", "llm.pretrained": "x", "llm.think_end_token": "</think>"},
        {"llm": "hf", "llm.pretrained": "x", "llm.token": True},
        {"llm": "hf", "llm.pretrained": "/models/secret_garden/sk-1"},
        {"store.path": "${oc.env:HOME}/calls.sqlite"},
    ],
    ids=lambda g: list(g)[-1],
)
def test_what_only_sounds_like_a_secret_is_taken(given: dict[str, Any]) -> None:
    """Tokens of a vocabulary, switches, paths and plain variables."""
    config.build(given)


def test_a_known_secret_is_refused_by_any_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is called like a secret gives its value away."""
    monkeypatch.setenv("MY_API_KEY", CANARY)
    with pytest.raises(config.ConfigError, match=r"llm\.extra\.note would show a secret"):
        config.build({"llm": "hf", "llm.pretrained": "x", "llm.extra": {"note": f"a {CANARY} b"}})


def test_a_file_of_settings_is_no_way_around(tmp_path: Path) -> None:
    """config=FILE is read by the same rule."""
    file = tmp_path / "mine.yaml"
    file.write_text(f"llm:\n  option: local_completions\n  auth_token: '{CANARY}'\n")
    with pytest.raises(config.ConfigError, match=r"llm\.auth_token would show a secret"):
        config.build({"config": str(file)})


@pytest.mark.parametrize("as_text", [False, True])
def test_the_harness_logs_its_arguments_without_secrets(
    as_text: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Its line comes before the model that refuses them, and stays without the value."""
    import lm_eval

    word = "canary7f3a91"  # no comma, quote or bracket: the harness parses the text
    args: Any = {"llm.auth_token": word, "llm.header": {"Authorization": word}}
    if as_text:
        args = f"llm.auth_token={word},llm.base_url=http://me:{word}@host/v1,{'a' * 90}=1"
    with caplog.at_level(logging.DEBUG), pytest.raises(AutoMixError) as caught:
        lm_eval.simple_evaluate(model="automix", model_args=args, tasks=[TASK])
    assert "Initializing automix model" in caplog.text.replace("\n", " ")
    assert_absent("log", caplog.text, word)
    assert word not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    "given",
    [
        ["slm.api_key=hunter2f,slm.api_key=hunter3f"],
        ["slm.api_key=hunter2f,llm.model=x", "llm.model=y,slm.api_key=hunter3f"],
        ["slm.auth_token=hunter2f", "slm.auth_token=hunter3f"],
    ],
)
def test_a_key_given_twice_is_warned_of_without_its_values(given: list[str]) -> None:
    """The harness's own parser names the key before any model is there to refuse it."""
    code = (
        "import _automix_bridge, argparse, logging; logging.basicConfig(level=logging.WARNING)\n"
        "from lm_eval._cli.utils import MergeDictAction\n"
        "parser = argparse.ArgumentParser()\n"
        "parser.add_argument('--model_args', nargs='+', action=MergeDictAction)\n"
        f"parser.parse_args({[part for g in given for part in ('--model_args', g)]!r})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPO, capture_output=True, text=True, check=True
    )
    assert "Overwriting" in done.stderr
    assert "hunter" not in done.stderr


@pytest.mark.parametrize(
    "given",
    [
        {"gen_kwargs": {"extra_headers": {"Authorization": CANARY}}},
        {"gen_kwargs": {"extra_body": {"api_key": CANARY}}},
        {"metadata": {"auth_token": CANARY}},
    ],
    ids=lambda g: next(iter(g)),
)
def test_other_kept_arguments_are_refused_as_well(
    given: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """The harness writes --gen_kwargs and --metadata into its results."""
    SCRIPTS["small"] = SCRIPTS["large"] = lambda p, g: " x"
    with caplog.at_level(logging.DEBUG), pytest.raises(AutoMixError, match="would show a secret"):
        run_harness([TASK], scripted_args(meta_verifier="always_slm"), **given)
    assert_absent("log", caplog.text)


@pytest.mark.parametrize(
    "argv",
    [
        ["doctor", f"llm.auth_token={CANARY}"],
        ["plan", "--tasks", TASK, f"llm.auth_token={CANARY}"],
        ["replay", "table=x.csv", "+llm.auth_token=canary7f3a91"],
        ["replay", "-m", "table=x.csv", "policy_password=canary7f3a91,canary7f3a92"],
        ["replay", "auth_token=canary7f3a91 ]["],
    ],
    ids=lambda a: a[0],
)
def test_commands_do_not_repeat_a_secret(
    argv: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Neither on the screen nor in Hydra's own files."""
    monkeypatch.chdir(tmp_path)
    assert cli.main(argv) != 0
    said = "".join(capfd.readouterr())
    assert said
    assert_absent("screen", said)
    assert_absent("screen", said, "canary7f3a91")
    search(tmp_path, "canary7f3a91")


# --------------------------------------------------------------------------- by reference: unseen


PLACES: dict[str, tuple[dict[str, str], Callable[[str], str]]] = {
    "auth_token": ({"llm.auth_token": "${oc.env:MY_WORD}"}, lambda c: c),
    "header": ({"llm.header": {"X-Own": "env:MY_WORD"}}, lambda c: c),  # type: ignore[dict-item]
    "password": (
        {"llm.base_url": "env:MY_WORD"},
        lambda c: f"http://me:{quote(c, safe='')}@HOST/v1/completions",
    ),
    "query": (
        {"llm.base_url": "${oc.env:MY_WORD}"},
        lambda c: f"http://HOST/v1/completions?api_key={quote(c, safe='')}",
    ),
    "environment": ({}, lambda c: c),
}


@pytest.mark.parametrize("place", PLACES)
def test_a_run_shows_no_secret_anywhere(
    place: str,
    httpserver: HTTPServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Results, samples, records, store, policy, manifest, log and every report of a run.

    Its server repeats all it is sent as its answer.
    """
    answers = gold_answers(TASK)
    SCRIPTS["small"] = knows(answers, 0.5)
    given, made = PLACES[place]
    host = f"{httpserver.host}:{httpserver.port}"
    name = "MY_WORD" if given else "OPENAI_API_KEY"
    monkeypatch.setenv(name, made(CANARY).replace("HOST", host))
    httpserver.expect_request("/v1/completions").respond_with_handler(echo())
    args = served(f"http://{host}/v1/completions") | given
    with caplog.at_level(logging.DEBUG):
        run_harness([TASK], args, tmp_path / "out", limit=2)
    heard = [r.headers.get("Authorization", "") + str(r.headers) + r.url for r, _ in httpserver.log]
    assert any(s in h for h in heard for s in [*shapes(CANARY).values(), "Basic ", "api_key=sk"])
    ours = [r.getMessage() for r in caplog.records if r.name != "werkzeug"]
    assert_absent("log", "\n".join(ours))
    assert cli.main(["report", str(tmp_path / "out"), "--out", str(tmp_path / "report")]) == 0
    assert search(tmp_path) > 10
    assert_absent("screen", "".join(capfd.readouterr()))


def ask(url: str, **args: Any) -> str:
    """What a tier says that asks once: its answer, or its error with all causes."""
    backend = APIBackend(
        "local-completions", tier="llm", base_url=url, model="m", max_retries=0, **args
    )
    said: list[str] = []
    try:
        backend.generate([GenerateRequest("a", GREEDY)], lambda _, g: said.append(g.text))
    except AutoMixError as err:
        return "".join(traceback.format_exception(err))
    return said[0]


@pytest.mark.slow
@pytest.mark.parametrize("refused", [False, True], ids=["answered", "refused"])
def test_the_command_shows_no_secret(refused: bool, httpserver: HTTPServer, tmp_path: Path) -> None:
    """lm_eval as a program of its own: its screen, its traceback, and all that it writes."""
    if refused:
        reply = Response(f'{{"error": "no key {CANARY}"}}', status=401)
        httpserver.expect_request("/v1/completions").respond_with_response(reply)
    else:
        httpserver.expect_request("/v1/completions").respond_with_handler(echo())
    tiers = [f"{t}=local_completions,{t}.model=m,{t}.base_url=env:SERVER" for t in TIERS]
    arguments = [*tiers, "llm.auth_token=env:MY_WORD", "meta_verifier=always_llm"]
    arguments += ["record=full", "verifier=few_shot", "verifier.num_samples=1"]
    environment = {
        **os.environ,
        "PYTHONPATH": python_path(),
        "SERVER": httpserver.url_for("/v1/completions") + f"?api_key={quote(CANARY, safe='')}",
        "MY_WORD": CANARY,
        "OPENAI_API_KEY": CANARY,
        "LMEVAL_LOG_LEVEL": "DEBUG",
    }
    command = ["lm_eval", "--model", "automix", "--tasks", TASK, "--limit", "2", "--log_samples"]
    command += ["--output_path", str(tmp_path / "out"), "--model_args", ",".join(arguments)]
    done = forks.run(command, environment, tmp_path)
    assert (done.returncode != 0) is refused, done.stderr[-2000:]
    assert ("Traceback" in done.stderr) is refused
    assert f"Bearer {CANARY}" in [r.headers.get("Authorization") for r, _ in httpserver.log]
    assert_absent("stdout", done.stdout)
    assert_absent("stderr", done.stderr)
    assert search(tmp_path) > (0 if refused else 4)


def test_the_commands_of_the_documents_compose(monkeypatch: pytest.MonkeyPatch) -> None:
    """What docs/security.md tells to write is taken, references included."""
    from lm_eval.utils import simple_parse_args_string

    monkeypatch.setenv("MY_SERVER", "http://me:pa55w0rd@127.0.0.1:9/v1")
    monkeypatch.setenv("MY_KEY", CANARY)
    text = (REPO / "docs/security.md").read_text(encoding="utf-8")
    commands = [line for line in text.splitlines() if line.startswith("lm_eval ")]
    assert len(commands) == 2
    for command in commands:
        arguments = shlex.split(command)
        given = arguments[arguments.index("--model_args") + 1]
        made = config.build(simple_parse_args_string(given))
    assert made.llm.auth_token == CANARY
    assert_absent("shown", json.dumps(config.shown(made)))


FAULTS = {
    "refusal": lambda body: Response(body, status=401),
    "busy": lambda body: Response(body, status=429),
    "broken": lambda body: Response(body, status=500),
    "no JSON": lambda body: Response(body),
    "error": lambda body: Response(json.dumps({"error": {"message": body, "code": 401}})),
    "filter": lambda body: Response(f"content_filter {body}", status=400),
    "redirect": lambda body: Response(status=307, headers={"Location": f"/x?key={quote(body)}"}),
    "answer": lambda body: Response(json.dumps({"choices": [{"index": 0, "text": body}]})),
}


@pytest.mark.parametrize("shape", shapes(CANARY))
@pytest.mark.parametrize("fault", FAULTS)
def test_a_server_that_repeats_the_key(
    fault: str, shape: str, httpserver: HTTPServer, caplog: pytest.LogCaptureFixture
) -> None:
    """In an error of any kind or in an answer, in any shape: blanked."""
    body = f"no such key: <{shapes(CANARY)[shape]}>"
    httpserver.expect_request("/v1").respond_with_response(FAULTS[fault](body))
    with caplog.at_level(logging.DEBUG, logger="automix_eval"):
        said = ask(httpserver.url_for("/v1"), auth_token=CANARY)
    assert_absent(fault, said)
    assert_absent(fault, caplog.text)


def test_a_key_is_not_sent_on(httpserver: HTTPServer) -> None:
    """A redirect is a failure that names the address: the key was meant for the first one."""
    elsewhere = httpserver.url_for("/elsewhere?token=x1")
    moved = Response(status=308, headers={"Location": elsewhere})
    httpserver.expect_request("/v1").respond_with_response(moved)
    said = ask(httpserver.url_for("/v1"), auth_token=CANARY)
    assert "redirects to" in said
    assert "/elsewhere" in said
    assert "llm.base_url" in said
    assert [r.path for r, _ in httpserver.log] == ["/v1"]


@pytest.mark.parametrize("url", ["http://me:{}@127.0.0.1:9/v1", "http://127.0.0.1:9/v1?key={}"])
def test_an_address_that_fails_is_named_without_its_secret(url: str) -> None:
    """Refused connections and what the libraries say of them."""
    backend = APIBackend(
        "local-completions", tier="llm", base_url=url.format("hunter22"), model="m"
    )
    with pytest.raises(AutoMixError, match="nothing answers") as caught:
        backend.load()
    assert "hunter22" not in "".join(traceback.format_exception(caught.value))
    assert "hunter22" not in backend.label + str(backend.identity)


@pytest.mark.parametrize("url", ["http://h:99999/v1", "http://h:x/v1", "http://[::1/v1", "h:80/v1"])
def test_a_url_that_is_none_is_an_error_of_ours(url: str) -> None:
    """A port beyond all ports as well as brackets that do not close."""
    with pytest.raises(AutoMixError, match="is not a URL"):
        APIBackend("local-completions", tier="llm", base_url=url, model="m").load()


# --------------------------------------------------------------------------- the tools


@settings(max_examples=examples(100))
@given(
    secret=st.text(min_size=12, max_size=60).filter(lambda s: s.isprintable() and s == s.strip()),
    before=st.text(max_size=20),
    after=st.text(max_size=20),
)
def test_scrubbing_finds_every_shape(secret: str, before: str, after: str) -> None:
    """Whatever the secret and what stands around it."""
    redaction._MET.clear()
    redaction.know({"auth_token": secret})
    for form in shapes(secret).values():
        if len(form) >= 8:
            assert form not in redaction.scrub(before + form + after)


def test_words_are_not_taken_for_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A placeholder for a key may well stand in an answer, which is left alone."""
    for value in ("EMPTY", "placeholder", "not-needed"):
        monkeypatch.setenv("OPENAI_API_KEY", value)
        redaction.know({"auth_token": value})
        assert redaction.scrub(f"an {value} answer") == f"an {value} answer"


def test_credentials_of_a_proxy_are_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any variable may hold a URL that carries them."""
    monkeypatch.setenv("HTTPS_PROXY", "http://me:hunter22@proxy:3128")
    assert redaction.scrub("proxy said hunter22") == "proxy said ***"


def test_a_traceback_in_the_log_is_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lines, their arguments and the exceptions below them."""
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(logging.Formatter().format(record))  # type: ignore[method-assign]
    handler.addFilter(LogFilter())
    logger = logging.getLogger("a-library")
    logger.addHandler(handler)
    try:
        raise ValueError(f"key {CANARY}")
    except ValueError:
        logger.exception("failed with %s", CANARY)
    finally:
        logger.removeHandler(handler)
    assert "failed with ***" in lines[0]
    assert "ValueError: key ***" in lines[0]
    assert_absent("log", lines[0])


def test_a_cause_with_a_secret_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """At any depth; other causes stay."""
    monkeypatch.setenv("OPENAI_API_KEY", CANARY)
    deep = ValueError("outside")
    deep.__cause__ = OSError(f"no host {CANARY}")
    assert harmless(deep) is None
    assert isinstance(harmless(OSError("no host")), OSError)


def test_the_manifest_says_where_a_secret_comes_from(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanked values, and no key of a variable: the configuration that is shown is resolved."""
    monkeypatch.setenv("MY_WORD", CANARY)
    made = config.build(served("http://127.0.0.1:9/v1") | {"llm.auth_token": "${oc.env:MY_WORD}"})
    assert made.llm.auth_token == CANARY
    assert config.shown(made)["llm"]["auth_token"] == redaction.MARK


@pytest.mark.parametrize(
    "given",
    [
        {"llm.auth_token": "env:MY_WORD"},
        {"llm.auth_token": "${oc.env:MY_WORD}"},
        {"llm": {"option": "local_completions", "auth_token": "env:MY_WORD"}},
        {"llm.header": {"Authorization": "Bearer env:MY_WORD", "Accept": "env:nothing"}},
        {"llm.header": {"Authorization": "Bearer ${oc.env:MY_WORD}", "X-Version": "1"}},
    ],
    ids=str,
)
def test_a_reference_brings_the_value(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the short form for --model_args and in Hydra's own."""
    monkeypatch.setenv("MY_WORD", CANARY)
    monkeypatch.setenv("nothing", "text/plain")
    node = config.build(served("http://127.0.0.1:9/v1") | given).llm
    assert CANARY in (node.auth_token or node.header["Authorization"])


def test_a_variable_that_is_not_set_is_named() -> None:
    """Before anything is loaded."""
    args = served("http://127.0.0.1:9/v1") | {"llm.auth_token": "${oc.env:NO_SUCH_VARIABLE}"}
    with pytest.raises(AutoMixError, match="NO_SUCH_VARIABLE"):
        AutoMixLM(**args)
