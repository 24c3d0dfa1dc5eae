"""Tiny random models of many families, made from the configuration classes of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_models import tiny_tokenizer
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

_MOE = {"num_experts": 2, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
_HYBRID = {
    "head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 2,
    "linear_key_head_dim": 8, "linear_value_head_dim": 8,
}  # fmt: skip
_LLAMA4 = {
    "num_local_experts": 2, "num_experts_per_tok": 1, "intermediate_size_mlp": 32, "head_dim": 8,
    "interleave_moe_layer_step": 100,
}  # fmt: skip
_MAMBA2 = {"mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}

#: Name -> the family in transformers, and what its configuration differs in.
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "llama with dynamic angles": (
        "llama",
        {"max_position_embeddings": 64, "rope_parameters": {
            "rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}},
    ),
    "llama with yarn": (
        "llama",
        {"rope_parameters": {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4,
                             "original_max_position_embeddings": 64}},
    ),
    "phi 3 with long angles": (
        "phi3",
        {"original_max_position_embeddings": 64, "rope_parameters": {
            "rope_type": "longrope", "rope_theta": 1e4, "short_factor": [1.0] * 4,
            "long_factor": [1.5, 2.0, 3.0, 4.0], "original_max_position_embeddings": 64}},
    ),
    "mistral with a window": ("mistral", {"sliding_window": 40}),
    "qwen 2 with windows in some layers": (
        "qwen2", {"use_sliding_window": True, "sliding_window": 40, "max_window_layers": 1},
    ),
    "qwen 2 moe with windows in some layers": (
        "qwen2_moe",
        {"use_sliding_window": True, "sliding_window": 40, "max_window_layers": 1,
         "shared_expert_intermediate_size": 16, **_MOE},
    ),
    "gemma 2": ("gemma2", {"head_dim": 8, "sliding_window": 40, "query_pre_attn_scalar": 8}),
    "gemma 3": ("gemma3_text", {"head_dim": 8, "sliding_window": 40, "query_pre_attn_scalar": 8}),
    "llama 4 in chunks": ("llama4_text", {"attention_chunk_size": 64, **_LLAMA4}),
    "llama 4 with temperature by position": (
        "llama4_text",
        {"attention_chunk_size": 2048, "floor_scale": 32, "no_rope_layers": [0, 1], **_LLAMA4},
    ),
    "gpt-oss with sinks": (
        "gpt_oss",
        {"sliding_window": 40, "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 2,
         "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}},
    ),
    "gpt 2": ("gpt2", {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 1024}),
    "gpt without a cache": (
        "openai-gpt", {"n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 1024},
    ),
    "gpt neo with a local layer": (
        "gpt_neo",
        {"num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
         "window_size": 40},
    ),
    "gpt neox": ("gpt_neox", {}),
    "opt": ("opt", {"ffn_dim": 32, "word_embed_proj_dim": 32}),
    "bloom with alibi": ("bloom", {"n_layer": 2, "n_head": 4}),
    "mpt with alibi": ("mpt", {"d_model": 32, "n_heads": 4, "n_layers": 2, "max_seq_len": 1024}),
    "minimax with linear attention": (
        "minimax",
        {"layer_types": ["linear_attention", "full_attention"], "block_size": 16, "head_dim": 8,
         "num_local_experts": 2, "num_experts_per_tok": 1},
    ),
    "mamba": ("mamba", {"state_size": 8}),
    "rwkv": ("rwkv", {"attention_hidden_size": 32}),
    "recurrent gemma": (
        "recurrent_gemma",
        {"num_hidden_layers": 3, "attention_window_size": 40, "lru_width": 32, "head_dim": 8},
    ),
    "falcon h1": ("falcon_h1", {"mamba_d_ssm": 32, "head_dim": 8, **_MAMBA2}),
    "jamba": (
        "jamba",
        {"num_experts": 2, "num_experts_per_tok": 1, "attn_layer_period": 2,
         "attn_layer_offset": 1, "mamba_d_state": 8, "use_mamba_kernels": False},
    ),
    "qwen 3.5": ("qwen3_5_text", {"num_hidden_layers": 4, **_HYBRID}),
    "deepseek 3.2 that chooses what it attends to": (
        "deepseek_v32",
        {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8,
         "v_head_dim": 8, "head_dim": 8, "num_key_value_heads": 4, "n_routed_experts": 4,
         "n_group": 2, "topk_group": 1, "n_shared_experts": 1, "num_experts_per_tok": 2,
         "moe_intermediate_size": 16, "mlp_layer_types": ["dense", "sparse"], "index_topk": 24,
         "index_head_dim": 16, "index_n_heads": 2, "bos_token_id": 1},
    ),
    "t5": (
        "t5",
        {"d_model": 32, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 4,
         "decoder_start_token_id": 1},
    ),
}  # fmt: skip


def save_family(folder: Path, name: str) -> Path:
    """A random model of a family with its tokenizer, in a folder."""
    family, differs = FAMILIES[name]
    tokenizer = tiny_tokenizer(folder)
    torch.manual_seed(7)
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 1024,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": None,
        **differs,
    }
    config = CONFIG_MAPPING[family](**shape)
    makes: Any = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    model = makes.from_config(config, dtype=torch.float32)
    for parameter in model.parameters():
        if parameter.dim() > 1:  # sharper than the usual initialisation, so that the past matters
            parameter.data.mul_(3.0)
    model.save_pretrained(folder)
    return folder
