"""The embedded pair's real weights, in the ordinary cache, as the demo uses them."""

from __future__ import annotations

import hashlib
import importlib.util
import time
from importlib.metadata import version
from typing import Any

import pytest

from automix_eval.backends import embedded
from automix_eval.backends.embedded import ensure_gguf, ensure_model
from automix_eval.paths import cache_dir

REAL_CACHE = cache_dir()  # before a test has a folder of its own
PROMPTS = ["The capital of France is", "Q: Who wrote Hamlet?\nA:"]


@pytest.mark.slow
@pytest.mark.parametrize("name", embedded.MODELS)
def test_the_real_weights(
    name: str, monkeypatch: pytest.MonkeyPatch, pytestconfig: pytest.Config
) -> None:
    """The conversion computes what the GGUF file computes, with its tokenizer and its template.

    What these releases make of the file takes half a minute and is kept; `make clean` forgets it.
    """
    monkeypatch.setenv("AUTOMIX_CACHE_DIR", str(REAL_CACHE))
    for package in ("gguf", embedded._SOURCES[name].package):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")
    import gguf as gguf_format
    import torch

    folder, gguf = ensure_model(name), ensure_gguf(name)
    began = time.process_time()
    assert ensure_model(name) == folder
    assert time.process_time() - began < 0.05

    releases = [version(p) for p in ("gguf", "tokenizers", "torch", "transformers")]
    made = [embedded._SOURCES[name].sha256, *releases, torch.backends.cpu.get_cpu_capability()]
    made += [str(torch.get_num_threads()), *PROMPTS]
    place = f"automix/{name}-{hashlib.sha256(' '.join(made).encode()).hexdigest()[:12]}"
    expected: dict[str, Any] | None = pytestconfig.cache.get(place, None)
    if expected is None:
        with embedded.parsed_once():
            template = gguf_format.GGUFReader(str(gguf)).get_field("tokenizer.chat_template")
            expected = computed(str(gguf.parent), gguf_file=gguf.name)
        assert expected["template"] == (template.contents() if template else None)
        pytestconfig.cache.set(place, expected)
    found = computed(str(folder))
    assert found == expected
    assert len(found["weights"]) > 200
    for prompt, begins in zip(found["prompts"], found["begins_with_bos"], strict=True):
        assert begins is (name == "gemma3-270m" or prompt.startswith("<|im_start|>"))


def computed(folder: str, **options: Any) -> dict[str, Any]:
    """Sums of all weights and of the logits of some prompts, and the prompts' tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16, **options)
    tokenizer = AutoTokenizer.from_pretrained(folder, **options)
    if tokenizer.bos_token == "<bos>":
        # the file asks for it, which releases before 5.23 do not read
        tokenizer.add_bos_token = True
    prompts = list(PROMPTS)
    if tokenizer.chat_template:
        turn = [{"role": "user", "content": "Name the capital of Italy."}]
        prompts.append(
            tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        )
    inputs = [tokenizer(p, return_tensors="pt").input_ids for p in prompts]
    with torch.inference_mode():
        logits = [total(model(i).logits) for i in inputs]
    return {
        "weights": {name: total(weight) for name, weight in model.state_dict().items()},
        "template": tokenizer.chat_template,
        "prompts": prompts,
        "tokens": [i[0].tolist() for i in inputs],
        "begins_with_bos": [int(i[0, 0]) == tokenizer.bos_token_id for i in inputs],
        "logits": logits,
    }


def total(tensor: Any) -> str:
    """A check sum of a tensor's type, shape and bits."""
    import torch

    digest = hashlib.sha256(f"{tensor.dtype} {tuple(tensor.shape)}".encode())
    digest.update(tensor.contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()
