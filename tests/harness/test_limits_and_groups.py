"""A share of the questions, and a group of which some members cannot be routed."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import shapes
from lm_eval.tasks import TaskManager
from plain_runs import MODELS, pick_task
from scripted import CALLS, SCRIPTS, ScriptedLM, read_run, scripted_args

from automix_eval.harness import refusals
from automix_eval.harness.model import AutoMixLM
from automix_eval.safety.errors import AutoMixError


@pytest.fixture(autouse=True)
def pair() -> None:
    """The two models, by shapes and of plain runs."""
    CALLS.clear()
    SCRIPTS.update(MODELS)
    SCRIPTS["small"], SCRIPTS["large"] = shapes.small, shapes.large


def cascade(tmp_path: Path, small: str = "small", large: str = "large", **args: Any) -> AutoMixLM:
    """The cascade, with its records in a folder of the test's own."""
    given: dict[str, Any] = {
        "records_dir": str(tmp_path / "out"),
        "store.path": str(tmp_path / "calls.sqlite"),
        "calibration.num_docs": 8,
        "calibration.min_docs": 4,
    }
    made = scripted_args(small, large, **given | args)
    if made["verifier"] == "margin":
        del made["verifier.num_samples"]
    return AutoMixLM(**made)


@pytest.mark.parametrize("share", [0.1, 0.34])
def test_a_limit_below_one_is_a_share_of_each_task(tmp_path: Path, share: float) -> None:
    """The questions, their numbers and the score are those of the harness's own model."""

    def evaluated(model: Any) -> dict[str, Any]:
        tasks = {name: shapes.task(name, shapes.SHAPES[name]) for name in ("float", "acc")}
        found = lm_eval.evaluate(
            model, {"tasks": tasks, "groups": {}}, limit=share, bootstrap_iters=0
        )
        assert found is not None
        return dict(found)

    ours = evaluated(cascade(tmp_path, meta_verifier="always_slm"))
    theirs = evaluated(ScriptedLM("small"))
    _, records = read_run(tmp_path / "out")
    for name in ("float", "acc"):
        number = math.ceil(len(shapes.NUMBERS) * share)
        assert [r.doc_id for r in records if r.task == name] == list(range(number))
        assert ours["n-samples"][name] == theirs["n-samples"][name]
        for key, value in theirs["results"][name].items():
            if isinstance(value, float):
                assert ours["results"][name][key] == pytest.approx(value, abs=1e-9)


@pytest.mark.parametrize("chosen", [[3, 1], [2, 2], [-1, 5], []])
def test_documents_that_the_harness_would_misname_are_refused(
    tmp_path: Path, chosen: list[int]
) -> None:
    """It calls the documents of --samples in the split's order by the numbers in the list's."""
    tasks = {"float": shapes.task("float", shapes.SHAPES["float"])}
    with pytest.raises(AutoMixError, match="--samples of float must name documents"):
        lm_eval.evaluate(
            cascade(tmp_path, meta_verifier="always_slm"),
            {"tasks": tasks, "groups": {}},
            samples={"float": chosen},
        )
    assert not CALLS


def group_of_two(folder: Path) -> None:
    """A group of a task that can be routed and one without a split to fit on."""
    pick_task(folder, 24, name="fine")
    train = folder / "fine_train.jsonl"  # nothing that is evaluated is fitted on
    train.write_text(re.sub(r'"(\d+) plus', r'"1\1 plus', train.read_text()))
    bare = pick_task(folder, 24, name="bare")
    bare.write_text(bare.read_text().replace("training_split: train\n", ""))
    (folder / "both.yaml").write_text(
        "group: both\ntask: [fine, bare]\n"
        "aggregate_metric_list: [{metric: acc, aggregation: mean, weight_by_size: true}]\n"
    )


def evaluate_group(tmp_path: Path, **args: Any) -> dict[str, Any]:
    """The cascade on the group, routed by a threshold."""
    model = cascade(
        tmp_path, "small-1B", "large-70B", meta_verifier="threshold", verifier="margin", **args
    )
    found = lm_eval.simple_evaluate(
        model=model,
        tasks=["both"],
        task_manager=TaskManager(include_path=str(tmp_path), include_defaults=False),
        bootstrap_iters=0,
    )
    assert found is not None
    return dict(found)


def test_tasks_that_are_refused_alike_are_named_together() -> None:
    """The fifty subjects of a group give one reason, and not fifty."""
    reasons = {f"t{i}": f"task t{i} has no train split" for i in range(7)} | {"x": "it is odd"}
    with pytest.raises(AutoMixError) as err:
        refusals.refuse(reasons, 9)
    assert "each of t0, t1, t2, t3, t4 and 2 more has no train split; task x: it is odd." in str(
        err.value
    )


def test_a_group_with_a_member_that_cannot_be_routed(tmp_path: Path) -> None:
    """Refused before the first call; with skip_unsupported the group is that of the others."""
    group_of_two(tmp_path)
    with pytest.raises(AutoMixError, match=r"bare.*skip_unsupported=true"):
        evaluate_group(tmp_path)
    assert not CALLS
    found = evaluate_group(tmp_path, skip_unsupported=True)
    assert "bare" not in found["results"]
    assert found["groups"]["both"]["acc,none"] == found["results"]["fine"]["acc,none"]
    manifest, records = read_run(tmp_path / "out")
    assert {r.task for r in records} == {"fine"}
    assert [w["task"] for w in manifest["warnings"] if "left out" in w["text"]] == ["bare"]
