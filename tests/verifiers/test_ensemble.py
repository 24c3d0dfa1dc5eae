"""Several verifiers at once: names and signals of the members."""

from __future__ import annotations

from typing import Any

import pytest
from test_verifiers import FakeAsk, answer, question

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer
from automix_eval.verifiers.ensemble import Ensemble
from automix_eval.verifiers.few_shot import FewShot
from automix_eval.verifiers.margin import Margin
from automix_eval.verifiers.token_profile import TokenProfile


def members(*entries: Any) -> list[str]:
    """The names that these entries of verifier.members get."""
    return list(
        config.build({"verifier": "ensemble", "verifier.members": list(entries)}).verifier.members
    )


def test_a_verifier_twice_is_told_apart_by_its_settings() -> None:
    """Two statistics of one verifier need no names made by hand."""
    found = members(
        "margin",
        {"option": "margin", "statistic": "min_probability"},
        {"option": "few_shot", "num_samples": 4},
        {"option": "few_shot", "num_samples": 8, "name": "more"},
        {"option": "consistency", "num_samples": 0, "second": "smollm2"},
        {"option": "consistency", "second": {"option": "hf", "pretrained": "own"}},
    )
    named = ["margin", "margin_min_probability", "few_shot", "more", "consistency"]
    assert found == [*named, "consistency_hf_own"]


@pytest.mark.parametrize(
    "entries",
    [
        ("margin", "margin"),
        ("margin", *[{"option": "margin", "statistic": "first_margin"}] * 2),
        ({"option": "margin", "name": "a"}, {"option": "p_true", "name": "a"}),
    ],
)
def test_the_same_member_twice_is_refused(entries: tuple[Any, ...]) -> None:
    """Equal settings say nothing new, and a name is given once."""
    with pytest.raises(config.ConfigError, match="twice"):
        members(*entries)


def test_members_with_signals_hand_them_on() -> None:
    """What a member knows more than its confidence reaches the calibrator by its name."""
    made = Ensemble({"margin": Margin(), "profile": TokenProfile()}, answer_length=False)
    (found,) = made.verify([question()], [answer("pier")], FakeAsk())
    assert found.signals["profile_min_probability"] == pytest.approx(found.signals["margin"])
    assert {"margin", "profile", "profile_first_margin"} <= set(found.signals)


def test_one_calibrator_serves_all_members() -> None:
    """Members that would bring a calibrator of their own are made without it."""
    made = config.build({"verifier": "ensemble", "verifier.members": ["auto", "token_profile"]})
    assert list(parts.make_verifier(made).identity["members"]) == ["auto", "token_profile"]
    assert config.name_of(made, "calibrator") == "logistic"


def test_a_dear_member_is_asked_only_what_the_free_one_leaves_open() -> None:
    """Answers that the first member is sure of, either way, cost no call, and that is counted."""
    made = Ensemble(
        {"margin": Margin(), "few_shot": FewShot(num_samples=4)}, only_if_open=[0.2, 0.95]
    )
    sure = Answer(0, "barn", token_logprobs=(-9.0,), token_margins=(0.1,))
    answers = [answer("pier"), sure, answer("old pier"), Answer(0, " ")]
    found = made.verify([question()] * 4, answers, FakeAsk())
    assert [len(v.calls) for v in found] == [4, 0, 0, 0]
    assert [v.saved_samples for v in found] == [0, 4, 4, 0]
    assert "few_shot" in found[0].signals
    assert "few_shot" not in found[1].signals
    assert found[1].confidence == found[1].signals["margin"]
    assert found[3].outcome == "empty_answer"


def test_without_bounds_every_member_is_asked() -> None:
    """only_if_open=null is the ensemble as it was, its identity too."""
    made = Ensemble({"margin": Margin(), "few_shot": FewShot(num_samples=2)})
    (found,) = made.verify([question()], [answer("barn")], FakeAsk())
    assert (len(found.calls), found.saved_samples) == (2, 0)
    assert "only_if_open" not in made.identity


@pytest.mark.parametrize("bounds", [[0.5], [0.6, 0.5], [-0.1, 1], [0, 2], "ab", 0.5, [True, 1]])
def test_bounds_that_are_none_are_refused(bounds: Any) -> None:
    """Two confidences in order, or nothing."""
    with pytest.raises(AutoMixError, match="only_if_open"):
        Ensemble({"margin": Margin()}, only_if_open=bounds)
