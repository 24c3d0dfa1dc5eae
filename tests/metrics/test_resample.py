"""The bootstrap of many columns: exact draws, Poisson draws, blocks, documents."""

from __future__ import annotations

import numpy as np
import pytest

from automix_eval.metrics import bootstrap as module
from automix_eval.metrics.bootstrap import Totals, resample

RNG = np.random.default_rng(3)


def means(totals: Totals) -> np.ndarray:
    """(B, k) resampled means."""
    assert totals.draws is not None
    assert totals.weights is not None
    return totals.draws / totals.weights[:, None]


def test_poisson_draws_agree_with_multinomial_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """Above the limit on documents the means and their spread are the same but for the draws."""
    values = RNG.random((3_000, 2))
    exact = resample(np.arange(3_000), lambda rows: values[rows].T, 4_000)
    monkeypatch.setattr(module, "LARGE", 10)
    poisson = resample(np.arange(3_000), lambda rows: values[rows].T, 4_000)
    assert np.allclose(exact.point, poisson.point)
    assert np.allclose(means(exact).mean(axis=0), means(poisson).mean(axis=0), atol=5e-4)
    assert np.allclose(means(exact).std(axis=0), means(poisson).std(axis=0), rtol=0.06)


def test_groups_of_documents_spread_as_documents_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of very many documents random groups are drawn: sums are kept, and standard errors of means.

    The documents are sorted, so that groups of neighbours would be far too wide.
    """
    values = np.sort(np.random.default_rng(1).random((12_000, 2)), axis=0)
    monkeypatch.setattr(module, "GROUPS", 3_000)
    monkeypatch.setattr(module, "LARGE", 10)
    drawn = resample(np.arange(12_000), lambda rows: values[rows].T, 2_000)
    assert np.allclose(drawn.point, values.sum(axis=0))
    error = values.std(axis=0) / np.sqrt(12_000)
    assert np.allclose(means(drawn).std(axis=0), error, rtol=0.08)


def test_a_mean_is_that_of_the_questions_drawn() -> None:
    """Large documents bring more questions: what all of them have is the mean of every resample."""
    documents = np.repeat(np.arange(9), [1, 1, 1, 2, 3, 5, 8, 13, 40])
    drawn = resample(documents, lambda rows: np.full((1, len(rows)), 0.7), 200)
    assert drawn.mean(0) == pytest.approx(np.full(201, 0.7), rel=1e-12)


@pytest.mark.parametrize("limit", [10, 10**9])
def test_blocks_of_questions_change_nothing(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """Columns computed block by block give the totals of columns held at once."""
    monkeypatch.setattr(module, "LARGE", limit)
    documents = np.sort(RNG.integers(40, size=500))
    documents = np.unique(documents, return_inverse=True)[1]
    values = RNG.random((500, 3))
    whole = resample(documents, lambda rows: values[rows].T, 50, seed=1)
    monkeypatch.setattr(module, "_ROWS", 37)
    parts = resample(documents, lambda rows: values[rows].T, 50, seed=1)
    assert np.allclose(whole.point, parts.point)
    assert whole.draws is not None
    assert parts.draws is not None
    if limit > 10:  # Poisson draws follow the blocks, multinomial ones do not
        assert np.allclose(whole.draws, parts.draws)


def test_order_of_documents_does_not_matter() -> None:
    """Questions of a document may stand anywhere: the draws are those of the sorted questions."""
    documents = RNG.integers(10, size=200)
    values = RNG.random((200, 1))
    order = np.argsort(documents, kind="stable")
    mixed = resample(documents, lambda rows: values[rows].T, 30)
    sorted_ = resample(documents[order], lambda rows: values[order][rows].T, 30)
    assert mixed.draws is not None
    assert sorted_.draws is not None
    assert np.allclose(mixed.draws, sorted_.draws)


def test_draws_do_not_depend_on_the_columns() -> None:
    """Equal seeds draw equal documents for any columns, so that figures stay paired."""
    values = RNG.random((60, 2))
    both = resample(np.arange(60), lambda rows: values[rows].T, 20, seed=5)
    one = resample(np.arange(60), lambda rows: values[rows, 1:].T, 20, seed=5)
    assert np.allclose(means(both)[:, 1:], means(one))


@pytest.mark.parametrize("limit", [10, 10**9])
def test_kinds_are_counted_as_columns_of_ones(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    """How many questions of a kind a resample has is what a column of 0 and 1 adds up to."""
    monkeypatch.setattr(module, "LARGE", limit)
    monkeypatch.setattr(module, "_ROWS", 37)
    documents = np.unique(RNG.integers(40, size=300), return_inverse=True)[1]
    kinds = [(RNG.integers(-1, most, size=300), most) for most in (3, 5)]
    ones = np.concatenate([k[:, None] == np.arange(most) for k, most in kinds], axis=1)
    columns = resample(documents, lambda rows: ones[rows].T, 20)
    counted = resample(documents, lambda rows: np.ones((1, len(rows))), 20, kinds=kinds)
    assert columns.draws is not None
    assert np.allclose(counted.counts[0], columns.point)
    assert np.allclose(counted.counts[1:], columns.draws)


def test_columns_that_are_not_drawn_keep_their_sums() -> None:
    """The data's own sums are the same bit for bit, and the drawn columns do not change."""
    values = RNG.random((200, 3))
    every = resample(np.arange(200), lambda rows: values[rows].T, 20)
    first = resample(np.arange(200), lambda rows: values[rows].T, 20, drawn=1)
    assert (every.point == first.point).all()
    assert every.draws is not None
    assert first.draws is not None
    assert np.allclose(every.draws[:, :1], first.draws)
    assert first.mean(2).tolist() == [every.point[2] / 200]


def test_single_document_has_no_draws() -> None:
    """The spread of one document cannot be seen, its mean can."""
    totals = resample([0, 0], lambda rows: np.ones((1, len(rows))), 10)
    assert totals.draws is None
    assert totals.mean(0).tolist() == [1.0]


def test_infinite_values_and_no_questions_are_refused() -> None:
    """A column that is not finite, and one of no questions, are mistakes of the caller."""
    with pytest.raises(ValueError, match="a question"):
        resample([], lambda rows: np.ones((1, len(rows))), 10)
    with pytest.raises(ValueError, match="finite"):
        resample([0, 1], lambda rows: np.full((1, len(rows)), np.nan), 10)
