"""The one-sided bound on the quality that is kept: its laws, and how often it is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.noninferiority import MIN_DOCUMENTS, PairedScores

Pairs = list[tuple[float, float, int]]

scores = st.floats(0, 1, width=32)
pairs = st.lists(st.tuples(scores, scores, st.integers(0, 30)), min_size=20, max_size=60)


def paired(rows: Pairs) -> PairedScores | Undefined:
    """The scores of (method, LLM, document)."""
    method, llm, documents = zip(*rows, strict=True)
    return PairedScores.of(method, llm, documents)


@given(pairs, st.floats(0, 1), st.floats(0.5, 0.999), st.randoms())
def test_laws_of_the_bound(rows: Pairs, share: float, confidence: float, shuffle: object) -> None:
    """It lies below the mean, falls with the confidence, and knows no order of the questions."""
    found = paired(rows)
    if isinstance(found, Undefined):
        return
    bound = found.lower_bound(share, confidence)
    assert bound <= np.mean([q - share * llm for q, llm, _ in rows]) + 1e-9
    assert bound >= found.lower_bound(share, (1 + confidence) / 2) - 1e-9
    shuffle.shuffle(rows)  # type: ignore[attr-defined]
    again = paired([(q, llm, 1000 - d) for q, llm, d in rows])
    assert not isinstance(again, Undefined)
    # where documents are alike the spread is rounding, and its root is what differs
    assert again.lower_bound(share, confidence) == pytest.approx(bound, abs=1e-6)


@given(pairs, st.floats(0.5, 0.999))
def test_the_largest_share_is_shown_and_the_next_one_is_not(rows: Pairs, confidence: float) -> None:
    """Whole per cents, and never more than the share in the data."""
    found = paired(rows)
    if isinstance(found, Undefined):
        return
    share = found.largest_share(confidence)
    if isinstance(share, Undefined):
        assert not found.shows(0.01, confidence)
        return
    assert found.shows(share, confidence)
    assert share == 1 or not found.shows(share + 0.01, confidence)
    assert share * sum(llm for _, llm, _ in rows) <= sum(q for q, _, _ in rows) + 1e-9


def test_no_more_than_the_whole_is_kept() -> None:
    """Where a method is better than the LLM all of its quality is kept, and the bound says how."""
    found = PairedScores.of([1.0] * 50, [0.5] * 50, range(50))
    assert isinstance(found, PairedScores)
    assert found.largest_share() == 1.0
    assert found.shows(1.01)


def test_it_is_the_interval_of_student_with_one_question_more() -> None:
    """With one question a document: scipy's one-sample t on n + 1 differences, n - 1 degrees."""
    rng = np.random.default_rng(0)
    method, llm = rng.random(25), rng.random(25)
    found = PairedScores.of(method, llm, np.arange(25))
    assert isinstance(found, PairedScores)
    differences = np.append(method - 0.9 * llm, -0.9)
    wanted = differences.mean() - stats.t.ppf(0.95, 24) * stats.sem(differences)
    assert found.lower_bound(0.9) == pytest.approx(wanted)


def test_questions_of_one_document_count_once() -> None:
    """Each question asked ten times about the same document tells no more than once."""
    rng = np.random.default_rng(1)
    method, llm, documents = rng.random(30), rng.random(30), np.arange(30)
    once = PairedScores.of(method, llm, documents)
    often = PairedScores.of(*(np.repeat(v, 10) for v in (method, llm, documents)))
    assert isinstance(once, PairedScores)
    assert isinstance(often, PairedScores)
    assert often.lower_bound(0.8) == pytest.approx(once.lower_bound(0.8))


@pytest.mark.parametrize(("number", "share"), [(30, 0.91), (100, 0.97), (1000, 0.99)])
def test_what_was_never_seen_may_still_happen(number: int, share: float) -> None:
    """Without a loss it shows what the exact binomial bound shows, to a per cent."""
    found = PairedScores.of(np.ones(number), np.ones(number), np.arange(number))
    assert isinstance(found, PairedScores)
    exact = 0.05 ** (1 / number)
    assert found.largest_share() == share
    assert share == pytest.approx(exact, abs=0.012)


@pytest.mark.parametrize("per_document", [1, 5])
@pytest.mark.parametrize("documents", [10, 40, 200])
@pytest.mark.parametrize(("kept", "gained"), [(0.97, 0.0), (0.8, 0.05)])
def test_it_is_wrong_at_most_as_often_as_it_says(
    documents: int, per_document: int, kept: float, gained: float
) -> None:
    """Where exactly this share is kept, at most 5 % of 400 runs claim more (2 s.e. are 2.2 %)."""
    rng = np.random.default_rng([documents, per_document, int(100 * kept)])
    size, quality, wrong = documents * per_document, 0.8, 0
    codes = np.repeat(np.arange(documents), per_document)
    loss = 1 - kept + gained * (1 - quality) / quality
    for _ in range(400):
        # questions of one document are right together
        chance = rng.beta(quality * 2, (1 - quality) * 2, documents)[codes]
        right = rng.random(size) < (chance if per_document > 1 else quality)
        method = np.where(right, rng.random(size) >= loss, rng.random(size) < gained)
        found = PairedScores.of(method, right, codes)
        wrong += isinstance(found, PairedScores) and found.shows(kept)
    assert wrong / 400 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 400)


def test_it_finds_what_is_there() -> None:
    """A method with the LLM's quality is shown to keep 95 % of it by 1,000 questions."""
    rng = np.random.default_rng(0)
    shown = 0
    for _ in range(100):
        right = rng.random(1000) < 0.8
        method = np.where(right, rng.random(1000) >= 0.05, rng.random(1000) < 0.2)
        found = PairedScores.of(method, right, np.arange(1000))
        shown += isinstance(found, PairedScores) and found.shows(0.95)
    assert shown >= 90


def test_undefined_cases_have_their_reason() -> None:
    """Too few documents, and an LLM of which there is no share."""
    few = PairedScores.of([1.0] * 30, [1.0] * 30, [*range(MIN_DOCUMENTS - 1), *[0] * 21])
    assert isinstance(few, Undefined)
    assert few.reason.endswith("at least 10 documents, there are 9")
    one = PairedScores.of([1.0] * 30, [1.0] * 30, ["x"] * 30)
    assert isinstance(one, Undefined)
    assert one.reason.endswith("there is one")
    zero = PairedScores.of([1.0] * 30, [0.0] * 30, range(30))
    assert isinstance(zero, Undefined)
    assert "LLM's quality is 0" in zero.reason
    nothing = PairedScores.of([0.0] * 30, [1.0] * 30, range(30))
    assert isinstance(nothing, PairedScores)
    assert isinstance(nothing.largest_share(), Undefined)


def test_bad_input_is_refused() -> None:
    """Lengths, numbers that are none, and numbers out of range."""
    with pytest.raises(ValueError, match="finite scores"):
        PairedScores.of([math.nan] * 20, [1.0] * 20, range(20))
    with pytest.raises(ValueError, match="on 21 questions"):
        PairedScores.of([1.0] * 20, [1.0] * 20, range(21))
    found = PairedScores.of([1.0] * 20, [1.0] * 20, range(20))
    assert isinstance(found, PairedScores)
    for share, confidence in ((-1.0, 0.9), (math.nan, 0.9), (0.9, 1.0), (0.9, 0.0)):
        with pytest.raises(ValueError, match="must"):
            found.lower_bound(share, confidence)


def test_the_bound_by_hand() -> None:
    """Student's, of the documents and the worst one, whose error is that of one document more."""
    method, llm = np.arange(12) % 2 * 1.0, np.arange(12) % 3 / 2
    known = PairedScores.of(method, llm, np.arange(12))
    assert isinstance(known, PairedScores)
    gaps = np.append(method - 0.9 * llm, 0.0 - 0.9)
    error = math.sqrt(((gaps - gaps.mean()) ** 2).sum() * 13 / 12) / 13
    expected = gaps.mean() - stats.t.ppf(0.9, 11) * error
    assert known.lower_bound(0.9, 0.9) == pytest.approx(expected)


@pytest.mark.parametrize(("share", "confidence"), [(-0.1, 0.9), (math.inf, 0.9), (1, 0), (1, 1)])
def test_no_bound_without_numbers_in_range(share: float, confidence: float) -> None:
    """Neither a share below 0 nor a bound that is certain."""
    found = paired([(1.0, 1.0, d) for d in range(20)])
    assert not isinstance(found, Undefined)
    with pytest.raises(ValueError, match="must"):
        found.lower_bound(share, confidence)
