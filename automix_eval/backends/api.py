"""Tiers behind an OpenAI-compatible server, through the harness's own API classes."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automix_eval.backends.harness_lm import HarnessBackend
from automix_eval.types import AutoMixError, Generation

if TYPE_CHECKING:
    from lm_eval.api.model import LM


class APIBackend(HarnessBackend):
    """``local-completions``, ``local-chat-completions`` and their kin.

    Tokens are those the server reports (``usage``). For a response to several prompts they are the
    tokenizer's, or unknown: servers differ in what they report then (llama.cpp's counts the last
    prompt alone), so one prompt a request is the default and ``num_concurrent`` the way to speed.
    Without a tokenizer prompts are sent as they are and the window is the server's business.
    """

    def __init__(
        self,
        lm: str,
        *,
        tier: str = "slm",
        chat: bool = True,
        extra: Mapping[str, Any] | None = None,
        **lm_args: Any,
    ) -> None:
        if lm_args.get("tokenizer"):
            lm_args["tokenizer_backend"] = lm_args.get("tokenizer_backend") or "huggingface"
        else:
            # the harness would look the served model's name up on the hub
            lm_args["tokenizer_backend"] = lm_args.get("tokenizer_backend") or "none"
        super().__init__(lm, tier=tier, chat=chat, extra=extra, **lm_args)

    def _lm_class(self) -> type[LM]:
        found = super()._lm_class()
        return type(f"Metered{found.__name__}", (_UsageMixin, found), {})

    def _check_scoring(self) -> None:
        if "chat" in self.lm_name:
            raise AutoMixError(
                f"verifier=p_true needs log-probabilities of given continuations and "
                f"{self.tier} ({self.lm_name}) gives none: use verifier=few_shot"
            )
        if not self._has_tokenizer():
            raise AutoMixError(
                f"verifier=p_true on {self.tier} ({self.lm_name}) needs {self.tier}.tokenizer=..."
                " and a server that returns prompt log-probabilities (echo): set it, or use "
                "verifier=few_shot"
            )

    def _wire(self, prompt: str) -> Any:
        if "chat" not in self.lm_name:
            return prompt
        from lm_eval.models.api_models import JsonChatStr

        try:
            turns = json.loads(prompt)
        except json.JSONDecodeError:
            turns = None
        if isinstance(turns, list) and all(isinstance(t, dict) for t in turns):
            return JsonChatStr(prompt)
        return JsonChatStr(json.dumps([{"role": "user", "content": prompt}], ensure_ascii=False))

    def _generation(self, prompt: Any, raw: str, seconds: float) -> Generation:
        generation = super()._generation(prompt, raw, seconds)
        usage: deque[tuple[int | None, int | None]] = getattr(self.lm, "usage", deque())
        if not usage:
            return generation
        prompt_tokens, generated_tokens = usage.popleft()
        return Generation(
            generation.text,
            generation.prompt_tokens if prompt_tokens is None else prompt_tokens,
            generation.generated_tokens if generated_tokens is None else generated_tokens,
            seconds,
        )


class _UsageMixin:
    """Keeps the ``usage`` of each response, one entry a prompt, in the order of the answers."""

    usage: deque[tuple[int | None, int | None]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.usage = deque()
        super().__init__(*args, **kwargs)

    def parse_generations(self, outputs: Any, **kwargs: Any) -> list[str]:
        """The harness's parser, the usage noted on the way."""
        texts: list[str] = super().parse_generations(outputs=outputs, **kwargs)  # type: ignore[misc]
        for output in outputs if isinstance(outputs, list) else [outputs]:
            number = len(output.get("choices", ()))
            usage = (output.get("usage") or {}) if number == 1 else {}
            counts = (_count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens")))
            self.usage.extend([counts] * number)
        return texts


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None
