"""Samples of the harness, as it writes them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lm_eval.utils import handle_non_serializable

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.harness.task_metrics import number
from automix_eval.records.harness_results import ScoredBy, find_results, read_samples
from automix_eval.records.single_model_runs import read_single_model_runs


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


def test_errors_of_a_plain_run_are_scores_below_zero(tmp_path: Path) -> None:
    """Where lower is better the better model has the higher quality, and the metric says so."""
    for name, errors in (("small", [1.0, 0.0, 1.0]), ("large", [0.0, 0.0, 0.25])):
        (tmp_path / name).mkdir()
        about = {"config": {"model": "hf", "model_args": f"pretrained={name}"},
                 "higher_is_better": {"t": {"wer": False}}}  # fmt: skip
        (tmp_path / name / "results_1.json").write_text(json.dumps(about))
        rows = [{"doc_id": i, "filter": "none", "metrics": ["wer"], "prompt_hash": "a", "wer": e}
                for i, e in enumerate(errors)]  # fmt: skip
        text = "\n".join(map(json.dumps, rows))
        (tmp_path / name / "samples_t_1.jsonl").write_text(text)
    read, _ = read_single_model_runs(find_results([tmp_path])[0], {})
    scores = {one.label: one.scores.tolist() for one in read}
    assert scores == {"small": [-1.0, 0.0, -1.0], "large": [0.0, 0.0, -0.25]}
    assert not any(np.signbit(one.scores[1]) for one in read)  # no figure is "-0.000"
    assert {one.quality for one in read} == {"minus wer"}
    (board,) = assemble([tmp_path], Settings(resamples=20)).report.boards
    assert board.metric == "minus wer"
    by = {t: [ScoredBy("wer", sign=-1.0)] for t in "t"}  # as a run of the cascade names it
    again, _ = read_single_model_runs(find_results([tmp_path])[0], by)
    assert {one.label: one.scores.tolist() for one in again} == scores


def test_a_task_without_a_metric_has_no_name_of_one() -> None:
    """As with --predict_only: its filter alone names nothing."""
    assert ScoredBy("", "get").name is None
    assert ScoredBy(None, "get").name is None
    assert ScoredBy("hit", "get").name == "hit,get"
