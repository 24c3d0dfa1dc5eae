"""Making prompts fit a window without losing what matters.

A prompt that is too long loses whole demonstrations first (the earliest first), then the middle
of its context; never the instruction, the question or the answer. Both losses are counted.
"""

from __future__ import annotations

import itertools
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Message, Prompt

CUT = "\n[...]\n"
_COARSEST = 512
#: Steps from which the tokens of a longer cut are certainly more, so that the search for the cut
#: ends at the same one wherever it begins.
_SURE = 64
#: What the last contexts were cut to, by context and budget; their other questions get the same.
_recent: OrderedDict[tuple[str, int], int] = OrderedDict()
_RECENT = 64


class PromptTooLongError(AutoMixError):
    """Even without demonstrations and context the prompt exceeds the window."""


@dataclass(frozen=True, slots=True)
class Parts:
    """A prompt by its parts.

    Attributes:
        head: System text and task description.
        demonstrations: Few-shot examples, each with its own delimiter.
        body: The block of the question itself; contains ``context``.
        context: The part of ``body`` that may be shortened; may be empty.
    """

    head: str
    demonstrations: tuple[str, ...]
    body: str
    context: str

    def text(self) -> str:
        """The whole prompt."""
        return self.head + "".join(self.demonstrations) + self.body


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt that fits, and what that cost."""

    text: str
    dropped_demonstrations: int = 0
    cut_context_tokens: int = 0


@dataclass(frozen=True, slots=True)
class FittedPrompt:
    """As :class:`Fitted`, for a prompt that may be a chat."""

    prompt: Prompt
    dropped_demonstrations: int = 0
    cut_context_tokens: int = 0


def fit(parts: Parts, budget: int | None, count: Callable[[str], int | None]) -> Fitted:
    """Shorten a prompt to at most ``budget`` tokens.

    Args:
        parts: The prompt.
        budget: Tokens the prompt may have; None where the window is unknown.
        count: Tokens of a text in its final, rendered form; None without a tokenizer.

    Raises:
        PromptTooLongError: Instruction and question alone exceed the budget.
    """
    text = parts.text()
    size = count(text)
    if budget is None or size is None or size <= budget:
        return Fitted(text)
    kept = parts
    for dropped in range(1, len(parts.demonstrations) + 1):
        kept = replace(parts, demonstrations=parts.demonstrations[dropped:])
        size = count(kept.text())
        if size is not None and size <= budget:
            return Fitted(kept.text(), dropped)
    assert size is not None  # the tokenizer counted the whole prompt, so it counts its parts
    text, after = _cut_middle(kept, budget, size, count)
    return Fitted(text, len(parts.demonstrations), size - after)


def fit_chat(
    prompt: Prompt, context: str, budget: int | None, count: Callable[[Prompt], int | None]
) -> FittedPrompt:
    """As :func:`fit` for a chat: demonstrations are the turns before the last user turn."""
    size = count(prompt)
    if budget is None or size is None or size <= budget:
        return FittedPrompt(prompt)
    system = tuple(m for m in prompt.messages if m.role == "system")
    turns = [m for m in prompt.messages if m.role != "system"]
    last = max(i for i, m in enumerate(turns) if m.role == "user")
    shots, tail = turns[:last], turns[last:]
    dropped = 0
    kept = prompt
    while shots:
        # a demonstration is a user turn with the turns that answer it
        shots = shots[1:]
        while shots and shots[0].role != "user":
            shots = shots[1:]
        dropped += 1
        kept = replace(prompt, messages=(*system, *shots, *tail))
        size = count(kept)
        if size is not None and size <= budget:
            return FittedPrompt(kept, dropped)
    assert size is not None

    def with_body(body: str) -> Prompt:
        return replace(prompt, messages=(*system, Message(tail[0].role, body), *tail[1:]))

    parts = Parts("", (), tail[0].content, context)
    text, after = _cut_middle(parts, budget, size, lambda body: count(with_body(body)))
    return FittedPrompt(with_body(text), dropped, size - after)


def _cut_middle(
    parts: Parts, budget: int, size: int, count: Callable[[str], int | None]
) -> tuple[str, int]:
    """The prompt with a context as long as fits, up to :func:`_even`, and its tokens.

    ``size`` is what the whole prompt has. Each count reads the whole prompt, so few are made.
    """
    # a task without a known context is all body: its ends hold the instruction and the question
    context = parts.context if parts.context and parts.context in parts.body else parts.body
    start = parts.body.rfind(context)
    before, after = parts.head + parts.body[:start], parts.body[start + len(context) :]

    def build(characters: int) -> str:
        half = characters // 2
        tail = context[len(context) - (characters - half) :] if characters > half else ""
        return before + context[:half].rstrip() + CUT + tail.lstrip() + after

    best, tokens, low, high, over = "", -1, 0, len(context), size
    for halving in itertools.cycle((False, False, False, True)):
        if tokens < 0:  # nothing is known to fit
            guess = _recent.get((context, budget), 0) if high == len(context) else 0
        elif _even(high - 1) <= low:
            break
        else:
            part = 0.5 if halving or over <= tokens else (budget - tokens) / (over - tokens)
            guess = _even(low + int((high - low) * min(part, 1.0)))
            if not low < guess < high or low == _recent.get((context, budget)):
                guess = min(_even(low) + _step(low), high - 1)
        candidate = build(guess)
        found = count(candidate) or 0
        if found <= budget:
            best, tokens, low = candidate, found, guess
        elif guess == 0:
            break
        else:
            high, over = guess, found
    if tokens < 0 or (context is parts.body and len(context) < 2):
        raise PromptTooLongError(
            f"a prompt does not fit {budget} tokens even without demonstrations and context: "
            "raise the tier's max_length, lower max_gen_toks (--gen_kwargs max_gen_toks=...) or "
            "use a model with a larger window"
        )
    if _step(low) >= _SURE:
        _recent[context, budget] = low
        if len(_recent) > _RECENT:
            _recent.popitem(last=False)
    return best, tokens


def _even(characters: int) -> int:
    """The longest cut of a context that its other questions are likely to get as well.

    Questions on one document differ by some words and would each have a cut of their own; with
    cuts on a grid of 1/16 to 1/32 of what is kept, at most 512 characters, they have what stands
    before them in common, which is then read once.
    """
    return characters // _step(characters) * _step(characters)


def _step(characters: int) -> int:
    step = 1
    while step * 32 <= characters and step < _COARSEST:
        step *= 2
    return step


def split_at(text: str, blocks: Sequence[str]) -> tuple[str, ...] | None:
    """Split ``text`` into consecutive blocks out of ``blocks``; None if it is not made of them."""
    found: list[str] = []
    position = 0
    while position < len(text):
        match = next((b for b in blocks if b and text.startswith(b, position)), None)
        if match is None:
            return None
        found.append(match)
        position += len(match)
    return tuple(found)


def token_counter(
    name: str, revision: str, *, trust_remote_code: bool, chat: bool
) -> Callable[[Prompt], int]:
    """A function that counts the tokens of prompts by a tokenizer alone, without its model.

    Args:
        name: Name or folder of the tokenizer.
        revision: Branch, tag or commit on the hub.
        trust_remote_code: Whether code that comes with the tokenizer may run.
        chat: Whether chat prompts go through the tokenizer's template.

    Raises:
        OSError: There is no such tokenizer.
        ValueError: It cannot be read.
    """
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(
        name, revision=revision, trust_remote_code=trust_remote_code
    )

    def count(prompt: Prompt) -> int:
        turns = [{"role": m.role, "content": m.content} for m in prompt.messages]
        text = prompt.text or "\n\n".join(turn["content"] for turn in turns)
        if turns and chat and tokenizer.chat_template:
            text = tokenizer.apply_chat_template(
                turns, tokenize=False, add_generation_prompt=not prompt.continue_final
            )
        return len(tokenizer(text, add_special_tokens=not turns)["input_ids"])

    return count
