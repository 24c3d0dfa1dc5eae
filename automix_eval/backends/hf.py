"""A tier run by transformers in this process, with metered tokens and probabilities.

Loading, tokenizing, batching and stopping are the harness's own ``hf`` model. Added are the
tokens that count (up to the stop sequence, not the padding after it), the probabilities of an
answer's tokens, sampling that is reproducible call by call, and scoring that reads a prompt once.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.huggingface import HFLM
from transformers import LogitsProcessor, LogitsProcessorList

from automix_eval.backends.embedded import CONVERTER_VERSION, ensure_model
from automix_eval.backends.harness_lm import HarnessBackend
from automix_eval.backends.hook import Hook
from automix_eval.types import GenerateRequest, Generation, ScoreRequest, Scores

if TYPE_CHECKING:
    from lm_eval.api.model import LM

log = logging.getLogger(__name__)

_CPU_AUTO_BATCH = 8


class HFBackend(HarnessBackend):
    """The harness's ``hf`` model.

    Args:
        embedded: Name of a model carried by the extra ``[demo]`` instead of ``pretrained``.
        Other arguments: see :class:`HarnessBackend` and the harness's ``hf`` model.
    """

    gives_token_probs = True

    def __init__(
        self,
        lm: str = "hf",
        *,
        tier: str = "slm",
        chat: bool = True,
        embedded: str | None = None,
        extra: Mapping[str, Any] | None = None,
        **lm_args: Any,
    ) -> None:
        self._embedded = embedded
        self._content: str | None = None
        super().__init__(lm, tier=tier, chat=chat, extra=extra, **lm_args)

    @property
    def label(self) -> str:
        """The model's own name, for tables."""
        return self._embedded or super().label

    @property
    def identity(self) -> Mapping[str, Any]:
        """As for any model; a local folder by the content of its files, not by its path."""
        identity = dict(super().identity)
        if self._content is None:
            self._content = self._know_content()
        arguments = {k: v for k, v in identity["args"].items() if k != "pretrained"}
        return identity | {"args": arguments, "content": self._content}

    def _know_content(self) -> str:
        """The weights' identity: a folder's files, or the commit that a hub name stands for."""
        if self._embedded:
            return f"{self._embedded}, conversion {CONVERTER_VERSION}"
        pretrained = str(self._args.get("pretrained"))
        source = Path(pretrained)
        if source.is_dir():
            return _fingerprint(source)
        commit = getattr(self._metered().config, "_commit_hash", None)
        return f"{pretrained}@{commit or self._args.get('revision', 'main')}"

    def _tokenizer_source(self) -> str | None:
        return str(ensure_model(self._embedded)) if self._embedded else super()._tokenizer_source()

    def _make(self) -> LM:
        if self._embedded:
            self._args["pretrained"] = str(ensure_model(self._embedded))
        if "device" not in self._args and not _has_accelerator():
            self._args["device"] = "cpu"  # the harness's default is cuda, present or not
        if str(self._args.get("batch_size", "")).startswith("auto") and not _has_accelerator():
            # the harness finds the largest batch by running out of GPU memory
            log.info("%s: batch_size auto is %d on a CPU", self.tier, _CPU_AUTO_BATCH)
            self._args["batch_size"] = _CPU_AUTO_BATCH
        return MeteredHFLM(**self._args, **self._extra)

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        on_result: Callable[[int, Generation], None],
        token_probs: bool = False,
    ) -> None:
        """Generate in the harness's batches; samples are drawn by seed, not by batch."""
        lm = self._metered()
        groups: dict[str, list[int]] = defaultdict(list)
        for i, request in enumerate(requests):
            key = json.dumps([dict(request.generation), request.seed is not None], sort_keys=True)
            groups[key].append(i)
        for key, indices in groups.items():
            arguments, sampled = json.loads(key)
            if sampled:
                # drawn by the noise processor below, so that no batch disturbs another's sample
                lm.temperature = float(arguments.pop("temperature", 1.0) or 1.0)
                arguments["do_sample"] = False
            lm.expect(
                [requests[i].prompt for i in indices],
                [requests[i].seed for i in indices] if sampled else None,
                token_probs,
            )
            argument_key = json.dumps(arguments, sort_keys=True)

            def deliver(_: int, text: str, __: float, indices: list[int] = indices) -> None:
                row = lm.finished.popleft()
                on_result(
                    indices[row.index],
                    Generation(
                        text,
                        row.prompt_tokens,
                        row.generated_tokens,
                        row.seconds,
                        row.logprobs,
                        row.margins,
                    ),
                )

            pairs = [(requests[i].prompt, dict(arguments)) for i in indices]
            hook = Hook([(prompt, argument_key) for prompt, _ in pairs], deliver)
            self._request("generate_until", pairs, hook)

    @torch.inference_mode()
    def score(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        """Score whole continuations; each prompt is read once and its cache serves them all.

        Args:
            requests: Prompts, each with the same number of continuations.
            on_result: Receives the natural-log probabilities.
        """
        lm = self._metered()
        encoded = []
        for request in requests:
            pairs = [lm._encode_pair(request.prompt, c) for c in request.continuations]
            encoded.append((pairs[0][0], [continuation for _, continuation in pairs]))
        order = sorted(range(len(requests)), key=lambda i: -len(encoded[i][0]))
        size = max(1, int(lm.batch_size) if str(lm.batch_size).isdigit() else _CPU_AUTO_BATCH)
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            begun = time.perf_counter()
            logprobs = _score_batch(lm, [encoded[i] for i in batch])
            seconds = (time.perf_counter() - begun) / len(batch)
            for i, row in zip(batch, logprobs, strict=True):
                on_result(i, Scores(tuple(row), prompt_tokens=len(encoded[i][0]), seconds=seconds))

    def _metered(self) -> MeteredHFLM:
        lm = self.lm
        assert isinstance(lm, MeteredHFLM)
        return lm


@dataclass(frozen=True, slots=True)
class _Row:
    """One finished row of a batch."""

    index: int
    prompt_tokens: int
    generated_tokens: int
    seconds: float
    logprobs: tuple[float, ...]
    margins: tuple[float, ...]


class MeteredHFLM(HFLM):  # type: ignore[misc]
    """The harness's ``hf`` model, telling what each row of a batch cost."""

    temperature: float = 1.0

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
        self.finished: deque[_Row] = deque()

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
        rows, prompt_tokens, prompts = self._batch
        processors = LogitsProcessorList()
        if self._seeds is not None:
            seeds = [_row_seed(p, self._seeds[i]) for p, i in zip(prompts, rows, strict=True)]
            processors.append(_SeededSampling(seeds, self.temperature))
        watch = _TokenProbabilities() if self._token_probs and self._seeds is None else None
        if watch is not None:
            processors.append(watch)
        if processors:
            kwargs["logits_processor"] = processors
        begun = time.perf_counter()
        output: torch.Tensor = super()._model_generate(context, max_length, stop, **kwargs)
        seconds = (time.perf_counter() - begun) / len(rows)
        logprobs, margins = watch.by_row() if watch is not None else ([], [])
        for position, index in enumerate(rows):
            tokens = output[position, context.shape[1] :].tolist()
            answer, used = self._lengths(tokens, stop)
            self.finished.append(
                _Row(
                    index,
                    prompt_tokens[position],
                    used,
                    seconds,
                    tuple(logprobs[position][:answer]) if watch is not None else (),
                    tuple(margins[position][:answer]) if watch is not None else (),
                )
            )
        self._batch = None
        return output

    def _lengths(self, tokens: list[int], stop: Sequence[str]) -> tuple[int, int]:
        """Tokens of the answer, and tokens paid for (with the one that ended it)."""
        ends = {self.tokenizer.eos_token_id, self.tokenizer.pad_token_id}
        own = getattr(self.model.generation_config, "eos_token_id", None)
        ends |= set(own if isinstance(own, list) else [own])
        length = next((i for i, t in enumerate(tokens) if t in ends), len(tokens))
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
            # a token may hold the end of the answer and the stop sequence at once
            return max(low - 1, 1), low
        return length, length + stopped


class _TokenProbabilities(LogitsProcessor):
    """Notes the probability of the best token and its lead, step by step (greedy decoding)."""

    def __init__(self) -> None:
        self._best: list[torch.Tensor] = []
        self._lead: list[torch.Tensor] = []

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        values = scores.float()
        top = torch.topk(values, 2, dim=-1).values - values.logsumexp(dim=-1, keepdim=True)
        self._best.append(top[:, 0])
        self._lead.append(top[:, 0].exp() - top[:, 1].exp())
        return scores

    def by_row(self) -> tuple[list[list[float]], list[list[float]]]:
        """Log-probabilities and leads, [batch][step]."""
        return (
            torch.stack(self._best, dim=1).tolist(),
            torch.stack(self._lead, dim=1).tolist(),
        )


class _SeededSampling(LogitsProcessor):
    """Sampling by the Gumbel-max trick, each row with a generator of its own.

    argmax(logits / T + Gumbel noise) is a sample of softmax(logits / T); with one seeded
    generator a row, a sample depends on its own seed alone, whatever shares its batch.
    """

    def __init__(self, seeds: Sequence[int], temperature: float) -> None:
        self._generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self._temperature = temperature

    def __call__(self, _ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        noise = torch.stack(
            [
                torch.empty(scores.shape[-1]).exponential_(generator=g).log_()
                for g in self._generators
            ]
        )
        return scores.float() / self._temperature - noise.to(scores.device)


def _score_batch(
    lm: MeteredHFLM, batch: Sequence[tuple[list[int], list[list[int]]]]
) -> list[list[float]]:
    """Log-probability of each continuation of each prompt, [batch][continuation]."""
    device = lm.device
    width = max(len(prompt) for prompt, _ in batch)
    number = len(batch[0][1])
    ids = torch.zeros((len(batch), width), dtype=torch.long, device=device)
    mask = torch.zeros_like(ids)
    for row, (prompt, _) in enumerate(batch):
        ids[row, width - len(prompt) :] = torch.tensor(prompt, device=device)
        mask[row, width - len(prompt) :] = 1
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    output = lm.model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        use_cache=True,
        logits_to_keep=1,
    )
    first = output.logits[:, -1].float().log_softmax(dim=-1)
    totals = [
        [float(first[row, continuation[0]]) for continuation in continuations]
        for row, (_, continuations) in enumerate(batch)
    ]
    longest = max(len(c) for _, continuations in batch for c in continuations)
    if longest == 1:
        return totals
    cache = output.past_key_values
    cache.batch_repeat_interleave(number)
    flat = [c for _, continuations in batch for c in continuations]
    step_ids = torch.zeros((len(flat), longest - 1), dtype=torch.long, device=device)
    step_mask = torch.zeros_like(step_ids)
    for row, continuation in enumerate(flat):
        fed = continuation[:-1]
        step_ids[row, : len(fed)] = torch.tensor(fed, dtype=torch.long, device=device)
        step_mask[row, : len(fed)] = 1
    lengths = mask.sum(dim=1).repeat_interleave(number)
    steps = torch.arange(longest - 1, device=device)
    output = lm.model(
        input_ids=step_ids,
        attention_mask=torch.cat([mask.repeat_interleave(number, dim=0), step_mask], dim=1),
        position_ids=lengths[:, None] + steps[None, :],
        past_key_values=cache,
        use_cache=True,
    )
    logprobs = output.logits.float().log_softmax(dim=-1)
    for row, continuation in enumerate(flat):
        rest = [float(logprobs[row, i, token]) for i, token in enumerate(continuation[1:])]
        totals[row // number][row % number] += math.fsum(rest)
    return totals


def _row_seed(prompt: str, seed: int | None) -> int:
    """A seed for one sample of one prompt: samples of different prompts are independent."""
    digest = hashlib.sha256(f"{seed}\0{prompt}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _has_accelerator() -> bool:
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _fingerprint(folder: Path) -> str:
    """A hash of a model folder: small files whole, weights by size and both ends."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.suffix not in {".json", ".safetensors", ".bin", ".gguf", ".jinja", ".model"}:
            continue
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as data:
            digest.update(data.read(1 << 20))
            if size > 1 << 20:
                data.seek(max(size - (1 << 20), 0))
                digest.update(data.read())
    return digest.hexdigest()[:32]
