"""How many questions find a difference: by simulation, and laws of the plan."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.power import Pilot, Size


def columns(n: int = 300, seed: int = 0) -> Any:
    """Questions of a router that does some good, in the order of DELTA_IBC_COLUMNS."""
    rng = np.random.default_rng(seed)
    slm, llm = (rng.random(n) < 0.4).astype(float), (rng.random(n) < 0.8).astype(float)
    up = (slm == 0) & (rng.random(n) < 0.6)
    return np.column_stack(
        [np.where(up, llm, slm), 2 + 50.0 * up, slm, np.ones(n), llm, np.full(n, 50.0)]
    )


def made(values: Any, documents: Any = None) -> Pilot:
    """A pilot that tells something."""
    found = Pilot.of(values, np.arange(len(values)) if documents is None else documents)
    assert isinstance(found, Pilot), found
    return found


def questions(size: Size | Undefined) -> int:
    """Of a size that exists."""
    assert isinstance(size, Size), size
    return size.questions


def test_what_as_many_questions_find_needs_as_many_questions() -> None:
    """The two directions of a plan are inverse to each other."""
    pilot = made(columns())
    delta, loss = pilot.detectable_delta_ibc(), pilot.detectable_loss()
    assert isinstance(delta, float)
    assert isinstance(loss, float)
    assert questions(pilot.size_for_delta_ibc(delta)) == pytest.approx(300, abs=1)
    assert questions(pilot.size_for_loss(loss)) == pytest.approx(300, abs=1)


def test_half_the_difference_takes_four_times_the_questions() -> None:
    """Nearly so: the t distribution widens with few documents."""
    pilot = made(columns())
    sizes = [questions(pilot.size_for_loss(x)) for x in (0.04, 0.02)]
    assert sizes[1] / sizes[0] == pytest.approx(4, rel=0.03)


def test_a_loss_is_found_as_the_t_test_finds_it() -> None:
    """80 % of t-tests on as many normal differences reject, a little more for the pilot's sake."""
    pilot = made(columns())
    number = questions(pilot.size_for_loss(0.05))
    shift = 0.05 / pilot.loss_spread * math.sqrt(number)
    critical = stats.t.ppf(0.975, number - 1)
    power = stats.nct.sf(critical, number - 1, shift)
    assert 0.8 <= power <= 0.82


def test_the_spread_of_both_products_is_the_jackknifes() -> None:
    """A and B less what they are without a question, times n: the same covariance, nearly."""

    def products(values: Any) -> Any:
        p, spent, p_slm, c_slm, p_llm, c_llm = values.mean(axis=0)
        base = (p_llm - p_slm) * (spent - c_slm)
        return np.array([(p - p_slm) * (c_llm - c_slm) - base, base])

    values = columns()
    values[:, 3] = np.linspace(0.5, 1.5, 300)
    without = [products(np.delete(values, i, axis=0)) for i in range(300)]
    pseudo = 299 * (products(values) - np.array(without))
    pilot = made(values)
    assert pilot.base == pytest.approx(products(values)[1])
    assert pilot.covariance == pytest.approx(np.cov(pseudo.T), rel=0.05)


def test_each_variance_has_degrees_of_its_own() -> None:
    """What is known by few degrees takes more questions, and nothing else does."""
    pilot = made(columns())
    sizes = [
        (questions(p.size_for_delta_ibc(0.2)), questions(p.size_for_loss(0.05)))
        for p in (replace(pilot, degrees=d) for d in ((1e4, 1e4), (5.0, 1e4), (1e4, 5.0)))
    ]
    assert sizes[1][0] > sizes[0][0] == sizes[2][0]
    assert sizes[2][1] > sizes[0][1] == sizes[1][1]


def test_documents_of_alike_questions_need_more() -> None:
    """Copies of each question in its document add nothing: as many documents are needed."""
    values = columns(60)
    alone = made(values).size_for_delta_ibc(0.3)
    copied = made(np.repeat(values, 5, axis=0), np.repeat(np.arange(60), 5)).size_for_delta_ibc(0.3)
    assert isinstance(alone, Size)
    assert isinstance(copied, Size)
    assert copied.documents == alone.documents
    assert copied.questions == 5 * alone.documents


def test_prices_in_another_unit_change_nothing() -> None:
    """Costs in cents plan the same run as costs in dollars."""
    values, cents = columns(), columns()
    cents[:, 1::2] *= 100
    assert made(values).size_for_delta_ibc(0.2) == made(cents).size_for_delta_ibc(0.2)


@pytest.mark.parametrize(
    ("change", "documents", "words"),
    [
        (lambda v: v, np.zeros(300), "1 documents"),
        (lambda v: v, np.arange(300) % 5, "5 documents"),
        (lambda v: v[:, [2, 1, 2, 3, 4, 5]], np.arange(300), "nothing was escalated"),
        (lambda v: v[:, [2, 3, 2, 3, 4, 5]], np.arange(300), "no extra cost"),
        (lambda v: v[:, [0, 1, 4, 3, 2, 5]], np.arange(300), "not better than the SLM"),
    ],
)
def test_a_pilot_that_tells_nothing_says_why(change: Any, documents: Any, words: str) -> None:
    """One document or few, no escalation, no gain."""
    found = Pilot.of(change(columns()), documents)
    assert isinstance(found, Undefined)
    assert words in found.reason


def test_a_method_that_is_the_llm_has_no_loss_to_plan() -> None:
    """No document differs, so nothing tells how much they vary."""
    values = columns()
    values[:, 0] = values[:, 4]
    pilot = made(values)
    assert isinstance(pilot.size_for_loss(0.1), Undefined)
    assert isinstance(pilot.detectable_loss(), Undefined)


def test_a_weak_pilot_finds_no_delta_ibc() -> None:
    """Where the LLM's own gain is not shown, no delta IBC is large enough."""
    rng = np.random.default_rng(3)
    values = columns(30)
    values[:, 4] = np.where(rng.random(30) < 0.5, values[:, 4], rng.random(30) < 0.4)
    pilot = Pilot.of(values, np.arange(30))
    assert isinstance(pilot, Pilot)
    assert isinstance(pilot.detectable_delta_ibc(), Undefined)


def test_wrong_shapes_raise() -> None:
    """Another number of documents is a mistake of the caller."""
    with pytest.raises(ValueError, match="six figures of 2 questions"):
        Pilot.of(columns(3), [0, 1])
