"""Paired tests and Holm's correction; AUROC and calibration error from counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from automix_eval.metrics.calibration import (
    ConfidenceCells,
    auroc,
    auroc_of,
    bin_of,
    calibration_error_of,
)
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.significance import bootstrap_p, holm, paired_test

RNG = np.random.default_rng(11)


def test_all_signs_of_few_documents() -> None:
    """Five documents that all favour one method: 2 of 32 sign patterns are as extreme."""
    assert paired_test([1, 1, 1, 1, 1]) == pytest.approx(2 / 32)


def test_permutations_agree_with_the_t_test() -> None:
    """For well-behaved differences the two tests say the same."""
    values = RNG.normal(0.1, 1, size=800)
    assert paired_test(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.02)


def test_equal_methods_and_single_documents() -> None:
    """No difference at all is p = 1, and a single document cannot be tested."""
    assert paired_test(np.zeros(50)) == 1.0
    assert isinstance(paired_test([3.0]), Undefined)


def test_holm_is_stepwise_and_leaves_undefined_alone() -> None:
    """The smallest of three p-values is trebled, the next doubled, never below its predecessor."""
    gone = Undefined("no")
    assert holm([0.01, gone, 0.04, 0.03]) == [pytest.approx(0.03), gone, pytest.approx(0.06),
                                              pytest.approx(0.06)]  # fmt: skip
    assert holm([gone]) == [gone]


def test_bootstrap_p_counts_both_sides() -> None:
    """A bootstrap that never reaches 0 has the smallest p, a centred one has p = 1."""
    assert bootstrap_p(np.ones(999)) == pytest.approx(2 / 1000)
    assert bootstrap_p(np.array([-1.0, 1.0] * 500)) == 1.0
    assert isinstance(bootstrap_p(np.full(10, np.nan)), Undefined)


CASES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.7, 0.700001, 1.0]), st.booleans()),
    min_size=2,
    max_size=40,
)


@settings(max_examples=200, deadline=None)
@given(CASES)
def test_cells_give_the_auroc_of_the_answers(cases: list[tuple[float, bool]]) -> None:
    """Counting answers by confidence first loses nothing."""
    values = np.array([c for c, _ in cases])
    right = np.array([r for _, r in cases])
    cells = ConfidenceCells.of(values, np.ones(len(values), dtype=bool))
    counts = [np.bincount(cells.codes[m], minlength=len(cells.confidence)) for m in (right, ~right)]
    exact = auroc(values.tolist(), right.tolist())
    found = auroc_of(counts[0].astype(float), counts[1].astype(float))
    if isinstance(exact, Undefined):
        assert np.isnan(found)
    else:
        assert found == pytest.approx(exact)


def test_many_confidences_share_cells() -> None:
    """With more confidences than cells the AUROC moves by little, and no cell leaves its bin."""
    values = RNG.random(5_000)
    right = RNG.random(5_000) < values
    cells = ConfidenceCells.of(values, np.ones(5_000, dtype=bool))
    assert not cells.exact
    for cell in range(len(cells.confidence)):
        assert len(set(bin_of(values[cells.codes == cell]).tolist())) == 1
    counts = [np.bincount(cells.codes[m], minlength=len(cells.confidence)) for m in (right, ~right)]
    exact = auroc(values.tolist(), right.tolist())
    assert auroc_of(*(c.astype(float) for c in counts)) == pytest.approx(exact, abs=2e-3)


def test_calibration_error_by_hand() -> None:
    """Two bins of equal size, one 0.2 too sure and one right: the error is 0.1."""
    right, wrong = np.array([6.0, 2.0]), np.array([4.0, 8.0])
    assert calibration_error_of(right, wrong, np.array([0.8, 0.2])) == pytest.approx(0.1)
    assert np.isnan(calibration_error_of(np.zeros(1), np.zeros(1), np.array([0.5])))


def test_bins_hold_their_upper_end() -> None:
    """0.1, 0.3 and 0.7 are not pushed into the next bin by rounding; 0 and 1 have one."""
    assert bin_of([0.0, 0.1, 0.3, 0.7, 1.0, 0.10001]).tolist() == [0, 0, 2, 6, 9, 1]
