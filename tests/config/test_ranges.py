"""What help and documentation say of a key's range is what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest

from automix_eval.config import compose as config
from automix_eval.config import described, parts
from automix_eval.config.described import Setting
from automix_eval.config.run_settings import harness_settings
from automix_eval.safety.errors import AutoMixError

HARNESS = {s.key for s in described.of_file("evaluation")}
GROUPS = ("verifier", "calibrator", "meta_verifier", "cost", "calibration")


def outside(setting: Setting) -> list[Any]:
    """Values just outside what the kind allows; none where it names no bound."""
    if found := re.search(r"(integer|number) (>=|>) (\S+)$", setting.kind):
        least = float(found[3])
        if found[1] == "integer":
            return [int(least) - 1, int(least) + 0.5]
        return [least - 0.5 if found[2] == ">=" else least]
    if found := re.search(r"number in ([\[(])(\S+), (\S+)([\])])$", setting.kind):
        low, high = float(found[2]), float(found[3])
        return [low - 0.1 * (found[1] == "["), high + 0.1 * (found[4] == "]")]
    words = setting.choices and not re.search("number|list|mapping|text", setting.kind)
    return ["no_such_word"] if words else []


def check(given: dict[str, Any]) -> None:
    """What a run checks before it loads a model."""
    if set(given) <= HARNESS:
        harness_settings({"tasks": ["coqa"], **given})
        return
    made = config.build(given)
    parts.make_verifier(made)
    parts.make_meta_verifier(made)
    parts.make_cost(made)
    parts.make_budget(made)


def bounded() -> list[Any]:
    """Every key with a bound, with a value outside it and the option that has the key."""
    found = [({}, s) for name in ("config", "evaluation") for s in described.of_file(name)]
    for group in GROUPS:
        for option in described.options(group):
            found += [({group: option}, s) for s in described.of_option(group, option)]
    return [
        pytest.param(chosen, s.key, value, id=f"{'-'.join(chosen.values())} {s.key}={value}")
        for chosen, s in found
        for value in outside(s)
    ]


@pytest.mark.slow
@pytest.mark.parametrize(("chosen", "key", "value"), bounded())
def test_a_value_outside_its_range_is_refused(chosen: dict[str, str], key: str, value: Any) -> None:
    """Before the first model call, by an error of ours."""
    # the rule is made where it has an answer
    more = {"fixed_answer.answers": ["unanswerable"]} if key == "fixed_answer.to" else {}
    with pytest.raises(AutoMixError):
        check({**chosen, **more, key: value})


def test_many_keys_have_a_bound() -> None:
    """The kinds are understood, so that the test above tests something."""
    assert len(bounded()) > 100
