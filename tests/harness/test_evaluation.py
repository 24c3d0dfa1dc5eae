"""The evaluation in this process: the files of the harness's own command, and its errors."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import pytest
from lm_eval.tasks import TaskManager
from scripted import SCRIPTS, gold_answers, knows, read_run, scripted_args

from automix_eval.harness import evaluate as evaluation
from automix_eval.harness.evaluate import EvaluationError, evaluate, generation_arguments


@pytest.fixture
def scripts() -> None:
    """Two scripted models, the larger of which knows more."""
    answers = gold_answers("coqa_demo")
    SCRIPTS["small"], SCRIPTS["large"] = knows(answers, 0.5), knows(answers, 0.9)


@pytest.mark.slow
def test_an_evaluation_writes_results_samples_and_records_into_one_folder(
    scripts: None, tmp_path: Path
) -> None:
    """The folder it returns holds what the harness and the cascade write of a run."""
    args = scripted_args(model="a label", meta_verifier="threshold")
    folder = evaluate(args, ["coqa_demo"], tmp_path, limit=4, bootstrap_iters=0)
    assert folder.parent == tmp_path
    (results,) = folder.glob("results_*.json")
    (samples,) = folder.glob("samples_coqa_demo_*.jsonl")
    assert len(samples.read_text().splitlines()) == 4
    assert json.loads(results.read_text())["config"]["model"] == "automix"
    manifest, records = read_run(folder)
    assert manifest["model_label"] == "a label"
    assert sum(r.phase == "evaluation" for r in records) == 4


def test_a_path_of_json_puts_everything_beside_it(scripts: None, tmp_path: Path) -> None:
    """Without a label the harness would name the folder by chance; a file's name prevents that."""
    folder = evaluate(
        scripted_args(meta_verifier="self_consistency"),
        ["coqa_demo"],
        tmp_path / "run" / "results.json",
        limit=2,
        bootstrap_iters=0,
    )
    assert folder == tmp_path / "run"
    kinds = {p.name.split("_")[0] for p in folder.iterdir()}
    assert kinds == {"results", "samples", "automix"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0}, "limit=0"),
        ({"num_fewshot": -1}, "num_fewshot=-1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"batch_size": "many"}, "batch_size=many"),
        ({"include_path": "nowhere"}, "include_path=nowhere"),
    ],
)
def test_settings_are_checked_before_a_model_is_made(
    options: dict[str, object], message: str, tmp_path: Path
) -> None:
    """A value that cannot be used is refused, with its name, before anything is loaded."""
    with pytest.raises(EvaluationError, match=message):
        evaluate({}, ["coqa_demo"], tmp_path, **options)  # type: ignore[arg-type]


def test_an_unknown_task_is_refused_with_the_nearest(tmp_path: Path) -> None:
    """A misspelt task costs no loading of models."""
    with pytest.raises(EvaluationError, match=r"no task 'coqa_dem'; did you mean coqa_demo"):
        evaluate({}, ["coqa_dem"], tmp_path)
    with pytest.raises(EvaluationError, match="no task is named"):
        evaluate({}, [], tmp_path)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """An output folder below a file is refused at once."""
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="cannot be made"):
        evaluate({}, ["coqa_demo"], tmp_path / "file" / "out")


def test_results_that_the_harness_could_not_write_are_an_error(
    scripts: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness only warns of a full disk; a run without its results is not finished."""
    from lm_eval.loggers import EvaluationTracker

    monkeypatch.setattr(EvaluationTracker, "save_results_samples", lambda *a, **k: None)
    with pytest.raises(EvaluationError, match="could not be written"):
        evaluate(
            scripted_args(meta_verifier="self_consistency"),
            ["coqa_demo"],
            tmp_path,
            limit=2,
            bootstrap_iters=0,
        )


def test_the_index_of_tasks_is_made_once_a_process() -> None:
    """It takes seconds; the jobs of a sweep share it."""
    one = evaluation.task_manager(tasks=["coqa"])
    assert evaluation.task_manager(tasks="coqa,coqa_demo") is one


def test_the_harnesss_tasks_are_read_only_where_they_may_be_meant(tmp_path: Path) -> None:
    """Our tasks and those of include_path need no other; a pattern, a group or a file does."""
    one = "{task: mine, dataset_path: json, output_type: generate_until, doc_to_text: a}"
    (tmp_path / "mine.yaml").write_text(one)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(evaluation, "_task_manager", manager := Managers())
        few = evaluation.task_manager(tmp_path, tasks=["mine", "coqa", "cnli_demo"])
        assert not few.include_defaults
        for tasks in (["mine", "arc_easy"], ["coqa*"], ["automix"], ["automix_demo"], "a.yaml", ()):
            assert evaluation.task_manager(tmp_path, tasks=tasks).include_defaults
    assert manager.made == 2


class Managers:
    """Makes indexes as evaluate.py does, but for the harness's own tasks."""

    made = 0

    @lru_cache  # noqa: B019 - lives as long as its test
    def __call__(self, include_path: str, metadata: str, include_defaults: bool) -> Any:
        self.made += 1
        found = TaskManager(include_path=include_path, include_defaults=False)
        found.include_defaults = include_defaults
        return found


@pytest.mark.parametrize(
    "given",
    [
        {"max_gen_toks": 5, "until": ["Q:", "\\n\\n"]},
        '{"max_gen_toks": 5, "until": ["Q:", "\\n\\n"]}',
        ' {"max_gen_toks": 5, "until": ["Q:", "\\\\n\\\\n"]}',
    ],
)
def test_generation_arguments_have_three_forms(given: Any) -> None:
    """A mapping, and JSON with a line break or its escape, are the same."""
    assert generation_arguments(given) == {"max_gen_toks": 5, "until": ["Q:", "\n\n"]}


@pytest.mark.parametrize("given", ["temperature=1e400", {"top_p": float("nan")}])
def test_generation_arguments_are_finite(given: Any) -> None:
    """A server's JSON has no other number."""
    with pytest.raises(EvaluationError, match="must be a finite number"):
        generation_arguments(given)


def test_generation_arguments_as_pairs() -> None:
    """The harness's own form, with its types; nothing is left out in silence."""
    assert generation_arguments("max_gen_toks=5,until=\\n\\n,do_sample=true") == {
        "max_gen_toks": 5,
        "until": "\n\n",
        "do_sample": True,
    }
    assert generation_arguments(None) == generation_arguments("") == {}
    for wrong in ("max_gen_toks", 'until=["Q:","A:"]', '{"until": ', "{a: 1}"):
        with pytest.raises(EvaluationError, match="gen_kwargs"):
            generation_arguments(wrong)
