"""Laws and traps of reading an option or a label from an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.metrics.answers import (
    gold_label,
    gold_option,
    option_letter,
    parse_label,
    parse_letter,
)

LABELS = ("Entailment", "Contradiction", "Not mentioned")
OPTIONS = ["a silver bell", "her brother's coat", "nothing at all", "All of them"]
INDEX = st.integers(0, 3)
WORD = st.text(alphabet="abcdefghijklmnopqrstuvwxyz", min_size=2, max_size=8)
FORMS = [
    "{0}",
    "({0})",
    "{0}.",
    "{0})",
    "{0}:",
    "{0}) {1}",
    "{0}: {1}",
    "{0}. {1}",
    "({0}) {1}",
    "{0} {1}",
    "Answer: {0}",
    "Answer: ({0}) {1}",
    "The answer is ({0}).",
    "The correct answer is {0}.",
    "**{0}**",
    ' "{0}" ',
    "{1}",
    "  {1}. ",
]


@given(INDEX, st.sampled_from(FORMS))
def test_every_accepted_form_names_its_option(index: int, form: str) -> None:
    """A label, an option's text, or both name the option."""
    answer = form.format(option_letter(index), OPTIONS[index])
    assert parse_letter(answer, OPTIONS) == index


@given(st.text(max_size=40), st.lists(st.text(max_size=10), min_size=2, max_size=4))
def test_a_parsed_option_is_an_index_of_the_options(answer: str, options: list[str]) -> None:
    """Any answer gives None or a valid index, never an error."""
    parsed = parse_letter(answer, options)
    assert parsed is None or 0 <= parsed < len(options)


@given(
    INDEX, INDEX, st.sampled_from(["{} or {}", "({}) and ({})", "{}, {}", "{}. Not {}", "{}/{}"])
)
def test_two_different_labels_name_nothing(first: int, second: int, form: str) -> None:
    """An answer that hedges between two options is None."""
    if first != second:
        answer = form.format(option_letter(first), option_letter(second))
        assert parse_letter(answer, OPTIONS) is None


@given(INDEX, INDEX)
def test_a_label_with_another_options_text_names_nothing(label: int, text: int) -> None:
    """Label and text must agree."""
    expected = label if label == text else None
    assert parse_letter(f"{option_letter(label)}) {OPTIONS[text]}", OPTIONS) == expected


@given(INDEX, st.permutations(OPTIONS))
def test_an_options_text_follows_the_option_when_the_order_changes(
    index: int, options: list[str]
) -> None:
    """Parsing by text does not depend on the options' order."""
    assert parse_letter(OPTIONS[index], options) == options.index(OPTIONS[index])


@given(st.sampled_from("ABCD"), WORD)
def test_words_that_begin_with_a_letter_are_no_label(letter: str, tail: str) -> None:
    """A word is not read as its first letter."""
    assert parse_letter(letter + tail, ["1", "2", "3", "4"]) is None


@pytest.mark.parametrize(
    ("answer", "options", "expected"),
    [
        ("All of them", ["one", "two", "three", "four"], None),
        ("All of them", ["one", "two", "three", "All of them"], 3),
        ("Definitely", ["one", "two", "three", "four"], None),
        ("Because he was late", ["one", "two", "three", "four"], None),
        ("A new job", ["an old one", "two", "three", "four"], None),
        ("A new job", ["new job", "two", "three", "four"], 0),
        ("A new job", ["one", "two", "a new job", "four"], 2),
        ("B) A new job", ["one", "A new job", "three", "four"], 1),
        ("B. A man came late", ["one", "two", "three", "four"], 1),
        ("B because of the rain", ["one", "two", "three", "four"], None),
        ("b", ["one", "two", "three", "four"], 1),
        ("E", ["one", "two", "three", "four"], None),
        ("(E)", ["one", "two", "three", "four"], None),
        ("A.M.", ["one", "two", "three", "four"], None),
        ("D. H. Lawrence", ["one", "two", "three", "four"], None),
        ("D. H. Lawrence", ["one", "D. H. Lawrence", "three", "four"], 1),
        ("D. H. Lawrence", ["one", "two", "three", "H. Lawrence"], 3),
        ("A", ["B", "C", "A", "D"], None),
        ("-5", ["5", "-5", "0", "1"], 1),
        ("same", ["same", "Same", "x", "y"], None),
        ("What?!", ["What?!", "x", "y", "z"], 0),
        ("", ["one", "two", "three", "four"], None),
        ("", ["", "two", "three", "four"], None),
        ("...", ["one", "two", "three", "four"], None),
        ("The answer is unclear.", ["one", "two", "three", "four"], None),
    ],
)
def test_traps_of_option_parsing(answer: str, options: list[str], expected: int | None) -> None:
    """What a lax parser reads wrongly is read strictly."""
    assert parse_letter(answer, options) == expected


@given(
    st.sampled_from(LABELS),
    st.sampled_from(["{}", "{}.", '"{}"', "({})", " {} ", "{}: because it says so", "- {}"]),
    st.sampled_from([str.lower, str.upper, str.title]),
)
def test_an_answer_that_begins_with_one_label_names_it(label: str, form: str, case: object) -> None:
    """Case, quotes and punctuation around a label do not matter."""
    assert callable(case)
    assert parse_label(form.format(case(label)), LABELS) == label


@given(st.permutations(LABELS), st.sampled_from(["{} or {}", "{}, not {}", "{}. {}"]))
def test_two_labels_name_nothing(labels: list[str], form: str) -> None:
    """An answer with a second label anywhere is None."""
    assert parse_label(form.format(labels[0], labels[1]), LABELS) is None


@given(st.text(max_size=40))
def test_a_parsed_label_is_one_of_the_labels(answer: str) -> None:
    """Any answer gives None or a label, never an error."""
    parsed = parse_label(answer, LABELS)
    assert parsed is None or parsed in LABELS


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("", None),
        ("Not  mentioned", "Not mentioned"),
        ("Not\tmentioned here", "Not mentioned"),
        ("Not entailment", None),
        ("It is Entailment", None),
        ("Entailments", None),
        ("Noncontradiction", None),
        ("Not", None),
        ("mentioned", None),
        ("Neutral", None),
    ],
)
def test_traps_of_label_parsing(answer: str, expected: str | None) -> None:
    """A label counts only as whole words at the start."""
    assert parse_label(answer, LABELS) == expected


@pytest.mark.parametrize("gold", [None, -1, 4, 1.0, "B", True])
def test_an_unusable_gold_option_is_an_error(gold: object) -> None:
    """A gold option that is no index of the options raises, so None never equals None."""
    assert [gold_option(i, OPTIONS) for i in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="gold option"):
        gold_option(gold, OPTIONS)


def test_an_unusable_gold_label_is_an_error() -> None:
    """A gold label outside the set raises, and one inside is spelled canonically."""
    assert gold_label("not  mentioned", LABELS) == "Not mentioned"
    with pytest.raises(ValueError, match="none of Entailment"):
        gold_label("Neutral", LABELS)


def test_letters_end_at_z() -> None:
    """An index without a letter is an error."""
    assert [option_letter(0), option_letter(25)] == ["A", "Z"]
    with pytest.raises(ValueError, match=r"0\.\.25"):
        option_letter(26)
