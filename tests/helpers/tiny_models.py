"""Tiny random models and a tokenizer trained on the spot: real code paths without weights.

transformers takes seconds to import, so it waits for the test that makes a model.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

_TEXT = [
    "The ferry leaves at seven. Question: where? Answer: the pier Correct Incorrect",
    "Decide whether the answer is right, using nothing but the context and the question.",
]


def tiny_tokenizer(folder: Path) -> Any:
    """A tokenizer of some 300 tokens, saved in a folder."""
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator(_TEXT * 4, vocab_size=320, special_tokens=["<eos>", "<pad>"])
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe._tokenizer, eos_token="<eos>", pad_token="<pad>"
    )
    tokenizer.save_pretrained(folder)
    return tokenizer


def save_tiny(folder: Path, family: str) -> Path:
    """A random model of a family ("llama" or "gemma3") with its tokenizer, in a folder."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig, LlamaConfig, LlamaForCausalLM

    tokenizer = tiny_tokenizer(folder)
    torch.manual_seed(7)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
    }
    model: torch.nn.Module
    if family == "llama":
        model = LlamaForCausalLM(LlamaConfig(**shape))
    else:
        kinds = ["sliding_attention", "full_attention"]
        more = {"head_dim": 8, "sliding_window": 16, "query_pre_attn_scalar": 8}
        model = Gemma3ForCausalLM(Gemma3TextConfig(**shape, **more, layer_types=kinds))
    for parameter in model.parameters():
        # sharper than the usual initialisation, so that probabilities differ
        parameter.data.mul_(4.0)
    model.save_pretrained(folder)  # type: ignore[operator]
    return folder


def save_tiny_encoder(folder: Path, seed: int = 7) -> Path:
    """A random encoder of BERT's kind with its tokenizer, in a folder."""
    import torch
    from transformers import BertConfig, BertModel

    tokenizer = tiny_tokenizer(folder)
    torch.manual_seed(seed)
    shape = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=256,
        pad_token_id=tokenizer.pad_token_id,
    )
    BertModel(shape).save_pretrained(folder)
    return folder
