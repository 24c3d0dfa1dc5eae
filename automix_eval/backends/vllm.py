"""A tier run by vLLM in this process, with metered tokens and probabilities.

Loading, tokenizing and stopping are the harness's own ``vllm`` model. Added are vLLM's prefix cache
and its ``n``, the tokens that count, and scores from the most probable next tokens.
"""

from __future__ import annotations

import copy
import importlib
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from automix_eval.backends.harness_lm import HarnessBackend
from automix_eval.backends.servers import next_token
from automix_eval.backends.servers.api import integer
from automix_eval.backends.servers.replies import Token, probabilities
from automix_eval.types import GenerateRequest, Generation, ScoreRequest, Scores

if TYPE_CHECKING:
    from lm_eval.api.model import LM


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
        """Generate all requests in one batch, samples of one prompt by ``n``."""
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
            on_result(waiting[prompt].popleft(), row.made(text))

        lm.watch(2 if token_probs else None)
        self._request("generate_until", pairs, _Prompts(deliver))  # type: ignore[arg-type]

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

        next_token.score(
            requests,
            look,
            on_result,
            slice_size=max(1, len(requests)),
            split=lambda request: [tokens for _, tokens in encoded[id(request)]],
        )

    def _lm_class(self) -> type[LM]:
        found = super()._lm_class()
        return type("MeteredVLLM", (_Metered, found), {})


class _Prompts:
    """A cache hook that hears of each finished prompt.

    The harness reports generation arguments other than those it was given, so they are no key.
    """

    dbdict = None

    def __init__(self, deliver: Callable[[str, str], None]) -> None:
        self._deliver = deliver

    def add_partial(self, _method: str, request: Sequence[Any], result: Any) -> None:
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
    tokens: list[Token]
    first: Mapping[int, float]

    def made(self, text: str) -> Generation:
        """The generation, its text cut at the stop sequences."""
        logprobs, margins = probabilities(self.tokens, text)
        return Generation(
            text,
            self.prompt_tokens,
            self.generated_tokens,
            self.seconds,
            logprobs,
            margins,
            cached_tokens=self.cached_tokens,
            events=("length",) if self.cut else (),
        )


class _Metered:
    """The harness's ``vllm`` model, telling what each generation cost."""

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
            return super()._model_generate(requests, generate, sampling_params)  # type: ignore[misc]
        groups = _group(requests, sampling_params, self._logprobs)
        begun = time.perf_counter()
        outputs = super()._model_generate(  # type: ignore[misc]
            requests=[requests[indices[0]] for indices, _ in groups],
            generate=True,
            sampling_params=[params for _, params in groups],
        )
        seconds = (time.perf_counter() - begun) / len(requests)
        single: dict[int, Any] = {}
        for (indices, _), output in zip(groups, outputs, strict=True):
            for sample, (index, made) in enumerate(zip(indices, output.outputs, strict=True)):
                single[index] = SimpleNamespace(
                    outputs=[made],
                    # samples of one prompt read it once
                    prompt=len(output.prompt_token_ids),
                    cached=(getattr(output, "num_cached_tokens", None) or 0)
                    if sample == 0
                    else len(output.prompt_token_ids),
                )
        ordered = [single[i] for i in range(len(requests))]
        self.finished.extend(_row(o, seconds) for o in ordered)
        return ordered


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
    return _Row(output.prompt, output.cached, len(made.token_ids), seconds, cut, tokens, first)


def _token(listed: Mapping[int, Any], token: int) -> Token:
    top: dict[str, float] = {}
    for entry in listed.values():
        text = str(entry.decoded_token)
        top[text] = max(float(entry.logprob), top.get(text, -math.inf))
    own = float(listed[token].logprob)
    lead = next_token.margin(own, [float(e.logprob) for e in listed.values()])
    return Token(str(listed[token].decoded_token), own, top, lead)
