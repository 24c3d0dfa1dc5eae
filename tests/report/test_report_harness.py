"""The report on what the harness and the composite model really write."""

from __future__ import annotations

from pathlib import Path

from scripted import SCRIPTS, gold_answers, knows, run_harness, scripted_args

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.metrics.ibc import Undefined
from automix_eval.report import output

TASK = "coqa_demo"


def test_report_agrees_with_the_harness(tmp_path: Path) -> None:
    """Quality, cost and escalation rate of a real run are the harness's own means."""
    answers = gold_answers(TASK)
    SCRIPTS["small"] = knows(answers, 0.5)
    SCRIPTS["large"] = knows(answers, 0.9)
    arguments = scripted_args(meta_verifier="self_consistency", record="full")
    results = run_harness([TASK], arguments, tmp_path / "results", limit=12)
    samples = results["samples"][TASK]
    found = assemble([tmp_path / "results"], Settings())
    report = found.report
    (task,) = report.tasks
    assert report.warnings == ()
    assert not any("record" in w for w in task.warnings)
    figures = task.figures
    for figure, key in (
        (figures.method.quality, task.metric),
        (figures.method.cost, "cost"),
        (figures.method.escalation_rate, "escalation_rate"),
    ):
        assert not isinstance(figure.value, Undefined)
        assert abs(figure.value - sum(s[key] for s in samples) / len(samples)) < 1e-9
    assert task.llm_source == "this run"
    assert "an embedded sample" in output.render(found, "text")
