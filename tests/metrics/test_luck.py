"""What a few escalations leave open."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.metrics.luck import BELIEVED, unseen_of_columns, unseen_variance

RNG = np.random.default_rng(5)


def test_six_right_answers_of_a_model_that_is_mostly_right() -> None:
    """The six vary in nothing; what it would have answered elsewhere says that they may."""
    n, few = 200, 6
    llm = np.ones(n)
    llm[few : few + 40] = 0.0
    final = (np.arange(n) < few).astype(np.intp)
    leads = np.column_stack([np.zeros(n), llm])
    spread = llm[few:].var() * (n - few) / n  # of all, about the means of both groups
    expected = few * (1 - few / BELIEVED) * spread / n**2
    assert unseen_variance(final, leads) == pytest.approx(expected)


@given(st.integers(1, 3), st.integers(0, 2**31))
def test_nothing_is_open_of_one_tier_or_of_many_questions(tiers: int, seed: int) -> None:
    """A model alone is what it is; many answers are believed."""
    rng = np.random.default_rng(seed)
    leads = rng.normal(size=(tiers * BELIEVED, tiers))
    assert unseen_variance(np.full(len(leads), tiers - 1), leads) == 0
    assert unseen_variance(rng.permutation(len(leads)) % tiers, leads) == 0


@given(st.integers(0, 2**31), st.floats(-3, 3), st.floats(0.1, 10))
def test_it_is_a_variance(seed: int, by: float, times: float) -> None:
    """Never below 0, the same wherever 0 lies, of the square of the unit."""
    rng = np.random.default_rng(seed)
    leads, final = rng.integers(0, 3, (60, 2)).astype(float), rng.integers(0, 9, 60) // 8
    found = unseen_variance(final, leads)
    assert found >= 0
    assert unseen_variance(final, times * leads + by) == pytest.approx(times**2 * found)


def test_columns_are_the_tiers() -> None:
    """Of two tiers the six columns say as much as what each tier answered."""
    n = 120
    slm, llm = (RNG.random(n) < share for share in (0.2, 0.8))
    up = RNG.random(n) < 0.1
    scores = np.column_stack([slm, llm]).astype(float)
    columns = np.column_stack(
        [np.where(up, llm, slm), 1 + 50.0 * up, slm, np.ones(n), llm, np.full(n, 51.0)]
    ).astype(float)
    leads = scores - scores[:, :1]
    leads = leads - up.mean() * leads[:, 1:]
    found = unseen_of_columns(columns, up)
    assert found == pytest.approx(unseen_variance(up.astype(np.intp), leads))
    assert found > 0


def test_without_an_extra_cost_there_is_no_line() -> None:
    """An LLM that costs no more: nothing to gain over a line."""
    columns = np.tile([1.0, 1.0, 0.0, 1.0, 1.0, 1.0], (20, 1))
    assert unseen_of_columns(columns, np.ones(20, dtype=bool)) == 0
