"""Where the tiers live is configuration: every setting reaches the harness's own class."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import save_tiny

from automix_eval.backends.hf.metered_lm import MeteredHFLM
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import GenerateRequest, Generation


@pytest.fixture
def given(monkeypatch: pytest.MonkeyPatch) -> dict[str, dict[str, Any]]:
    """What the harness's hf model is constructed with, by its ``pretrained``."""
    made: dict[str, dict[str, Any]] = {}

    def construct(_: object, **arguments: Any) -> None:
        made[arguments["pretrained"]] = arguments

    with_gpus(2, monkeypatch)
    monkeypatch.setattr(MeteredHFLM, "__init__", construct)
    return made


def with_gpus(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have torch say that there are so many."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: number > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: number)


def load(arguments: dict[str, Any], **command_line: Any) -> None:
    """Both tiers, as a run makes them."""
    pair = {"slm": "hf", "slm.pretrained": "small", "llm": "hf", "llm.pretrained": "large"}
    settings = config.build(pair | arguments)
    for name in config.tier_names(settings):
        backend = parts.make_backend(settings, name)
        backend.set_defaults(command_line)
        backend.load()


def test_two_tiers_share_a_device_unless_they_name_their_own(
    given: dict[str, dict[str, Any]],
) -> None:
    """--device holds for both; a tier's own device wins."""
    load({}, device="cuda:0")
    assert (given["small"]["device"], given["large"]["device"]) == ("cuda:0", "cuda:0")
    load({"slm.device": "cuda:1"}, device="cuda:0")
    assert (given["small"]["device"], given["large"]["device"]) == ("cuda:1", "cuda:0")


def test_a_large_tier_is_split_over_devices(given: dict[str, dict[str, Any]]) -> None:
    """parallelize, its limits of memory and a device map reach the model's class."""
    load({"llm.parallelize": True, "llm.max_memory_per_gpu": "20GiB", "slm.device": "cuda:0"})
    assert given["large"]["parallelize"] is True
    assert given["large"]["max_memory_per_gpu"] == "20GiB"
    assert "parallelize" not in given["small"]
    places = {"model.embed_tokens": 0, "model.layers": 1, "model.norm": 1, "lm_head": 1}
    load({"llm.extra": {"device_map": places}, "llm.parallelize": True})
    assert given["large"]["device_map"] == places
    assert "device_map" not in given["small"]


def test_a_chain_places_each_tier(given: dict[str, dict[str, Any]]) -> None:
    """The entries of ``tiers`` have the same settings."""
    chain = config.build(
        {
            "tiers": [
                {"option": "hf", "pretrained": "a", "device": "cuda:0"},
                {"option": "hf", "pretrained": "b", "device": "cuda:1"},
                {"option": "hf", "pretrained": "c", "parallelize": True},
            ],
            "cost.tiers": [1, 5, 50],
        }
    )
    for name in config.tier_names(chain):
        parts.make_backend(chain, name).load()
    assert [given[m].get("device") for m in "ab"] == ["cuda:0", "cuda:1"]
    assert given["c"]["parallelize"] is True


@pytest.mark.parametrize(
    "placed",
    [
        {"slm.device": "cuda:3"},
        {"slm.parallelize": True},
        {"slm.parallelize": True, "slm.extra": {"device_map": "auto"}},
    ],
)
def test_where_a_model_lives_is_no_part_of_what_it_is(placed: dict[str, Any]) -> None:
    """Calls that were made on one device are found again on another."""
    base = {"slm": "hf", "slm.pretrained": str(Path(__file__).parents[1] / "data")}
    one = parts.make_backend(config.build(base), "slm")
    assert parts.make_backend(config.build(base | placed), "slm").identity == one.identity


def test_a_device_map_is_taken_by_a_real_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Transformers is asked to place the parts so, and the tier answers as without a map."""
    from transformers import AutoModelForCausalLM

    folder = str(save_tiny(tmp_path, "llama"))
    maps, plain = [], AutoModelForCausalLM.from_pretrained

    def watched(*names: Any, **arguments: Any) -> Any:
        maps.append(arguments.get("device_map"))
        return plain(*names, **arguments)

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", watched)
    texts = []
    for placed in ({}, {"slm.parallelize": True, "slm.extra": {"device_map": {"": "cpu"}}}):
        base = {"slm": "hf", "slm.pretrained": folder, "slm.dtype": "float32"}
        backend = parts.make_backend(config.build(base | placed), "slm")
        found: dict[int, Generation] = {}
        asked = GenerateRequest("The ferry", {"max_gen_toks": 5, "until": ["zzz"]})
        backend.generate([asked], found.__setitem__)
        texts.append(found[0].text)
    assert maps[-1] == {"": "cpu"}
    assert texts[0] == texts[1]


def test_a_setting_that_the_class_does_not_know_is_refused() -> None:
    """A device map is passed on unnamed, where the harness reads it: the errors say how."""
    settings = config.build({"slm": "hf", "slm.pretrained": "x", "slm.device_map": "auto"})
    with pytest.raises(AutoMixError, match=r"slm\.extra"):
        parts.make_backend(settings, "slm")
    settings = config.build({"slm": "hf", "slm.pretrained": "x", "slm.extra": {"device_map": 0}})
    with pytest.raises(AutoMixError, match=r"slm\.parallelize=true"):
        parts.make_backend(settings, "slm")


@pytest.mark.parametrize(
    ("own", "of_all", "gpus", "said"),
    [
        ("gpu", None, 0, "gpu is no device that torch knows"),
        (None, "cuda", 0, "cuda is not there: torch sees 0 GPUs"),
        ("cuda:0", "cuda:0", 0, "cuda:0 is not there"),
        ("cuda:2", None, 2, "cuda:2 is not there: torch sees 2 GPUs: set llm.device"),
        (None, "cuda:3", 2, "cuda:3 is not there"),
    ],
)
def test_a_device_that_is_not_there_is_refused(
    own: str | None, of_all: str | None, gpus: int, said: str,
    given: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The harness's class takes another without a word, or fails once the other tier is paid."""
    with_gpus(gpus, monkeypatch)
    with pytest.raises(AutoMixError, match=said):
        load({"slm.device": "cpu"} | ({"llm.device": own} if own else {}), device=of_all)
    assert "large" not in given


def test_the_default_device_of_lm_eval_asks_for_no_gpu(
    given: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cuda:0 whether or not there is one."""
    with_gpus(0, monkeypatch)
    load({}, device="cuda:0")
    assert {"small", "large"} == given.keys()
