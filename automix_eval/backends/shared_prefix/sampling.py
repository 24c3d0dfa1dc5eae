"""Choosing the next token: greedily, or as a sample that depends on its own seed alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch


def row_seed(prompt: str, seed: int | None) -> int:
    """A seed for one sample of one prompt: samples of different prompts are independent."""
    digest = hashlib.sha256(f"{seed}\0{prompt}".encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def sample(
    logits: torch.Tensor, temperature: float, generators: Sequence[torch.Generator]
) -> list[int]:
    """One draw from softmax(logits / temperature) a row, by inversion of its distribution function.

    One uniform number a row from the row's own generator: a draw depends on the row's seed alone,
    whatever shares its batch, and costs no noise of the size of the vocabulary.

    Args:
        logits: [rows, vocabulary].
        temperature: Above 0.
        generators: One a row, on the CPU.
    """
    cumulated = (logits.float() / temperature).softmax(dim=-1).cumsum(dim=-1, dtype=torch.float64)
    uniform = torch.stack([torch.rand(1, generator=g, dtype=torch.float64) for g in generators])
    # the sum may miss 1 by a rounding error
    target = uniform.to(cumulated.device) * cumulated[:, -1:]
    tokens: list[int] = torch.searchsorted(cumulated, target, right=True)[:, 0].tolist()
    return tokens


def top_two(logits: torch.Tensor) -> list[tuple[float, float]]:
    """Log-probability of the best token and its lead in probability, by row."""
    values = logits.float()
    top = torch.topk(values, 2, dim=-1).values - values.logsumexp(dim=-1, keepdim=True)
    leads = top[:, 0].exp() - top[:, 1].exp()
    return list(zip(top[:, 0].tolist(), leads.tolist(), strict=True))
