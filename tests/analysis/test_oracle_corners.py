"""The oracle's corners, against every way of answering a few questions."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pomdp_chains import outcomes

from automix_eval.analysis.question_sets import PricedTiers
from automix_eval.analysis.replayed import oracle_routings
from automix_eval.metrics.curves import envelope, quality_at

Tables = list[list[tuple[int, int]]]


@given(
    st.integers(2, 3).flatmap(
        lambda tiers: st.lists(
            st.lists(
                st.tuples(st.integers(-2, 4), st.integers(0, 4)), min_size=tiers, max_size=tiers
            ),
            min_size=1,
            max_size=4,
        )
    )
)
def test_no_way_through_the_chain_is_better_than_the_oracle(table: Tables) -> None:
    """Whatever tier is the cheapest or the best, of all questions or of one: the hulls are equal.

    Four questions of three tiers have fewer prices than are thinned out.
    """
    values = np.array(table, dtype=float)
    scores, costs = values[..., 0], values[..., 1]
    rows = np.arange(len(scores))
    held = outcomes(scores, np.full(scores.shape, np.nan), (1.0, 1.0, 1.0))
    tiers = PricedTiers.of(replace(held, answer_costs=costs))
    corners = [
        tuple(float(r.values(name, rows).mean()) for name in ("cost", "quality"))
        for r in oracle_routings(tiers)
    ]
    every = [
        (float(costs[rows, list(way)].mean()), float(scores[rows, list(way)].mean()))
        for way in product(range(scores.shape[1]), repeat=len(scores))
    ]
    for cost, quality in envelope(every):
        assert quality_at(corners, cost) == pytest.approx(quality)
