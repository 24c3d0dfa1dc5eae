"""What reading shared prompt starts saves on an accelerator, against the harness's ``hf`` model.

A model of random weights in bfloat16, of a size of one's choice: seconds do not depend on what
weights say. Both sides run in turn in one process with the same batch size; each row is the least
of its runs after one that is not counted.

    python benchmarks/accelerator.py --hidden 2048 --layers 24 --heads 32 --kv-heads 32
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_prefix import CHOICES, by_harness, by_tier, text_of, verification
from lm_eval.models.huggingface import HFLM
from transformers import LlamaConfig, LlamaForCausalLM

from automix_eval.backends.embedded import ensure_model
from automix_eval.backends.hf.backend import HFBackend
from automix_eval.types import GenerateRequest, ScoreRequest

ASKED = ("What did the clerk repair?", "Who left at noon?", "Where was the letter found?")
GREEDY = {"do_sample": False, "until": []}
SAMPLED = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 30, "until": []}


def make_model(folder: Path, shape: argparse.Namespace, tokenizer: Path) -> None:
    """Save a Llama of random weights beside a tokenizer."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49152,
        max_position_embeddings=8192,
        hidden_size=shape.hidden,
        intermediate_size=4 * shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=2,
    )
    with torch.device(shape.device):
        LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    for file in tokenizer.glob("*"):
        if file.suffix != ".safetensors" and file.name != "config.json":
            shutil.copy(file, folder)


class Pair:
    """The harness's model and the tier, of one folder."""

    def __init__(self, folder: Path, device: str, batch_size: int, runs: int) -> None:
        settings: dict[str, Any] = {"pretrained": str(folder), "device": device, "max_length": 4096}
        self.lm = HFLM(batch_size=batch_size, **settings)
        self.tier = HFBackend(batch_size=batch_size, chat=False, **settings)
        self._device, self._runs = device, runs

    def row(self, name: str, theirs: Callable[[], Any], ours: Callable[[], Any]) -> None:
        """Least seconds of both, and their ratio."""
        seconds = [[self._timed(work) for _ in range(self._runs + 1)] for work in (theirs, ours)]
        a, b = (min(found[1:]) for found in seconds)
        print(f"{name:<62} {a:>9.2f} {b:>9.2f} {a / b:>6.2f}", flush=True)

    def _timed(self, work: Callable[[], Any]) -> float:
        # the harness encodes its prompts in each run, and so does the tier
        self.tier._metered().__dict__.pop("token_memory", None)
        begun = time.perf_counter()
        work()
        if self._device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter() - begun

    def size(self, text: str) -> int:
        """Tokens of a text."""
        return len(self.lm.tok_encode(text))

    def answers(self, name: str, prompts: Sequence[str], tokens: int) -> None:
        """A row of greedy answers."""
        given = GREEDY | {"max_gen_toks": tokens}
        self.row(
            f"{name}, {tokens} new",
            lambda: by_harness(self.lm, "generate_until", [(p, dict(given)) for p in prompts]),
            partial(by_tier, self.tier, [GenerateRequest(p, given) for p in prompts]),
        )

    def scores(self, name: str, prompts: Sequence[str]) -> None:
        """A row of log-likelihoods of two continuations."""
        pairs = [(p, c) for p in prompts for c in CHOICES]
        asked = [ScoreRequest(p, CHOICES) for p in prompts]
        self.row(
            name,
            lambda: by_harness(self.lm, "loglikelihood", pairs),
            lambda: by_tier(self.tier, asked, "score"),
        )

    def samples(self, name: str, prompts: Sequence[str]) -> None:
        """A row of eight samples of each prompt."""
        pairs = [p for p in prompts for _ in range(8)]
        asked = [GenerateRequest(p, SAMPLED, seed) for p in prompts for seed in range(8)]
        self.row(
            f"{name}, 30 new",
            lambda: by_harness(self.lm, "generate_until", [(p, dict(SAMPLED)) for p in pairs]),
            lambda: by_tier(self.tier, asked),
        )


def asking(words: int, seed: int, number: int) -> list[str]:
    """Questions about one document."""
    document = text_of(words, seed)
    return [f"{document}\n\nQuestion {i}: {ASKED[i % 3]}\nAnswer:" for i in range(number)]


def main() -> None:
    """Make the model and print the rows."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--runs", type=int, default=2)
    parser.add_argument("--hidden", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=32)
    parser.add_argument("--tokenizer", type=Path, help="its folder; the embedded SLM's otherwise")
    asked = parser.parse_args()
    tokenizer = asked.tokenizer or ensure_model("smollm2-135m-instruct")
    apart = [asking(220 + 3 * i, 100 + i, 1)[0] for i in range(48)]
    three = [p for i in range(8) for p in asking(900, 200 + i, 3)]
    one = asking(1100, 300, 17)
    short = [verification(text_of(260, 50 + i), False) for i in range(12)]
    decide = [verification(text_of(1100, 300) + f" It was day {i}.", True) for i in range(17)]
    long = verification(text_of(1050, 0), False)
    with tempfile.TemporaryDirectory() as folder:
        make_model(Path(folder), asked, tokenizer)
        pair = Pair(Path(folder), asked.device, asked.batch_size, asked.runs)
        print(f"{'':<62} {'harness s':>9} {'shared s':>9} {'ratio':>6}")
        pair.answers(f"48 questions of {pair.size(apart[0])}+ tokens that share nothing", apart, 32)
        pair.scores("two continuations of each", apart)
        pair.answers(f"three questions on each of 8 documents, {pair.size(three[0])}", three, 32)
        pair.answers(f"17 questions on one document, {pair.size(one[0])}", one, 8)
        pair.scores(f"p_true of 17 answers on one document, {pair.size(decide[0])}", decide)
        pair.samples(f"8 samples of a prompt of {pair.size(long)}", [long])
        pair.samples(f"8 samples of each of 12 prompts of {pair.size(short[0])}", short)


if __name__ == "__main__":
    main()
