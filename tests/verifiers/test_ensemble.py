"""Several verifiers at once: names and signals of the members."""

from __future__ import annotations

from typing import Any

import pytest
from test_verifiers import FakeAsk, answer, question

from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.verifiers.ensemble import Ensemble
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
    )
    assert found == ["margin", "margin_min_probability", "few_shot", "more"]


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
