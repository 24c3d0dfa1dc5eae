"""Embeddings of texts by a frozen sentence encoder; each text is read once.

A text is the mean of its tokens' hidden states, of length 1 (mean pooling, as sentence-transformers
has it for MiniLM). What was read is kept in memory, and a large set of texts also in the cache
folder, so that a table is embedded once.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from automix_eval.backends.encoder import Encoder, load
from automix_eval.paths import cache_dir

# Half precision: neighbours are the same, and a policy that holds them half as long.
HalfArray = npt.NDArray[np.float16]
BATCH = 32
# Texts that are worth a file, and those kept in memory at most.
FILED, REMEMBERED = 200, 200_000
# Texts from which on it is said how long they take.
ANNOUNCED = 2_000

_memory: dict[tuple[str, int, str], HalfArray] = {}
_spent: list[tuple[int, float]] = []


def embed(name: str, texts: Sequence[str], max_length: int) -> HalfArray:
    """(n, width) unit vectors of texts.

    Args:
        name: As of :class:`.encoder.Encoder`.
        texts: The texts; of a long one the last tokens are read, where a prompt has its question.
        max_length: Tokens of a text at most.

    Raises:
        AutoMixError: The encoder cannot be loaded.
    """
    encoder = load(name)
    keys = [(encoder.sha256, max_length, text) for text in texts]
    fresh = sorted({text for key, text in zip(keys, texts, strict=True) if key not in _memory})
    if len(_memory) + len(fresh) > REMEMBERED:
        _memory.clear()
        fresh = sorted(set(texts))
    if fresh:
        found = _filed(encoder, fresh, max_length)
        _memory.update(zip([(encoder.sha256, max_length, t) for t in fresh], found, strict=True))
    return np.stack([_memory[key] for key in keys]) if keys else np.empty((0, encoder.width), "f2")


def speed() -> str:
    """How many questions were embedded since this was last asked, and how fast; empty for none.

    What was in memory or in the cache folder took no time, and does not count.
    """
    number, seconds = (sum(column) for column in zip((0, 0.0), *_spent, strict=True))
    _spent.clear()
    rate = f"{number / seconds:.0f}/s" if seconds > 0 else "at once"
    return f"embedded {number:,} questions in {seconds:.1f} s ({rate})" if number else ""


def _filed(encoder: Encoder, texts: Sequence[str], max_length: int) -> HalfArray:
    """Those of the cache folder, or computed and kept there."""
    if len(texts) < FILED:
        return _computed(encoder, texts, max_length)
    digest = hashlib.sha256(f"{encoder.sha256} {max_length}".encode())
    for text in texts:
        digest.update(hashlib.sha256(text.encode(errors="replace")).digest())
    path = cache_dir() / "embeddings" / f"{digest.hexdigest()}.npy"
    kept = _read(path, (len(texts), encoder.width))
    if kept is not None:
        return kept
    made = _computed(encoder, texts, max_length)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{os.getpid()}.partial")
    with part.open("wb") as file:
        np.save(file, made, allow_pickle=False)
    part.replace(path)
    return made


def _read(path: Path, shape: tuple[int, int]) -> HalfArray | None:
    """A file of the cache; None where it is missing or damaged, and is written anew."""
    try:
        kept: Any = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    whole = kept.shape == shape and kept.dtype == np.float16 and np.isfinite(kept).all()
    return kept if whole else None


def _computed(encoder: Encoder, texts: Sequence[str], max_length: int) -> HalfArray:
    import torch

    made = np.empty((len(texts), encoder.width), dtype=np.float16)
    begin, told = time.monotonic(), len(texts) < ANNOUNCED
    order = sorted(range(len(texts)), key=lambda i: len(texts[i]))  # little padding
    # the longest first: what is left then takes less time than was said
    for start in range(0, len(order), BATCH):
        part = order[::-1][start : start + BATCH]
        inputs = encoder.tokens([texts[i] for i in part], max_length)
        with torch.inference_mode():
            hidden = encoder.model(**inputs).last_hidden_state
            weight = inputs["attention_mask"].unsqueeze(-1).to(hidden.dtype)
            mean = (hidden * weight).sum(dim=1) / weight.sum(dim=1)
            made[part] = torch.nn.functional.normalize(mean, dim=1).half().numpy()
        if not told and (spent := time.monotonic() - begin) > 5:
            left = spent * (len(order) - start - BATCH) / (start + BATCH)
            said = f"{encoder.name} reads {len(texts)} questions, once: at most {left:.0f} s"
            print(said, file=sys.stderr)
            told = True
    _spent.append((len(texts), time.monotonic() - begin))
    return made
