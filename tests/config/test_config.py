"""The configuration: every YAML composes, and mistakes are named with their remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from automix_eval.backends.harness_lm import HarnessBackend
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.paths import hydra_conf_dir
from automix_eval.safety.errors import AutoMixError

NEEDED = {
    "hf": {"pretrained": "some/model"},
    "vllm": {"pretrained": "some/model"},
    "local_completions": {"base_url": "http://127.0.0.1:9/v1/completions", "model": "m"},
    "local_chat_completions": {"base_url": "http://127.0.0.1:9/v1/chat/completions", "model": "m"},
    "harness": {"lm": "dummy"},
    "llama_cpp": {"pretrained": "some/model.gguf"},
    "openai": {"model": "m"},
    "anthropic": {"model": "m"},
    "litellm": {"model": "provider/m"},
    "sglang": {"pretrained": "some/model"},
}
OPTIONS = [(group, option) for group in config.GROUPS for option in config.options(group)]


def arguments(group: str, option: str) -> dict[str, Any]:
    """What an option needs to be complete."""
    needed = NEEDED.get(option, {}) if group in config.TIERS else {}
    return {group: option, **{f"{group}.{k}": v for k, v in needed.items()}}


@pytest.mark.parametrize(("group", "option"), OPTIONS)
def test_every_option_composes_and_instantiates(group: str, option: str) -> None:
    """Each YAML file is a working part of the whole configuration."""
    made = config.build(arguments(group, option))
    assert config.name_of(made, group) == option
    if group == "calibration":
        assert made.calibration.num_docs > 0
    elif group in config.TIERS:
        backend = parts.make_backend(made, group)
        assert isinstance(backend, HarnessBackend)
        assert backend.tier == group
    elif (group, option) in (("cost", "tokens"), ("cost", "flops")):
        with pytest.raises(AutoMixError, match=r"cost\.p"):
            parts.make_cost(made).check(2)
    else:
        maker = {
            "verifier": parts.make_verifier,
            "meta_verifier": parts.make_meta_verifier,
            "calibrator": parts.make_meta_verifier,
            "cost": parts.make_cost,
        }[group]
        assert maker(made) is not None


def test_tiers_offer_the_same_models() -> None:
    """Every tier option serves as SLM and as LLM."""
    shared = sorted(p.stem for p in (hydra_conf_dir() / "tier").glob("*.yaml"))
    assert config.options("slm") == config.options("llm") == shared


def test_every_yaml_says_what_it_is() -> None:
    """A reader of the folder finds a comment on top of each option."""
    for group in ("tier", "verifier", "meta_verifier", "cost", "calibration"):
        for path in (hydra_conf_dir() / group).glob("*.yaml"):
            assert path.read_text().startswith("# "), path


def test_defaults_are_the_embedded_pair() -> None:
    """Without arguments the cascade is complete."""
    made = config.build({})
    assert made.slm.embedded
    assert made.llm.embedded


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"verifer": "margin"}, "verifier"),
        ({"verifier": "few_shots"}, "few_shot"),
        ({"verifier": "few_shot", "verifier.num_sample": 4}, "verifier.num_samples"),
        ({"meta_verifier": "pomdps"}, "pomdp"),
        ({"calibration.num_doc": 3}, "calibration.num_docs"),
        ({"slm": "huggingface"}, "hf"),
        ({"recrod": "full"}, "record"),
        ({"slm": {"option": "hf", "pretrainde": "x", "pretrained": "y"}}, "slm.pretrained"),
        ({"slm.pretrained": "gpt2"}, "slm=hf"),
        ({"slm": "harness", "slm.lm": "vlm"}, "vllm"),
        ({"slm": "hf"}, "slm.pretrained"),
        ({"record": "all"}, "routed or full"),
        ({"calibration.num_docs": 0}, "calibration.num_docs"),
        ({"calibration.num_docs": "many"}, "calibration.num_docs"),
        ({"verifier": "few_shot", "verifier.num_samples": 0}, "verifier.num_samples"),
        ({"slm._target_": "os.system"}, "may not be set"),
        ({"verifier": {"_target_": "os.system"}}, "may not be set"),
        ({"config": "/nowhere.yaml"}, "/nowhere.yaml"),
        ({"budget": 5}, "budget.max_cost, "),
        ({"store": "calls.db"}, "store.path"),
        ({"cost": {"tiers": {"slm": 1, "llm": 50}}}, "cost.tiers is a list"),
        ({"meta_verifier": "knn", "meta_verifier.signals": {"a": 1}}, "signals is a list"),
        ({"meta_verifier": "always_tier", "meta_verifier.tier": 2}, "of 2 tiers: 0 to 1"),
        ({"meta_verifier": "oracle"}, "a live run does not know"),
    ],
)
def test_a_mistake_is_refused_with_the_nearest_name(given: dict[str, Any], named: str) -> None:
    """No unknown key or option is taken silently."""

    def make() -> None:
        made = config.build(given)
        parts.make_verifier(made)
        parts.live_meta_verifier(made)
        for tier in config.TIERS:
            parts.make_backend(made, tier)

    with pytest.raises(AutoMixError) as caught:
        make()
    assert named in str(caught.value)


def test_flat_nested_and_file_forms_agree(tmp_path: Path) -> None:
    """Dotted keys, nested JSON and a YAML file say the same."""
    flat = {"slm": "hf", "slm.pretrained": "a/b", "verifier": "few_shot", "verifier.num_samples": 3}
    nested = {
        "slm": {"option": "hf", "pretrained": "a/b"},
        "verifier": {"option": "few_shot", "num_samples": 3},
    }
    file = tmp_path / "my.yaml"
    file.write_text(
        yaml.safe_dump(
            {"defaults": [{"slm": "hf"}], "slm.pretrained": "a/b"}
            | {"verifier": {"option": "few_shot", "num_samples": 9}}
        )
    )
    from_file = {"config": str(file), "verifier.num_samples": 3}
    made = [config.shown(config.build(a)) for a in (flat, nested, from_file)]
    assert made[0] == made[1] == made[2]


def test_dashes_in_option_names_are_forgiven() -> None:
    """The harness writes local-completions, the folder local_completions."""
    given = arguments("llm", "local_completions") | {"llm": "local-completions"}
    assert config.name_of(config.build(given), "llm") == "local_completions"


def test_white_space_around_an_option_is_forgiven() -> None:
    """As after the commas of a list of options."""
    spaced = config.build({"slm": "hf", " slm.pretrained": "m", " verifier ": "p_true"})
    assert spaced == config.build({"slm": "hf", "slm.pretrained": "m", "verifier": "p_true"})


def test_secrets_never_reach_the_shown_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens, headers and credentials in a URL are blanked."""
    url = "http://user:hunter2@127.0.0.1:9/v1/completions?api_key=hunter2"
    monkeypatch.setenv("SERVER", url)
    monkeypatch.setenv("WORD", "hunter2")
    given = {"llm.base_url": "${oc.env:SERVER}", "llm.auth_token": "${oc.env:WORD}"}
    made = config.build(arguments("llm", "local_completions") | given)
    assert made.llm.auth_token == "hunter2"
    assert "hunter2" not in str(config.shown(made))
    assert "hunter2" not in str(parts.make_backend(made, "llm").identity)


def test_building_inside_a_hydra_application_leaves_it_alone() -> None:
    """Composing ours does not disturb a Hydra that is already initialised."""
    from hydra import initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    with initialize_config_dir(str(hydra_conf_dir()), version_base="1.3"):
        config.build({})
        assert GlobalHydra.instance().is_initialized()


REWARD = {
    "keep": {"fixed": [0, 0, -1], "per_r": [-1, 0, -1]},
    "escalate": {"fixed": [-100, -100, -100], "per_r": [0, 0, -1]},
}


def test_a_table_of_rewards_is_a_value() -> None:
    """A mapping below a group's key is handed over whole, from a nested form as well."""
    for given in (
        {"meta_verifier": {"option": "pomdp", "reward": REWARD}},
        {"meta_verifier.reward": REWARD},
    ):
        made = config.build(given)
        assert parts.parameters(made, "meta_verifier")["reward"] == REWARD
        assert parts.make_meta_verifier(made).reward == REWARD  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "given",
    [
        {"meta_verifier.reward": {"_target_": "os.getcwd"}},
        {"meta_verifier.reward": {"keep": {"fixed": [{"_target_": "os.getcwd"}]}}},
        {"slm": {"extra": {"_target_": "os.getcwd"}}},
        {"slm.extra": {"a": {"_target_": "os.getcwd"}}},
        {"cost": {"option": "tokens", "prices": [{"_target_": "os.getcwd"}]}},
        {"tiers": ["gemma3", {"option": "hf", "extra": {"_args_": []}}]},
        {
            "verifier": "ensemble",
            "verifier.members": [{"option": "margin", "statistic": {"_target_": "os.getcwd"}}],
        },
    ],
)
def test_no_value_at_any_depth_chooses_code(given: dict[str, Any]) -> None:
    """What is instantiated stands in hydra_conf/, never in an argument, however deep."""
    with pytest.raises(config.ConfigError, match="may not be set: what code runs"):
        config.build(given)
