"""A GGUF file run by llama.cpp in this process, through xllamacpp's prebuilt wheels.

llama.cpp's own server is started on a free port of the loopback interface and asked through the
harness's ``local-completions``. It decodes two to three times as fast as transformers on a CPU,
reads GGUF files as they are, and keeps the prompts of its slots: common beginnings are read once.
"""

from __future__ import annotations

import hashlib
import math
import mmap
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automix_eval.backends.embedded import EmbeddedModelError, ensure_gguf
from automix_eval.backends.servers import next_token
from automix_eval.backends.servers.api import APIBackend, integer
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Prompt, ScoreRequest, Scores

if TYPE_CHECKING:
    from collections.abc import Callable

    from lm_eval.api.model import LM

_ENDS = 1 << 20
_METADATA = 64 << 20
# added to a token's logit: no other is then the most probable
_FORCES = 1e6


class LlamaCppBackend(APIBackend):
    """A model in a GGUF file.

    Args:
        pretrained: Path of the file (the first of a split model).
        embedded: Name of a model carried by the extra ``[demo]`` instead of ``pretrained``.
        max_length: Window of one prompt with its answer, in tokens.
        num_concurrent: Prompts worked on at once; each has a window of its own.
        threads: CPU threads; None leaves it to llama.cpp.
        gpu_layers: Layers on a GPU; None leaves it to llama.cpp. The wheels of PyPI run on CPUs;
            xllamacpp's own index has builds for CUDA, ROCm and Vulkan.
        Other arguments: see :class:`APIBackend`.
    """

    def __init__(
        self,
        *,
        tier: str = "slm",
        chat: bool = True,
        pretrained: str | None = None,
        embedded: str | None = None,
        max_length: int = 2048,
        num_concurrent: int = 2,
        threads: int | None = None,
        gpu_layers: int | None = None,
        top_logprobs: int = 1000,
        extra: Mapping[str, Any] | None = None,
        **lm_args: Any,
    ) -> None:
        if bool(pretrained) == bool(embedded):
            raise AutoMixError(f"{tier}=llama_cpp takes {tier}.pretrained=FILE.gguf")
        self._file = Path(pretrained).expanduser() if pretrained else None
        self._embedded = embedded
        self._window = integer(f"{tier}.max_length", max_length, 16)
        self._threads, self._gpu_layers = threads, gpu_layers
        self._server: Any = None
        super().__init__(
            "local-completions",
            tier=tier,
            chat=chat,
            extra=extra,
            top_logprobs=top_logprobs,
            num_concurrent=integer(f"{tier}.num_concurrent", num_concurrent, 1),
            model="gguf",
            **lm_args,
        )

    # ----------------------------------------------------------------- what it is

    @property
    def label(self) -> str:
        """The model's own name, for tables."""
        return self._embedded or self._gguf.stem

    @property
    def identity(self) -> Mapping[str, Any]:
        """The file by its content, and the window; not the port of the server."""
        return {"lm": "llama_cpp", "content": self._content, "max_length": self._window}

    @property
    def max_length(self) -> int | None:
        """The window in tokens."""
        return self._window

    @cached_property
    def _gguf(self) -> Path:
        if self._embedded:
            try:
                return ensure_gguf(self._embedded)
            except EmbeddedModelError as err:
                raise AutoMixError(str(err)) from err
        assert self._file is not None
        if not self._file.is_file():
            raise AutoMixError(
                f"{self.tier}.pretrained={self._file} is no file: llama_cpp takes the path of a "
                "GGUF file"
            )
        with self._file.open("rb") as data:
            if data.read(4) != b"GGUF":
                raise AutoMixError(f"{self.tier}.pretrained={self._file} is not a GGUF file")
        return self._file

    @cached_property
    def _content(self) -> str:
        """A hash of the file's size and both its ends: metadata and the last weights."""
        size = self._gguf.stat().st_size
        digest = hashlib.sha256(str(size).encode())
        with self._gguf.open("rb") as data:
            digest.update(data.read(_ENDS))
            data.seek(max(size - _ENDS, 0))
            digest.update(data.read())
        return digest.hexdigest()[:32]

    @cached_property
    def _has_template(self) -> bool:
        """Whether the file has a chat template; llama.cpp would make one up in silence."""
        with (
            self._gguf.open("rb") as data,
            mmap.mmap(data.fileno(), 0, access=mmap.ACCESS_READ) as view,
        ):
            return view.find(b"tokenizer.chat_template", 0, _METADATA) >= 0

    # ----------------------------------------------------------------- the server

    def _make(self) -> LM:
        try:
            import xllamacpp
        except ImportError as err:
            raise AutoMixError(
                f"{self.tier}=llama_cpp needs the package xllamacpp: pip install xllamacpp"
            ) from err
        slots = self._setting("num_concurrent")
        params = xllamacpp.CommonParams()
        params.model.path = str(self._gguf)
        params.n_ctx = self._window * slots
        params.n_parallel = slots
        params.hostnames = ["127.0.0.1"]
        params.port = 0
        params.cache_ram_mib = 0  # the slots keep their prompts anyway
        params.verbosity = -1
        if self._threads is not None:
            params.cpuparams.n_threads = integer(f"{self.tier}.threads", self._threads, 1)
        if self._gpu_layers is not None:
            params.n_gpu_layers = int(self._gpu_layers)
        self._server = xllamacpp.Server(params)
        self._args["base_url"] = f"{self._server.listening_address}/v1/completions"
        return super()._make()

    def probe(self) -> None:
        """Nothing to see: the server is started with the model, and is this process's own."""

    def close(self) -> None:
        """Stop the server and free the model."""
        self._lm = self._server = None
        self.__dict__.pop("_transport", None)

    def _ask(self, path: str, **payload: Any) -> Mapping[str, Any]:
        import requests

        _ = self.lm
        try:
            response = requests.request(
                "POST" if payload else "GET",
                f"{self._server.listening_address}{path}",
                json=payload or None,
                timeout=self._setting("timeout"),
            )
            response.raise_for_status()
            body: Mapping[str, Any] = response.json()
        except (requests.RequestException, ValueError) as err:
            raise AutoMixError(f"{self.tier} ({self.label}): {path} failed: {err}") from err
        return body

    # ----------------------------------------------------------------- prompts

    def _has_tokenizer(self) -> bool:
        return True

    def counter(self) -> Callable[[Prompt], int]:
        """Counts the tokens of prompts; the tokenizer comes with the model."""
        return lambda prompt: self.count_tokens(self.render(prompt))

    def count_tokens(self, text: str) -> int:
        """Tokens of a rendered prompt, as llama.cpp reads it."""
        return len(self._ask("/tokenize", content=text, add_special=True)["tokens"])

    def _count_generated(self, text: str) -> int | None:
        return len(self._ask("/tokenize", content=text)["tokens"]) if text else 0

    def render(self, prompt: Prompt) -> str:
        """Text of a completion prompt; a chat prompt through the template in the file."""
        if not prompt.is_chat or not self.chat:
            return super().render(prompt)
        if not self._has_template:
            raise AutoMixError(
                f"{self.tier} ({self.label}) has no chat template: leave out "
                f"--apply_chat_template, or set {self.tier}.chat=false to give this tier the "
                "turns as plain text"
            )
        turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
        # a last turn of the assistant is continued
        return str(self._ask("/apply-template", messages=turns)["prompt"])

    def _split(self) -> next_token.Split:
        def pieces(text: str) -> list[str]:
            found = self._ask("/tokenize", content=text, add_special=True, with_pieces=True)
            return [t["piece"] if isinstance(t["piece"], str) else "" for t in found["tokens"]]

        def split(request: ScoreRequest) -> list[list[str]]:
            length = len(pieces(request.prompt))
            return [pieces(request.prompt + c)[length:] for c in request.continuations]

        return split

    # ----------------------------------------------------------------- given continuations

    def loglikelihood(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        """Score one continuation a request, exactly: each of its tokens is forced in its place.

        The server gives no log-probabilities of a prompt; of a token that it generates it says what
        the model gave it, before bias and samplers.

        Raises:
            AutoMixError: A request fails, or prompt and continuation exceed the window.
        """
        _ = self.lm
        pool = ThreadPoolExecutor(self._setting("num_concurrent"))
        order = sorted(range(len(requests)), key=lambda i: requests[i].prompt)
        try:
            asked = {pool.submit(self._force, requests[i]): i for i in order}
            for done in as_completed(asked):
                on_result(asked[done], done.result())
        finally:
            pool.shutdown(cancel_futures=True)

    def _force(self, request: ScoreRequest) -> Scores:
        begun = time.perf_counter()
        prompt, (continuation,) = request.prompt, request.continuations
        # as the harness splits them: spaces belong to the word that follows
        whole = self._numbers(prompt + continuation)
        read = self._numbers(prompt.rstrip()) or [self._first]
        tokens = whole[len(self._numbers(prompt.rstrip())) :]
        size = len(read)
        if size + len(tokens) > self._window:
            raise AutoMixError(
                f"{self.tier} ({self.label}): a prompt of {size} tokens and {len(tokens)} more do "
                f"not fit the window of {self._window}: raise {self.tier}.max_length if the model "
                "has a larger window"
            )
        total, greedy, cached = 0.0, True, 0
        for place, token in enumerate(tokens):
            made = self._ask(
                "/completion",
                prompt=read,
                n_predict=1,
                n_probs=1,
                temperature=0.0,
                logit_bias=[[token, _FORCES]],
                cache_prompt=True,
            )
            try:
                (step,) = made["completion_probabilities"]
                total += float(step["logprob"])
                greedy &= step["top_logprobs"][0]["id"] == token
                forced = step["id"] == token and math.isfinite(total)
                cached = cached if place else int(made["timings"]["cache_n"])
            except (KeyError, IndexError, TypeError, ValueError):
                forced = False
            if not forced:
                raise AutoMixError(
                    f"{self.tier} ({self.label}): this build of xllamacpp does not say what the "
                    f"model gave a token of {continuation!r}: use {self.tier}=hf"
                )
            read = [*read, token]
        seconds = time.perf_counter() - begun
        return Scores((total,), (greedy,), size, seconds, cached, latency=seconds)

    def _numbers(self, text: str) -> list[int]:
        return list(self._ask("/tokenize", content=text, add_special=True)["tokens"])

    @cached_property
    def _first(self) -> int:
        """What stands before a continuation without a prompt."""
        return self._numbers(str(self._ask("/props")["bos_token"]))[-1]
