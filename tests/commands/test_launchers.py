"""Sweeps by launchers and searches: jobs in other processes, one call store, one table."""

from __future__ import annotations

import csv
import importlib.util
from multiprocessing import set_forkserver_preload
from pathlib import Path

import pytest
from processes import python_path
from scripted import SCRIPTS, gold_answers, knows
from tiny_models import save_tiny

from automix_eval.commands.main import main
from automix_eval.report import pictures


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder of the test's own; jobs in other processes find the helpers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", python_path())


def table(root: Path) -> list[dict[str, str]]:
    """The combined table of a sweep."""
    with (root / "jobs.csv").open() as lines:
        return list(csv.DictReader(lines))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("launcher", "module"),
    [
        ("processes", "hydra_joblib_launcher"),
        ("submitit_here", "hydra_submitit_launcher"),
        ("ray_here", "hydra_ray_launcher"),
    ],
)
def test_jobs_in_other_processes_share_the_call_store_and_the_table(
    launcher: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two jobs at once ask everything once between them, and a third, here, finds their calls."""
    if importlib.util.find_spec(f"hydra_plugins.{module}") is None:
        pytest.skip(f"{module} is not installed")
    monkeypatch.setattr(pictures, "save_all", lambda *_: [])
    # two processes that have imported the harness, and nothing of ours
    monkeypatch.setattr("joblib.externals.loky.backend.context._DEFAULT_START_METHOD", "forkserver")
    set_forkserver_preload(["lm_eval.evaluator", "lm_eval.models.huggingface"])
    slm, llm = (save_tiny(tmp_path / f, f) for f in ("llama", "gemma3"))
    line = [
        "run", "-m", "slm=hf", f"slm.pretrained={slm}", "llm=hf", f"llm.pretrained={llm}",
        "tasks=[quality_demo]", "limit=2", "bootstrap_iters=0", "calibration.num_docs=10",
        "slm.max_length=512", "llm.max_length=512", "progress=false", "device=cpu",
        "verifier=margin", "gen_kwargs={max_gen_toks: 4}", "output=s",
    ]  # fmt: skip
    apart = f"hydra/launcher={launcher}"
    assert main([*line, apart, "meta_verifier=threshold,greedy"]) == 0
    rows = table(Path("s"))
    assert [(r["job"], r["status"]) for r in rows] == [("0", "finished"), ("1", "finished")]
    assert sorted(int(r["calls_made"]) > 0 for r in rows) == [False, True]
    assert not (Path("s") / ".first").exists()
    assert main([*line, "meta_verifier=threshold,pomdp"]) == 0
    assert [r["calls_made"] for r in table(Path("s"))] == ["0", "0"]


def test_a_search_looks_for_the_best_value_of_a_figure() -> None:
    """The value of a job is the figure that `optimize` names; its trials are rows of the table."""
    pytest.importorskip("hydra_plugins.hydra_optuna_sweeper")
    answers = gold_answers("coqa_demo")
    SCRIPTS["small"], SCRIPTS["large"] = knows(answers, 0.5), knows(answers, 0.9)
    line = [
        "run", "-m", "hydra/sweeper=search", "hydra.sweeper.n_trials=3",
        "slm=harness", "slm.lm=scripted", "slm.script=small",
        "llm=harness", "llm.lm=scripted", "llm.script=large",
        "verifier=few_shot", "verifier.num_samples=2", "progress=false",
        "tasks=[coqa_demo]", "limit=6", "bootstrap_iters=0",
        "meta_verifier=pomdp", "meta_verifier.num_bins=range(2,20)",
        "optimize=quality", "output=s",
    ]  # fmt: skip
    assert main(line) == 0
    found = (Path("s") / "optimization_results.yaml").read_text()
    best = max(float(r["quality"]) for r in table(Path("s")))
    assert len(table(Path("s"))) == 3
    assert f"best_value: {best}" in found
