"""The harness's own ``hf`` model, telling what each row of a batch cost.

What the tier falls back on where prompts cannot share what they have in common: batching, padding
and decoding are the harness's.
"""

from __future__ import annotations

import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.models.utils import resolve_max_length
from lm_eval.models.utils_hf import get_dtype
from safetensors import SafetensorError
from transformers import LogitsProcessor, LogitsProcessorList

from automix_eval.backends.hf.settings import TokenMemory
from automix_eval.backends.hf.weights import Pending, can_wait, commit_of
from automix_eval.backends.shared_prefix.sampling import row_seed, sample, top_two
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import THINKING


@dataclass(frozen=True, slots=True)
class MeteredRow:
    """One finished row of a batch."""

    index: int
    prompt_tokens: int
    generated_tokens: int
    seconds: float
    logprobs: tuple[float, ...]
    margins: tuple[float, ...]
    events: tuple[str, ...]


class MeteredHFLM(HFLM):  # type: ignore[misc]
    """The harness's ``hf`` model, telling what each row of a batch cost.

    Its weights are loaded when they are first used, where that puts off no error
    (:func:`.weights.can_wait`): configuration, tokenizer and window are those
    of the model from the start.
    """

    temperature: float = 1.0
    _is_made = False
    _alone = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._is_made = True

    def _create_model(self, pretrained: str, **settings: Any) -> None:
        """Load the model, or note how to."""
        if commit := commit_of(pretrained, settings):
            # the store's key names this commit, and a branch may move until the first call
            settings["revision"] = commit
        load = partial(self._load, partial(super()._create_model, pretrained, **settings))
        try:
            get_dtype(settings.get("dtype"))
        except AttributeError as err:
            raise ValueError(f"dtype={settings['dtype']} is no type that torch has") from err
        if can_wait(pretrained, settings):
            self._model: Any = Pending(load, self.config)
        else:
            load()

    @staticmethod
    def _load(create: Callable[[], None]) -> None:
        try:
            create()
        except SafetensorError as err:
            raise OSError(
                f"its weights are damaged or cut short ({err}): fetch them again"
            ) from err

    @property
    def has_weights(self) -> bool:
        """Whether the weights are loaded."""
        return not isinstance(self._model, Pending)

    def load_weights(self) -> None:
        """Load the weights, unless that is done, as the harness's constructor would have."""
        pending = self._model
        if not isinstance(pending, Pending):
            return
        try:
            pending.load()
        except BaseException:
            self._model = pending
            raise
        self.model.eval()
        self.model.tie_weights()
        if pending.device is not None:
            self.model.to(pending.device)

    @property
    def model(self) -> Any:
        """The model, loaded on first use."""
        if isinstance(self._model, Pending):
            if not self._is_made:  # the constructor asks whether there is one
                return self._model
            self.load_weights()
        return super().model

    @property
    def max_length(self) -> int:
        """The window, from the configuration while there is no model."""
        if self._max_length or self.has_weights:
            return int(super().max_length)
        default = self._DEFAULT_MAX_LENGTH
        return int(resolve_max_length(self.config, self.tokenizer, default=default))

    @cached_property
    def token_memory(self) -> TokenMemory:
        """Token ids of texts; what was encoded last is remembered."""
        return TokenMemory(super().tok_encode)

    def tok_encode(self, string: str, *args: Any, **kwargs: Any) -> list[int]:
        """Token ids; a prompt is encoded once for all the continuations it is scored with."""
        if args or kwargs:
            return list(super().tok_encode(string, *args, **kwargs))
        return list(self.token_memory(string))

    @cached_property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a generation: the model's own, and the harness's."""
        own = getattr(self.model.generation_config, "eos_token_id", None)
        ends = own if isinstance(own, list) else [own]
        return frozenset(int(t) for t in [*ends, self.eot_token_id] if t is not None)

    @contextmanager
    def one_by_one(self, alone: bool) -> Iterator[None]:
        """Batches of one prompt each, where padding would change its numbers.

        Args:
            alone: Whether to; False leaves the batch size as it is.
        """
        before: int | str = self.batch_size
        self._alone = alone
        try:
            if alone:
                self.batch_size_per_gpu: int | str = 1
            yield
        finally:
            self.batch_size_per_gpu = before
            self._forget_lengths()
            self._alone = False

    def _forget_lengths(self) -> None:
        """Put dynamic rotary angles back, which stay those of the longest prompt so far."""
        if self._alone and self._remembers_lengths:
            self.model(input_ids=torch.tensor([[0]], device=self.device))

    @cached_property
    def _remembers_lengths(self) -> bool:
        return any(
            hasattr(m, "max_seq_len_cached") and "dynamic" in str(getattr(m, "rope_type", ""))
            for m in self.model.modules()
        )

    def _model_call(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        self._forget_lengths()
        logits: torch.Tensor = super()._model_call(*args, **kwargs)
        return logits

    def expect(
        self, prompts: Sequence[str], seeds: Sequence[int | None] | None, token_probs: bool
    ) -> None:
        """Announce the requests of the next ``generate_until``."""
        self._waiting: dict[str, deque[int]] = defaultdict(deque)
        for i, prompt in enumerate(prompts):
            self._waiting[prompt].append(i)
        self._seeds = seeds
        self._token_probs = token_probs
        self._batch: tuple[list[int], list[int], list[str]] | None = None
        self.finished: deque[MeteredRow] = deque()

    def tok_batch_encode(
        self, strings: Sequence[str], *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Encode a batch, noting which request each row is."""
        ids, mask = super().tok_batch_encode(strings, *args, **kwargs)
        if getattr(self, "_waiting", None):
            rows = [self._waiting[s].popleft() for s in strings]
            self._batch = (rows, mask.sum(dim=1).tolist(), list(strings))
        return ids, mask

    def _model_generate(
        self, context: torch.Tensor, max_length: int, stop: list[str], **kwargs: Any
    ) -> torch.Tensor:
        if getattr(self, "_batch", None) is None:
            generated: torch.Tensor = super()._model_generate(context, max_length, stop, **kwargs)
            return generated
        assert self._batch is not None
        self._forget_lengths()
        rows, prompt_tokens, prompts = self._batch
        processors = LogitsProcessorList()
        if self._seeds is not None:
            seeds = [row_seed(p, self._seeds[i]) for p, i in zip(prompts, rows, strict=True)]
            processors.append(_SeededSampling(seeds, self.temperature))
        watch = _TokenProbabilities() if self._token_probs and self._seeds is None else None
        if watch is not None:
            processors.append(watch)
        if processors:
            kwargs["logits_processor"] = processors
        if self._seeds is not None and self.backend != "causal":
            # the harness adds the width of the batch to what an encoder-decoder may generate
            max_length += 1 - context.shape[1]
        begun = time.perf_counter()
        output: torch.Tensor = super()._model_generate(context, max_length, stop, **kwargs)
        seconds = (time.perf_counter() - begun) / len(rows)
        # an encoder-decoder returns what it begins with and what follows, without the prompt
        begin = context.shape[1] if self.backend == "causal" else 1
        if watch is not None and watch.shape != (output.shape[1] - begin, len(rows)):
            raise AutoMixError(
                "margin, token_profile and auto read the probability of each token at its step, "
                f"and with {_spelled(kwargs)} there is none: leave it out of the task's "
                "generation_kwargs (--gen_kwargs), or use verifier=consistency or few_shot"
            )
        logprobs, margins = watch.by_row() if watch is not None else ([], [])
        for position, index in enumerate(rows):
            tokens = output[position, begin:].tolist()
            answer, used = self._lengths(tokens, stop)
            begun_at = self.thinking(tokens[:answer])
            self.finished.append(
                MeteredRow(
                    index,
                    prompt_tokens[position],
                    used,
                    seconds,
                    tuple(logprobs[position][begun_at:answer]) if watch is not None else (),
                    tuple(margins[position][begun_at:answer]) if watch is not None else (),
                    self.thought_cut(tokens, answer == used == len(tokens)),
                )
            )
        self._batch = None
        return output

    def thinking(self, tokens: list[int]) -> int:
        """How many of the tokens are thinking, with its end; 0 where that does not end."""
        end = self.think_end_token
        if isinstance(end, int):
            return len(tokens) - tokens[::-1].index(end) if end in tokens else 0
        number = self.tok_decode(tokens).count(end) if end else 0
        if not number:
            return 0
        low, high = 1, len(tokens)
        while low < high:
            middle = (low + high) // 2
            enough = self.tok_decode(tokens[:middle]).count(end) >= number
            low, high = (low, middle) if enough else (middle + 1, high)
        return low

    def thought_cut(self, tokens: list[int], cut: bool) -> tuple[str, ...]:
        """The event of tokens that were cut (by the most that may be generated) in a thought.

        Where it begins need not be among them: a chat template may have begun it. Who ends without
        its end has answered without a thought.
        """
        thinks = self.think_end_token not in (None, "")
        return (THINKING,) if cut and thinks and not self.thinking(tokens) else ()

    def _lengths(self, tokens: list[int], stop: Sequence[str]) -> tuple[int, int]:
        """Tokens of the answer, and tokens paid for (with the one that ended it)."""
        # A row is padded only behind its end or a stop sequence: padding before is the model's own.
        length = next((i for i, t in enumerate(tokens) if t in self.end_tokens), len(tokens))
        texts = [s for s in stop if s]
        stopped = length < len(tokens)

        def contains(number: int) -> bool:
            text = self.tok_decode(tokens[:number])
            return any(s in text for s in texts)

        if contains(length):
            low, high = 1, length
            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if contains(middle) else (middle + 1, high)
            return self.before_stop(tokens[:low], texts), low
        return length or self.says(tokens[:1]), length + stopped

    def before_stop(self, tokens: list[int], stop: Sequence[str]) -> int:
        """Tokens that stand before the first stop sequence, which may be several tokens.

        At least one: a token may hold the end of the answer and the stop sequence at once.
        """
        text = self.tok_decode(tokens)
        at = min(text.find(s) for s in stop if s and s in text)
        number = len(tokens) - 1
        while number > 1 and len(self.tok_decode(tokens[:number])) > at:
            number -= 1
        return max(number, 1)

    def says(self, tokens: list[int]) -> int:
        """1 if the end of an answer, its only token, is no special token and so is its text."""
        return int(bool(self.tok_decode(tokens).strip()))


def _spelled(settings: Mapping[str, Any]) -> str:
    """Settings of a generation that are plain values, as they are written."""
    plain = {k: v for k, v in settings.items() if isinstance(v, (int, float, str))}
    return ", ".join(f"{k}={v}" for k, v in plain.items())


class _TokenProbabilities(LogitsProcessor):
    """Notes the probability of the best token and its lead, step by step (greedy decoding)."""

    def __init__(self) -> None:
        self._steps: list[list[tuple[float, float]]] = []

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        self._steps.append(top_two(scores))
        return scores

    @property
    def shape(self) -> tuple[int, int]:
        """Steps, and rows of each."""
        return len(self._steps), len(self._steps[0]) if self._steps else 0

    def by_row(self) -> tuple[list[list[float]], list[list[float]]]:
        """Log-probabilities and leads, [batch][step]."""
        rows = list(zip(*self._steps, strict=True))
        return [[b for b, _ in row] for row in rows], [[lead for _, lead in row] for row in rows]


class _SeededSampling(LogitsProcessor):
    """Lets greedy search pick a sample drawn by each row's own generator."""

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._temperature = temperature

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        chosen = sample(scores, self._temperature, self._generators)
        result = torch.full_like(scores, -math.inf)
        result[torch.arange(len(chosen)), torch.tensor(chosen)] = 0.0
        return result
