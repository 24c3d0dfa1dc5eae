"""How well a confidence says where the LLM helps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kendalltau

from automix_eval.metrics.benefit import benefit_auroc, benefit_correlation, helps
from automix_eval.metrics.ibc import Undefined

ROWS = st.lists(
    st.tuples(st.sampled_from([0.0, 0.2, 0.5, 0.9]), st.sampled_from([-1.0, 0.0, 0.1, 0.4, 1.0])),
    min_size=2,
    max_size=25,
)


def test_the_llm_helps_where_its_score_is_higher_by_more_than_a_tenth() -> None:
    """A word more of a long answer is no reason to escalate; a score that is exactly so is none."""
    assert helps(np.array([-1.0, 0.0, 0.05, 0.1, 0.11, 1.0])).tolist() == [False] * 4 + [True] * 2


def test_low_confidence_where_the_llm_helps_is_the_best_there_is() -> None:
    """A confidence low exactly where the LLM is better has area 1, its mirror 0, a constant 1/2."""
    benefit = np.array([1.0, 0.5, 0.0, -0.5])
    confidence = np.array([0.1, 0.2, 0.8, 0.9])
    assert benefit_auroc(confidence, benefit) == 1.0
    assert benefit_auroc(1 - confidence, benefit) == 0.0
    assert benefit_auroc(np.full(4, 0.5), benefit) == 0.5
    assert benefit_correlation(confidence, benefit) == pytest.approx(1.0)


def test_a_confidence_in_correctness_may_point_away_from_benefit() -> None:
    """Where both models fail on the hard questions, the unsure ones are those not to escalate."""
    slm, llm = np.array([1.0, 1.0, 0.0, 0.0, 0.0]), np.array([1.0, 1.0, 1.0, 0.0, 0.0])
    unsure_of_the_hopeless = np.array([0.9, 0.8, 0.7, 0.2, 0.1])
    area = benefit_auroc(unsure_of_the_hopeless, llm - slm)
    assert isinstance(area, float)
    assert area == 0.5
    assert benefit_auroc(unsure_of_the_hopeless[2:], (llm - slm)[2:]) == 0.0


@given(ROWS)
def test_it_is_the_share_of_pairs_in_the_right_order(rows: list[tuple[float, float]]) -> None:
    """Of pairs of a helped and another question, those with the lower confidence; ties half."""
    confidence, benefit = (np.array(column) for column in zip(*rows, strict=True))
    helped = helps(benefit)
    found = benefit_auroc(confidence, benefit)
    pairs = [(a, b) for a in confidence[helped] for b in confidence[~helped]]
    if not pairs:
        assert isinstance(found, Undefined)
        return
    assert found == pytest.approx(np.mean([(a < b) + (a == b) / 2 for a, b in pairs]))


@given(ROWS)
def test_the_correlation_turns_with_the_confidence(rows: list[tuple[float, float]]) -> None:
    """The mirrored confidence has the opposite correlation; a constant column has none."""
    confidence, benefit = (np.array(column) for column in zip(*rows, strict=True))
    found, mirrored = (benefit_correlation(c, benefit) for c in (confidence, 1 - confidence))
    if np.ptp(confidence) == 0 or np.ptp(benefit) == 0:
        assert isinstance(found, Undefined)
        return
    assert isinstance(found, float)
    assert isinstance(mirrored, float)
    assert found == pytest.approx(-mirrored)
    assert -1 <= found <= 1


@given(ROWS)
def test_the_rank_correlation_is_that_of_scipy(rows: list[tuple[float, float]]) -> None:
    """Kendall's tau b, ties in confidence, in benefit and in both included."""
    confidence, benefit = map(np.array, zip(*rows, strict=True))
    found = benefit_correlation(confidence, benefit)
    if isinstance(found, Undefined):
        assert np.ptp(confidence) == 0 or np.ptp(benefit) == 0
    else:
        assert found == pytest.approx(kendalltau(-confidence, benefit).statistic, abs=1e-12)
