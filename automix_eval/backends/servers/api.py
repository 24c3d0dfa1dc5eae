"""Tiers behind a server: OpenAI-compatible ones, Anthropic, SGLang, and what LiteLLM reaches.

The harness's own class of the server makes each request and holds its settings. The requests
themselves are sent by :mod:`.transport`: the harness's loop repeats what
cannot succeed, knows no Retry-After, and takes some failures for empty answers.
"""

from __future__ import annotations

import copy
import json
import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from automix_eval.backends.harness_lm import HarnessBackend
from automix_eval.backends.servers import next_token, replies
from automix_eval.backends.servers.batching import RequestBatch, divide, events_of, group
from automix_eval.backends.servers.echo import EchoScoring
from automix_eval.backends.servers.faults import CONTENT_FILTER, FailedRequests, RequestError
from automix_eval.backends.servers.transport import Reply, Send, Transport, post, through_litellm
from automix_eval.safety.errors import AutoMixError, CallsFailedError
from automix_eval.safety.redaction import split_credentials
from automix_eval.types import GenerateRequest, Generation, ScoreRequest, Scores

if TYPE_CHECKING:
    from lm_eval.api.model import LM

_DEFAULTS: Mapping[str, Any] = {"num_concurrent": 1, "max_retries": 6, "timeout": 300}
# Requests given up in a row, each after all its attempts: then the server is gone.
_GONE = 10
_REMEDIES = {
    "http_400": "the server refuses the request itself: check {tier}.model and the lengths of "
    "prompts ({tier}.tokenizer and {tier}.max_length let them be fitted)",
    "http_401": "check the key: the variable of the environment that {tier}.auth_token or the "
    "provider names",
    "http_403": "check the key and what it may use",
    "http_301": "set {tier}.base_url to that address, if it is the one meant: keys are not sent on",
    "http_404": "check {tier}.base_url and {tier}.model",
    "http_429": "lower {tier}.num_concurrent or raise {tier}.max_retries",
    "quota": "the account has no money or quota left",
    "timeout": "raise {tier}.timeout or lower {tier}.num_concurrent",
    "missing_choices": "it gives another number of choices than it is asked for: set {tier}.n=1, "
    "and no n or best_of among the arguments of a request",
    "malformed": "check that {tier}.base_url is the address of what {tier} calls (chat or not), "
    "and that the server streams nothing",
}

_REDIRECTS = dict.fromkeys((f"http_{s}" for s in range(300, 400)), "http_301")


class APIBackend(HarnessBackend):
    """``local-completions``, ``local-chat-completions`` and their kin.

    Tokens are those the server reports (``usage``). For a response to several prompts they are the
    tokenizer's, or unknown: servers differ in what they report then (llama.cpp's counts the last
    prompt alone), so one prompt a request is the default and ``num_concurrent`` the way to speed.
    Requests are sent in the order of their prompts, so that those with a common beginning follow
    each other and a server with a prefix cache reads it once. Without a tokenizer prompts are sent
    as they are and the window is the server's business.

    Args:
        n: Samples of one prompt in one request, for servers that have ``n`` and report the tokens
            of all of them; 1 asks for each sample by its own seed.
        top_logprobs: How many of the most probable tokens the server may be asked for; None where
            it gives none. Lets ``verifier=margin`` and ``verifier=p_true`` read them.
    """

    def __init__(
        self,
        lm: str,
        *,
        tier: str = "slm",
        chat: bool = True,
        extra: Mapping[str, Any] | None = None,
        n: int = 1,
        top_logprobs: int | None = None,
        **lm_args: Any,
    ) -> None:
        if lm_args.get("tokenizer"):
            lm_args["tokenizer_backend"] = lm_args.get("tokenizer_backend") or "huggingface"
        else:
            # the harness would look the served model's name up on the hub
            lm_args["tokenizer_backend"] = lm_args.get("tokenizer_backend") or "none"
        super().__init__(lm, tier=tier, chat=chat, extra=extra, **lm_args)
        self._n = integer(f"{tier}.n", n, 1)
        self._top = (
            None if top_logprobs is None else integer(f"{tier}.top_logprobs", top_logprobs, 2)
        )
        if self._n > 1 and str(self._args.get("batch_size", 1)) not in ("1", "auto"):
            raise AutoMixError(f"{tier}.n and {tier}.batch_size cannot both be above 1")

    @property
    def varies(self) -> str:  # type: ignore[override]
        """Whoever serves decides what is computed together."""
        return "a server's answers may depend on what else it computes, even without sampling"

    @property
    def gives_token_probs(self) -> bool:  # type: ignore[override]
        """Whether the server may be asked for its tokens' probabilities."""
        return self._top is not None

    @property
    def counts_tokens(self) -> bool:
        """A server says what it counted; whether it does so is seen from its first reply."""
        return True

    @property
    def identity(self) -> Mapping[str, Any]:
        """As for any model, and how its samples and probabilities are asked for."""
        asked = {"n": self._n, "top_logprobs": self._top}
        return {**super().identity, **{k: v for k, v in asked.items() if v not in (None, 1)}}

    # ----------------------------------------------------------------- calls

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        on_result: Callable[[int, Generation], None],
        token_probs: bool = False,
    ) -> None:
        """Generate, each result with the server's own count of tokens."""
        batches = group(requests, self._n, int(getattr(self.lm, "_batch_size", 1)))
        top = 2 if token_probs else None
        payloads = [
            self._payload(batch.prompts, batch.generation, batch.seed, batch.samples, top)
            for batch in batches
        ]

        def deliver(number: int, reply: Reply) -> None:
            batch = batches[number]
            for index, made in zip(
                batch.indices, self._generations(batch, reply, token_probs), strict=True
            ):
                on_result(index, made)

        self._exchange(
            payloads, deliver, [r.prompt for r in requests], [b.indices for b in batches]
        )

    def check_choices(self) -> None:
        """Choices are scored from the prompt's log-probabilities (``echo``)."""
        if self._is_chat or not self._has_tokenizer():
            raise AutoMixError(
                f"multiple-choice tasks need log-probabilities of given continuations, and "
                f"{self.tier} ({self.lm_name}) "
                + ("gives none" if self._is_chat else f"has no {self.tier}.tokenizer")
                + f": use local_completions on a server with echo and a {self.tier}.tokenizer, "
                "llama_cpp or hf"
            )

    def loglikelihood(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        """As the harness does, which asks for the whole prompt's."""
        self.check_choices()
        super().loglikelihood(requests, on_result)

    def score(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        """Score short continuations from the most probable next tokens, without ``echo``."""
        self.check_scoring()
        arguments = {"max_gen_toks": 1, "temperature": 0.0}

        def look(
            places: Sequence[next_token.Place], deliver: Callable[[int, next_token.NextToken], None]
        ) -> None:
            prompts = [requests[owner].prompt + "".join(done) for owner, done in places]
            payloads = [self._payload([p], arguments, None, 1, self._top) for p in prompts]

            def read(number: int, reply: Reply) -> None:
                deliver(number, self._step(prompts[number], reply))

            self._exchange(payloads, read, prompts, [[i] for i in range(len(prompts))])

        size = 4 * self._setting("num_concurrent")
        next_token.score(requests, look, on_result, size, self._split(), self.patience)

    def _split(self) -> next_token.Split | None:
        """How the server itself splits a continuation into tokens, where that can be known."""
        return None

    # ----------------------------------------------------------------- making requests

    def _payload(
        self,
        prompts: Sequence[str],
        generation: Mapping[str, Any],
        seed: int | None,
        samples: int,
        top: int | None,
    ) -> dict[str, Any]:
        lm: Any = self.lm
        arguments = copy.deepcopy(dict(generation))
        if seed is not None and "anthropic" not in self.lm_name:
            arguments["seed"] = seed
        if samples > 1:
            arguments["n"] = samples
        if top is not None:
            arguments |= (
                {"logprobs": True, "top_logprobs": top} if self._is_chat else {"logprobs": top}
            )
        wires: list[Any] = [self._wire(p) for p in prompts]
        if lm.tokenized_requests and not self._is_chat:
            wires = [lm.tok_encode(p, add_special_tokens=lm.add_bos_token) for p in prompts]
        payload: dict[str, Any] = lm._create_payload(
            lm.create_message(wires),
            generate=True,
            gen_kwargs=arguments,
            seed=lm._seed,
            eos=lm.eos_string if lm._eos_string or self._has_tokenizer() else None,
        )
        if not payload.get("stop", True):
            del payload["stop"]  # an empty list is refused by some servers
        return payload

    def _wire(self, prompt: str) -> Any:
        if not self._is_chat:
            return prompt
        from lm_eval.models.api_models import JsonChatStr

        try:
            turns = json.loads(prompt)
        except json.JSONDecodeError:
            turns = None
        if isinstance(turns, list) and all(isinstance(t, dict) for t in turns):
            return JsonChatStr(prompt)
        return JsonChatStr(json.dumps([{"role": "user", "content": prompt}], ensure_ascii=False))

    # ----------------------------------------------------------------- reading replies

    def _generations(
        self, batch: RequestBatch, reply: Reply, token_probs: bool
    ) -> list[Generation]:
        number = len(batch.indices)
        if reply.body is None:
            events = (*reply.events, CONTENT_FILTER)
            return [Generation("", 0, 0, reply.seconds / number, events=events)] * number
        choices = replies.choices_of(reply.body)
        if len(choices) != number:
            raise RequestError(
                "missing_choices", f"{len(choices)} choices instead of {number}", retried=False
            )
        usages = divide(replies.usage_of(reply.body), batch)
        # the samples of one prompt are waited for together; several prompts are several questions
        latency = reply.latency if batch.samples == number else None
        made = []
        for i, (choice, usage) in enumerate(zip(choices, usages, strict=True)):
            prompt = batch.prompts[i if batch.samples == 1 else 0]
            text = self._text(choice, batch)
            think = getattr(self.lm, "think_end_token", None)
            tokens = replies.tokens_of(choice) if token_probs else []
            if token_probs and text.strip() and not tokens:  # at the first answer, not after all
                raise AutoMixError(
                    f"margin, token_profile and auto read token probabilities, and {self.tier} "
                    f"({self.label}) returns none: use verifier=consistency or few_shot, or a "
                    "server that returns them"
                )
            made.append(
                Generation(
                    text,
                    self.count_tokens(prompt) if usage.prompt is None else usage.prompt,
                    self._count_generated(text) if usage.generated is None else usage.generated,
                    reply.seconds / number,
                    *replies.probabilities(tokens, text, think),
                    cached_tokens=usage.cached,
                    events=(reply.events if i == 0 else ()) + events_of(choice, usage, think),
                    latency=latency,
                )
            )
        return made

    def _text(self, choice: Mapping[str, Any], batch: RequestBatch) -> str:
        """The text before the first stop sequence; some servers take fewer than were asked."""
        from lm_eval.models.utils import postprocess_generated_text

        think = getattr(self.lm, "think_end_token", None)
        raw = replies.text_of(choice) or ""
        return str(postprocess_generated_text(raw, batch.until, think))

    def _count_generated(self, text: str) -> int | None:
        if not self._has_tokenizer():
            return None
        return self.count_tokens(text) if text else 0

    def _step(self, prompt: str, reply: Reply) -> next_token.NextToken:
        if reply.body is None:
            raise RequestError(CONTENT_FILTER, "a content filter refused the prompt", retried=False)
        (choice,) = replies.choices_of(reply.body)[:1]
        tokens = replies.tokens_of(choice)
        if not tokens or not tokens[0].top:
            raise AutoMixError(
                f"verifier=p_true: {self.tier} ({self.label}) returns no log-probabilities of the "
                f"tokens it generates: use verifier=few_shot, or a server that returns them"
            )
        usage = replies.usage_of(reply.body)
        events = reply.events + (("no_usage",) if usage.prompt is None else ())
        counted = self.count_tokens(prompt) if usage.prompt is None else usage.prompt
        return next_token.NextToken(
            tokens[0].top, counted, usage.cached, reply.seconds, events, reply.latency
        )

    # ----------------------------------------------------------------- sending

    def _exchange(
        self,
        payloads: Sequence[Any],
        on_reply: Callable[[int, Reply], None],
        prompts: Sequence[str],
        carried: Sequence[Sequence[int]],
    ) -> None:
        """Send all; what failed is named at the end.

        Args:
            payloads: What to send.
            on_reply: Receives the number of a payload and its reply.
            prompts: The prompt of each request.
            carried: The requests that each payload carries.
        """
        failed = FailedRequests(
            lambda number: {prompts[i] for i in carried[number]},
            self.patience,
            max(_GONE, 2 * self._setting("num_concurrent")),
        )
        self._transport.run(payloads, on_reply, failed)
        if failed.gone is not None:
            raise self._given_up(failed.gone, ", and so did every request before it")
        if failed.errors:
            first = failed.errors[min(failed.errors)]
            reasons = {
                i: f"{failure.kind}, {failure}"
                for number, failure in failed.errors.items()
                for i in carried[number]
            }
            raise CallsFailedError(str(self._given_up(first)), reasons) from first

    @cached_property
    def _transport(self) -> Transport:
        lm: Any = self.lm
        tls: bool | ssl.SSLContext = bool(lm.verify_certificate)
        if tls and lm.ca_cert_path:
            tls = ssl.create_default_context(cafile=lm.ca_cert_path)
        return Transport(
            through_litellm(lm) if hasattr(lm, "_litellm") else self._post(lm),
            replies.check,
            concurrency=self._setting("num_concurrent"),
            max_retries=self._setting("max_retries"),
            timeout=float(self._setting("timeout")),
            tls=tls,
        )

    def _post(self, lm: Any) -> Send:
        url, user = split_credentials(str(lm.base_url))
        return post(url, {**self._header(), **user})

    def _header(self) -> Mapping[str, str]:
        token = self._args.get("auth_token")
        if token and "header" not in self._args:
            return {"Authorization": f"Bearer {token}"}
        header: Mapping[str, str] = self.lm.header
        return header

    def _setting(self, key: str) -> int:
        return integer(f"{self.tier}.{key}", self._args.get(key, _DEFAULTS[key]), 0)

    def _given_up(self, failure: RequestError, more: str = "") -> AutoMixError:
        times = "once" if failure.attempts == 1 else f"{failure.attempts} times"
        remedy = _REMEDIES.get(
            _REDIRECTS.get(failure.kind, failure.kind), "mend the endpoint"
        ).format(tier=self.tier)
        return AutoMixError(
            f"{self.tier} ({self.label}) gave no answer, asked {times}{more}: {failure.kind}, "
            f"{failure}. Remedy: {remedy}. Finished calls are kept: run the same command to resume"
        )

    # ----------------------------------------------------------------- what the server is

    def load(self) -> None:
        """Make the harness's model of the server; a missing key is found here."""
        super().load()
        try:
            _ = self._transport
        except (OSError, ValueError) as err:  # no key, or no such certificate
            raise AutoMixError(f"{self.tier} ({self.lm_name}) cannot be used: {err}") from err

    def _lm_class(self) -> type[LM]:
        found = super()._lm_class()
        return type(f"Polite{found.__name__}", (EchoScoring, found), {})

    def _make(self) -> LM:
        lm: Any = super()._make()
        lm.exchange = self._exchange
        made: LM = lm
        return made

    @cached_property
    def _is_chat(self) -> bool:
        from lm_eval.models.anthropic_llms import AnthropicChat
        from lm_eval.models.openai_completions import LocalChatCompletion

        return issubclass(self._lm_class(), (LocalChatCompletion, AnthropicChat))

    def check_scoring(self) -> None:
        """Raise AutoMixError where the server cannot score a given continuation."""
        if self._is_chat:
            raise AutoMixError(
                f"verifier=p_true, and few_shot with form=scored, need log-probabilities of given "
                f"continuations and {self.tier} ({self.lm_name}), a chat API, gives none: use "
                "verifier=consistency or few_shot with form=paper"
            )
        if self._top is None:
            raise AutoMixError(
                f"verifier=p_true reads the most probable next tokens of {self.tier} "
                f"({self.lm_name}): set {self.tier}.top_logprobs to the number its server gives "
                "(5 on OpenAI, 20 on vLLM), or use verifier=few_shot"
            )


def integer(name: str, value: Any, least: int) -> int:
    """A setting as an integer of at least ``least``; otherwise an AutoMixError that names it."""
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise AutoMixError(f"{name}={value!r} must be an integer of at least {least}")
    return number
