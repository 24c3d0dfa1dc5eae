"""Gates in pytest: fixtures of finished runs, in a session of their own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from report_builder import ROWS, build_run

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.records.schema import records_path
from automix_eval.report.gate import GatedRuns, GateError

GATES = """
def test_pays(automix_run):
    assert automix_run.delta_ibc("coqa").low > 0

def test_keeps_the_quality_of_the_llm(automix_run):
    llm = automix_run.quality("coqa", method="always_llm")
    assert automix_run.quality("coqa").value >= 0.95 * llm.value
    assert automix_run.holds("coqa", share=0.8, confidence=0.9)

def test_is_cheap(automix_runs):
    assert automix_runs["demo"].cost("coqa").value < 10
"""


def session(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A session of pytest with the plugin, as an installed package would bring it."""
    (folder / "test_gates.py").write_text(GATES)
    plugin = (
        "-p",
        "no:automix",
        "-p",
        "automix_eval.commands.pytest_plugin",
        "-p",
        "no:cacheprovider",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "--color=no", *plugin]
    return subprocess.run(
        [*command, *map(str, arguments), "--rootdir", folder, folder / "test_gates.py"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_gates_pass_and_fail_on_figures(tmp_path: Path) -> None:
    """A gate that holds passes, one that does not fails and shows the figure."""
    build_run(tmp_path / "run", full=True)
    done = session(tmp_path, "--automix-results", tmp_path / "run")
    assert "1 failed, 2 passed" in done.stdout
    assert "cost of AutoMix (pomdp) on coqa 27" in done.stdout


def test_gates_without_results_are_skipped_with_the_reason(tmp_path: Path) -> None:
    """A session without the option skips them, visibly."""
    done = session(tmp_path)
    assert "3 skipped" in done.stdout
    assert "--automix-results" in done.stdout


def test_a_folder_without_runs_fails(tmp_path: Path) -> None:
    """A wrong folder does not pass for a gate that holds."""
    (tmp_path / "empty").mkdir()
    done = session(tmp_path, "--automix-results", tmp_path / "empty")
    assert done.returncode == 1
    assert "no run in" in done.stdout


def test_undefined_figures_do_not_pass(tmp_path: Path) -> None:
    """A figure without a value or interval raises its reason."""
    build_run(tmp_path)
    runs = GatedRuns.of(assemble([tmp_path], Settings(resamples=200)))
    (run,) = runs
    with pytest.raises(GateError, match=r"delta_ibc.*record=full"):
        _ = run.delta_ibc("coqa").low
    with pytest.raises(GateError, match=r"cost .* alone asserts nothing: compare its .value"):
        assert run.cost("coqa")
    with pytest.raises(GateError, match="no task nothing: it has coqa"):
        run.quality("nothing")
    with pytest.raises(GateError, match="no method nobody"):
        run.quality("coqa", method="nobody")
    with pytest.raises(GateError, match="0 runs are named"):
        _ = runs["nobody"]


def test_what_is_kept_of_the_quality_can_be_gated(tmp_path: Path) -> None:
    """It passes for a share that the questions show, and fails in words for another."""
    build_run(tmp_path, full=True)
    run = GatedRuns.of(assemble([tmp_path], Settings(resamples=200)))[0]
    assert run.holds("coqa", share=0.8, confidence=0.9)
    assert not run.holds("coqa", share=1.0)
    assert "1 of the LLM's quality is not shown to be kept (0.95 one" in repr(run.holds("coqa", 1))
    assert not run.holds("coqa", share=0.5, method="always_slm")
    with pytest.raises(GateError, match="confidence=95 must lie between 0 and 1"):
        run.holds("coqa", share=0.9, confidence=95)
    with pytest.raises(GateError, match="no method nobody"):
        run.holds("coqa", share=0.9, method="nobody")
    with pytest.raises(GateError, match="no task nothing"):
        run.holds("nothing", share=0.9)
    with pytest.raises(GateError, match="not compared with the LLM question by question"):
        run.holds("coqa", share=0.9, method="random@pomdp")


def test_what_is_kept_without_an_llm_or_of_few_questions_passes_no_gate(tmp_path: Path) -> None:
    """What cannot be told raises with its reason; it is neither kept nor lost."""
    build_run(tmp_path / "a")
    build_run(tmp_path / "b", rows=ROWS[:8], full=True)
    for name, why in (("a", "record=full"), ("b", "at least 10 documents, there are 8")):
        run = GatedRuns.of(assemble([tmp_path / name], Settings(resamples=200)))[0]
        with pytest.raises(GateError, match=why):
            run.holds("coqa", share=0.9)


def test_comparisons_can_be_gated(tmp_path: Path) -> None:
    """Two runs of one leaderboard are compared by the names of their methods."""
    build_run(tmp_path / "a", full=True)
    build_run(tmp_path / "b", "r22", policy="always_slm", full=True)
    runs = GatedRuns.of(assemble([tmp_path], Settings(resamples=200)))
    assert len(runs) == 2
    pair = runs.comparison("coqa", "pomdp", "always_slm")
    assert pair.quality.value == pytest.approx(0.5)
    with pytest.raises(GateError, match="in this order"):
        runs.comparison("coqa", "always_slm", "pomdp")


def test_a_run_that_was_not_finished_passes_no_gate(tmp_path: Path) -> None:
    """Its figures are those of some of the questions; the error says of how many."""
    path = build_run(tmp_path, full=True)
    manifest = json.loads(path.read_text())
    size = records_path(path, manifest).stat().st_size
    manifest |= {"unfinished": {"coqa": {"questions": 7, "of": 90}}, "records_bytes": size}
    path.write_text(json.dumps(manifest))
    runs = GatedRuns.of(assemble([tmp_path], Settings(resamples=200)))
    with pytest.raises(GateError, match="answered 7 of 90"):
        runs[0].quality("coqa")
