"""AUROC of a verifier's confidence."""

from __future__ import annotations

import math
from itertools import product

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from automix_eval.metrics.calibration import are_right, auroc
from automix_eval.metrics.ibc import Undefined


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=40))
def test_is_the_chance_of_a_right_order(rows: list[tuple[int, bool]]) -> None:
    """AUROC is the share of (correct, incorrect) pairs in the right order, ties counting half."""
    right = [c / 8 for c, correct in rows if correct]
    wrong = [c / 8 for c, correct in rows if not correct]
    assume(right and wrong)
    pairs = [1.0 if r > w else 0.5 if r == w else 0.0 for r, w in product(right, wrong)]
    value = auroc([c / 8 for c, _ in rows], [correct for _, correct in rows])
    assert value == pytest.approx(sum(pairs) / len(pairs))


def test_constant_confidence_is_chance() -> None:
    """A verifier that says the same of every answer has an AUROC of one half."""
    assert auroc([0.0] * 4, [True, False, False, True]) == 0.5


@pytest.mark.parametrize(
    ("confidences", "correct", "words"),
    [
        ([], [], "not 0"),
        ([0.5], [True], "not 1"),
        ([0.1, 0.9], [True, True], "all"),
        ([0.1, 0.9], [False, False], "none"),
    ],
)
def test_undefined_with_its_reason(
    confidences: list[float], correct: list[bool], words: str
) -> None:
    """With one class, or fewer than two answers, there is a reason instead of a number."""
    value = auroc(confidences, correct)
    assert isinstance(value, Undefined)
    assert words in value.reason


@pytest.mark.parametrize(
    ("confidences", "correct"), [([0.5], [True, False]), ([0.5, math.nan], [True, False])]
)
def test_wrong_inputs_raise(confidences: list[float], correct: list[bool]) -> None:
    """Lists of unequal length and undefined confidences are mistakes of the caller."""
    with pytest.raises(ValueError, match=r"equal length|finite"):
        auroc(confidences, correct)


def test_correct_is_above_one_half() -> None:
    """A score of exactly 0.5 is not correct; scores that leave [0, 1] have a scale."""
    right = [False, False, True, True]
    assert are_right([0.0, 0.5, 0.51, 1.0]).tolist() == right
    assert are_right([0.0, 50, 51, 100]).tolist() == right
    assert are_right([-1.0, -0.5, -0.49, 0.0]).tolist() == right
    assert are_right([[0.2, math.nan], [0.6, 0.0]]).tolist() == [[False, False], [True, False]]
