"""The embedded pair's real weights, in the ordinary cache, as the demo uses them."""

from __future__ import annotations

import importlib.util
import time

import pytest

from automix_eval.backends import embedded
from automix_eval.backends.embedded import ensure_gguf, ensure_model
from automix_eval.paths import cache_dir

REAL_CACHE = cache_dir()  # before a test has a folder of its own


@pytest.mark.slow
@pytest.mark.parametrize("name", embedded.MODELS)
def test_the_real_weights(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The conversion computes what the GGUF file computes, with its tokenizer and its template."""
    monkeypatch.setenv("AUTOMIX_CACHE_DIR", str(REAL_CACHE))
    for package in ("gguf", embedded._SOURCES[name].package):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    import gguf as gguf_format
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder, gguf = ensure_model(name), ensure_gguf(name)
    began = time.process_time()
    assert ensure_model(name) == folder
    assert time.process_time() - began < 0.05

    source = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    with embedded.parsed_once():
        models = [AutoModelForCausalLM.from_pretrained(**source, dtype=torch.bfloat16)]
        tokenizers = [AutoTokenizer.from_pretrained(**source)]
        template = gguf_format.GGUFReader(str(gguf)).get_field("tokenizer.chat_template")
    models.append(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16))
    tokenizers.append(AutoTokenizer.from_pretrained(folder))
    tokenizer = tokenizers[1]
    weights, converted = (m.state_dict() for m in models)
    assert weights.keys() == converted.keys()
    assert all(torch.equal(weights[k], converted[k]) for k in weights)
    prompts = ["The capital of France is", "Q: Who wrote Hamlet?\nA:"]
    assert tokenizer.chat_template == (template.contents() if template else None)
    if template:
        turn = [{"role": "user", "content": "Name the capital of Italy."}]
        prompts.append(
            tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        )
    for prompt in prompts:
        inputs = [t(prompt, return_tensors="pt").input_ids for t in tokenizers]
        assert torch.equal(*inputs)
        assert (inputs[1][0, 0] == tokenizer.bos_token_id).item() is (
            name == "gemma3-270m" or prompt.startswith("<|im_start|>")
        )
        with torch.inference_mode():
            assert torch.equal(*(m(i).logits for m, i in zip(models, inputs, strict=True)))
