"""What a server's reply says: choices, how each ended, token probabilities, and usage.

Four forms are read: OpenAI's completions and chat completions (llama.cpp, vLLM and others differ
in details), Anthropic's messages, and SGLang's generate.
"""

from __future__ import annotations

import codecs
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automix_eval.backends.servers.faults import CONTENT_FILTER, RequestError
from automix_eval.backends.servers.next_token import margin
from automix_eval.safety.numbers import is_number, is_whole
from automix_eval.safety.text import printable
from automix_eval.types import THINKING

# No log-probability, and no number of tokens, is as large.
_BEYOND = 2**53
_ENDS = {
    "length": "length",
    "max_tokens": "length",
    "content_filter": CONTENT_FILTER,
    "refusal": CONTENT_FILTER,
    "safety": CONTENT_FILTER,
}


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the server counts them; None where it does not say.

    Attributes:
        prompt: Tokens of the prompt, those read from a cache among them.
        cached: Tokens of the prompt read from a cache.
        generated: Tokens generated, over all choices.
    """

    prompt: int | None = None
    cached: int | None = None
    generated: int | None = None


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token.

    Attributes:
        text: Its text; empty where it is part of a character.
        logprob: Its natural-log probability.
        top: The most probable tokens at its place, text -> log-probability.
        margin: Lead of the best token at its place over the second best, in probability. Not to be
            had from ``top``: several tokens may share a text, as parts of a character do.
        data: Its bytes in UTF-8, of which a part of a character has some; None where it has no
            others than those of its text.
    """

    text: str
    logprob: float
    top: Mapping[str, float]
    margin: float
    data: bytes | None = None


def check(body: Mapping[str, Any]) -> None:
    """Raise :class:`RequestError` unless a reply has an answer, or says why it has none."""
    if "choices" in body:
        choices = body["choices"]
        if not isinstance(choices, list) or not choices:
            raise RequestError("empty_choices", "a reply without choices", retried=True)
        if not all(_is_choice(c) for c in choices):
            raise RequestError(
                "malformed", f"choices without text: {printable(body)}", retried=True
            )
    elif not isinstance(body.get("content"), list) and not isinstance(body.get("text"), str):
        raise RequestError("malformed", f"no answer in the reply: {printable(body)}", retried=True)


def _is_choice(choice: Any) -> bool:
    if not isinstance(choice, dict):
        return False
    message = choice.get("message")
    if isinstance(message, dict):
        content = message.get("content")
        if isinstance(content, list):
            return all(isinstance(part, dict) for part in content)
        return isinstance(content, (str, type(None)))
    return isinstance(choice.get("text"), (str, type(None))) and (
        "text" in choice or end_of(choice) == CONTENT_FILTER
    )


def choices_of(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The choices in the order of their prompts; one for a server without choices."""
    if "choices" not in body:
        return [body]
    choices: list[Mapping[str, Any]] = body["choices"]
    return sorted(choices, key=lambda c: _count(c.get("index")) or 0)


def thought_cut(raw: str, think_end: Any, cut: bool) -> tuple[str, ...]:
    """The event of a text that was cut by its length before the end of its thought, if any.

    The beginning of a thought need not be in it: a chat template may have begun it.
    """
    thinks = isinstance(think_end, str) and bool(think_end)
    return (THINKING,) if cut and thinks and think_end not in raw else ()


def end_of(choice: Mapping[str, Any]) -> str:
    """How an answer ended, where that is worth counting: ``length`` or ``content_filter``."""
    meta = choice.get("meta_info")
    reason = (
        choice.get("finish_reason")
        or choice.get("stop_reason")
        or (meta.get("finish_reason") if isinstance(meta, dict) else None)
    )
    if isinstance(reason, dict):
        reason = reason.get("type")
    return _ENDS.get(str(reason).lower(), "")


def text_of(choice: Mapping[str, Any]) -> str | None:
    """The text of a choice as it stands in the reply; None where there is none."""
    message = choice.get("message")
    whole = message if isinstance(message, dict) else choice
    content = whole.get("content", choice.get("text"))
    if isinstance(content, list):  # Anthropic's blocks, and parts of others: a thought has no text
        blocks = [b.get("text") for b in content if isinstance(b, dict)]
        content = "".join(b for b in blocks if isinstance(b, str)) or None
    return content if isinstance(content, str) else None


def usage_of(body: Mapping[str, Any]) -> Usage:
    """The usage of one request."""
    meta = body.get("meta_info")
    if isinstance(meta, dict):
        return Usage(
            _count(meta.get("prompt_tokens")),
            _count(meta.get("cached_tokens")),
            _count(meta.get("completion_tokens")),
        )
    usage = body.get("usage")
    if not isinstance(usage, dict):
        return Usage()
    if "input_tokens" in usage:  # Anthropic counts tokens of the cache apart
        read = _count(usage.get("cache_read_input_tokens")) or 0
        written = _count(usage.get("cache_creation_input_tokens")) or 0
        fresh = _count(usage["input_tokens"])
        return Usage(
            None if fresh is None else fresh + read + written,
            read,
            _count(usage.get("output_tokens")),
        )
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Usage(_count(usage.get("prompt_tokens")), cached, _count(usage.get("completion_tokens")))


def tokens_of(choice: Mapping[str, Any]) -> list[Token]:
    """The generated tokens with their probabilities; empty where the server gives none."""
    logprobs = choice.get("logprobs")
    if not isinstance(logprobs, dict):
        return []
    content = logprobs.get("content")
    if isinstance(content, list):
        found = [
            _token(t.get("token"), t.get("logprob"), t.get("top_logprobs"), t.get("bytes"))
            for t in content
            if isinstance(t, dict)
        ]
    else:
        texts, values = logprobs.get("tokens"), logprobs.get("token_logprobs")
        tops = logprobs.get("top_logprobs")
        if not (isinstance(texts, list) and isinstance(values, list)):
            return []
        tops = tops if isinstance(tops, list) else [None] * len(texts)
        found = [_token(*t) for t in zip(texts, values, tops, strict=False)]
    return [t for t in found if t is not None]


def _token(text: Any, logprob: Any, top: Any, data: Any = None) -> Token | None:
    if not _is_logprob(logprob):
        return None
    if isinstance(top, dict):
        pairs: Sequence[tuple[Any, Any]] = list(top.items())
    elif isinstance(top, list):
        pairs = [(t.get("token"), t.get("logprob")) for t in top if isinstance(t, dict)]
    else:
        pairs = []
    listed = [(n, float(v)) for n, v in pairs if isinstance(n, str) and _is_logprob(v)]
    best: dict[str, float] = {}
    for name, value in listed:
        best[name] = max(value, best.get(name, -math.inf))
    lead = margin(float(logprob), [value for _, value in listed])
    shown = text if isinstance(text, str) else ""
    return Token(shown, float(logprob), best, lead, _bytes(shown, data))


def _bytes(text: str, data: Any) -> bytes | None:
    """The bytes of a token, as chat completions list them or OpenAI's completions spell them."""
    if re.fullmatch(r"bytes:(\\x[0-9a-f]{2})+", text):
        return bytes.fromhex(text[len("bytes:") :].replace("\\x", ""))
    known = isinstance(data, list) and all(type(b) is int and 0 <= b < 256 for b in data)
    return bytes(data) if known else None


def probabilities(
    tokens: Sequence[Token], text: str, think_end: Any = None
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Log-probability and margin of each token of a text, without thinking and stop sequence.

    Args:
        tokens: All tokens generated.
        text: The text kept: they spell it, and perhaps more.
        think_end: What ends the thinking, if the model thinks; the text begins after its last one.
    """
    start = 0
    # a character counts where its last byte stands
    decoded = codecs.getincrementaldecoder("utf-8")("replace").decode
    spelled = [t.text if t.data is None else decoded(t.data) for t in tokens]
    said = "".join(spelled)
    if isinstance(think_end, str) and think_end in said:
        start = len(said) - len(said.split(think_end)[-1].lstrip())
    kept = []
    at = 0
    for token, own in zip(tokens, spelled, strict=True):
        if at >= start + len(text):
            break
        end = at + len(own)
        if at >= start or end > start:
            kept.append(token)
        at = end
    return tuple(t.logprob for t in kept), tuple(t.margin for t in kept)


def _is_logprob(value: Any) -> bool:
    return is_number(value, -_BEYOND, 1.0)  # rounding may lead above 0


def _count(value: Any) -> int | None:
    if isinstance(value, float) and value.is_integer():  # as servers without integers write it
        value = int(value)
    return value if is_whole(value, 0) and value <= _BEYOND else None
