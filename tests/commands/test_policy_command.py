"""``automix-eval policy``: a policy file in words, and files that are no policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from router_records import GRID, TYPICAL, columns, pair_records

from automix_eval.commands.main import main
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.records import policies as policy
from automix_eval.safety.errors import AutoMixError


def fitted(name: str, **params: Any) -> dict[str, Any]:
    """A policy fitted on a typical set of questions."""
    made = config.build({"meta_verifier": name, **params})
    router = parts.make_meta_verifier(made).fit(columns(pair_records(TYPICAL)))
    about = {"task": "toy", "tiers": [{"label": "small"}, {"label": "large"}], "split": "train"}
    return policy.make(name, parts.router_parameters(made), router.get_learned(), about)


def shown(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """What the command prints of a file that it accepts."""
    assert main(["policy", str(path)]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize("name", ["threshold", "pomdp", "self_consistency"])
def test_a_policy_says_what_it_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Router, hyper-parameters, what it was fitted on, and the router's own description."""
    held = fitted(name)
    policy.save(tmp_path / "p.json", held)
    text = shown(tmp_path / "p.json", capsys)
    assert f"meta-verifier: {name}" in text
    assert "tiers: small, large" in text
    assert parts.restore(held).describe().splitlines()[-1].strip() in text


def test_the_hidden_states_are_visible(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The three states of the paper's router are printed by name."""
    policy.save(tmp_path / "p.json", fitted("pomdp"))
    text = shown(tmp_path / "p.json", capsys).lower()
    assert all(state in text for state in ("simple", "complex", "unsolvable"))


def test_a_result_of_a_replay_holds_a_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command reads the policy inside a replay's output."""
    (tmp_path / "out.json").write_text(json.dumps({"curve": [], "policy": fitted("threshold")}))
    assert "meta-verifier: threshold" in shown(tmp_path / "out.json", capsys)


def test_a_calibrator_is_restored_with_its_router() -> None:
    """A policy behind a calibrator gives the same learned values back."""
    held = fitted("threshold", calibrator="logistic")
    assert parts.restore(held).get_learned() == held["learned"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"format": "other"}, "not a policy"),
        ({"version": 99}, "99"),
        ({"meta_verifier": {"name": "os.system"}}, "unknown"),
        ({"meta_verifier": {"name": "../threshold"}}, "unknown"),
        ({"meta_verifier": {"name": "threshold", "_target_": "os.system"}}, "may not be set"),
        ({"meta_verifier": {"name": "threshold", "undefined": "${oc.env:HOME}"}}, "refer"),
        ({"meta_verifier": {"name": "threshold", "calibrator": "logistic"}}, "calibrator"),
        ({"meta_verifier": {"name": "threshold", "undefined": "maybe"}}, "undefined"),
        ({"learned": {"nonsense": 2}}, "threshold"),
        ({"fitted_on": None}, "lacks"),
    ],
)
def test_a_file_that_is_no_sound_policy_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], problem: str
) -> None:
    """A wrong schema, code by name, and values out of range are errors of one line."""
    held = {**fitted("threshold"), **change}
    del held["sha256"]
    held["sha256"] = policy._digest(held)
    (tmp_path / "p.json").write_text(json.dumps(held))
    assert main(["policy", str(tmp_path / "p.json")]) == 2
    assert problem in capsys.readouterr().err


def test_a_policy_changed_by_hand_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The hash of a file holds its values together."""
    held = fitted("threshold")
    held["fitted_on"]["split"] = "test"
    (tmp_path / "p.json").write_text(json.dumps(held))
    assert main(["policy", str(tmp_path / "p.json")]) == 2
    assert "changed after" in capsys.readouterr().err


def test_texts_of_a_policy_are_made_printable(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file that others wrote cannot move the reader's cursor."""
    held = fitted("threshold")
    about = {**held["fitted_on"], "task": "a\x1b[31mb\nc"}
    policy.save(
        tmp_path / "p.json",
        policy.make("threshold", {}, held["learned"], about),
    )
    text = shown(tmp_path / "p.json", capsys)
    assert "\x1b" not in text
    assert "task: a[31mb c" in text


def test_a_policy_of_another_reward_table_is_restored(tmp_path: Path) -> None:
    """Hyper-parameters that are tables come back from a policy; one that names code does not."""
    reward = {
        "keep": {"fixed": [0, 0, -1], "per_r": [-1, 0, -1]},
        "escalate": {"fixed": [-100, -100, -100], "per_r": [0, 0, -1]},
    }
    router = parts.make_meta_verifier(config.build({"meta_verifier.reward": reward}))
    router.fit(columns(pair_records(TYPICAL)))
    values = parts.router_parameters(config.build({"meta_verifier.reward": reward}))
    made = policy.make("pomdp", values, router.get_learned(), {"tiers": []})
    policy.save(tmp_path / "p.json", made)
    restored = parts.restore(policy.load(tmp_path / "p.json"))
    assert restored.decide(GRID) == router.decide(GRID)
    bad = policy.make("pomdp", values | {"reward": {"_target_": "os.getcwd"}}, {}, {})
    with pytest.raises(AutoMixError, match="may not be set"):
        parts.restore(bad)
