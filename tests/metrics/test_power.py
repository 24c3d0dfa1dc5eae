"""How many questions find a difference: by simulation, and laws of the plan."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy import stats

from automix_eval.metrics.bootstrap import delta_ibc_values, percentile_interval
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


def test_spreads_and_degrees_are_those_of_each_documents_weight() -> None:
    """What A - B, B and the loss change where one of unlike documents weighs a little more."""
    values, documents = columns(), np.sort(np.arange(300) ** 2 % 41)
    values[:, 1:6:2] += np.random.default_rng(1).random((300, 3))
    codes, step = np.unique(documents, return_inverse=True)[1], 1e-5
    number = int(codes.max()) + 1

    def figures(weights: Any) -> Any:
        p, spent, p_slm, c_slm, p_llm, c_llm = np.average(values, axis=0, weights=weights[codes])
        base = (p_llm - p_slm) * (spent - c_slm)
        return np.array([(p - p_slm) * (c_llm - c_slm) - base, base, p_llm - p])

    steps = step * np.eye(number)
    slopes = np.array([figures(1 + w) - figures(1 - w) for w in steps]).T * number / (2 * step)
    pilot = made(values, documents)
    assert (pilot.questions, pilot.documents) == (300, number)
    assert pilot.base == pytest.approx(figures(np.ones(number))[1])
    spreads = pilot.gain_spread, pilot.base_spread, pilot.loss_spread
    assert spreads == pytest.approx(slopes.std(axis=1, ddof=1), rel=1e-6)
    kurtosis = stats.kurtosis(slopes[[0, 2]], axis=1, fisher=False, bias=False)
    assert pilot.degrees == pytest.approx(2 * number / (kurtosis - 1), rel=1e-5)


@pytest.mark.parametrize(
    ("losses", "degrees"),
    [([0.0] * 30, 29), ([-1.0, 1.0] * 15, 10_000), ([1.0] + [0.0] * 29, 2)],
)
def test_degrees_have_bounds(losses: list[float], degrees: float) -> None:
    """Those of the normal where nothing varies; many for two even values, two for an outlier."""
    values = columns(30)
    values[:, 4] = values[:, 0] + losses
    values[:, 2] = 0.0
    assert made(values).degrees[1] == pytest.approx(degrees)


@pytest.mark.parametrize("degrees", [5.0, 1e4])
@pytest.mark.parametrize("gap", [0.01, 0.1, 9.0])
def test_a_size_is_the_least_that_the_power_allows(gap: float, degrees: float) -> None:
    """One document fewer falls short: the difference must be t's quantile of standard errors."""
    pilot = replace(made(columns(30), np.repeat(np.arange(10), 3)), degrees=(degrees, degrees))
    spread = max(pilot.gain_spread, gap * pilot.base_spread)
    for size, ratio in (
        (pilot.size_for_loss(gap), pilot.loss_spread / gap),
        (pilot.size_for_delta_ibc(gap), spread / (gap * pilot.base)),
    ):
        assert isinstance(size, Size)

        def needed(documents: int, ratio: float = ratio) -> float:
            critical = stats.t.ppf(0.975, documents - 1)
            return float((stats.nct.ppf(0.8, degrees, critical) * ratio) ** 2)

        assert needed(size.documents) <= size.documents
        assert size.documents == 6 or needed(size.documents - 1) > size.documents - 1
        assert size.questions == 3 * size.documents


def test_a_delta_ibc_is_found_where_its_gain_is() -> None:
    """The interval of A / B - 1 holds 0 where that of A - B does, if B is above 0 in all draws."""
    held = []
    for seed in range(40):
        values = columns(60, seed)
        drawn = np.random.default_rng(seed).multinomial(60, np.full(60, 1 / 60), size=400)
        p, spent, p_slm, c_slm, p_llm, c_llm = (drawn @ values / 60).T
        gain = (p - p_slm) * (c_llm - c_slm) - (p_llm - p_slm) * (spent - c_slm)
        ratio = delta_ibc_values(p, spent, p_slm, c_slm, p_llm, c_llm)
        ends = [percentile_interval(v, 60) for v in (ratio, gain)]
        assert isinstance(ends[0], tuple)
        assert isinstance(ends[1], tuple)
        assert [np.sign(e) for e in ends[0]] == [np.sign(e) for e in ends[1]]
        held.append(ends[0][0] <= 0)
    assert 0 < sum(held) < 40


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
