"""Samples of the harness, as it writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.utils import handle_non_serializable

from automix_eval.harness.task_metrics import number
from automix_eval.records.harness_results import ScoredBy, read_samples


@pytest.mark.parametrize(
    "score",
    [
        0.5, True, np.float32(0.5), np.bool_(False), np.array(0.5), np.array([0.5]),
        np.array([[1]]), torch.tensor(0.5), torch.tensor([0.5]), torch.tensor([[True]]),
    ],
)  # fmt: skip
def test_a_score_that_counts_is_read_back(tmp_path: Path, score: Any) -> None:
    """What a run takes for a number its report finds in the samples, whatever text it became."""
    row = {"doc_id": 3, "filter": "none", "metrics": ["hit"], "hit": score}
    path = tmp_path / "samples.jsonl"
    path.write_text(json.dumps(row, default=handle_non_serializable) + "\n")
    assert read_samples(path, ScoredBy("hit")).scores["none"] == {3: number(score)}


def test_a_task_without_a_metric_has_no_name_of_one() -> None:
    """As with --predict_only: its filter alone names nothing."""
    assert ScoredBy("", "get").name is None
    assert ScoredBy(None, "get").name is None
    assert ScoredBy("hit", "get").name == "hit,get"
