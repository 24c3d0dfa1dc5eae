"""What a tier computes is what its model alone computes, for every family that transformers has.

Prompts reach beyond windows, chunks and original positions (40 to 64 tokens), and batches hold
prompts of unlike lengths. The model alone is the harness's own class with batches of one.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from model_families import FAMILIES, save_family

from automix_eval.backends.hf.backend import HFBackend
from automix_eval.types import GenerateRequest, Generation, ScoreRequest, Scores

WORDS = "the ferry leaves at seven question where answer pier decide whether is right using"
GREEDY = {"do_sample": False, "max_gen_toks": 4, "until": []}
SAMPLED = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 4, "until": []}
# What transformers reads as a stack of attention layers with windows at most.
SHARED = {
    "llama",
    "llama with yarn",
    "mistral with a window",
    "qwen 2 with windows in some layers",
    "qwen 2 moe with windows in some layers",
    "gemma 3",
    "gpt 2",
    "gpt neox",
    "opt",
}
# Read in pieces up to the length at which the model begins to read otherwise.
SHARED_UP_TO_64 = {"llama with dynamic angles", "phi 3 with long angles", "llama 4 in chunks"}
# Not shared, and padding changes their numbers, or their past depends on the length.
ONE_BY_ONE = {
    "minimax with linear attention",
    "rwkv",
    "recurrent gemma",
    "llama 4 with temperature by position",
}
# Padded up to the length at which padding begins to be chosen in the place of text.
PADDED_UP_TO = {"deepseek 3.2 that chooses what it attends to": 48}


def prompts() -> list[str]:
    """Two that begin alike and go beyond every boundary, and a short one."""
    draw = random.Random(5)
    document = " ".join(draw.choice(WORDS.split()) for _ in range(60))
    return [f"{document} question where answer", f"{document} pier right", "the ferry where answer"]


def ask(model: HFBackend, method: str, requests: Sequence[Any], **more: Any) -> list[Any]:
    """Results in the order of the requests."""
    found: dict[int, Any] = {}
    getattr(model, method)(requests, found.__setitem__, **more)
    return [found[i] for i in range(len(requests))]


def same_scores(ours: Sequence[Scores], alone: Sequence[Scores]) -> None:
    """Equal but for rounding in float32."""
    for a, b in zip(ours, alone, strict=True):
        assert a.logprobs == pytest.approx(b.logprobs, abs=1e-3)
        assert a.prompt_tokens == b.prompt_tokens


def same_texts(ours: Sequence[Generation], alone: Sequence[Generation]) -> None:
    """Equal texts, tokens and probabilities."""
    for a, b in zip(ours, alone, strict=True):
        assert (a.text, a.generated_tokens) == (b.text, b.generated_tokens)
        assert a.token_logprobs == pytest.approx(b.token_logprobs, abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_computed_together_is_what_the_model_computes_alone(
    family: str, tmp_path: Path
) -> None:
    """Scores, samples, answers and choices are the model's own, shared or not."""
    folder = str(save_family(tmp_path / "m", family))

    def tier(**more: Any) -> HFBackend:
        return HFBackend(pretrained=folder, dtype="float32", device="cpu", max_length=600, **more)

    ours, alone = tier(batch_size=4), tier(batch_size=1, shared_prefix=False)
    texts = prompts()
    assert min(ours.count_tokens(t) for t in texts) < 40
    assert sorted(ours.count_tokens(t) for t in texts)[1] > 64
    scored = [ScoreRequest(t, (" Correct", " Incorrect where")) for t in texts]
    same_scores(ask(ours, "score", scored), [ask(alone, "score", [r])[0] for r in scored])
    sampled = [GenerateRequest(t, SAMPLED, seed=s) for t in texts for s in range(2)]
    same_texts(ask(ours, "generate", sampled), [ask(alone, "generate", [r])[0] for r in sampled])
    # an encoder-decoder's answers are the harness's, whose length depends on what is padded
    own = tier(batch_size=4, shared_prefix=False) if family == "t5" else alone
    answered = [GenerateRequest(t, GREEDY) for t in texts]
    one_by_one = [answered] if family == "t5" else [[r] for r in answered]
    theirs = [g for r in one_by_one for g in ask(own, "generate", r, token_probs=True)]
    same_texts(ask(ours, "generate", answered, token_probs=True), theirs)
    chosen = [ScoreRequest(t, (" Correct",)) for t in texts]
    same = ask(tier(batch_size=4, shared_prefix=False), "loglikelihood", chosen)
    same_scores(ask(ours, "loglikelihood", chosen), same)
    reader = ours._reader
    reach = None if reader is None else reader.reach
    assert reach == (600 if family in SHARED else 64 if family in SHARED_UP_TO_64 else None)
    assert bool(ours.unshared) == (family not in SHARED)
    padding = ours._padding
    assert (padding is not None and padding.bad == 0) == (family in ONE_BY_ONE)
    assert bool(padding and padding.bad) == (family in PADDED_UP_TO)
    if family in PADDED_UP_TO:
        assert padding is not None
        assert f"more than {padding.safe} tokens" in ours.unshared
        assert padding.safe <= PADDED_UP_TO[family]


@pytest.mark.parametrize("family", ["llama", "mistral with a window", "gemma 3", "gpt neox"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_is_no_reason_to_read_again(
    family: str, dtype: torch.dtype, tmp_path: Path
) -> None:
    """The tolerance is that of the type: plain attention is shared in low precision too."""
    folder = str(save_family(tmp_path / "m", family))
    model = HFBackend(pretrained=folder, dtype=str(dtype).removeprefix("torch."), device="cpu")
    model.load_weights()
    reader = model._sharing()
    assert reader is not None
    assert reader.reach == 1024
    assert model.unshared == ""


@pytest.mark.parametrize("family", ["gpt without a cache", "falcon h1", "jamba", "qwen 3.5"])
def test_low_precision_hides_no_layer_that_cannot_be_shared(family: str, tmp_path: Path) -> None:
    """Its tolerance is wide: layers that attend in their own way are seen without logits."""
    folder = str(save_family(tmp_path / "m", family))
    model = HFBackend(pretrained=folder, dtype="bfloat16", device="cpu")
    model.load_weights()
    assert model._sharing() is None
    assert model.unshared
