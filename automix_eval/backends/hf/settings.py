"""Settings of the transformers tier: what they may be and what they mean."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from automix_eval.safety.errors import AutoMixError

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
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 1e9:
        raise AutoMixError(f"{name}={value!r} must be a number of megabytes of at least 0")
    return int(value * 2**20)


def has_accelerator() -> bool:
    """Whether torch finds a GPU."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()


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
