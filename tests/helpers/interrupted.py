"""A scripted cascade over some blocks that tests interrupt, and run again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from scripted import SCRIPTS, gold_answers, knows, run_harness, scripted_args

QUESTIONS = 24


def arguments(folder: Path) -> dict[str, Any]:
    """A cascade over some blocks, with a store of its own."""
    answers = gold_answers("coqa_demo")
    SCRIPTS["small"], SCRIPTS["large"] = knows(answers, 0.5), knows(answers, 0.9)
    return scripted_args(
        meta_verifier="threshold",
        block_size=4,
        **{
            "calibration.num_docs": 6,
            "calibration.min_docs": 4,
            "store.path": str(folder / "calls.sqlite"),
        },
    )


def run(folder: Path, **more: Any) -> None:
    """One run into a folder."""
    args = arguments(folder) | more
    run_harness(["coqa_demo"], args, folder / "out", limit=QUESTIONS, log_samples=True)
