"""Runs that are killed at any moment end, resumed, in the report of an undisturbed run."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kill_phases import PHASES
from kill_series import Runner, Seen, Series
from loopback import CONCURRENT, cascade_of, serving
from scripted import gold_answers, knows
from tiny_models import save_tiny

pytestmark = pytest.mark.slow

KILLS = int(os.environ.get("AUTOMIX_KILLS", str(len(PHASES))))
TASK = "coqa_demo"


def test_a_killed_run_resumes_to_the_same_report(tmp_path: Path) -> None:
    """In every phase; a resume repeats at most the calls in flight, counted by their server."""
    answers = gold_answers(TASK)
    with serving(knows(answers, 0.4), knows(answers, 0.9)) as server:
        settings = {
            "model_args": {"model": "killed", "objective": "ibc", **cascade_of(server)},
            "tasks": [TASK],
            "limit": 24,
            "resamples": 200,
        }
        seen = killed("two models behind a server", tmp_path, settings, server.asked, PHASES, KILLS)
    assert all(seen.kills[p] for p in PHASES)
    assert seen.identical == seen.resumes
    assert seen.beside > 0


def test_models_of_transformers_resume_to_the_same_report(tmp_path: Path) -> None:
    """Also where a batch that is cut short is computed anew, without the rows that were done."""
    args: dict[str, Any] = {"model": "killed", "calibration.num_docs": 5,
                            "calibration.min_docs": 4, "block_size": 2}  # fmt: skip
    for tier, family in (("slm", "llama"), ("llm", "gemma3")):
        folder = save_tiny(tmp_path / family, family)
        # the tiny vocabulary spells words out, so passages need a wide window
        args |= {tier: "hf", f"{tier}.pretrained": str(folder), f"{tier}.max_length": 4096}
        args[f"{tier}.dtype"] = "float32"
    args |= {"verifier": "few_shot", "verifier.num_samples": 2, "verifier.max_tokens": 8}
    # by ibc every answer is verified, so that there is a verification to be killed in
    args |= {"meta_verifier": "threshold", "objective": "ibc", "record": "full"}
    settings = {
        "model_args": args,
        "tasks": [TASK],
        "limit": 6,
        "resamples": 200,
        "options": {"gen_kwargs": "max_gen_toks=4", "batch_size": 4, "device": "cpu"},
    }
    phases = ("calibration", "verification", "recording")
    title = "two models of transformers"
    seen = killed(title, tmp_path, settings, None, phases, max(3, KILLS // 10))
    assert seen.identical == seen.resumes


def killed(
    title: str, folder: Path, settings: dict[str, Any], asked: Counter[str] | None,
    phases: tuple[str, ...], kills: int,
) -> Seen:  # fmt: skip
    """What a series has shown; its table is printed for who reads along, also when it fails."""
    runner = Runner(folder, settings)
    try:
        series = Series(runner, folder, asked, CONCURRENT)
        try:
            series.go(kills, phases)
        finally:
            print(f"\n{title}\n{series.seen.table()}")
    finally:
        runner.close()
    return series.seen
