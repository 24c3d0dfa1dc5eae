"""Confidences counted in cells, for the bootstrap of a calibration error."""

from __future__ import annotations

import numpy as np
import pytest

from automix_eval.metrics.calibration import MAX_CELLS, ConfidenceCells, bin_of


@pytest.mark.parametrize("values", [np.arange(11) / 10, np.arange(1, 3 * MAX_CELLS) / 270])
def test_a_cell_lies_in_the_bin_of_its_confidences(values: np.ndarray) -> None:
    """Also where the mean of equal confidences is rounded beyond the end of their bin."""
    for number in range(1, 40):
        confidences = np.repeat(values, number)
        cells = ConfidenceCells.of(confidences, np.ones(len(confidences), dtype=bool))
        assert cells.exact == (len(values) <= MAX_CELLS)
        assert (bin_of(cells.confidence)[cells.codes] == bin_of(confidences)).all()


def test_there_are_no_cells_without_answers() -> None:
    """No confidence is known."""
    cells = ConfidenceCells.of(np.full(3, np.nan), np.zeros(3, dtype=bool))
    assert (len(cells.confidence), cells.codes.tolist()) == (0, [-1, -1, -1])
