"""Questions that failed for good in the report: excluded by name from both sides, and said."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from laws import examples
from report_builder import ROWS, build_run, finals, harness, llm_scores, only, record

from automix_eval.analysis.compare import compare
from automix_eval.analysis.gather import Settings, assemble
from automix_eval.analysis.selection import _differing, _disagreements, select
from automix_eval.commands.main import main
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.harness_results import Samples
from automix_eval.records.runs import FoundRuns, find_runs, read_run
from automix_eval.safety.errors import AutoMixError

FAST = Settings(resamples=200)
LOST = (2, 5)


def failed(*doc_ids: int, task: str = "coqa", phase: str = "evaluation") -> list[dict[str, Any]]:
    """As a manifest lists them."""
    return [
        {"task": task, "phase": phase, "doc_id": i, "repeat": 0, "tier": 1, "role": "answer",
         "reason": "http_500"}
        for i in doc_ids
    ]  # fmt: skip


def lossy(folder: Path, run_id: str = "r1", lose: tuple[int, ...] = LOST, **more: Any) -> Path:
    """A run in which some questions failed."""
    policy, full = more.get("policy", "pomdp"), more.get("full", True)
    kept = [record(i, row, full=full, policy=policy) for i, row in enumerate(ROWS) if i not in lose]
    return build_run(
        folder, run_id, records=kept, **{"full": full, "failed": failed(*lose), **more}
    )


def value(figure: Any) -> float:
    """A figure that must be defined."""
    assert not isinstance(figure.value, Undefined), figure.value.reason
    return float(figure.value)


def test_the_report_names_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Task and documents stand in every form of the report, the page included."""
    lossy(tmp_path)
    words = "excluded: 2 questions failed: coqa, doc_id 2, 5"
    for form in ("text", "md", "json", "html"):
        assert main(["report", str(tmp_path), "--format", form, "--resamples", "99"]) == 0
        shown = " ".join(capsys.readouterr().out.replace("\\", "").replace("! ", "").split())
        assert words in shown, form


def test_both_sides_of_a_leaderboard_lose_the_question(tmp_path: Path) -> None:
    """Two runs of which one lost questions share a board, on the questions of both."""
    lossy(tmp_path / "a")
    build_run(tmp_path / "b", "r22", full=True, policy="always_slm")
    (board,) = assemble([tmp_path], FAST).report.boards
    assert board.num_questions == len(ROWS) - 2
    live = {m.name: value(m.quality) for m in board.methods if m.kind == "live"}
    kept = [i for i in range(len(ROWS)) if i not in LOST]
    assert live["pomdp"] == pytest.approx(np.mean([finals()[i] for i in kept]))
    assert live["always_slm"] == pytest.approx(np.mean([ROWS[i][0] for i in kept]))
    replays = {m.name: value(m.quality) for m in board.methods if m.kind == "replay"}
    assert replays["replay:always_slm"] == live["always_slm"]
    assert replays["replay:always_llm"] == pytest.approx(np.mean([ROWS[i][1] for i in kept]))
    other = only(tmp_path, "r22")
    assert any("excluded: 2 questions failed in run r1" in w for w in other.warnings)
    assert not any("the manifest counts" in w for w in other.warnings)


def test_another_prompt_is_another_question(tmp_path: Path) -> None:
    """A run with other prompts loses nothing for this one's sake."""
    lossy(tmp_path / "a")
    rows = [record(i, row, full=True, policy="always_slm") for i, row in enumerate(ROWS)]
    other = [replace(r, prompt_hash=f"other{r.doc_id}") for r in rows]
    # another policy: the same command run again would take the place of the one that lost them
    build_run(tmp_path / "b", "r22", records=other, policy="always_slm")
    sizes = {t.run_id: t.figures.num_questions for t in assemble([tmp_path], FAST).report.tasks}
    assert sizes == {"r1": len(ROWS) - 2, "r22": len(ROWS)}


def test_a_repeat_is_a_question_of_its_own(tmp_path: Path) -> None:
    """Where one of a document's repeats failed, the other run keeps the document's others."""
    lost = [{**failed(2)[0], "repeat": 1}]
    for folder, run_id, policy in (("a", "r1", "pomdp"), ("b", "r22", "always_slm")):
        rows = [record(i, row, full=True, policy=policy) for i, row in enumerate(ROWS)]
        rows += [replace(r, repeat=1) for r in rows if run_id != "r1" or r.doc_id != 2]
        more = {"failed": lost} if run_id == "r1" else {}
        build_run(tmp_path / folder, run_id, records=rows, policy=policy, **more)
    sizes = {t.run_id: t.figures.num_questions for t in assemble([tmp_path], FAST).report.tasks}
    assert sizes == {"r1": 2 * len(ROWS) - 1, "r22": 2 * len(ROWS) - 1}


def test_the_llms_line_loses_what_the_llm_lost(tmp_path: Path) -> None:
    """Where the run that stands for the LLM failed, delta IBC rests on the questions of both."""
    build_run(tmp_path / "a", "r22")
    lossy(tmp_path / "b", policy="always_llm", full=False)
    task = only(tmp_path, "r22")
    assert task.figures.num_questions == len(ROWS) - 2
    assert "always_llm" in task.llm_source
    alone = only(tmp_path / "a", "r22", llm=tmp_path / "b")
    assert alone.figures.num_questions == len(ROWS) - 2


def test_a_plain_run_loses_the_question_too(tmp_path: Path) -> None:
    """A run of the LLM by the harness alone stands beside the others on the same questions."""
    lossy(tmp_path / "a")
    harness(tmp_path / "b", llm_scores())
    (board,) = assemble([tmp_path], FAST).report.boards
    (plain,) = [m for m in board.methods if m.kind == "plain"]
    kept = [s for i, s in llm_scores().items() if i not in LOST]
    assert value(plain.quality) == pytest.approx(np.mean(kept))
    assert "doc_id 2, 5" in plain.note


def test_compare_excludes_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both sides lose what failed on either, and the text says which and where."""
    lossy(tmp_path / "a")
    lossy(tmp_path / "b", "r22", (7,), policy="always_slm")
    harness(tmp_path / "c", llm_scores())
    (found,) = compare(str(tmp_path / "a"), str(tmp_path / "b"), FAST)
    kept = [i for i in range(len(ROWS)) if i not in (*LOST, 7)]
    gap = np.mean([finals()[i] - ROWS[i][0] for i in kept])
    assert (found.num_questions, found.left_out) == (len(kept), 0)
    assert found.result.quality.value == pytest.approx(gap)
    assert main(["compare", str(tmp_path / "a"), str(tmp_path / "b"), "--resamples", "99"]) == 0
    text = capsys.readouterr().out
    assert "excluded from both: 2 questions failed in run r1: coqa, doc_id 2, 5" in text
    assert "excluded from both: 1 question failed in run r22: coqa, doc_id 7" in text
    build_run(tmp_path / "d", "r333", full=True)  # the first one's command again, now whole
    (again,) = compare(str(tmp_path / "a"), str(tmp_path / "d"), FAST)
    assert (again.num_questions, again.left_out) == (len(ROWS) - 2, 0)
    for pair in (("a", "c"), ("c", "a")):
        (found,) = compare(*(str(tmp_path / p) for p in pair), FAST)
        assert found.num_questions == len(ROWS) - 2
        assert found.excluded


def test_a_placeholder_in_the_harness_samples_is_no_wrong_answer(tmp_path: Path) -> None:
    """The harness's own samples hold the failed documents; nothing is paired with them."""
    # as a task that is not ours scores them: 0
    scores = {i: (0.0 if i in LOST else s) for i, s in finals().items()}
    lossy(tmp_path / "a", samples=scores)
    build_run(tmp_path / "b", "r22", full=True, policy="always_llm")
    task = only(tmp_path / "a")
    assert task.figures.num_questions == len(ROWS) - 2
    assert not any("have no record" in w or "differ from" in w for w in task.warnings)
    (found,) = compare(str(tmp_path / "a"), str(tmp_path / "b"), FAST)
    assert found.num_questions == len(ROWS) - 2
    assert {d.doc_id for d in found.differences}.isdisjoint(LOST)


@pytest.mark.parametrize("created", ["2026-01-01T00:10:00", "2025-12-31T23:50:00"])
def test_the_same_command_again_takes_its_place(created: str, tmp_path: Path) -> None:
    """Once what failed is answered, the run that lost it takes nothing, whatever its clock said."""
    lossy(tmp_path / "a", created="2026-01-01T00:00:00", policy="always_slm")
    patient = {"slm": {"name": "hf", "pretrained": "org/small", "max_retries": 9}}
    build_run(
        tmp_path / "b", "r22", full=True, policy="always_slm", created=created, config=patient
    )
    build_run(tmp_path / "c", "r333", full=True)
    sizes = {t.run_id: t.figures.num_questions for t in assemble([tmp_path], FAST).report.tasks}
    assert sizes == {"r1": len(ROWS) - 2, "r22": len(ROWS), "r333": len(ROWS)}


def test_a_run_that_was_stopped_takes_nothing(tmp_path: Path) -> None:
    """Its questions are no whole set, so nothing is compared with them."""
    unfinished = {"coqa": {"questions": 10, "of": 40}}
    lossy(tmp_path / "a", unfinished=unfinished)
    build_run(tmp_path / "b", "r22", full=True, policy="always_slm")
    sizes = {t.run_id: t.figures.num_questions for t in assemble([tmp_path], FAST).report.tasks}
    assert sizes["r22"] == len(ROWS)


def test_manifests_with_and_without_the_list_are_read(tmp_path: Path) -> None:
    """One of an earlier release has none; failures of the calibration exclude nothing."""
    assert read_run(build_run(tmp_path / "a")).failed == ()
    only_fit = build_run(tmp_path / "b", failed=failed(1, phase="calibration"))
    assert read_run(only_fit).failed == ()


@pytest.mark.parametrize("bad", [3, [3], [{"task": "coqa"}], failed(-1), failed(True)])  # type: ignore[arg-type]
def test_a_damaged_list_is_named(bad: Any, tmp_path: Path) -> None:
    """A list that is none, or an entry without its fields, is an error that names the file."""
    with pytest.raises(AutoMixError, match="automix_run_r1"):
        read_run(build_run(tmp_path, failed=bad))


def test_plain_runs_on_other_prompts_are_left_alone(tmp_path: Path) -> None:
    """Only questions with the same prompt are the same."""
    lossy(tmp_path / "a")
    harness(tmp_path / "b", llm_scores(), prompt="else")
    found = assemble([tmp_path], FAST).report.boards
    assert sorted(b.num_questions for b in found) == [len(ROWS) - 2, len(ROWS)]


def test_of_two_runs_that_lost_as_much_the_later_one_stands(tmp_path: Path) -> None:
    """Neither is whole: the same command a third time is, and the later one speaks until then."""
    for run_id, lose, minute in (("r1", (2,), 1), ("r22", (7,), 2)):
        lossy(tmp_path / run_id, run_id, lose, created=f"2026-01-01T00:0{minute}:00")
    build_run(tmp_path / "c", "r333", full=True, policy="always_slm")
    sizes = {t.run_id: t.figures.num_questions for t in assemble([tmp_path], FAST).report.tasks}
    assert sizes == {"r1": len(ROWS) - 2, "r22": len(ROWS) - 1, "r333": len(ROWS) - 1}


def test_runs_are_ordered_by_instant_and_not_by_the_local_hour(tmp_path: Path) -> None:
    """An hour that is repeated when summer time ends, a time without zone, and no time at all."""
    for run_id, created in (
        ("r1", "2026-10-25T02:10:00+0100"),
        ("r22", "2026-10-25T02:30:00+0200"),
        ("r333", "2026-10-25T00:45:00"),
        ("r4444", "some day"),
    ):
        build_run(tmp_path / run_id, run_id, created=created)
    assert [r.run_id for r in find_runs([tmp_path])] == ["r4444", "r22", "r333", "r1"]


def test_records_are_held_against_the_samples(tmp_path: Path) -> None:
    """What one of the two lacks, and scores that differ; what failed rightly has no record."""
    run = read_run(lossy(tmp_path, lose=(2,)))
    scores = {i: s for i, s in finals().items() if i != 7} | {4: 0.25, 99: 1.0, 98: 1.0}
    prompts = {i: f"hash{i}" for i in scores}
    kept = Samples({"none": scores}, prompts, defects=("a line",), shown="s.jsonl")
    metric = run.tasks["coqa"].metric
    assert _disagreements(run, "coqa", kept) == [
        "a line",
        "2 documents of s.jsonl have no record: doc_id 98, 99",
        "1 records have no row in s.jsonl: doc_id 7",
        f"1 final scores of the records differ from {metric} in s.jsonl: doc_id 4 (1 and 0.25)",
    ]
    assert _disagreements(run, "coqa", replace(kept, scores={"none": {}})) == [
        f"s.jsonl has no metric {metric}: its scores were not compared with the records"
    ]
    # of several filters one that agrees is enough, unless the run names another
    both = replace(kept, scores={"none": scores, "strict": finals()}, defects=())
    assert not any("differ" in said for said in _disagreements(run, "coqa", both))
    named = SimpleNamespace(
        records=run.records, without_record=run.without_record,
        tasks={"coqa": SimpleNamespace(metric="f1", by=SimpleNamespace(filter="none"))},
    )  # fmt: skip
    assert _disagreements(named, "coqa", both)[-1].startswith("1 final scores")  # type: ignore[arg-type]


def test_runs_without_records_say_what_is_missing(tmp_path: Path) -> None:
    """Folder and files looked for where there is no run, tasks where no question was answered."""
    nothing = FoundRuns((tmp_path, tmp_path / "b"), (), (), {}, {}, ())
    with pytest.raises(AutoMixError, match=rf"^no run in {tmp_path}, {tmp_path}/b: looked for"):
        select(nothing)
    with pytest.raises(AutoMixError, match=r"resumes it\. left out x; left out y$"):
        select(replace(nothing, warnings=("left out x", "left out y")))
    run = replace(read_run(build_run(tmp_path / "a")), records={})
    for tasks, said in (
        (run.tasks, "run r1 has no evaluation records of coqa. Was"),
        ({}, "run r1 has no evaluation records. Was"),
    ):
        with pytest.raises(AutoMixError, match=f"^nothing to report: {said}"):
            select(replace(nothing, runs=(replace(run, tasks=tasks),)))


@settings(max_examples=examples(60))
@given(
    st.lists(
        st.tuples(
            st.sampled_from([0.0, 0.5, 1.0, np.nan]),
            st.lists(st.sampled_from([None, 0.0, 0.5 + 9e-7, 0.6, 1.0]), min_size=2, max_size=2),
        ),
        max_size=6,
    )
)
def test_scores_that_no_filter_gives_are_named(rows: list[tuple[float, list[Any]]]) -> None:
    """With the first there is; one that agrees is enough, and a document of none says nothing."""
    number = len(rows)
    final = np.arange(number) % 2
    scores = np.full((number, 2), 0.25)
    scores[np.arange(number), final] = [score for score, _ in rows]
    held = SimpleNamespace(doc_ids=np.arange(number) + 10, scores=scores, final=final)
    filters = [
        {10 + i: own[k] for i, (_, own) in enumerate(rows) if own[k] is not None} for k in range(2)
    ]
    expected = []
    for i, (score, own) in enumerate(rows):
        known = [s for s in own if s is not None]
        if known and not any(abs(s - score) < 1e-6 for s in known):
            told = "no score" if np.isnan(score) else f"{score:.4g}"
            expected.append(f"doc_id {10 + i} ({told} and {known[0]:.4g})")
    assert _differing(held, np.arange(number), filters) == expected  # type: ignore[arg-type]
