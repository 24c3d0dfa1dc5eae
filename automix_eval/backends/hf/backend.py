"""A tier run by transformers in this process, with metered tokens and probabilities.

Loading, tokenizing and the end of an answer are the harness's own ``hf`` model's. Prompts that
begin alike are read once (:mod:`.shared_prefix`); sampling is reproducible call by call. Where
that is switched off or a model does not allow it, the harness's own batches serve
(:mod:`.metered`).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from lm_eval.models.utils import (
    handle_stop_sequences,
    normalize_gen_kwargs,
    postprocess_generated_text,
)

from automix_eval.backends.embedded import CONVERTER_VERSION, ensure_model
from automix_eval.backends.harness_lm import HarnessBackend
from automix_eval.backends.hf import unshared
from automix_eval.backends.hf.metered_lm import MeteredHFLM
from automix_eval.backends.hf.settings import (
    Decoding,
    fingerprint,
    flag,
    has_accelerator,
    is_plain,
    megabytes,
    named,
    why_no_device,
)
from automix_eval.backends.hf.weights import commit_of
from automix_eval.backends.shared_prefix import decode as shared_decoding
from automix_eval.backends.shared_prefix import score as shared_scoring
from automix_eval.backends.shared_prefix.probe import UnsupportedModelError
from automix_eval.backends.shared_prefix.reader import Reader
from automix_eval.backends.shared_prefix.sampling import row_seed
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import GenerateRequest, Generation, ScoreRequest, Scores

if TYPE_CHECKING:
    from lm_eval.api.model import LM

log = logging.getLogger(__name__)

_CPU_AUTO_BATCH = 8
_GPU_AUTO_BATCH = 32


class HFBackend(HarnessBackend):
    """The harness's ``hf`` model.

    Args:
        embedded: Name of a model carried by the extra ``[demo]`` instead of ``pretrained``.
        shared_prefix: Whether prompts that begin alike are read once; False leaves all calls to
            the harness's own code.
        shared_answers: Whether greedy answers share too. In float32 their texts are those of the
            harness; in lower precision rounding depends on what is read together, with sharing as
            with another batch size. False leaves answers to the harness's batches, whose answers
            equal those of ``--model hf`` to the letter.
        prefix_cache_mb: Megabytes of keys and values kept from batch to batch; 0 keeps none, then
            only prompts of one batch share their start.
        Other arguments: see :class:`HarnessBackend` and the harness's ``hf`` model.
    """

    gives_token_probs = True
    gives_sampled_probs = False

    def __init__(
        self,
        lm: str = "hf",
        *,
        tier: str = "slm",
        chat: bool = True,
        embedded: str | None = None,
        shared_prefix: bool = True,
        shared_answers: bool = True,
        prefix_cache_mb: float = 192,
        extra: Mapping[str, Any] | None = None,
        **lm_args: Any,
    ) -> None:
        self._embedded = embedded
        self._content: str | None = None
        self._reader: Reader | None = None
        self._padding: unshared.Padding | None = None
        self._has_own_device = lm_args.get("device") is not None
        self._shares = flag(f"{tier}.shared_prefix", shared_prefix)
        self._shares_answers = flag(f"{tier}.shared_answers", shared_answers)
        self._cache_bytes = megabytes(f"{tier}.prefix_cache_mb", prefix_cache_mb)
        super().__init__(lm, tier=tier, chat=chat, extra=extra, **lm_args)
        if "device_map" in self._extra and not self._args.get("parallelize"):
            raise AutoMixError(
                f"{tier}.extra.device_map has no effect without {tier}.parallelize=true: the "
                f"harness's class drops it and puts the whole model on {tier}.device"
            )

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
        identity |= {"args": arguments, "content": self._content}
        # in lower precision an answer of the harness's own batches may be another text
        apart = not self._shares_answers and not self._is_float32
        return identity | ({"shared_answers": False} if apart else {})

    def _know_content(self) -> str:
        """The weights' identity: a folder's files, or the commit that a hub name stands for."""
        if self._embedded:
            return f"{self._embedded}, conversion {CONVERTER_VERSION}"
        pretrained = str(self._args.get("pretrained"))
        source = Path(pretrained)
        if source.is_dir():
            return fingerprint(source)
        self._metered()  # its configuration is in the hub's cache then
        commit = commit_of(pretrained, self._args)
        return f"{pretrained}@{commit or self._args.get('revision', 'main')}"

    def _tokenizer_source(self) -> str | None:
        return str(ensure_model(self._embedded)) if self._embedded else super()._tokenizer_source()

    def _make(self) -> LM:
        if self._embedded:
            self._args["pretrained"] = str(ensure_model(self._embedded))
        if "device" not in self._args and not has_accelerator():
            self._args["device"] = "cpu"  # the harness's default is cuda, present or not
        device = str(self._args.get("device", "cpu"))
        by_default = device == "cuda:0" and not self._has_own_device  # of lm_eval, likewise
        if (why := why_no_device(device)) and not (by_default and not torch.cuda.is_available()):
            raise AutoMixError(f"{why}: set {self.tier}.device or --device to one that is")
        if str(self._args.get("batch_size", "")).startswith("auto") and not has_accelerator():
            # the harness finds the largest batch by running out of GPU memory
            log.info("%s: batch_size auto is %d on a CPU", self.tier, _CPU_AUTO_BATCH)
            self._args["batch_size"] = _CPU_AUTO_BATCH
        return MeteredHFLM(**self._args, **self._extra)

    def count_tokens(self, text: str) -> int:
        """Tokens of a rendered prompt."""
        return len(self._encode(text))

    def _encode(self, text: str) -> Sequence[int]:
        return self._metered().token_memory(text)

    def load_weights(self) -> None:
        """Load what :meth:`load` left for the first call that is not in the store.

        Raises:
            AutoMixError: They cannot be loaded; names the tier's settings.
        """
        lm = self._metered()
        if lm.has_weights:
            return
        log.info("loading the weights of %s: %s", self.tier, self.label)
        with self._loading():
            lm.load_weights()

    # ----------------------------------------------------------------- calls

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        on_result: Callable[[int, Generation], None],
        token_probs: bool = False,
    ) -> None:
        """Generate; prompts that begin alike are read once, samples are drawn by seed."""
        self.load_weights()
        with named(self.tier, self.label):
            self._generate(requests, on_result, token_probs)

    def _generate(
        self,
        requests: Sequence[GenerateRequest],
        on_result: Callable[[int, Generation], None],
        token_probs: bool,
    ) -> None:
        reader = self._sharing()
        plans = [self._plan(r) if reader else None for r in requests]
        samples = []
        for i, (request, plan) in enumerate(zip(requests, plans, strict=True)):
            if plan is not None:
                samples.append(self._sample(i, request, plan, token_probs))
        if samples:
            assert reader is not None

            def deliver(done: shared_decoding.Sample) -> None:
                plan = plans[done.index]
                assert plan is not None
                on_result(done.index, self._result(done, plan))

            shared_decoding.generate(reader, samples, self._batch_size(), deliver)
        rest = [i for i, plan in enumerate(plans) if plan is None]
        if rest:
            unshared.generate(
                self._metered(),
                partial(self._request, "generate_until"),
                [requests[i] for i in rest],
                lambda j, g: on_result(rest[j], g),
                token_probs,
                self._is_alone,
            )

    def score(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        """Score whole continuations; each prompt is read once and serves them all.

        Args:
            requests: Prompts, each with the same number of continuations.
            on_result: Receives the natural-log probabilities.
        """
        self.load_weights()
        with named(self.tier, self.label):
            self._score(requests, on_result)

    def loglikelihood(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        """Score one continuation a request through the harness's ``loglikelihood``."""
        self.load_weights()
        with named(self.tier, self.label):
            super().loglikelihood(requests, on_result)

    def _score(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        lm = self._metered()
        encoded = []
        for request in requests:
            pairs = [lm._encode_pair(request.prompt, c) for c in request.continuations]
            prompt, continuations = tuple(pairs[0][0]), [tuple(c) for _, c in pairs]
            self._check_length(len(prompt), max(map(len, continuations)))
            encoded.append((prompt, continuations))
        reader = self._sharing()
        lengths = [len(prompt) + max(map(len, more)) for prompt, more in encoded]
        shared = [i for i, length in enumerate(lengths) if reader and not self._is_alone(length)]

        def deliver(s: shared_scoring.Scored) -> None:
            size = len(encoded[shared[s.index]][0])
            on_result(shared[s.index], Scores(s.logprobs, s.greedy, size, s.seconds, s.cached))

        if reader and shared:
            requested = [encoded[i] for i in shared]
            shared_scoring.score(reader, requested, self._batch_size(), deliver)
        rest = sorted({*range(len(encoded))} - {*shared})
        unshared.score(
            lm,
            [encoded[i] for i in rest],
            self._batch_size(),
            lambda j, s: on_result(rest[j], s),
            self._is_alone,
        )

    # ----------------------------------------------------------------- sharing

    def _sharing(self) -> Reader | None:
        """The model as a reader of prompt trees; None where prompts are not shared."""
        if self._reader is None and self._shares:
            lm = self._metered()
            precision = lm.mixed_precision_dtype
            autocast = {
                "device_type": lm.device.type,
                "dtype": precision,
                "enabled": precision is not None,
            }
            try:
                self._reader = Reader(lm.model, self._cache_bytes, int(lm.max_length), autocast)
            except UnsupportedModelError as err:
                self._shares = False
                self._padding = unshared.Padding(lm, never=err.by_length)
                self.unshared = (
                    "prompts that begin alike are read again each time, "
                    + ("one by one" if self._padding.bad == 0 else "in the harness's own batches")
                    + f", because the model's attention cannot be shared: {err}"
                )
            else:
                if self._reader.reach < lm.max_length:
                    self.unshared = (
                        f"prompts of more than {self._reader.reach} tokens with their answers are "
                        "read one by one, because the model reads them in another way"
                    )
            self._say(self.unshared)
        return self._reader

    def _say(self, why: str) -> None:
        if why:
            log.warning(
                "%s (%s): %s; %s.shared_prefix=false silences this",
                self.tier,
                self.label,
                why,
                self.tier,
            )

    def _is_alone(self, tokens: int) -> bool:
        """Whether a prompt and answer of so many tokens must have a batch of their own."""
        if self._reader is not None:
            # beyond the window it is an error, wherever it is read
            return self._reader.reach < tokens <= self._metered().max_length
        if self._padding is None or self._padding.bad == 0:
            return self._padding is not None
        known = self._padding.bad
        allowed = self._batch_size() < 2 or self._padding.allows(tokens)
        if self._padding.bad != known:
            why = (
                f"prompts of more than {self._padding.safe} tokens with their answers are read one "
                "by one, because padding changes what the model makes of them"
            )
            self.unshared += f"; {why}"
            self._say(why)
        return not allowed

    @property
    def varies(self) -> str:  # type: ignore[override]
        """In low precision the last digits depend on what is read together."""
        if self._is_float32:
            return ""
        return (
            "where weights are not float32, rounding depends on the batch: another batch size or "
            f"number of processes may change single answers ({self.tier}.dtype=float32 does not)"
        )

    @property
    def _is_float32(self) -> bool:
        plain = "mixed_precision_dtype" not in self._args
        return plain and str(self._args.get("dtype")) in ("float32", "float")

    def _plan(self, request: GenerateRequest) -> Decoding | None:
        """How to decode a request; None where only the harness's generate has its settings."""
        lm = self._metered()
        given = normalize_gen_kwargs(dict(request.generation), lm.max_gen_toks)
        until = handle_stop_sequences(
            given.pop("until", None), eos=lm.tok_decode(lm.eot_token_id, skip_special_tokens=False)
        )
        most = int(given.pop("max_gen_toks"))
        temperature = float(given.pop("temperature", None) or 0.0)
        sampled = bool(given.pop("do_sample", False))
        if given or isinstance(lm.think_end_token, int) or not is_plain(lm.model):
            return None
        if request.seed is None and (sampled or temperature > 0 or not self._shares_answers):
            return None
        if self._is_alone(len(self._encode(request.prompt)) + most):
            return None
        return Decoding(
            tuple(s for s in until if s),
            most,
            0.0 if request.seed is None else temperature or 1.0,
            re.compile(request.stop_after, re.IGNORECASE) if request.stop_after else None,
        )

    def _sample(
        self, index: int, request: GenerateRequest, plan: Decoding, token_probs: bool
    ) -> shared_decoding.Sample:
        lm = self._metered()
        prompt = tuple(self._encode(request.prompt)) or (lm.prefix_token_id,)
        self._check_length(len(prompt), plan.most)
        generator = None
        if request.seed is not None:
            generator = torch.Generator().manual_seed(row_seed(request.prompt, request.seed))
        ends = lm.end_tokens

        def ended(tokens: list[int]) -> bool:
            return tokens[-1] in ends or plan.stops(lm.tok_decode(tokens))

        return shared_decoding.Sample(
            index,
            prompt,
            plan.most,
            ended,
            plan.temperature,
            generator,
            watched=token_probs and request.seed is None,
        )

    def _result(self, done: shared_decoding.Sample, plan: Decoding) -> Generation:
        lm = self._metered()
        raw = lm.tok_decode(done.tokens)
        think = lm.think_end_token if isinstance(lm.think_end_token, str) else None
        text = postprocess_generated_text(raw, list(plan.until), think)
        number = len(done.tokens)
        cut = False
        if done.tokens[-1] in lm.end_tokens:
            answer = number - 1 or lm.says(done.tokens)
        elif any(s in raw for s in plan.until):
            answer = lm.before_stop(done.tokens, plan.until)
        else:
            answer, cut = number, number == plan.most
        thought = lm.thinking(done.tokens[:answer]) if done.logprobs else 0
        if plan.stop_after and (decided := plan.stop_after.search(text)):
            text = text[: decided.end()]
        return Generation(
            text,
            len(done.prompt),
            number,
            done.seconds,
            tuple(done.logprobs[thought:answer]),
            tuple(done.margins[thought:answer]),
            done.cached,
            events=lm.thought_cut(done.tokens, cut),
        )

    def _check_length(self, prompt: int, generated: int) -> None:
        """Raise AutoMixError where the harness would drop the beginning of a prompt."""
        window = int(self._metered().max_length)
        if prompt + generated > window:
            raise AutoMixError(
                f"{self.tier} ({self.label}): a prompt of {prompt} tokens and {generated} more do "
                f"not fit the window of {window}: raise {self.tier}.max_length if the model has a "
                "larger window, or lower max_gen_toks"
            )

    def _batch_size(self) -> int:
        size = str(self._metered().batch_size)
        if size.isdigit():
            return max(int(size), 1)
        return _GPU_AUTO_BATCH if has_accelerator() else _CPU_AUTO_BATCH

    def _metered(self) -> MeteredHFLM:
        lm = self.lm
        assert isinstance(lm, MeteredHFLM)
        return lm
