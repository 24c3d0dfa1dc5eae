"""Training rows that are scored too are left out of a fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from automix_eval.records.evaluated_rows import repeats_together, without_evaluated
from automix_eval.records.from_table import Source
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError


def outcomes(texts: list[str] | None, prefix: str, documents: list[str] | None = None) -> Outcomes:
    """Two tiers on questions of these texts."""
    number = len(texts) if texts is not None else 3
    table = np.ones((number, 2))
    return Outcomes(
        table, table, table, table, ("s", "l"), tuple(f"{prefix}{i}" for i in range(number)),
        questions=None if texts is None else tuple(texts),
        documents=None if documents is None else tuple(documents),
    )  # fmt: skip


def test_equal_questions_are_left_out_and_named() -> None:
    """Case and white space do not tell two questions apart; empty texts are none."""
    train = outcomes(["Who is  it?", "", "What?"], "a")
    found = without_evaluated(Source(train, outcomes(["who is it? ", "", "Where?"], "b"), {}))
    assert found.train is not None
    assert found.train.ids == ("a1", "a2")
    assert found.notes[0].startswith("1 of 3 training rows are scored too")
    assert found.notes[0].endswith("a0")


def test_the_same_question_on_another_document_stays() -> None:
    """Where rows have documents, a question is the same on the same document only."""
    train = outcomes(["Who?", "Who?"], "a", ["x", "y"])
    found = without_evaluated(Source(train, outcomes(["Who?"], "b", ["y"]), {}, grouped=True))
    assert found.train is not None
    assert found.train.ids == ("a0",)


def test_nothing_left_is_an_error() -> None:
    """One table for training and for test cannot be scored."""
    rows = outcomes(["Who?", "What?"], "a")
    with pytest.raises(AutoMixError, match="nothing that is scored is fitted on"):
        without_evaluated(Source(rows, rows, {}))


def test_without_texts_nothing_is_told() -> None:
    """Rows of numbers alone are taken as they are: equal numbers are no equal questions."""
    source = Source(outcomes(None, "a"), outcomes(None, "b"), {})
    assert without_evaluated(source) is source


def test_rows_of_one_question_are_one_document() -> None:
    """By text or by identity, also by way of a third row; documents of their own stay."""
    texts = [f"What is {i}?" for i in range(12)]
    rows = outcomes([*texts, " what IS 3? ", "another"], "a")
    rows = replace(rows, ids=(*rows.ids[:13], "a12"))
    found, note = repeats_together(rows)
    assert note.startswith("2 of 14 rows repeat")
    assert found.documents is not None
    assert found.documents[12] == found.documents[13] == found.documents[3]
    assert len(set(found.documents)) == 12
    own = replace(rows, documents=tuple("xy" * 7))
    assert repeats_together(own) == (own, "")


def test_a_few_texts_are_no_questions() -> None:
    """What all are asked alike, as cause or effect, parts no questions."""
    rows = outcomes(["cause", "effect"] * 20, "a")
    assert repeats_together(rows) == (rows, "")
