"""Nothing that is scored is fitted on; what a task was configured with is known afterwards."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import datasets
import lm_eval
import pytest
import shapes
from lm_eval import utils
from scripted import CALLS, SCRIPTS, read_run, scripted_args

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.commands.main import main
from automix_eval.harness.fitting_questions import FittingChoice, FittingQuestions, _rows
from automix_eval.harness.model import AutoMixLM
from automix_eval.harness.task_source import config_hashes
from automix_eval.metrics.nested_sample import nested_sample
from automix_eval.records.task_settings import CODE, differing, hashes
from automix_eval.safety.errors import AutoMixError

SHAPE: dict[str, Any] = {
    "doc_to_text": "{{question}}",
    "doc_to_target": "{{answer}}",
    "metric_list": [{"metric": "exact_match", "aggregation": "mean", "higher_is_better": True}],
}


def rows(sums: list[tuple[int, int]], document: str = "") -> list[dict[str, Any]]:
    """Questions of a split."""
    return [
        {
            "question": f"What is {a} plus {b}?",
            "answer": str(a + b),
            "document_id": document or None,
        }
        for a, b in sums
    ]


def task(train: list[dict[str, Any]], test: list[dict[str, Any]], **more: Any) -> Any:
    """A task that evaluates the second of these splits."""
    return splits(train=train, test=test, **more)


def splits(**given: Any) -> Any:
    """A task with the splits of these rows, and with these settings."""
    names = {"train": "training", "validation": "validation", "test": "test"}
    data = {split: given.pop(split) for split in names if split in given}
    named = {f"{name}_split": s if s in data else None for s, name in names.items()}

    def made(**_: Any) -> datasets.DatasetDict:
        return datasets.DatasetDict({k: datasets.Dataset.from_list(v) for k, v in data.items()})

    return shapes.task("sums", SHAPE, custom_dataset=made, **named | given)


class Walked:
    """Rows that note each walk over them."""

    def __init__(self, rows: Any, walks: list[int]) -> None:
        self._rows, self._walks = rows, walks

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Any:
        """All of them."""
        self._walks.append(len(self))
        return iter(self._rows)


def choice(made: Any, number: int, seed: int) -> FittingChoice:
    """What a task is fitted on."""
    settings = SimpleNamespace(num_docs=number, min_docs=4, seed=seed, split_documents=None)
    return FittingQuestions("sums", made, settings).choice


def doubting(prompt: str, generation: dict[str, Any]) -> str:
    """Answers as :func:`shapes.small`, and finds its odd sums wrong, as they are."""
    said = shapes.small(prompt, generation)
    is_odd = prompt.rpartition("####")[2].split("\n")[0][-1:] in "13579"
    return said.replace("Correct", "Incorrect") if is_odd else said


def run(
    made: Any, folder: Path, results: bool = False, small: Any = shapes.small, **more: Any
) -> dict[str, Any]:
    """An evaluation with a fit; its manifest, or the harness's results."""
    CALLS.clear()
    SCRIPTS["small"], SCRIPTS["large"] = small, shapes.large
    args = {"meta_verifier": "threshold", "records_dir": str(folder), "calibration.min_docs": 4}
    args |= {"store.path": str(folder / "calls.sqlite"), "calibration.num_docs": 10, **more}
    groups = {"tasks": {"sums": made}, "groups": {}}
    found = lm_eval.evaluate(AutoMixLM(**scripted_args(**args)), groups, bootstrap_iters=0)
    return found if results else read_run(folder)[0]


def test_equal_questions_are_left_out(tmp_path: Path) -> None:
    """Train questions that are evaluated too, whatever their case and spaces, are not fitted on."""
    train = rows([(i, 3) for i in range(12)])
    train[3]["question"], train[5]["question"] = "what  is 3 PLUS 2?", "What is 5 plus 2?\n"
    manifest = run(task(train, rows([(i, 2) for i in range(12)])), tmp_path)
    policy = json.loads((tmp_path / manifest["policies"]["sums"]).read_text())
    assert not {3, 5} & set(policy["fitted_on"]["doc_ids"])
    assert len(policy["fitted_on"]["doc_ids"]) == 10
    (said,) = (w["text"] for w in manifest["warnings"] if "evaluated too" in w["text"])
    assert "2 questions" in said
    assert "doc_id 3, 5" in said


def test_the_questions_are_drawn_by_the_seed() -> None:
    """They are no first rows of the split, which may be sorted; another seed draws others."""
    made = task(rows([(i, 3) for i in range(60)]), rows([(1, 2)]))
    chosen = {s: choice(made, 10, s).doc_ids for s in (0, 1)}
    assert all(chosen[s] == tuple(sorted(nested_sample(60, 10, s))) for s in chosen)
    assert chosen[0] != chosen[1]
    assert chosen[0] != tuple(range(10))


def test_evaluated_rows_are_walked_once_and_are_those_of_the_data_set(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In batches: nested fields, missing ones and a last batch that is not full are the same."""
    given = [{"id": i, "texts": [str(i)] * (i % 3), "of": {"x": i or None}} for i in range(600)]
    data = datasets.Dataset.from_list(given)
    assert list(_rows(data)) == list(data) == given
    assert list(_rows(given)) == given

    made = task(rows([(i, 3) for i in range(20)]), rows([(i, 2) for i in range(9)], "book"))
    walked: list[int] = []
    kept = made.test_docs()
    made.test_docs = lambda: Walked(kept, walked)
    compiled: list[str] = []
    kind, anew = type(utils.env), type(utils.env).from_string
    monkeypatch.setattr(
        kind, "from_string", lambda env, text: compiled.append(text) or anew(env, text)
    )
    choice(made, 10, 0)
    assert walked == [9]
    assert len(compiled) <= 2  # once for those scored, once for those drawn


def test_more_questions_to_fit_on_compile_no_more_templates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The harness compiles one for each document that it makes a prompt of."""
    kind, anew = type(utils.env), type(utils.env).from_string
    made = task(rows([(i, 3) for i in range(20)]), rows([(i, 2) for i in range(9)], "book"))
    compiled: list[str] = []
    monkeypatch.setattr(
        kind, "from_string", lambda env, text: compiled.append(text) or anew(env, text)
    )
    numbers = []
    for asked in (4, 12):
        run(made, tmp_path / str(asked), **{"calibration.num_docs": asked})
        numbers.append(len(compiled))
        compiled.clear()
    assert numbers[0] == numbers[1]


@pytest.mark.parametrize("copies", [12, 9])
def test_splits_that_coincide_are_refused(tmp_path: Path, copies: int) -> None:
    """Too few train questions that are not evaluated are an error before the first call."""
    train = rows([(i, 2 if i < copies else 3) for i in range(12)])
    with pytest.raises(AutoMixError, match="nothing that is evaluated is fitted on") as err:
        run(task(train, rows([(i, 2) for i in range(12)])), tmp_path)
    assert f"has {12 - copies} train questions" in str(err.value)
    assert "meta_verifier.policy" in str(err.value)
    assert CALLS == []


def test_one_split_for_both_is_refused(tmp_path: Path) -> None:
    """A file whose training split is the evaluated one has nothing to fit on."""
    test = rows([(i, 2) for i in range(12)])
    with pytest.raises(AutoMixError, match="has 0 train questions"):
        run(task(test, test, training_split="test"), tmp_path)
    assert CALLS == []


@pytest.mark.parametrize("grouped", [True, False])
def test_one_split_for_both_is_parted_by_document(tmp_path: Path, grouped: bool) -> None:
    """A part of the documents is fitted on, if asked for, and is in no record of the evaluation."""
    test = rows([(i, 2) for i in range(40)])
    for i, row in enumerate(test):
        row["document_id"] = f"d{i // 4}" if grouped else None
    more = {"calibration.split_documents": 0.5, "record": "full", "calibration.num_docs": 30}
    manifest = run(task(test, test, training_split="test"), tmp_path, **more)
    _, records = read_run(tmp_path)
    by_phase: dict[str, set[Any]] = {"calibration": set(), "evaluation": set()}
    for one in records:
        by_phase[one.phase].add(one.doc_id // 4 if grouped else one.doc_id)
    assert len(by_phase["evaluation"]) == (5 if grouped else 20)
    assert not by_phase["calibration"] & by_phase["evaluation"]
    assert by_phase["calibration"]
    assert len({f["doc_id"] for f in manifest["failed"]}) == 20
    texts = [w["text"] for w in manifest["warnings"]]
    assert sum("in no figure" in text for text in texts) == 1
    assert not any("gives no score" in text for text in texts)
    (found,) = assemble([tmp_path], Settings(resamples=50)).report.tasks
    assert found.figures.num_questions == 20
    asked_before, policy = len(CALLS), tmp_path / manifest["policies"]["sums"]
    again = tmp_path / "again"
    more |= {"meta_verifier.policy": str(policy), "store.path": str(again / "calls.sqlite")}
    reused = run(task(test, test, training_split="test"), again, **more)
    assert {f["doc_id"] for f in reused["failed"]} == {f["doc_id"] for f in manifest["failed"]}
    assert len(CALLS) < asked_before
    assert any("the policy was fitted on 20 questions" in w["text"] for w in reused["warnings"])


@pytest.mark.parametrize("copies", [0, 4])
def test_without_a_train_split_the_validation_split_is_fitted_on(
    tmp_path: Path, copies: int
) -> None:
    """It is said and the policy names it; questions of it that are evaluated too are left out."""
    validation = rows([(i, 2 if i < copies else 3) for i in range(15)])
    made = splits(validation=validation, test=rows([(i, 2) for i in range(12)]))
    manifest = run(made, tmp_path)
    policy = json.loads((tmp_path / manifest["policies"]["sums"]).read_text())
    assert policy["fitted_on"]["split"] == "validation"
    assert len(policy["fitted_on"]["doc_ids"]) == 10
    assert min(policy["fitted_on"]["doc_ids"]) >= copies
    texts = [w["text"] for w in manifest["warnings"]]
    assert sum("no train split: its validation split is fitted on" in text for text in texts) == 1
    assert any("of the validation split are evaluated too" in t for t in texts) == bool(copies)
    asked = {prompt for _, _, prompt in CALLS}
    assert sum("plus 3" in prompt for prompt in asked) >= 10
    again = {"meta_verifier.policy": str(tmp_path / manifest["policies"]["sums"])}
    assert "failed" not in run(made, tmp_path / "again", **again)


def test_a_train_split_that_is_too_small_gives_way(tmp_path: Path) -> None:
    """The validation split is fitted on, and the reason is said."""
    made = splits(train=rows([(1, 4), (2, 4)]), validation=rows([(i, 3) for i in range(12)]),
                  test=rows([(i, 2) for i in range(12)]))  # fmt: skip
    texts = [w["text"] for w in run(made, tmp_path)["warnings"]]
    assert any("2 train questions that are not evaluated too for calibration.min_docs=4" in t
               for t in texts)  # fmt: skip


@pytest.mark.parametrize("split", ["test", "validation"])
@pytest.mark.parametrize("grouped", [True, False])
def test_a_task_of_evaluated_questions_alone(tmp_path: Path, split: str, grouped: bool) -> None:
    """It is refused and told the way out, which fits on some documents and scores the others."""
    questions = rows([(i, 2) for i in range(24)])
    for i, row in enumerate(questions):
        row["document_id"] = f"d{i // 4}" if grouped else None
    made = splits(**{split: questions})
    with pytest.raises(AutoMixError, match=r"Ways out: calibration.split_documents=0\.5, "):
        run(made, tmp_path)
    assert CALLS == []
    if split == "test":  # a split that is named and not there, as an included file may have it
        made = splits(test=questions, fewshot_split="test", validation_split="gone")
    found = run(made, tmp_path, results=True, record="full",
                **{"calibration.split_documents": 0.5})  # fmt: skip
    manifest, records = read_run(tmp_path)
    policy = json.loads((tmp_path / manifest["policies"]["sums"]).read_text())["fitted_on"]
    assert policy["split"] == split
    each = 4 if grouped else 1
    documents = {phase: {r.doc_id // each for r in records if r.phase == phase}
                 for phase in ("calibration", "evaluation")}  # fmt: skip
    assert len(documents["evaluation"]) == (3 if grouped else 12)
    assert documents["calibration"]
    assert not documents["calibration"] & documents["evaluation"]
    assert {r.doc_id for r in records if r.phase == "calibration"} == set(policy["doc_ids"])
    kept = [r for r in records if r.phase == "evaluation"]
    scores = [next(t for t in r.tiers if t.tier == r.final).score for r in kept]
    mean = found["results"]["sums"]["exact_match,none"]
    assert mean == pytest.approx(sum(scores) / len(scores), abs=1e-12)
    (shown,) = assemble([tmp_path], Settings(resamples=50)).report.tasks
    assert shown.figures.num_questions == 12


def test_a_replayed_policy_knows_what_it_was_fitted_on(tmp_path: Path) -> None:
    """Fitted again on the records of a parted task, it is not scored on these questions either."""
    test = rows([(i, 2) for i in range(24)])
    for row in test:
        row["answer"] = f" I say #### {row['answer']}"
    made = splits(test=test)
    more = {"record": "full", "calibration.split_documents": 0.5}
    first = run(made, tmp_path / "a", small=doubting, **more)
    out = tmp_path / "out.json"
    line = ["replay", f"records={tmp_path / 'a'}", "meta_verifier=threshold", f"output={out}"]
    assert main(line) == 0
    policy = tmp_path / "policy.json"
    policy.write_text(json.dumps(json.loads(out.read_text())["policy"]))
    more = {"meta_verifier.policy": str(policy)}
    again = run(made, tmp_path / "b", small=doubting, **more)
    assert len(again["failed"]) >= 10
    assert {f["doc_id"] for f in again["failed"]} <= {f["doc_id"] for f in first["failed"]}


def test_the_harness_s_figures_do_without_what_is_fitted_on(tmp_path: Path) -> None:
    """Its mean is that of the records, and the task object can be evaluated again."""
    test = rows([(i, 2) for i in range(24)])
    for row in test[::3]:
        row["answer"] = f" I say #### {row['answer']}"
    made = task(test, test, training_split="test")
    for share in (0.5, 0.25):
        folder = tmp_path / str(share)
        found = run(made, folder, **{"calibration.split_documents": share}, results=True)
        kept = [r for r in read_run(folder)[1] if r.phase == "evaluation"]
        scores = [next(t for t in r.tiers if t.tier == r.final).score for r in kept]
        assert len(kept) == 24 * (1 - share)
        mean = found["results"]["sums"]["exact_match,none"]
        assert 0 < mean < 1
        assert mean == pytest.approx(sum(scores) / len(scores), abs=1e-12)


def test_a_split_with_questions_of_its_own_is_not_parted(tmp_path: Path) -> None:
    """Where enough train questions are not evaluated the setting changes nothing."""
    made = task(rows([(i, 3) for i in range(12)]), rows([(i, 2) for i in range(12)]))
    manifest = run(made, tmp_path, **{"calibration.split_documents": 0.5})
    assert "failed" not in manifest
    _, records = read_run(tmp_path)
    assert sum(r.phase == "evaluation" for r in records) == 12


@pytest.mark.parametrize(("share", "named"), [(1.5, "between 0 and 1"), (0.2, "a larger share")])
def test_a_part_that_is_too_small_is_refused(tmp_path: Path, share: float, named: str) -> None:
    """calibration.min_docs holds for it too, before the first call."""
    test = rows([(i, 2) for i in range(12)])
    with pytest.raises(AutoMixError, match=named):
        run(task(test, test, training_split="test"), tmp_path,
            **{"calibration.split_documents": share})  # fmt: skip
    assert CALLS == []


def test_fewer_questions_than_min_docs_are_refused(tmp_path: Path) -> None:
    """calibration.min_docs holds for what is asked for, too."""
    made = task(rows([(i, 3) for i in range(12)]), rows([(i, 2) for i in range(12)]))
    with pytest.raises(AutoMixError, match=r"num_docs=3 .*min_docs is 4"):
        run(made, tmp_path, **{"calibration.num_docs": 3})
    assert CALLS == []


def test_without_equal_questions_the_choice_is_the_nested_sample() -> None:
    """More questions repeat all of fewer, with some left out, and shared documents are said."""
    train, test = rows([(i, 3) for i in range(40)], "d"), rows([(i, 3) for i in range(8)], "d")
    few, more = (choice(task(train, test), number, 0) for number in (10, 20))
    assert set(few.doc_ids) < set(more.doc_ids)
    assert (len(few.doc_ids), len(more.doc_ids)) == (10, 20)
    assert min(more.doc_ids) >= 8
    assert "10 of 10 fitting questions are on documents" in few.notes[-1]


def test_the_manifest_tells_configurations_apart(tmp_path: Path) -> None:
    """Hashes of a run are those of the harness's dump, and a changed filter changes one of them."""
    splits = rows([(i, 3) for i in range(12)]), rows([(i, 2) for i in range(12)])
    manifest = run(task(*splits), tmp_path)
    known = manifest["tasks"]["sums"]["config_hashes"]
    dumped = json.loads(json.dumps(task(*splits).dump_config(), default=str))
    assert differing(known, hashes(dumped)) == []
    assert CODE in known
    filters = [{"name": "none", "filter": [{"function": "lowercase"}, {"function": "take_first"}]}]
    assert differing(known, config_hashes(task(*splits, filter_list=filters))) == ["filter_list"]
