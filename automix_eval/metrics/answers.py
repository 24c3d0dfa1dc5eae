"""Token F1 and exact match of free-form answers.

Source: Rajpurkar et al. 2016, "SQuAD: 100,000+ Questions for Machine Comprehension of Text"
(arXiv 1606.05250), section 6.1 and its official evaluation script.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache

__all__ = ["exact_match", "normalize_answer", "token_f1"]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@lru_cache(maxsize=1024)  # references return with every tier and metric
def normalize_answer(text: str) -> str:
    """Lower-case; drop ASCII punctuation, English articles and extra white space, in that order.

    Source: Rajpurkar et al. 2016, official evaluation script.
    """
    bare = text.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", bare).split())


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """Harmonic mean of token precision and recall, the maximum over the references.

    With bags of normalised tokens P and R: F1 = 2 |P n R| / (|P| + |R|). Two empty bags score 1.0,
    an empty one against a non-empty one 0.0. Source: Rajpurkar et al. 2016.

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: There is no reference.
    """
    return _best(_pair_f1, prediction, references)


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """1.0 if the normalised prediction equals a normalised reference, else 0.0.

    Source: Rajpurkar et al. 2016.

    Raises:
        ValueError: There is no reference.
    """
    return _best(lambda p, r: float(p == r), prediction, references)


def _best(score: Callable[[str, str], float], prediction: str, references: Sequence[str]) -> float:
    if not references:
        raise ValueError("an answer cannot be scored without a reference")
    if isinstance(references, str):  # a str is a sequence of one-letter references
        raise ValueError("references must be a list of texts, not one text")
    normalised = normalize_answer(prediction)
    return max(score(normalised, normalize_answer(reference)) for reference in references)


def _pair_f1(prediction: str, reference: str) -> float:
    predicted, expected = prediction.split(), reference.split()
    if not predicted or not expected:
        return float(predicted == expected)
    shared = (Counter(predicted) & Counter(expected)).total()
    return 2 * shared / (len(predicted) + len(expected))
