"""Paired tests and Holm's correction; AUROC and calibration error from counts."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.regression.linear_model import OLS
from statsmodels.stats.multitest import multipletests

from automix_eval.metrics.bootstrap import FEW, percentile_interval
from automix_eval.metrics.calibration import (
    MAX_CELLS,
    ConfidenceCells,
    auroc,
    auroc_of,
    bin_of,
    brier_of,
    calibration_error_of,
    risk_coverage_area_of,
)
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.significance import (
    SIGNIFICANT,
    PairedDifference,
    PairedTests,
    bootstrap_p,
    holm,
)

RNG = np.random.default_rng(11)


def against_nothing(
    differences: npt.ArrayLike, sizes: npt.ArrayLike | None = None
) -> PairedDifference:
    """A method against one that scores nothing."""
    values = np.asarray(differences, dtype=float)
    sums = np.column_stack([values, np.zeros(len(values))])
    return PairedTests(sums, np.ones(len(values)) if sizes is None else sizes).difference(0, 1)


def test_all_signs_of_few_documents() -> None:
    """Five documents that all favour one method: 2 of 32 sign patterns are as extreme."""
    assert against_nothing([1, 1, 1, 1, 1]) == PairedDifference(
        FEW, pytest.approx(2 / 32), pytest.approx(2 / 32), 5
    )


@given(st.lists(st.integers(-3, 3), min_size=6, max_size=9), st.data())
def test_the_interval_is_what_the_test_does_not_reject(
    gaps: list[int], data: st.DataObject
) -> None:
    """By all signs of the differences less the hypothesis, whatever the sizes of the documents."""
    number = len(gaps)
    sizes = np.array(data.draw(st.lists(st.integers(1, 4), min_size=number, max_size=number)))
    found = against_nothing(gaps, sizes)
    assert not isinstance(found.interval, Undefined)
    low, high = found.interval
    for hypothesis in (0.0, low, high, low - 1e-6, high + 1e-6, (low + high) / 2):
        rest = np.array(gaps) - hypothesis * sizes
        signs = np.array(list(itertools.product((-1, 1), repeat=number)))
        beyond = np.abs(signs @ rest) - abs(rest.sum())
        p = (beyond >= -1e-9).mean()
        assert (p >= 0.05) == (low - 1e-9 <= hypothesis <= high + 1e-9)
        if hypothesis == 0:
            assert found.p == pytest.approx(p)
            # what was observed counts in full, and so does its mirror image
            tied = (np.abs(beyond) < 1e-9).sum() - 2
            assert found.mid_p == pytest.approx(p - tied / 2 / len(signs))


@pytest.mark.parametrize("number", [6, 12, 14, 15, 40, 300, 2_500])
def test_interval_and_test_never_contradict_each_other(number: int) -> None:
    """An interval holds 0 just where p is .05 or more: all signs, random ones, Student's t."""
    rng = np.random.default_rng(number)
    both = set()
    for _ in range(40 if number < 2_000 else 10):
        sizes = rng.integers(1, 4, number)
        shift = rng.choice([0.0, 2.0, 4.0]) / np.sqrt(number)
        found = against_nothing(np.round(rng.normal(shift, 1, number)), sizes)
        assert not isinstance(found.interval, Undefined)
        assert not isinstance(found.p, Undefined)
        holds = found.interval[0] <= 0 <= found.interval[1]
        assert holds == (found.p >= SIGNIFICANT)
        both.add(holds)
    assert len(both) == 2


@pytest.mark.parametrize("number", [10, 300, 2_500])
def test_it_does_not_matter_which_method_is_better(number: int) -> None:
    """The test is two-sided: exchanged methods have the same p-value, by every way."""
    values = np.random.default_rng(number).normal(1, 1, size=number)
    better, worse = against_nothing(values), against_nothing(-values)
    assert better.p == pytest.approx(worse.p, rel=1e-9)
    assert better.p < 0.02
    assert worse.interval == pytest.approx((-better.interval[1], -better.interval[0]))


@pytest.mark.parametrize(("number", "p_value"), [(12, 2 / 2**12), (40, 1e-4), (2_000, 1e-4)])
def test_signs_are_permuted_up_to_two_thousand_documents(number: int, p_value: float) -> None:
    """Equal differences have no variance, which a t-test would take for proof."""
    assert against_nothing(np.ones(number)).p == pytest.approx(p_value)


def test_permutations_agree_with_the_t_test() -> None:
    """For well-behaved differences the two tests say the same."""
    values = RNG.normal(0.1, 1, size=800)
    found, student = against_nothing(values), stats.ttest_1samp(values, 0)
    assert found.p == pytest.approx(student.pvalue, abs=0.02)
    assert found.interval == pytest.approx(student.confidence_interval(0.95), abs=0.01)


def test_of_many_documents_it_is_students_interval() -> None:
    """One question a document: mean, degrees and error of the t-test of one sample."""
    gaps = np.random.default_rng(3).normal(0.02, 1, 2001)
    theirs = stats.ttest_1samp(gaps, 0)
    found = against_nothing(gaps)
    assert found.interval == pytest.approx(tuple(theirs.confidence_interval()), rel=1e-9)
    assert found.p == pytest.approx(theirs.pvalue, rel=1e-9)


def test_many_documents_of_other_sizes_have_errors_robust_to_clusters() -> None:
    """The regression on a constant with errors by document, as statsmodels has it."""
    rng = np.random.default_rng(4)
    sizes = rng.integers(1, 30, size=2001)
    documents = np.repeat(np.arange(2001), sizes)
    # larger documents gain more: their number is part of what varies
    gaps = rng.normal(0.01 * sizes[documents], 1) + rng.normal(0, 0.5, size=2001)[documents]
    theirs = OLS(gaps, np.ones(len(gaps))).fit(
        cov_type="cluster", cov_kwds={"groups": documents}, use_t=True
    )
    found = against_nothing(np.bincount(documents, gaps), sizes)
    assert found.interval == pytest.approx(tuple(theirs.conf_int()[0]), rel=1e-9)


def test_equal_methods_and_single_documents() -> None:
    """No difference at all is p = 1, and a single document cannot be tested."""
    assert against_nothing(np.zeros(50)) == PairedDifference(
        (0.0, 0.0), 1.0, pytest.approx(0.5, abs=1e-3), 0
    )
    assert isinstance(against_nothing([3.0]).p, Undefined)
    assert isinstance(against_nothing([3.0]).interval, Undefined)


def test_permutations_in_parts_are_as_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is held at a time, also where the last part is a smaller one."""
    values = np.random.default_rng(2).normal(size=(40, 2))
    whole = PairedTests(values, np.ones(40))._parts
    monkeypatch.setattr("automix_eval.metrics.significance._CHUNK", 40 * 700)
    parts = PairedTests(values, np.ones(40))._parts
    assert whole is not None
    assert parts is not None
    assert parts.shape == whole.shape
    assert parts == pytest.approx(whole)


def test_sums_and_sizes_belong_together() -> None:
    """Another number of documents is a mistake of the caller."""
    with pytest.raises(ValueError, match="sums of 3 documents"):
        PairedTests(np.zeros((2, 2)), np.ones(3))


def test_holm_is_stepwise_and_leaves_undefined_alone() -> None:
    """The smallest of three p-values is trebled, the next doubled, never below its predecessor."""
    gone = Undefined("no")
    assert holm([0.01, gone, 0.04, 0.03]) == [pytest.approx(0.03), gone, pytest.approx(0.06),
                                              pytest.approx(0.06)]  # fmt: skip
    assert holm([gone]) == [gone]


@given(st.lists(st.tuples(st.integers(0, 12), st.floats(0, 1)), max_size=9))
def test_tests_that_cannot_be_as_small_do_not_count(tests: list[tuple[int, float]]) -> None:
    """By the closed test of every subset, each by Bonferroni over those that can reach the p."""
    floors = [0.5**k for k, _ in tests]
    values = [max(p, floor) for (_, p), floor in zip(tests, floors, strict=True)]

    def of(subset: tuple[int, ...]) -> float:
        smallest = min(values[i] for i in subset)
        return min(1.0, smallest * sum(floors[i] <= smallest for i in subset))

    every = range(len(tests))
    subsets = [s for size in every for s in itertools.combinations(every, size + 1)]
    closed = [max(of(s) for s in subsets if i in s) for i in every]
    found = holm(values, floors)
    assert found == pytest.approx(closed)
    assert all(a <= b for a, b in zip(found, holm(values), strict=True))


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30))
def test_holm_is_the_one_of_statsmodels(p_values: list[float]) -> None:
    """To the last bit, ties and certainties included."""
    with mock.patch("gc.collect"):  # statsmodels collects all garbage at every call
        theirs = multipletests(p_values, method="holm")[1].tolist()
    assert holm(p_values) == theirs


def test_bootstrap_p_counts_both_sides() -> None:
    """A bootstrap that never reaches 0 has the smallest p, a centred one has p = 1."""
    many = 10**6
    for draws in (np.ones(999), -np.ones(999)):
        assert bootstrap_p(draws, many) == pytest.approx(2 / 1000, rel=1e-3)
    assert bootstrap_p(np.array([-1.0, 1.0] * 500), many) == pytest.approx(1.0)
    assert isinstance(bootstrap_p(np.full(10, np.nan), many), Undefined)
    assert isinstance(bootstrap_p(np.ones(10), 1), Undefined)


@given(st.sampled_from([6, 10, 40, 10**6]), st.integers(800, 1200), st.floats(0, 0.06))
def test_bootstrap_p_inverts_the_interval(documents: int, number: int, below: float) -> None:
    """It is below .05 just where the interval of the same resamples does not hold 0."""
    draws = np.arange(number) - round(below * number) + 0.5
    interval = percentile_interval(draws, documents)
    p = bootstrap_p(draws, documents)
    assert not isinstance(interval, Undefined)
    assert not isinstance(p, Undefined)
    assert (p < SIGNIFICANT) == (interval[0] > 0)


CASES = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.3, 0.7, 0.700001, 1.0]), st.booleans()),
    min_size=2,
    max_size=40,
)


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
    """With more confidences than cells the AUROC moves by little, and no cell leaves its bin.

    A cell stands at the mean of its confidences; what is not known has none.
    """
    values, known = RNG.random(5_000), RNG.random(5_000) < 0.9
    right = RNG.random(5_000) < values
    cells = ConfidenceCells.of(values, known)
    number = len(cells.confidence)
    assert not cells.exact
    assert 90 <= number <= MAX_CELLS
    assert (cells.codes[~known] == -1).all()
    for cell in range(number):
        inside = values[cells.codes == cell]
        assert cells.confidence[cell] == pytest.approx(inside.mean())
        assert len(set(bin_of(inside).tolist())) == 1
    assert (np.diff(cells.codes[known][np.argsort(values[known])]) >= 0).all()
    counts = [np.bincount(cells.codes[known & m], minlength=number) for m in (right, ~right)]
    exact = auroc(values[known].tolist(), right[known].tolist())
    assert auroc_of(*(c.astype(float) for c in counts)) == pytest.approx(exact, abs=2e-3)


@pytest.mark.parametrize(("different", "exact"), [(0, True), (100, True), (101, False)])
def test_cells_are_exact_up_to_their_number(different: int, exact: bool) -> None:
    """A hundred different confidences have a cell each; of none there is no cell."""
    values = np.arange(different) / 128
    cells = ConfidenceCells.of(values, np.ones(different, dtype=bool))
    assert cells.exact == exact
    assert not exact or cells.confidence.tolist() == values.tolist()


def test_calibration_error_by_hand() -> None:
    """Two bins of equal size, one 0.2 too sure and one right: the error is 0.1."""
    right, wrong = np.array([6.0, 2.0]), np.array([4.0, 8.0])
    assert calibration_error_of(right, wrong, np.array([0.8, 0.2])) == pytest.approx(0.1)
    assert np.isnan(calibration_error_of(np.zeros(1), np.zeros(1), np.array([0.5])))


def test_brier_score_by_hand() -> None:
    """One sure right answer, one doubtful wrong one: (0.1^2 + 0.4^2) / 2."""
    found = brier_of(np.array([0.0, 1.0]), np.array([1.0, 0.0]), np.array([0.4, 0.9]))
    assert found == pytest.approx((0.01 + 0.16) / 2)
    assert np.isnan(brier_of(np.zeros(1), np.zeros(1), np.array([0.5])))


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.3, 1.0]), st.booleans()), min_size=1, max_size=6))
def test_risk_coverage_area_is_the_mean_over_all_orders(cases: list[tuple[float, bool]]) -> None:
    """Sure answers first, equally sure ones in every order, as the definition counts them."""
    areas = []
    for order in itertools.permutations(cases):
        if [c for c, _ in order] == sorted((c for c, _ in cases), reverse=True):
            wrong = np.cumsum([not right for _, right in order])
            areas.append((wrong / np.arange(1, len(cases) + 1)).mean())
    values, codes = np.unique([c for c, _ in cases], return_inverse=True)
    flags = np.array([r for _, r in cases])
    counts = (np.bincount(codes, f, minlength=len(values)) for f in (flags, ~flags))
    assert risk_coverage_area_of(*counts) == pytest.approx(np.mean(areas))


def test_cells_without_answers_change_nothing() -> None:
    """As in a resample that drew none of a confidence; of no answer at all there is no area."""
    right, wrong, some = np.array([2.0, 0.0, 1.0]), np.array([1.0, 0.0, 3.0]), [0, 2]
    for area in (risk_coverage_area_of, auroc_of):
        assert area(right, wrong) == area(right[some], wrong[some])
        for cells in (0, 2):
            assert np.isnan(area(*np.zeros((2, 3, cells)))).tolist() == [True] * 3


def test_bins_hold_their_upper_end() -> None:
    """0.1, 0.3 and 0.7 are not pushed into the next bin by rounding; 0 and 1 have one."""
    assert bin_of([0.0, 0.1, 0.3, 0.7, 1.0, 0.10001]).tolist() == [0, 0, 2, 6, 9, 1]
