"""Laws of token F1 and exact match."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.metrics.answers import each_token_f1, exact_match, normalize_answer, token_f1

TEXTS = st.text(alphabet="abthe AB,.!12 \n", max_size=20)
REFERENCES = st.lists(TEXTS, min_size=1, max_size=4)


@given(TEXTS)
def test_normalising_is_idempotent(text: str) -> None:
    """A normalised text stays as it is."""
    assert normalize_answer(normalize_answer(text)) == normalize_answer(text)


@given(TEXTS, REFERENCES)
def test_scores_lie_in_the_unit_interval_and_exact_match_never_exceeds_f1(
    prediction: str, references: list[str]
) -> None:
    """0 <= exact match <= F1 <= 1."""
    em, f1 = exact_match(prediction, references), token_f1(prediction, references)
    assert 0.0 <= em <= f1 <= 1.0


@given(TEXTS, TEXTS)
def test_f1_is_symmetric(first: str, second: str) -> None:
    """Prediction and reference may be exchanged."""
    assert token_f1(first, [second]) == token_f1(second, [first])


@given(TEXTS, REFERENCES)
def test_a_reference_scores_one_and_more_references_never_lower_a_score(
    prediction: str, references: list[str]
) -> None:
    """The score is the maximum over the references."""
    assert token_f1(prediction, [*references, prediction]) == 1.0
    singles = [token_f1(prediction, [reference]) for reference in references]
    assert token_f1(prediction, references) == max(singles)


@given(TEXTS, TEXTS)
def test_case_articles_punctuation_and_white_space_do_not_matter(
    prediction: str, reference: str
) -> None:
    """What normalising drops changes no score."""
    noisy = f"  The {prediction.upper()} !"
    assert token_f1(noisy, [reference]) == token_f1(prediction, [reference])
    assert exact_match(noisy, [reference]) == exact_match(prediction, [reference])


@pytest.mark.parametrize(
    ("prediction", "reference", "expected"),
    [
        ("", "", 1.0),
        ("the", "a.", 1.0),
        ("", "red", 0.0),
        ("red", "", 0.0),
        ("a red hen", "the red fox", 0.5),
        ("red red hen", "red fox", 2 * 1 / 5),
        ("red red", "red red fox", 2 * 2 / 5),
        ("in the old red barn", "red barn", 2 * 2 / 6),
        ("An apple", "apple", 1.0),
        ("a.m.", "am", 1.0),  # no article is left of it: punctuation goes first
        ("the-red barn", "thered barn", 1.0),
    ],
)
def test_known_values(prediction: str, reference: str, expected: float) -> None:
    """F1 is 2 |P n R| / (|P| + |R|) over bags, with the empty cases fixed."""
    assert token_f1(prediction, [reference]) == pytest.approx(expected, rel=1e-12)


words = st.lists(st.sampled_from(["red", "hen", "barn"])).map(" ".join)


@given(words, st.lists(words, min_size=1, max_size=3))
def test_f1_is_that_of_the_intersection_of_bags(prediction: str, references: list[str]) -> None:
    """By the definition, for each reference; the score is the best of them."""

    def by_definition(reference: str) -> float:
        bags = Counter(prediction.split()), Counter(reference.split())
        sizes = bags[0].total() + bags[1].total()
        return 2 * (bags[0] & bags[1]).total() / sizes if sizes else 1.0

    expected = [by_definition(one) for one in references]
    assert each_token_f1(prediction, references) == expected
    assert token_f1(prediction, references) == max(expected)


@given(TEXTS, REFERENCES)
def test_nothing_against_nothing_scores_what_the_task_s_own_script_says(
    prediction: str, references: list[str]
) -> None:
    """SQuAD 1.1 and Qasper: no token in common is 0.0; what has tokens scores the same."""
    scores = each_token_f1(prediction, references, both_empty=0.0)
    for score, one, reference in zip(
        scores, each_token_f1(prediction, references), references, strict=True
    ):
        nothing = not normalize_answer(prediction) and not normalize_answer(reference)
        assert (score, one) == (0.0, 1.0) if nothing else score == one
    assert token_f1(prediction, references, both_empty=0.0) == max(scores)


def test_no_reference_is_an_error() -> None:
    """An answer cannot be scored against nothing, nor against the letters of one text."""
    for score in (token_f1, exact_match):
        with pytest.raises(ValueError, match="without a reference"):
            score("red", [])
        with pytest.raises(ValueError, match="must be a list"):
            score("red", "red")
