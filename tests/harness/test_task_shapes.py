"""Every shape of task: the cascade's figures are the harness's own, and prompts hold no gold."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import shapes
from lm_eval.api.instance import Instance
from scripted import CALLS, SCRIPTS, read_run, scripted_args

from automix_eval.analysis.gather import Settings, assemble
from automix_eval.harness.fit import _FitLM
from automix_eval.harness.model import AutoMixLM
from automix_eval.harness.task_view import TaskView
from automix_eval.records.runs import read_run as columns_of
from automix_eval.report import output
from automix_eval.safety.errors import AutoMixError


@pytest.fixture(autouse=True)
def pair() -> None:
    """The two models."""
    CALLS.clear()
    SCRIPTS["small"], SCRIPTS["large"] = shapes.small, shapes.large


def evaluated(
    tmp_path: Path, tasks: dict[str, Any], *, limit: int | None = None, **args: Any
) -> dict[str, Any]:
    """One evaluation of the cascade in this process; the harness's results."""
    given: dict[str, Any] = {
        "meta_verifier": "always_slm",
        "records_dir": str(tmp_path / "out"),
        "store.path": str(tmp_path / "calls.sqlite"),
        "calibration.num_docs": 10,
        "calibration.min_docs": 4,
    }
    found = lm_eval.evaluate(
        AutoMixLM(**scripted_args(**given | args)),
        {"tasks": tasks, "groups": {}},
        bootstrap_iters=0,
        limit=limit,
    )
    assert found is not None
    return dict(found)


def manifest_of(tmp_path: Path) -> dict[str, Any]:
    """The manifest of the run."""
    return read_run(tmp_path / "out")[0]


SINGLE = ("numpy_float32", "torch")  # the harness sums them up in 32 bits
PROMPTS = (
    "float", "multiple_targets", "repeats_majority", "acc", "acc_mutual_info", "gold_lists",
    "gold_texts", "winogrande",
)  # fmt: skip


@pytest.mark.parametrize(
    ("shape", "router"),
    [(s, "always_slm") for s in sorted(shapes.SHAPES)]
    + [(s, "always_llm") for s in ("float", "repeats_share", "winogrande", *SINGLE)],
)
def test_the_figure_is_the_harnesss_own(tmp_path: Path, shape: str, router: str) -> None:
    """One tier alone: the figure in its report is the harness's metric, to 1e-9."""
    found = evaluated(
        tmp_path, {shape: shapes.task(shape, shapes.SHAPES[shape])}, meta_verifier=router
    )
    about = manifest_of(tmp_path)["tasks"][shape]
    (path,) = (tmp_path / "out").glob("automix_run_*.json")
    rows = columns_of(path).records[shape]
    mean = float(rows.scores[range(len(rows)), rows.final].mean())
    sign = 1 if about.get("higher_is_better", True) else -1
    theirs = found["results"][shape][f"{about['metric']},{about['filter']}"]
    assert sign * mean == pytest.approx(float(theirs), abs=1e-6 if shape in SINGLE else 1e-9)
    assert len(rows) == len(shapes.NUMBERS)
    shown = json.loads(output.render(assemble([path.parent], Settings(resamples=20)), "json"))
    assert shown["tasks"][0]["figures"]["method"]["quality"]["value"] == mean


@pytest.mark.parametrize("shape", PROMPTS)
def test_no_prompt_holds_the_gold(tmp_path: Path, shape: str) -> None:
    """What a verifier reads is independent of the gold: other labels give the same prompts."""

    def asked(change: int) -> list[str]:
        CALLS.clear()

        def other(**_: Any) -> Any:
            def changed(doc: dict[str, Any]) -> dict[str, Any]:
                label = (doc["label"] + change) % 3
                gold = {"label": label, "gold": f"{doc['gold']}-{change}"}
                return doc | gold | ({"answer": f"{doc['answer']}{change}"} if change else {})

            return shapes.data().map(changed)

        made = shapes.task(
            shape, shapes.SHAPES[shape] | {"custom_dataset": other, "num_fewshot": 0}
        )
        folder = tmp_path / str(change)
        evaluated(folder, {shape: made}, meta_verifier="self_consistency", limit=6)
        return [p for m, _, p in CALLS if m == "small" and "AI Generated Answer" in p]

    one, other = asked(0), asked(1)
    assert one
    assert one == other
    assert not any("gold-of" in p for p in one)


def test_the_answer_that_is_verified_is_the_one_that_is_scored(tmp_path: Path) -> None:
    """Of choices it is the one the metric takes: by mutual information, by length, of all texts."""
    for shape in ("acc", "acc_norm_first", "acc_bytes", "acc_mutual_info", "winogrande"):
        made = shapes.task(shape, shapes.SHAPES[shape])
        evaluated(tmp_path / shape, {shape: made})
        _, rows = read_run(tmp_path / shape / "out")
        for row in rows:
            right = row.tiers[0].answer.text in row.references or row.tiers[
                0
            ].answer.text.startswith(tuple(row.references))
            assert right == (row.tiers[0].score == 1.0), (shape, row)


def test_options_called_answers_are_no_references(tmp_path: Path) -> None:
    """The reference of a choice task is its right option alone."""
    evaluated(tmp_path, {"acc": shapes.task("acc", shapes.SHAPES["acc"])})
    for row in read_run(tmp_path / "out")[1]:
        doc = shapes.rows("test")[row.doc_id]
        assert row.references == (doc["answers"][doc["label"]],)


def test_a_metric_and_a_filter_are_chosen_by_name(tmp_path: Path) -> None:
    """Both are checked before the first call, and the manifest names them."""
    two = shapes.task("two", shapes.SHAPES["first_filter_of_two"])
    found = evaluated(tmp_path, {"two": two}, filter="loose", metric="exact_match")
    about = manifest_of(tmp_path)["tasks"]["two"]
    assert (about["metric"], about["filter"]) == ("exact_match", "loose")
    assert found["results"]["two"]["exact_match,loose"] == 0.0
    CALLS.clear()
    for wrong, said in (({"filter": "losse"}, "did you mean loose"), ({"metric": "f2"}, "f2")):
        made = shapes.task("two", shapes.SHAPES["first_filter_of_two"])
        with pytest.raises(AutoMixError, match=said):
            evaluated(tmp_path / said, {"two": made}, **wrong)
    assert not CALLS


def test_a_policy_of_other_scores_or_prompts_is_refused(tmp_path: Path) -> None:
    """It was fitted on a metric, under a filter, with demonstrations: no other is meant by it."""

    def two(**more: Any) -> dict[str, Any]:
        shape = shapes.SHAPES["first_filter_of_two"] | {"fewshot_split": "train"} | more
        return {"two": shapes.task("two", shape)}

    evaluated(tmp_path / "fit", two(), meta_verifier="threshold")
    (policy,) = (tmp_path / "fit").rglob("automix_policy_*.json")
    given: dict[str, Any] = {"meta_verifier": "threshold", "meta_verifier.policy": str(policy)}
    evaluated(tmp_path / "same", two(num_fewshot=0), **given)
    CALLS.clear()
    for said, made, more in (
        ("filter: fitted on strict, now loose", two(), {"filter": "loose"}),
        ("num_fewshot: fitted on 0, now 2", two(num_fewshot=2), {}),
    ):
        with pytest.raises(AutoMixError, match=said):
            evaluated(tmp_path / "other", made, **given, **more)
    own = shapes.SHAPES["acc_norm_first"]
    evaluated(tmp_path / "acc", {"acc": shapes.task("acc", own)}, meta_verifier="threshold")
    (policy,) = (tmp_path / "acc").rglob("automix_policy_*.json")
    CALLS.clear()
    with pytest.raises(AutoMixError, match="metric: fitted on acc_norm, now acc"):
        evaluated(
            tmp_path / "other",
            {"acc": shapes.task("acc", own)},
            **given | {"meta_verifier.policy": str(policy), "metric": "acc"},
        )
    assert not CALLS


def test_a_router_is_fitted_in_the_tasks_direction(tmp_path: Path) -> None:
    """Where lower is better the LLM's fewer errors are its better quality."""
    made = shapes.task("wrong", shapes.SHAPES["lower_is_better"])
    evaluated(tmp_path, {"wrong": made}, meta_verifier="threshold", record="full")
    manifest, rows = read_run(tmp_path / "out")
    calibration = [r for r in rows if r.phase == "calibration"]
    means = [sum(r.tiers[t].score or 0 for r in calibration) for t in (0, 1)]
    assert means[0] < means[1] <= 0
    assert any("lower values of hit are better" in w["text"] for w in manifest["warnings"])


@pytest.mark.parametrize("missing", [None, float("nan")])
def test_a_document_without_a_score_is_a_named_exclusion(tmp_path: Path, missing: Any) -> None:
    """It has no record, the manifest names it, and the harness goes on with its own answer."""

    def value(hit: bool, doc: dict[str, Any]) -> Any:
        return missing if doc["id"] == 3 else float(hit)

    def mean(values: list[Any]) -> float:
        known = [v for v in values if v is not None and v == v]
        return sum(known) / len(known)

    shape = shapes._hit(value) | {
        "metric_list": [{"metric": "hit", "aggregation": mean, "higher_is_better": True}]
    }
    evaluated(tmp_path, {"some": shapes.task("some", shape)}, meta_verifier="threshold")
    manifest, rows = read_run(tmp_path / "out")
    assert {r.doc_id for r in rows if r.phase == "evaluation"} == {*shapes.NUMBERS} - {3}
    assert {(f["phase"], f["doc_id"]) for f in manifest["failed"]} == {
        ("evaluation", 3),
        ("calibration", 3),
    }
    assert any("no score to 1 questions" in w["text"] for w in manifest["warnings"])


def test_metrics_of_all_questions_are_the_tasks_own(tmp_path: Path) -> None:
    """For each tier and the routed answers, by the task's aggregation, with an interval."""
    shape = shapes._TEXT | {
        "process_results": lambda doc, results: {
            "agreement": (doc["answer"], shapes._last(results[0]))
        },
        "metric_list": [
            {"metric": "agreement", "aggregation": shapes.accuracy_of, "higher_is_better": True}
        ],
    }
    found = evaluated(
        tmp_path,
        {"bleu": shapes.task("bleu", shape)},
        meta_verifier="self_consistency",
        record="full",
    )
    figures = manifest_of(tmp_path)["tasks"]["bleu"]["corpus"]["agreement"]
    assert figures["routed"]["value"] == pytest.approx(
        found["results"]["bleu"]["agreement,none"], abs=1e-9
    )
    assert figures["slm"]["value"] == 0.5
    assert figures["llm"]["low"] <= figures["llm"]["value"] <= figures["llm"]["high"]
    CALLS.clear()
    with pytest.raises(AutoMixError, match="all questions together"):
        evaluated(tmp_path / "fit", {"bleu": shapes.task("bleu", shape)}, meta_verifier="threshold")
    unscored = shapes.task("acc", shapes.SHAPES["acc"])
    unscored.override_metric("bypass")  # as lm_eval does it
    with pytest.raises(AutoMixError, match=r"scores nothing .*--predict_only"):
        evaluated(tmp_path / "none", {"acc": unscored}, meta_verifier="threshold")
    assert not CALLS


def test_a_first_document_without_a_value_does_not_choose_the_metric(tmp_path: Path) -> None:
    """What the task makes of numbers tells a metric of all questions from one without a value."""

    def processed(doc: dict[str, Any], results: list[Any]) -> dict[str, Any]:
        pair = (doc["answer"], shapes._last(results[0]))
        return {"agreement": None if doc["id"] == 0 else pair, "hit": float(pair[0] == pair[1])}

    def agreement(pairs: list[Any]) -> float:
        return shapes.accuracy_of([p for p in pairs if p])

    listed = [{"metric": "agreement", "aggregation": agreement}, *shapes._metric()]
    shape = shapes._TEXT | {"process_results": processed, "metric_list": listed}
    found = evaluated(tmp_path, {"t": shapes.task("t", shape)}, meta_verifier="threshold")
    assert manifest_of(tmp_path)["tasks"]["t"]["metric"] == "hit"
    assert found["results"]["t"]["hit,none"] == 0.5


def test_a_metric_of_some_questions_is_taken_by_name_alone(tmp_path: Path) -> None:
    """The first metric that all questions have is the main one, whichever question comes first."""
    for limit, metric in ((None, None), (1, None), (None, "hard")):
        made = shapes.task("t", shapes.SHAPES["first_metric_of_some"])
        folder = tmp_path / f"{limit}-{metric}"
        evaluated(folder, {"t": made}, limit=limit, **({"metric": metric} if metric else {}))
        manifest = manifest_of(folder)
        assert manifest["tasks"]["t"]["metric"] == (metric or "hit")
        said = any("metric=hard takes it" in w["text"] for w in manifest["warnings"])
        assert said == (metric is None)


def test_a_task_that_scores_no_fitting_question_is_said(tmp_path: Path) -> None:
    """One error with the number of them, not a fit on nothing."""
    shape = shapes._hit(lambda hit, doc: float(hit) if doc["answer"] == "2" else None)
    with pytest.raises(AutoMixError, match=r"no score to 10: .*min_docs=4"):
        evaluated(tmp_path, {"t": shapes.task("t", shape)}, meta_verifier="threshold")


@pytest.mark.parametrize("aggregation", ["median", lambda values: max(values) + sum(values)])
def test_numbers_that_are_no_mean_are_summed_up_by_the_task(
    tmp_path: Path, aggregation: Any
) -> None:
    """Routing takes each question's number; the task's own figure is beside the mean, and said."""
    shape = shapes._hit(lambda hit, doc: hit + len(doc["answer"]) / 7) | {
        "metric_list": [{"metric": "hit", "aggregation": aggregation, "higher_is_better": True}]
    }
    found = evaluated(tmp_path, {"t": shapes.task("t", shape)}, meta_verifier="threshold")
    manifest = manifest_of(tmp_path)
    assert manifest["tasks"]["t"]["corpus"]["hit"]["routed"]["value"] == pytest.approx(
        found["results"]["t"]["hit,none"], abs=1e-9
    )
    assert any("sums up otherwise" in w["text"] for w in manifest["warnings"])


def test_repeats_that_route_each_for_itself(tmp_path: Path) -> None:
    """A setting; one record a repeat, and the manifest says so, and of what the harness's are."""
    made = shapes.task("votes", shapes.SHAPES["repeats_majority"])
    evaluated(tmp_path, {"votes": made}, repeats="each", filter="vote")
    manifest, rows = read_run(tmp_path / "out")
    assert len(rows) == 4 * len(shapes.NUMBERS)
    assert manifest["tasks"]["votes"]["repeats"] == {"number": 4, "routed": "each"}
    assert any("each of the 4 answers" in w["text"] for w in manifest["warnings"])


def refused() -> dict[str, Any]:
    """Tasks that the cascade cannot run, for five reasons."""
    perplexity = shapes._TEXT | {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "metric_list": [{"metric": "byte_perplexity"}],
    }
    last_word = shapes._TEXT | {"output_type": "loglikelihood", "metric_list": _acc()}
    no_train = shapes.SHAPES["float"] | {"training_split": None}
    several = shapes.task("several", shapes.SHAPES["float"])
    one = several.construct_requests
    several.construct_requests = lambda doc, ctx, **more: [  # type: ignore[method-assign]
        one(doc, ctx, **more),
        Instance("loglikelihood", doc, (ctx, " unanswerable"), 0, metadata=more["metadata"]),
    ]
    few = shapes.SHAPES["shots_of_all_others"] | {"num_fewshot": 12, "fewshot_split": "train"}
    return {
        "rolling": shapes.task("rolling", perplexity),
        "last_word": shapes.task("last_word", last_word),
        "no_train": shapes.task("no_train", no_train),
        "several": several,
        "few": shapes.task("few", few),
    }


def _acc() -> list[dict[str, Any]]:
    return [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}]


def test_what_cannot_be_run_is_refused_before_the_first_call(tmp_path: Path) -> None:
    """All such tasks in one message, with what can be done; the others can be run alone."""
    tasks = {"fine": shapes.task("fine", shapes.SHAPES["float"])} | refused()
    with pytest.raises(AutoMixError) as caught:
        evaluated(tmp_path, tasks, meta_verifier="threshold")
    said = str(caught.value)
    assert all(name in said for name in refused())
    assert "5 of 6 tasks" in said
    assert "(generate_until, loglikelihood)" in said
    assert "hold 12 demonstrations, and 11 of the 12" in said
    assert "skip_unsupported=true" in said
    assert not CALLS


def test_a_fit_refuses_before_the_first_call_too(tmp_path: Path) -> None:
    """`automix-eval fit`: not one task is fitted while another cannot be."""
    model = _FitLM(
        **scripted_args(
            meta_verifier="threshold",
            records_dir=str(tmp_path),
            **{"calibration.num_docs": 10, "calibration.min_docs": 4},
        )
    )
    fine = {"fine": shapes.task("fine", shapes.SHAPES["float"])}
    with pytest.raises(AutoMixError, match="5 of 6 tasks"):
        lm_eval.evaluate(model, {"tasks": fine | refused(), "groups": {}}, limit=1)
    assert not CALLS


def test_the_rest_runs_where_the_unsupported_are_left_out(tmp_path: Path) -> None:
    """The harness reports the others alone, and the manifest says what was left out."""
    tasks = {"fine": shapes.task("fine", shapes.SHAPES["float"])} | refused()
    found = evaluated(tmp_path, tasks, meta_verifier="threshold", skip_unsupported=True)
    assert set(found["results"]) == {"fine"}
    manifest = manifest_of(tmp_path)
    assert set(manifest["tasks"]) == {"fine"}
    assert {w["task"] for w in manifest["warnings"] if "left out" in w["text"]} == set(refused())


@pytest.mark.parametrize("limit", [5, 12])
def test_demonstrations_are_a_function_of_the_question(tmp_path: Path, limit: int) -> None:
    """Neither the limit nor what the harness drew before changes a question's prompt."""
    prompts = []
    for drawn in (0, 7):
        made = shapes.task("shots", shapes.SHAPES["drawn_shots"])
        random.seed(drawn)
        made.sampler.rnd.random()
        for _ in range(drawn):
            made.sampler.sample(2)
        evaluated(tmp_path / f"{limit}-{drawn}", {"shots": made}, limit=limit)
        _, rows = read_run(tmp_path / f"{limit}-{drawn}" / "out")
        prompts.append([r.prompt_hash for r in rows])
    assert prompts[0] == prompts[1]
    assert len(set(prompts[0])) == limit


def test_documents_without_identity_are_documents_of_their_own() -> None:
    """A missing identity, in whatever form, is not one that questions share."""
    from automix_eval.harness.demonstrations import document_id

    for missing in ({}, {"document_id": None}, {"document_id": ""}, {"document_id": float("nan")}):
        assert document_id(missing) == ""
    assert document_id({"document_id": 0}) == "0"


def test_every_view_knows_its_filter() -> None:
    """A task of the harness has a filter, be it the one it gives itself."""
    made = shapes.task("acc", shapes.SHAPES["acc"])
    assert TaskView("acc", made, None).metrics.filter.name == "none"  # type: ignore[arg-type]
