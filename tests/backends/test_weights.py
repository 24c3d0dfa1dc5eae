"""Weights are loaded by the first call that is not in the store, and nothing is found later."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import forks
import pytest
from scripted import read_run, run_harness
from tiny_models import save_tiny
from transformers import LlamaForCausalLM

from automix_eval.backends.hf.backend import HFBackend
from automix_eval.backends.hf.metered_lm import MeteredHFLM
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import GenerateRequest, Generation, Prompt, ScoreRequest

TASK = "coqa_demo"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A cascade of two tiny models."""
    arguments: dict[str, Any] = {
        "progress": False, "verifier": "margin", "meta_verifier": "threshold",
        "calibration.num_docs": 6, "calibration.min_docs": 4,
    }  # fmt: skip
    for tier, family in (("slm", "llama"), ("llm", "gemma3")):
        folder = save_tiny(tmp_path_factory.mktemp(family), family)
        arguments |= {
            tier: "hf", f"{tier}.pretrained": str(folder), f"{tier}.dtype": "float32",
            f"{tier}.max_length": 4096,
        }  # fmt: skip
    return arguments


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models whose weights were loaded, by their folders' names."""
    import transformers

    made: list[str] = []
    plain = transformers.AutoModelForCausalLM.from_pretrained

    def counted(pretrained: str, **options: Any) -> Any:
        made.append(Path(pretrained).name)
        return plain(pretrained, **options)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", counted)
    return made


def rows_of(folder: Path) -> list[Any]:
    """What the records say, without times."""
    _, rows = read_run(folder)
    return [
        (r.phase, r.doc_id, r.final, t.tier, t.answer.text, t.score, t.verification and
         t.verification.confidence)
        for r in rows for t in r.tiers
    ]  # fmt: skip


def test_a_run_whose_calls_are_stored_loads_no_weights(
    models: dict[str, Any], loaded: list[str], tmp_path: Path
) -> None:
    """The first run loads each model once, its repetition none, and the records are the same."""
    both = [Path(models[f"{tier}.pretrained"]).name for tier in ("slm", "llm")]
    given = models | {"store.path": str(tmp_path / "calls.sqlite")}
    for name in ("first", "again"):
        run_harness([TASK], given, tmp_path / name, limit=3, gen_kwargs="max_gen_toks=4")
        assert loaded == both
    assert rows_of(tmp_path / "first") == rows_of(tmp_path / "again")
    manifest, _ = read_run(tmp_path / "again")
    assert sum(c["made"] for c in manifest["calls"]) == 0
    assert sum(c["stored"] for c in manifest["calls"]) > 0


@pytest.mark.slow
def test_only_the_tier_that_is_asked_something_new_loads(
    models: dict[str, Any], loaded: list[str], tmp_path: Path
) -> None:
    """Another verifier asks the SLM alone; an LLM whose answers are stored stays on the disk."""
    given = models | {"store.path": str(tmp_path / "calls.sqlite"), "record": "full"}
    run_harness([TASK], given, tmp_path / "a", limit=3, gen_kwargs="max_gen_toks=4")
    loaded.clear()
    given |= {"verifier": "p_true"}
    # answers with token probabilities are calls of their own, so the SLM answers once more
    run_harness([TASK], given, tmp_path / "b", limit=3, gen_kwargs="max_gen_toks=4")
    assert loaded == [Path(models["slm.pretrained"]).name]


@pytest.mark.slow
def test_a_sweep_of_stored_calls_loads_no_weights(
    models: dict[str, Any],
    loaded: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A sweep in a process of its own, after another one made the calls, opens no model."""
    from automix_eval.commands.main import main

    monkeypatch.setattr("automix_eval.report.pictures.save_all", lambda *_: [])
    monkeypatch.chdir(tmp_path)
    line = ["run", "-m", *(f"{k}={v}" for k, v in models.items() if k != "meta_verifier"),
            "tasks=[coqa_demo]", "limit=3", "bootstrap_iters=0", "device=cpu",
            'gen_kwargs="max_gen_toks=4"', f"store.path={tmp_path / 'c.sqlite'}"]  # fmt: skip
    assert main([*line, "meta_verifier=threshold", "output=one"]) == 0
    assert len(loaded) == 2
    assert main([*line, "meta_verifier=greedy,threshold", "output=two"]) == 0
    assert len(loaded) == 2
    assert "no job made any" in capsys.readouterr().out


def backend(folder: Path, **arguments: Any) -> HFBackend:
    """A tier of a folder's model, ready for its first call."""
    made = HFBackend(pretrained=str(folder), dtype="float32", device="cpu", **arguments)
    made.load()
    return made


def facts(tier: HFBackend) -> list[Any]:
    """What prompts and the store's key take from a model."""
    lm = tier.lm
    assert isinstance(lm, MeteredHFLM)
    tokenizer = lm.tokenizer
    return [
        tier.max_length, tier.identity, tier.count_tokens("The ferry leaves at seven."),
        tier.render(Prompt("x")), lm.eot_token_id, lm.prefix_token_id, tokenizer.pad_token_id,
        lm.max_gen_toks, lm.batch_size, lm.vocab_size, tier.varies,
    ]  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "gemma3"])
@pytest.mark.parametrize("pad", [True, False])
def test_prompts_and_keys_need_no_weights(family: str, pad: bool, tmp_path: Path) -> None:
    """Window, tokens, special tokens and identity are the same before and after loading."""
    folder = save_tiny(tmp_path / "m", family)
    if not pad:
        for name in ("tokenizer_config.json", "special_tokens_map.json"):
            file = folder / name
            if file.exists():
                held = json.loads(file.read_text())
                held.pop("pad_token", None)
                file.write_text(json.dumps(held))
    tier = backend(folder)
    lm = tier.lm
    assert isinstance(lm, MeteredHFLM)
    before = facts(tier)
    assert not lm.has_weights
    tier.load_weights()
    assert lm.has_weights
    assert facts(tier) == before
    assert before[0] == 512
    assert not lm.model.training


def test_weights_go_to_the_device_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the harness moves a model once it is made, it is moved once it is loaded."""
    monkeypatch.setattr("torch.cuda.device_count", lambda: 1)
    moved: list[str] = []
    plain = LlamaForCausalLM.to

    def to(model: Any, device: Any, *more: Any, **options: Any) -> Any:
        moved.append(str(device))
        return plain(model, device, *more, **options)

    monkeypatch.setattr(LlamaForCausalLM, "to", to)
    tier = backend(save_tiny(tmp_path / "m", "llama"))
    moved.clear()
    tier.load_weights()
    assert moved[-1:] == ["cpu"]


def asked(tier: HFBackend, call: str) -> None:
    """The first call of a kind."""
    found: list[Any] = []

    def keep(_: int, result: Any) -> None:
        found.append(result)

    if call == "generate":
        tier.generate([GenerateRequest("The", {"max_gen_toks": 2, "until": []})], keep)
        assert isinstance(found[0], Generation)
    else:
        getattr(tier, call)([ScoreRequest("The", (" ferry",))], keep)
    assert len(found) == 1


@pytest.mark.parametrize("call", ["generate", "score", "loglikelihood"])
@pytest.mark.parametrize("shared", [True, False])
def test_each_kind_of_call_loads_the_weights(call: str, shared: bool, tmp_path: Path) -> None:
    """Whichever comes first, by either path."""
    tier = backend(save_tiny(tmp_path / "m", "llama"), shared_prefix=shared)
    asked(tier, call)
    assert tier.lm.has_weights


def _truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _drop(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def _lose_a_part(folder: Path) -> None:
    held = {"metadata": {}, "weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps(held))


@pytest.mark.parametrize("spoil", [_truncate, _drop, _lose_a_part])
def test_damaged_weights_are_found_before_any_call(
    spoil: Callable[[Path], None], tmp_path: Path
) -> None:
    """What is missing or cut short is an error at the start, as it was."""
    folder = save_tiny(tmp_path / "m", "llama")
    spoil(folder)
    with pytest.raises(AutoMixError, match=r"slm \(hf\) cannot be loaded"):
        backend(folder)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [({"dtype": "float99"}, "float99"), ({"extra": {"no_such_argument": 1}}, "no_such_argument")],
)
def test_bad_arguments_are_found_before_any_call(
    arguments: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    """What only the model's own class can judge is judged at the start."""
    folder = save_tiny(tmp_path / "m", "llama")
    with pytest.raises(AutoMixError, match=reason):
        HFBackend(pretrained=str(folder), device="cpu", **arguments).load()


def test_weights_that_go_away_are_an_error_of_the_tier(tmp_path: Path) -> None:
    """A folder removed between start and first call is named, and the tier may try again."""
    folder = save_tiny(tmp_path / "m", "llama")
    tier = backend(folder)
    shutil.move(folder / "model.safetensors", tmp_path / "aside")
    for _ in range(2):
        with pytest.raises(AutoMixError, match=r"cannot be loaded.*OSError"):
            asked(tier, "generate")
    shutil.move(tmp_path / "aside", folder / "model.safetensors")
    asked(tier, "generate")


HUB = """
import os, sys
from pathlib import Path
from huggingface_hub import constants
constants.HF_HUB_CACHE = os.environ["HF_HUB_CACHE"]  # as an import reads it
from automix_eval.backends.hf.backend import HFBackend
from automix_eval.types import GenerateRequest
tier = HFBackend(pretrained="org/tiny", dtype="float32", device="cpu")
tier.load()
refs = Path(sys.argv[1]) / "refs" / "main"
print(tier.lm.has_weights, tier.identity["content"])
refs.write_text("f" * 40)  # the branch moves on, to what is not here
found = []
tier.generate([GenerateRequest("The", {"max_gen_toks": 2, "until": []})],
              lambda i, g: found.append(g.generated_tokens))
print(tier.lm.has_weights, found)
"""


def test_weights_of_the_hub_wait_and_are_those_of_the_key(tmp_path: Path) -> None:
    """A model in the hub's cache is loaded later from the commit that its key names."""
    commit = "0123456789abcdef" * 2 + "01234567"
    repository = tmp_path / "hub" / "models--org--tiny"
    save_tiny(repository / "snapshots" / commit, "llama")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    script = tmp_path / "hub.py"
    script.write_text(HUB)
    own = {"HF_HUB_CACHE": str(tmp_path / "hub"), "HF_HUB_OFFLINE": "1"}
    done = forks.run([str(script), str(repository)], os.environ | own, tmp_path)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-2:] == [f"False org/tiny@{commit}", "True [2]"]


def test_weights_in_parts_wait_too(tmp_path: Path) -> None:
    """A model of several files is as good as one of one file."""
    folder = save_tiny(tmp_path / "m", "llama")
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(folder, max_shard_size="50KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    assert (folder / "model.safetensors.index.json").is_file()
    tier = backend(folder)
    assert not tier.lm.has_weights
    asked(tier, "generate")
