"""Token F1 and exact match of free-form answers, and strict reading of those that name an option.

Source of the former: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of
Text" (arXiv 1606.05250), section 6.1 and its official evaluation script.

An answer that names no option, or more than one, is None, and None is never correct: the caller
compares with a gold option that :func:`gold_option` or :func:`gold_label` has vouched for.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

__all__ = [
    "each_exact_match",
    "each_token_f1",
    "exact_match",
    "gold_label",
    "gold_option",
    "normalize_answer",
    "option_letter",
    "parse_label",
    "parse_letter",
    "token_f1",
]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(maxsize=1024)  # references return with every tier and metric
def normalize_answer(text: str) -> str:
    """Lower-case; drop ASCII punctuation, English articles and extra white space, in that order.

    Source: Rajpurkar et al. 2016, official evaluation script.
    """
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def token_f1(prediction: str, references: Sequence[str], *, both_empty: float = 1.0) -> float:
    """Harmonic mean of token precision and recall, the maximum over the references.

    With bags of normalised tokens P and R: F1 = 2 |P n R| / (|P| + |R|), 0.0 where one is empty.
    Source: Rajpurkar et al. 2016.

    Args:
        prediction: The answer.
        references: At least one.
        both_empty: The score where nothing is left of either: 1.0 by the scripts of SQuAD 2.0 and
            CoQA; 0.0 by those of SQuAD 1.1 and Qasper, which score no token in common so.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: There is no reference.
    """
    return max(each_token_f1(prediction, references, both_empty=both_empty))


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 if the normalised prediction equals a normalised reference, else 0.0.

    Source: Rajpurkar et al. 2016.

    Raises:
        ValueError: There is no reference.
    """
    return max(each_exact_match(prediction, references))


def each_token_f1(
    prediction: str, references: Sequence[str], *, both_empty: float = 1.0
) -> list[float]:
    """:func:`token_f1` against each of the references alone, in their order."""
    normalised, expected = _normalised(prediction, references)
    return [_pair_f1(normalised, one) if normalised or one else both_empty for one in expected]


def each_exact_match(prediction: str, references: Sequence[str]) -> list[float]:
    """:func:`exact_match` against each of the references alone, in their order."""
    normalised, expected = _normalised(prediction, references)
    return [float(normalised == one) for one in expected]


def _normalised(prediction: str, references: Sequence[str]) -> tuple[str, list[str]]:
    if not references:
        raise ValueError("an answer cannot be scored without a reference")
    if isinstance(references, str):  # a str is a sequence of one-letter references
        raise ValueError("references must be a list of texts, not one text")
    return normalize_answer(prediction), [normalize_answer(one) for one in references]


def _pair_f1(prediction: str, reference: str) -> float:
    if prediction == reference:
        return 1.0
    predicted, expected = prediction.split(), reference.split()
    left = Counter(expected)
    shared = 0
    for word in predicted:  # an intersection of two bags makes a third
        if left.get(word):
            left[word] -= 1
            shared += 1
    return 2 * shared / (len(predicted) + len(expected))


# Quotes (straight and typographic), Markdown emphasis and white space around an answer.
_WRAPPING = " \t\r\n\"'\u2018\u2019\u201c\u201d`*_"
_LEAD = re.compile(
    r"(?:(?:the\s+)?(?:(?:correct|right|best)\s+)?(?:answer|option|choice)\b"
    r"(?:\s+is)?\s*:?\s*)?",
    re.IGNORECASE,
)
# A stop must end a word: "A.M." names nothing.
_MARKED = re.compile(r"\(([A-Za-z])\)[.:,]?|([A-Za-z])(?:[):]|\.(?=\s|$))")
_INITIALS = re.compile(r"[A-Za-z]\.\s*[A-Z]\.")
_BARE = re.compile(r"([A-Za-z])(?=\s|$)")
# Further labels named after the first. A lone capital "A" is mostly an article, so it counts only
# where a phrase cannot begin.
_FURTHER = re.compile(
    r"\(([A-Za-z])\)"
    r"|(?<![\w'&-])([B-Z])(?![\w'&-])"
    r"|(?<![\w'&-])(A)(?=\s*(?:[.,:;)/]|$|(?:and|or)\b))"
    r"|\b(?:and|or|not|nor|option|answer)\s+(A)(?![\w'&-])"
)


def option_letter(index: int) -> str:
    """Label of an option: 0 is A, 1 is B, ..., 25 is Z.

    Raises:
        ValueError: The index is outside 0..25.
    """
    if not 0 <= index < len(string.ascii_uppercase):
        raise ValueError(f"option index {index} has no letter; it must be 0..25")
    return string.ascii_uppercase[index]


def parse_letter(answer: str, options: Sequence[str]) -> int | None:
    """Index of the one option that an answer names, None if it names none or several.

    Accepted are an option's text, and a label at the start: ``B``, ``(B)``, ``B.``, ``B) text``,
    ``B: text``, ``Answer: B``, ``The answer is (B).`` A bare letter followed by words counts only
    if the words are that option's text: "A new job" names option A only if that reads "new job".

    Args:
        answer: The model's answer.
        options: Texts of options A, B, ...; at most 26.
    """
    text = answer.strip(_WRAPPING)
    exact = _match(text, options, _squash)
    lead = _LEAD.match(text)
    start = lead.end() if lead else 0
    marked = _MARKED.match(text, start)
    label = marked or _BARE.match(text, start)
    rest = text[label.end() :].strip(_WRAPPING + ".") if label else ""
    index = _label_index(label, len(options))
    if exact is not None:
        # "A" alone, where option C reads "A", names two options.
        return None if index not in (None, exact) and not rest else exact
    named = _match(rest, options, _squash, normalize_answer)
    if index is not None:
        if not rest or named == index:
            return index
        # "D. H. Lawrence" is marked only in looks.
        if marked and not _INITIALS.match(text, start):
            further = _further_labels(rest, len(options)) - {index}
            return index if named is None and not further else None
    # Last, since normalising drops the article of "A new job": "A) new job" must not be read as
    # whichever option says "new job".
    return _match(text, options, normalize_answer)


def parse_label(answer: str, labels: Sequence[str]) -> str | None:
    """The one label that an answer begins with, None if it begins with none or names several.

    Case, white space and the quotes and punctuation before the first word do not matter. The label
    must end at a word's end, and no other label may occur anywhere in the answer.
    """
    text = " ".join(answer.split()).lstrip(string.punctuation + _WRAPPING)
    named = [label for label in labels if _occurrence(label).search(text)]
    return named[0] if len(named) == 1 and _occurrence(named[0]).match(text) else None


def gold_option(value: object, options: Sequence[str]) -> int:
    """The gold option's index, checked.

    Raises:
        ValueError: It is null, no integer, or not the index of an option.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"the gold option must be an index from 0, not {value!r}")
    if not 0 <= value < len(options):
        raise ValueError(f"the gold option {value} is not an index of {len(options)} options")
    return value


def gold_label(value: str, labels: Sequence[str]) -> str:
    """The gold label in its canonical spelling.

    Raises:
        ValueError: It is none of the labels.
    """
    label = parse_label(value, labels)
    if label is None:
        raise ValueError(f"the gold label {value!r} is none of {', '.join(labels)}")
    return label


def _match(text: str, options: Sequence[str], *forms: Callable[[str], str]) -> int | None:
    """The one option equal to the text in the first form in which any option is."""
    for form in forms:
        matches = [i for i, option in enumerate(options) if form(option) == form(text) != ""]
        if matches:
            return matches[0] if len(matches) == 1 else None
    return None


def _label_index(found: re.Match[str] | None, num_options: int) -> int | None:
    if found is None:
        return None
    index = string.ascii_uppercase.index(next(group for group in found.groups() if group).upper())
    return index if index < num_options else None


def _further_labels(rest: str, num_options: int) -> set[int | None]:
    return {_label_index(found, num_options) for found in _FURTHER.finditer(rest)} - {None}


def _squash(text: str) -> str:
    return " ".join(text.casefold().split()).strip(_WRAPPING)


def _occurrence(label: str) -> re.Pattern[str]:
    words = r"\s+".join(re.escape(word) for word in label.split())
    return re.compile(rf"(?<!\w){words}(?!\w)", re.IGNORECASE)
