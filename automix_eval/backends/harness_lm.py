"""A tier that is any model of the harness, through the harness's own class of it.

The harness's classes report each finished request to a cache hook. Ours hands the result over at
once, so that the call store loses nothing when a run is killed in the middle of a batch.
"""

from __future__ import annotations

import inspect
import json
import logging
import math
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError

from automix_eval.backends import checks
from automix_eval.backends.hook import (
    FaultError,
    Hook,
    null_placeholder,
    plain_prompt,
    raise_failed,
    transport_errors,
)
from automix_eval.backends.prompts import token_counter
from automix_eval.safety.errors import AutoMixError, CallsFailedError
from automix_eval.safety.logs import harmless
from automix_eval.safety.redaction import blank, is_secret_name, know, scrub, without_credentials
from automix_eval.types import GenerateRequest, Generation, Prompt, ScoreRequest, Scores

if TYPE_CHECKING:
    from lm_eval.api.model import LM

log = logging.getLogger(__name__)


class HarnessBackend:
    """Any model the harness knows, by its name there.

    Args:
        lm: Name of the model in the harness, as after ``--model``.
        tier: Name of the tier, for messages.
        chat: Whether chat prompts go through the model's template; False joins the turns as
            plain text, for a base model in a chain whose other models are chat models.
        extra: Arguments that the model's class passes on without naming them.
        **lm_args: Arguments of the model's class, as after ``--model_args``.
    """

    gives_token_probs = False
    patience = 0
    varies = ""
    #: Why prompts that begin alike are not read once, where they could have been; "" if they are.
    unshared = ""

    def __init__(
        self,
        lm: str,
        *,
        tier: str = "slm",
        chat: bool = True,
        extra: Mapping[str, Any] | None = None,
        **lm_args: Any,
    ) -> None:
        self.lm_name = lm
        self.tier = tier
        self.chat = chat
        self._extra = dict(extra or {})
        self._args = {k: v for k, v in lm_args.items() if v is not None}
        know({**self._args, **self._extra})
        self._lm: LM | None = None
        self._counts: bool | None = None
        checks.name(tier, lm)
        known = self._known_arguments()
        if known is not None:
            checks.arguments(tier, lm, self._args, known)

    # ----------------------------------------------------------------- what it is

    @property
    def label(self) -> str:
        """The model's own name, for tables."""
        for key in ("pretrained", "model", "model_name_or_path", "base_url"):
            if value := self._args.get(key):
                return without_credentials(str(value)).rstrip("/").rsplit("/", 1)[-1]
        return self.lm_name

    @property
    def identity(self) -> Mapping[str, Any]:
        """Harness name and all arguments that can change an answer."""
        given = {**self._args, **self._extra}
        args = {k: v for k, v in given.items() if k not in checks.NOT_IDENTITY}
        if "base_url" in args:
            args["base_url"] = without_credentials(str(args["base_url"]))
        args = {k: v for k, v in args.items() if not is_secret_name(k)}
        return {"lm": self.lm_name, "args": json.loads(json.dumps(args, default=str))}

    @property
    def max_length(self) -> int | None:
        """The window; None without a tokenizer, since a prompt cannot be measured then."""
        value = checks.own(self.lm, "max_length") if self._has_tokenizer() else None
        return int(value) if value else None

    @property
    def lm(self) -> LM:
        """The harness's model, loaded on first use."""
        if self._lm is None:
            self.load()
        assert self._lm is not None
        return self._lm

    def set_defaults(self, arguments: Mapping[str, Any]) -> None:
        """Take the command line's batch size and device where the tier sets none of its own."""
        known = self._known_arguments() or set()
        for key, value in arguments.items():
            if value is not None and key in known:
                self._args.setdefault(key, value)

    def load(self) -> None:
        """Load the model; a subclass may leave its weights for the first call.

        Raises:
            AutoMixError: It cannot be loaded or its port refuses; names the tier's settings.
        """
        if self._lm is not None:
            return
        self.probe()
        with self._loading():
            self._lm = self._make()
            _ = self._has_tokenizer(), self.max_length  # some load it when they are first asked

    @contextmanager
    def _loading(self) -> Iterator[None]:
        """Turn what goes wrong while a model is loaded into one line that names its settings."""
        try:
            yield
        except AutoMixError:
            raise
        except checks.LOADING as err:
            self._lm = None
            shown = ", ".join(f"{self.tier}.{k}={blank(v, k)}" for k, v in self._args.items())
            said = scrub(str(err)).rstrip(". ")
            raise AutoMixError(
                f"{self.tier} ({self.lm_name}) cannot be loaded: {type(err).__name__}: {said}.\n"
                f"Its settings: {shown or '(none)'}. Check the model's name or path, its "
                "dependencies and the memory it needs"
            ) from harmless(err)

    # ----------------------------------------------------------------- prompts

    def counter(self) -> Callable[[Prompt], int] | None:
        """Counts the tokens of prompts by the tokenizer alone, None where the tier has none."""
        name = self._tokenizer_source()
        if not name:
            return None
        try:
            return token_counter(
                name,
                self._args.get("revision") or "main",
                trust_remote_code=bool(self._args.get("trust_remote_code")),
                chat=self.chat,
            )
        except (OSError, ValueError) as err:
            raise AutoMixError(
                f"{self.tier}: the tokenizer {name} cannot be loaded: {err}"
            ) from err

    def _tokenizer_source(self) -> str | None:
        """Name or folder of the tokenizer."""
        return self._args.get("tokenizer") or self._args.get("pretrained")

    @property
    def counts_tokens(self) -> bool:
        """Whether calls carry their numbers of tokens."""
        return self._has_tokenizer()

    def count_tokens(self, text: str) -> int | None:
        """Tokens of a rendered prompt, None without a tokenizer."""
        lm: Any = self.lm
        return len(lm.tok_encode(text)) if self._has_tokenizer() else None

    def render(self, prompt: Prompt) -> str:
        """Text of a completion prompt; a chat prompt through the model's own template."""
        if not prompt.is_chat:
            return prompt.text
        turns, lm = [{"role": m.role, "content": m.content} for m in prompt.messages], self.lm
        if not self.chat:
            return "\n\n".join(turn["content"] for turn in turns)
        try:
            rendered = lm.apply_chat_template(
                turns, add_generation_prompt=not prompt.continue_final
            )
        except (*checks.LOADING, TemplateError) as err:
            raise AutoMixError(
                f"{self.tier} ({self.label}) has no chat template that could be applied "
                f"({type(err).__name__}: {scrub(str(err))}): leave out --apply_chat_template, or "
                f"set {self.tier}.chat=false to give this tier the turns as plain text"
            ) from err
        text = getattr(rendered, "prompt", rendered)
        return text if isinstance(text, str) else json.dumps(text, ensure_ascii=False)

    # ----------------------------------------------------------------- calls

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        on_result: Callable[[int, Generation], None],
        token_probs: bool = False,  # noqa: ARG002
    ) -> None:
        """Generate through the harness's ``generate_until``.

        ``token_probs`` cannot be served here: results carry none and a verifier that needs them
        says so.
        """
        groups: dict[str, list[int]] = defaultdict(list)
        for i, request in enumerate(requests):
            arguments = dict(request.generation)
            if request.seed is not None:
                arguments["seed"] = request.seed
            groups[json.dumps(arguments, sort_keys=True)].append(i)
        failed: dict[int, FaultError] = {}
        for arguments_json, indices in groups.items():
            arguments = json.loads(arguments_json)
            prompts = [self._wire(requests[i].prompt) for i in indices]

            def deliver(
                j: int,
                raw: Any,
                seconds: float,
                indices: Sequence[int] = indices,
                prompts: Sequence[Any] = prompts,
            ) -> None:
                on_result(indices[j], self._generation(prompts[j], raw, seconds))

            lost = self._request_each(
                "generate_until",
                [(p, dict(arguments)) for p in prompts],
                [(p, arguments_json) for p in prompts],
                deliver,
                self.patience - len({requests[i].prompt for i in failed}),
            )
            failed |= {indices[j]: fault for j, fault in lost.items()}
            if len({requests[i].prompt for i in failed}) > self.patience:
                break
        raise_failed(failed)

    def loglikelihood(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        """Score one continuation a request through the harness's ``loglikelihood``."""
        pairs = [(r.prompt, r.continuations[0]) for r in requests]

        def deliver(j: int, raw: Any, seconds: float) -> None:
            try:
                logprob, greedy = float(raw[0]), bool(raw[1])
            except (IndexError, TypeError, ValueError):
                raise self._odd("loglikelihood", raw, "(log-probability, is greedy)") from None
            if not math.isfinite(logprob):
                raise AutoMixError(
                    f"{self.tier} ({self.label}) gave the log-probability {logprob} to "
                    f"{pairs[j][1]!r}: its numbers overflow; try {self.tier}.dtype=float32"
                )
            tokens = self.count_tokens(pairs[j][0])
            on_result(j, Scores((logprob,), (greedy,), tokens, seconds))

        raise_failed(self._request_each("loglikelihood", pairs, pairs, deliver, self.patience))

    def score(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        """Score several continuations a prompt, one ``loglikelihood`` request each."""
        flat = [ScoreRequest(r.prompt, (c,)) for r in requests for c in r.continuations]
        owner = [i for i, r in enumerate(requests) for _ in r.continuations]
        parts: dict[int, dict[int, Scores]] = defaultdict(dict)
        first = {i: owner.index(i) for i in range(len(requests))}

        def collect(j: int, scores: Scores) -> None:
            i = owner[j]
            parts[i][j - first[i]] = scores
            if len(parts[i]) == len(requests[i].continuations):
                done = [parts[i][k] for k in range(len(parts[i]))]
                tokens = [s.prompt_tokens for s in done]
                on_result(
                    i,
                    Scores(
                        tuple(s.logprobs[0] for s in done),
                        tuple(s.greedy[0] for s in done),
                        None if None in tokens else sum(t for t in tokens if t is not None),
                        math.fsum(s.seconds or 0.0 for s in done),
                    ),
                )

        try:
            self.loglikelihood(flat, collect)
        except CallsFailedError as err:
            reasons = {owner[j]: why for j, why in err.reasons.items()}
            raise CallsFailedError(str(err), reasons) from err

    # ----------------------------------------------------------------- for subclasses

    def _make(self) -> LM:
        return self._lm_class().create_from_arg_obj({**self._args, **self._extra})

    def _lm_class(self) -> type[LM]:
        return checks.class_of(self.lm_name)

    def _generation(self, prompt: Any, raw: str | None, seconds: float) -> Generation:
        text = "" if raw is None or raw == null_placeholder() else raw
        if not isinstance(text, str):
            raise self._odd("generate_until", raw, "a text")
        text = str(text)
        if hasattr(self.lm, "base_url"):  # a server may repeat the key it was sent
            text = scrub(text)
        return Generation(
            text,
            self.count_tokens(plain_prompt(prompt)),
            self.count_tokens(text) if text else (0 if self._has_tokenizer() else None),
            seconds,
        )

    def _wire(self, prompt: str) -> Any:
        """A rendered prompt as this class's ``generate_until`` wants it."""
        return prompt

    def _has_tokenizer(self) -> bool:
        if self._counts is None:
            self._counts = checks.counts_tokens(self.lm)
        return self._counts

    def _odd(self, method: str, found: Any, wanted: str) -> AutoMixError:
        return AutoMixError(
            f"{self.tier} ({self.label}): {method} of {type(self.lm).__name__} returned "
            f"{found!r:.80}, expected {wanted}: mend this class, or take another slm.lm"
        )

    def check_scoring(self) -> None:
        """Raise AutoMixError where the model cannot score a given verdict."""
        self.check_choices()

    def check_choices(self) -> None:
        """Raise AutoMixError where the model cannot score a given continuation: asked for none."""
        if self.gives_token_probs:
            return
        try:
            self._request("loglikelihood", [], Hook([], lambda *_: None))
        except AutoMixError:
            raise
        except Exception as err:  # noqa: BLE001 - of nothing, which says nothing of something
            log.debug("%s: loglikelihood of no request: %s", self.tier, err)

    def _request_each(
        self,
        method: str,
        arguments: Sequence[tuple[Any, Any]],
        keys: Sequence[tuple[Any, Any]],
        deliver: Callable[[int, Any, float], None],
        patience: int,
    ) -> dict[int, FaultError]:
        """All requests at once; after a fault those left one by one, to tell which of them fail.

        Args:
            method: Of the harness's model.
            arguments: One pair a request.
            keys: What each is called by when the model reports it.
            deliver: Receives the index of a request, its result and seconds.
            patience: Different prompts that may fail before no more is asked.

        Returns:
            The faults of those that failed; empty, or an error, without patience.
        """
        left = set(range(len(arguments)))

        def give(j: int, raw: Any, seconds: float) -> None:
            left.discard(j)
            deliver(j, raw, seconds)

        try:
            self._request(method, arguments, Hook(keys, give))
        except FaultError:
            if self.patience <= 0:
                raise
        failed: dict[int, FaultError] = {}
        prompts: set[str] = set()
        for j in sorted(left):
            if (prompt := plain_prompt(keys[j][0])) in prompts:
                continue
            hook = Hook([keys[j]], lambda _, raw, seconds, j=j: give(j, raw, seconds))  # type: ignore[misc]
            try:
                self._request(method, [arguments[j]], hook)
            except FaultError as fault:
                failed[j] = fault
                prompts.add(prompt)
                if len(prompts) > patience:
                    break
        return failed

    def _request(self, method: str, arguments: Sequence[tuple[Any, Any]], hook: Hook) -> None:
        from lm_eval.api.instance import Instance

        lm = self.lm
        instances: list[Any] = [
            Instance("generate_until", {}, pair, i, ("automix", i, 1))
            for i, pair in enumerate(arguments)
        ]
        lm.cache_hook = hook
        call = getattr(lm, method)
        quiet = (
            {"disable_tqdm": True} if "disable_tqdm" in inspect.signature(call).parameters else {}
        )
        try:
            results = call(instances, **quiet)
        except AutoMixError:
            raise
        except NotImplementedError as err:
            raise AutoMixError(
                f"{self.tier} ({self.label}) has no {method} ({scrub(str(err))}): take another "
                "task or verifier, or a backend that has it, as hf or llama_cpp"
            ) from harmless(err)
        except transport_errors() as err:
            raise FaultError(
                f"{self.tier} ({self.label}) failed during {method}: {type(err).__name__}: "
                f"{scrub(str(err))}\nFinished calls are kept: mend the endpoint and run the same "
                "command to resume"
            ) from harmless(err)
        if not isinstance(results, Sequence) or len(results) != len(instances):
            raise self._odd(method, results, f"{len(instances)} results in a list")
        hook.rest(results)

    # ----------------------------------------------------------------- checks

    def probe(self) -> None:
        """See whether anything listens at the tier's address; nothing is sent.

        Raises:
            AutoMixError: The address is none, or nothing answers there.
        """
        if url := self._args.get("base_url"):
            checks.listening(self.tier, str(url))

    def _known_arguments(self) -> set[str] | None:
        """Arguments of the model's class; None while its package is not installed."""
        try:
            return checks.arguments_of(self._lm_class())
        except ImportError as err:
            log.info("%s: %s; its arguments are checked when it is loaded", self.tier, err)
            return None
