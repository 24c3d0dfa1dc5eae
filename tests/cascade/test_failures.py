"""What counts as failed, how many questions may, and what the reader of a run is told of them."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from automix_eval.cascade import failures
from automix_eval.cascade.failures import Failure, Failures, TooManyFailedError
from automix_eval.cascade.tier import CallCounts
from automix_eval.types import Prompt, Question

PURPOSE = ("evaluation", "coqa", "answer")


def question(doc_id: int) -> Question:
    """A question of the evaluation."""
    return Question("coqa", doc_id, Prompt("q"), "", "q")


@pytest.mark.parametrize(
    ("share", "number", "allowed"),
    [(0, 9, 0), (0.29, 100, 29), (0.1, 9, 0), (0.1, 10, 1), (1, 7, 7)],
)
def test_the_share_is_that_of_the_questions(share: float, number: int, allowed: int) -> None:
    """So many may fail, and one more is an error; calibration and evaluation are apart."""
    found = Failures(share)
    found.expect("coqa", "evaluation", number)
    found.expect("coqa", "calibration", number)
    for i in range(allowed):
        found.add(question(i), 0, "answer", "http_500")
    found.check()
    assert found.remaining("coqa", "evaluation") == 0
    assert found.remaining("coqa", "calibration") == allowed
    found.add(question(allowed), 1, "answer", "http_500")
    with pytest.raises(TooManyFailedError, match=rf"{allowed + 1} of {number} questions failed"):
        found.check()
    found.expect("coqa", "evaluation", number)
    assert found.found == []


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_work_has_a_result_a_question(share: float) -> None:
    """In their order; a verifier that gives fewer, or more, is wrong and found out."""
    model: Any = SimpleNamespace(tier=0, tolerate=lambda _: None, attempt=nullcontext)
    asked = [question(i) for i in range(3)]
    found = failures.without_failed(model, asked, "verify", lambda at: at, Failures(share))
    assert found == {0: 0, 1: 1, 2: 2}
    for wrong in ([1, 2], [1, 2, 3, 4]):
        with pytest.raises(ValueError, match="zip"):
            failures.without_failed(
                model,
                asked,
                "verify",
                lambda _, wrong=wrong: wrong,
                Failures(share),  # type: ignore[misc]
            )


def test_processes_are_judged_together() -> None:
    """Two shares that are each within the bounds may be too much together."""
    parts = []
    for i in range(2):
        own = Failures(0.1)
        own.expect("coqa", "evaluation", 10)
        own.add(question(i), 0, "answer", "why")
        own.check()
        parts.append(own)
    with pytest.raises(TooManyFailedError, match="2 of 10"):
        parts[0].check(f for p in parts for f in p.found)


def test_a_note_names_documents_and_the_commonest_reasons() -> None:
    """At most twenty documents and three reasons, and how many more there are."""
    found = Failures(1)
    for i in range(30):
        found.add(question(i), 0, "answer", f"reason {min(i, 4) % 5}")
    said = failures.note(found.found, 10)
    assert "30 of 40 questions failed" in said
    assert "18, 19 and 10 more; doc_id 4, tier 0, answer: reason 4 (26 times)" in said
    assert said.endswith("and 2 other reasons")


@pytest.mark.parametrize(("number", "more"), [(1, ""), (20, ""), (21, " and 1 more")])
@pytest.mark.parametrize(
    ("phase", "place"), [("calibration", "the fit"), ("evaluation", "every figure")]
)
def test_notes_say_how_many_more_only_where_there_are(
    number: int, more: str, phase: Any, place: str
) -> None:
    """Of failures and of questions without a score, word for word."""
    found = [Failure("coqa", phase, i, 0, 1, "answer", "why") for i in range(number)]
    named = ", ".join(map(str, range(min(number, 20))))
    times = f" ({number} times)" if number > 1 else ""
    end = f"doc_id {named}{more}; doc_id 0, tier 1, answer: why{times}"
    assert failures.note(found, 9) == (
        f"{phase}: {number} of {number + 9} questions failed and are left out of {place}, "
        f"the same command asks them again: {end}"
    )
    assert failures.note_unscored(found) == (
        f"{phase}: the task gives no score to {number} questions, which are left out of {place}: "
        f"{end}"
    )


def test_counts_of_an_attempt_are_taken_back() -> None:
    """Calls made by it stay made; the next attempt, which finds them in the store, adds nothing."""
    counts = CallCounts()
    mark = counts.mark()
    counts.made[PURPOSE] += 2  # type: ignore[index]
    counts.add(PURPOSE, ["a", "b", "old"], {"a", "b"}, {"a": ("retry:timeout",)})  # type: ignore[arg-type]
    counts.rewind(mark, ["a", "b"])
    assert (counts.made.total(), counts.stored.total(), counts.events.total()) == (2, 0, 0)
    counts.add(PURPOSE, ["a", "b", "b", "old"], (), {"a": ("retry:timeout",)})  # type: ignore[arg-type]
    assert (counts.made.total(), counts.stored.total(), counts.events.total()) == (2, 2, 1)
    counts.add(PURPOSE, ["a"], (), {})  # type: ignore[arg-type]
    assert counts.stored.total() == 3


def test_a_call_that_comes_twice_is_made_once_and_found_once() -> None:
    """Calls made and stored are together those of the records, whichever are alike."""
    counts = CallCounts()
    counts.made[PURPOSE] += 1  # type: ignore[index]
    counts.add(PURPOSE, ["a", "a", "old", "old"], {"a"}, {})  # type: ignore[arg-type]
    assert counts.stored.total() == 3
