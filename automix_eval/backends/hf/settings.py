"""The transformers tier around its model: settings, faults as errors, tokens encoded last."""

from __future__ import annotations

import hashlib
import re
from array import array
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.logs import harmless
from automix_eval.safety.numbers import is_number
from automix_eval.safety.redaction import scrub
from automix_eval.safety.text import printable

# values of a model's generation settings under which greedy decoding is plain argmax
_PLAIN_SETTINGS: dict[str, tuple[Any, ...]] = {
    "bad_words_ids": (),
    "begin_suppress_tokens": (),
    "encoder_repetition_penalty": (1.0,),
    "exponential_decay_length_penalty": (),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "guidance_scale": (1.0,),
    "min_length": (0,),
    "min_new_tokens": (0,),
    "no_repeat_ngram_size": (0,),
    "num_beams": (1,),
    "repetition_penalty": (1.0,),
    "sequence_bias": (),
    "suppress_tokens": (),
}


@dataclass(frozen=True, slots=True)
class Decoding:
    """How one request is decoded."""

    until: tuple[str, ...]
    most: int
    temperature: float
    stop_after: re.Pattern[str] | None

    def stops(self, text: str) -> bool:
        """Whether a text holds a stop sequence or what it was to end with."""
        if any(s in text for s in self.until):
            return True
        return self.stop_after is not None and self.stop_after.search(text) is not None


def is_plain(model: Any) -> bool:
    """Whether the model's own settings leave greedy decoding plain."""
    settings = model.generation_config
    return all(
        getattr(settings, name, None) in (None, *neutral)
        for name, neutral in _PLAIN_SETTINGS.items()
    )


def flag(name: str, value: Any) -> bool:
    """A setting that is true or false, else AutoMixError."""
    if not isinstance(value, bool):
        raise AutoMixError(f"{name}={value!r} must be true or false")
    return value


def megabytes(name: str, value: Any) -> int:
    """A setting in megabytes as bytes, else AutoMixError."""
    if not is_number(value, 0.0) or value >= 1e9:
        raise AutoMixError(f"{name}={value!r} must be a number of megabytes of at least 0")
    return int(value * 2**20)


def has_accelerator() -> bool:
    """Whether torch finds a GPU."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def why_no_device(device: str) -> str:
    """Why nothing can run on a device here, for which the harness takes another; or empty."""
    try:
        kind, index = torch.device(device).type, torch.device(device).index or 0
    except RuntimeError:
        return f"{device} is no device that torch knows: cpu, cuda, cuda:1, mps"
    number = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cuda" and index >= number:
        return f"{device} is not there: torch sees {number} GPUs"
    if kind == "mps" and not torch.backends.mps.is_available():
        return f"{device} is not there"
    return ""


def fingerprint(folder: Path) -> str:
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


@contextmanager
def named(tier: str, label: str) -> Iterator[None]:
    """Turn what PyTorch raises in the middle of a call into an error that names the tier.

    A fault is never an answer: the call is not stored, and the same command asks it again.

    Args:
        tier: As in the configuration, "slm" or "llm".
        label: The model's own name.

    Raises:
        AutoMixError: The memory did not suffice, or the model failed on a prompt.
    """
    try:
        yield
    except AutoMixError:
        raise
    except torch.cuda.OutOfMemoryError as err:
        raise AutoMixError(
            f"{tier} ({label}) ran out of GPU memory: {_short(err)}. Remedy: lower "
            f"{tier}.batch_size or {tier}.max_length, or put the tiers on different GPUs by "
            f"{tier}.device. Finished calls are kept: run the same command to resume"
        ) from harmless(err)
    except RuntimeError as err:
        raise AutoMixError(
            f"{tier} ({label}) failed on a prompt: {type(err).__name__}: {_short(err)}. Remedy: "
            f"try {tier}.dtype=float32, {tier}.shared_prefix=false or a smaller "
            f"{tier}.batch_size. Finished calls are kept: run the same command to resume"
        ) from harmless(err)


def _short(err: BaseException) -> str:
    """The first line, without secrets: PyTorch appends pages of advice."""
    lines = scrub(str(err)).strip().splitlines()
    return printable(lines[0][:400]).rstrip(".") if lines else "no reason given"


class TokenMemory:
    """An encoder that remembers what it encoded last, least recently used first out.

    A prompt is counted when it is made to fit its window, and read later for each of its samples.

    Args:
        encode: Token ids of a text.
        budget: Most tokens to hold, 4 bytes each; the texts are held as well.
    """

    def __init__(self, encode: Callable[[str], Sequence[int]], budget: int = 2_000_000) -> None:
        self._encode = encode
        self._budget = budget
        self._held: OrderedDict[str, array[int]] = OrderedDict()
        self._size = 0

    def __call__(self, text: str) -> Sequence[int]:
        """Token ids of a text."""
        if text in self._held:
            self._held.move_to_end(text)
            return self._held[text]
        tokens = array("i", self._encode(text))
        self._held[text] = tokens
        self._size += len(tokens)
        while self._size > self._budget:
            self._size -= len(self._held.popitem(last=False)[1])
        return tokens
