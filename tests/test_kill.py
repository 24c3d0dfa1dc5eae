"""Runs that are killed at any moment end, resumed, in the report of an undisturbed run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from conftest import gold_answers, knows
from kill_phases import PHASES
from kill_series import Runner, Seen, Series
from loopback import CONCURRENT, cascade_of, serving
from tiny_models import save_tiny

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("AUTOMIX_KILLS", "12"))
TASK = "coqa_demo"


def test_a_killed_run_resumes_to_the_same_report(tmp_path: Path) -> None:
    """In every phase; a resume repeats at most the calls in flight, counted by their server."""
    answers = gold_answers(TASK)
    with serving(knows(answers, 0.4), knows(answers, 0.9)) as server:
        settings = {
            "model_args": {"model": "killed", **cascade_of(server)},
            "tasks": [TASK],
            "limit": 24,
            "resamples": 200,
        }
        runner = Runner(tmp_path, settings)
        try:
            series = Series(runner, tmp_path, server.asked, CONCURRENT)
            series.go(KILLS)
        finally:
            runner.close()
    said("two models behind a server", series.seen)
    assert all(series.seen.kills[p] for p in PHASES)
    assert series.seen.beside > 0


def test_models_of_transformers_resume_to_the_same_report(tmp_path: Path) -> None:
    """Also where a batch that is cut short is computed anew, without the rows that were done."""
    args: dict[str, Any] = {"model": "killed", "calibration.num_docs": 5, "block_size": 2}
    for tier, family in (("slm", "llama"), ("llm", "gemma3")):
        folder = save_tiny(tmp_path / family, family)
        # the tiny vocabulary spells words out, so passages need a wide window
        args |= {tier: "hf", f"{tier}.pretrained": str(folder), f"{tier}.max_length": 4096}
        args[f"{tier}.dtype"] = "float32"
    args |= {"verifier": "few_shot", "verifier.num_samples": 2, "verifier.max_tokens": 8}
    args |= {"meta_verifier": "threshold", "record": "full"}
    settings = {
        "model_args": args,
        "tasks": [TASK],
        "limit": 6,
        "resamples": 200,
        "options": {"gen_kwargs": "max_gen_toks=4", "batch_size": 4, "device": "cpu"},
    }
    runner = Runner(tmp_path, settings)
    try:
        series = Series(runner, tmp_path, None, 0)
        series.go(max(3, KILLS // 10), ("calibration", "verification", "recording"))
    finally:
        runner.close()
    said("two models of transformers", series.seen)


def said(title: str, seen: Seen) -> None:
    """The table of a series, for who reads along."""
    print(f"\n{title}\n{seen.table()}")
