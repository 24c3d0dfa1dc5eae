"""Plain runs with --log_samples as one chain: equal to the live cascade, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from plain_runs import MODELS, TASK, pick_task, plain_run
from scripted import SCRIPTS, read_run, run_harness, scripted_args

from automix_eval.costs.paper import PaperCost
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.self_consistency import SelfConsistency
from automix_eval.metrics.choice_values import choice_confidence
from automix_eval.metrics.ibc import delta_ibc
from automix_eval.records.harness_results import ScoredBy, read_samples
from automix_eval.records.importers.chain import Choice, chain_of
from automix_eval.records.importers.lm_eval_samples import SampleReading, read_runs
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError


def pair_of_runs(folder: Path, metric: str = "acc") -> tuple[Path, Path, Path]:
    """The task, and the results folders of a small and a large model."""
    task = pick_task(folder, metric=metric)
    return task, *(plain_run(task, s, folder / s) for s in names_for(metric))


def names_for(metric: str) -> tuple[str, str]:
    """Scripts of which the small one is right less often by this metric."""
    ending = "-long" if metric in ("acc_norm", "acc_bytes") else ""
    return f"small-1B{ending}", f"large-70B{ending}"


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """The same, by accuracy."""
    return pair_of_runs(tmp_path_factory.mktemp("plain"))


def lifted(outcomes: Outcomes) -> float:
    """Delta IBC of the router that escalates below a confidence of one half."""
    path = follow(SelfConsistency(), outcomes)
    quality, cost = outcomes.scores.mean(axis=0), outcomes.answer_costs.mean(axis=0)
    found = delta_ibc(
        float(path.score.mean()), float(path.cost.mean()), quality[0], cost[0], quality[1], cost[1]
    )
    assert isinstance(found, float)
    return found


@pytest.mark.parametrize(
    ("metric", "statistic", "verifier"),
    [
        ("acc", "probability", "mean_probability"),
        ("acc", "margin", "first_margin"),
        ("acc_norm", "probability", "mean_probability"),
        ("acc_norm", "margin", "mean_margin"),
        ("acc_bytes", "probability", "mean_probability"),
        ("acc_mutual_info", "probability", "mean_probability"),
    ],
)
def test_a_chain_of_plain_runs_is_the_live_cascade(
    runs: tuple[Path, Path, Path], tmp_path: Path, metric: str, statistic: str, verifier: str
) -> None:
    """Scores, confidences, documents and answers are those of verifier=margin, to 1e-9."""
    task, small, large = runs if metric == "acc" else pair_of_runs(tmp_path, metric)
    SCRIPTS.update(MODELS)
    given = scripted_args(
        *names_for(metric), verifier="margin", record="full", meta_verifier="self_consistency",
        **{"verifier.statistic": verifier},
    )  # fmt: skip
    del given["verifier.num_samples"]
    run_harness([str(task)], given, tmp_path / "live")
    _, records = read_run(tmp_path / "live")
    live = [r for r in records if r.phase == "evaluation"]
    chain, notes = chain_of(read_runs([small, large], SampleReading(statistic=statistic)), Choice())
    found = chain.outcomes
    assert found.names == names_for(metric)
    assert len(found) == len(live) == 40
    expected = np.array([[t.score for t in r.tiers] for r in live])
    np.testing.assert_allclose(found.scores, expected, atol=1e-9)
    sure = [r.tiers[0].verification.confidence for r in live]  # type: ignore[union-attr]
    np.testing.assert_allclose(found.confidences[:, 0], np.array(sure, dtype=float), atol=1e-9)
    assert np.isnan(found.confidences[:, 1]).all()
    assert 0.2 < found.scores[:, 0].mean() < found.scores[:, 1].mean()
    assert found.documents is not None
    assert found.documents == tuple(r.document for r in live)
    assert found.answers is not None
    assert found.answers[0][0] == live[0].tiers[0].answer.text
    assert any("FLOPs" in n for n in notes)
    priced = chain_of(
        read_runs([small, large], SampleReading(statistic=statistic)),
        Choice(prices=dict(zip(names_for(metric), (1, 50), strict=True))),
    )[0].outcomes
    lifts = [lifted(o) for o in (priced, Outcomes.from_records(live, PaperCost([1, 50], 1)))]
    assert lifts[0] == pytest.approx(lifts[1], abs=1e-9)
    assert any(f"({statistic})" in n for n in notes)


def test_acc_norm_is_judged_by_length(tmp_path: Path) -> None:
    """The confidence is that of the answer which the metric scores."""
    task = pick_task(tmp_path, 8, "acc_norm")
    folders = [plain_run(task, s, tmp_path / s) for s in ("small-1B", "large-70B")]
    found = read_runs(folders, SampleReading())
    script = SCRIPTS["small-1B"]
    for i in range(8):
        options = [f"{i}", f"surely {i + 1}", f"{i + 2} or so, one would say"]
        raw = [float(script(f"{i} plus one?", {"continuation": f" {o}"})) for o in options]
        values = [p / len(o) for p, o in zip(raw, options, strict=True)]
        assert found.confidences is not None
        assert found.confidences[i, 0] == pytest.approx(choice_confidence(values, "probability"))
        assert found.scores[i, 0] == float(int(np.argmax(values)) == 1)
    assert any("by length" in n for n in found.notes)


def test_agreement_of_repeats_and_no_confidence(
    runs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Several generated answers agree to a share; one alone has no confidence, which is said."""

    def generated(responses: list[str]) -> Callable[[dict], dict]:
        return lambda row: {**row, "resps": [responses], "filtered_resps": [responses[0]]}

    many = changed(runs[1], tmp_path / "many", generated(["The cat.", "cat", "a dog", "Cat"]))
    one = changed(runs[2], tmp_path / "one", generated(["cat"]))
    found = read_runs([many, one], SampleReading())
    assert found.confidences is not None
    assert (found.confidences[:, 0] == 0.75).all()
    assert np.isnan(found.confidences[:, 1]).all()
    assert any("agree with the first" in n for n in found.notes)
    assert any("only the question can be read" in n for n in found.notes)


# --------------------------------------------------------------------------- what is refused


def changed(run: Path, to: Path, row: Callable[[dict], dict | None], **about: object) -> Path:
    """A copy of a run with other samples and other values in its results."""
    (results,) = run.rglob("results_*.json")
    (samples,) = run.rglob("samples_*.jsonl")
    to.mkdir()
    value = json.loads(results.read_text())
    (to / results.name).write_text(json.dumps({**value, **about}))
    rows = [row(json.loads(line)) for line in samples.read_text().splitlines()]
    lines = [json.dumps(r) for r in rows if r is not None]
    (to / samples.name).write_text("\n".join(lines) + "\n")
    return to


def same(row: dict) -> dict:
    """A sample as it is."""
    return row


@pytest.mark.parametrize(
    ("row", "about", "problem"),
    [
        (lambda r: {**r, "prompt_hash": "x"}, {}, "40 of 40 questions of pick with diff"),
        (same, {"versions": {TASK: 7}}, "different values of the version of pick"),
        (same, {"n-shot": {TASK: 5}}, "number of few-shot examples of pick"),
    ],
)  # fmt: skip
def test_runs_of_other_settings_are_paired_on_demand(
    runs: tuple[Path, Path, Path], tmp_path: Path, row: Callable, about: dict, problem: str
) -> None:
    """Named and refused; with --unpaired-prompts the same questions are paired, which is said."""
    other = changed(runs[2], tmp_path / "other", row, **about)
    with pytest.raises(AutoMixError, match=problem) as caught:
        read_runs([runs[1], other], SampleReading())
    assert "--unpaired-prompts" in str(caught.value)
    found = read_runs([runs[1], other], SampleReading(unpaired_prompts=True))
    assert any(problem in n for n in found.notes)


def first_ten(row: dict) -> dict | None:
    """The samples of ten documents."""
    return row if row["doc_id"] < 10 else None


@pytest.mark.parametrize(
    ("row", "about", "problem"),
    [
        (lambda r: {**r, "doc_hash": "x"}, {}, "40 questions of pick are about"),
        (first_ten, {}, "has 10 of 40 questions"),
        (first_ten, {"n-samples": {TASK: {"original": 40, "effective": 10}}}, "and 10, 10 of both"),
        (lambda r: {**r, "doc_id": 3}, {}, "line 2.*doc_id 3 stands twice"),
        (lambda r: {**r, "doc_id": None}, {}, "line 1.*no doc_id"),
        (lambda r: {**r, "acc": "high"}, {}, "line 1.*acc is 'high'"),
        (lambda r: {**r, "metrics": []}, {}, "no metric at all"),
        (lambda r: {k: v for k, v in r.items() if k != "acc"}, {}, "no metric acc"),
    ],
)  # fmt: skip
def test_other_questions_and_damage_are_refused(
    runs: tuple[Path, Path, Path], tmp_path: Path, row: Callable, about: dict, problem: str
) -> None:
    """No flag pairs runs of other questions; a damaged sample is named by its line."""
    other = changed(runs[2], tmp_path / "other", row, **about)
    with pytest.raises(AutoMixError, match=problem):
        read_runs([runs[1], other], SampleReading(unpaired_prompts=True))


def test_folders_that_are_no_plain_run(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """A missing or empty folder, one without samples, torn samples, a cascade, one run twice."""
    _, small, large = runs
    empty, bare = tmp_path / "empty", changed(small, tmp_path / "bare", same)
    empty.mkdir()
    next(bare.glob("samples_*")).unlink()
    torn = changed(small, tmp_path / "torn", same)
    file = next(torn.glob("samples_*"))
    file.write_bytes(file.read_bytes()[:-30])
    value = json.loads(next(small.rglob("results_*.json")).read_text())
    value["config"]["model"] = "automix"
    cascade = changed(small, tmp_path / "cascade", same, config=value["config"])
    records = tmp_path / "records"
    records.mkdir()
    (records / "automix_run_20261125T220043-164ab0.json").touch()
    for path, problem in (
        (tmp_path / "absent", "does not exist"),
        (empty, "holds no results file"),
        (bare, "--log_samples"),
        (torn, "line 40 cannot be read"),
        (cascade, "result of a cascade"),
        (records, "result of a cascade"),
        (small, "named twice"),
    ):
        with pytest.raises(AutoMixError, match=problem):
            read_runs([small, path], SampleReading())
    with pytest.raises(AutoMixError, match="at least two runs"):
        read_runs([small], SampleReading())
    with pytest.raises(AutoMixError, match="task=nope has no samples"):
        read_runs([small, large], SampleReading(task="nope"))


def test_runs_of_other_tasks_are_named(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Tasks that one run lacks are listed, with the way to take one of both."""
    task = pick_task(tmp_path, 6, name="other")
    both = changed(runs[2], tmp_path / "both", same)
    plain_run(task, "large-70B", both)
    with pytest.raises(AutoMixError, match="same tasks: other is in one of them only"):
        read_runs([runs[1], both], SampleReading())
    assert len(read_runs([runs[1], both], SampleReading(task=TASK)).ids) == 40


def test_lower_is_better_gets_a_minus(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """A metric that counts errors is turned round, so that more is better everywhere."""
    about = {"higher_is_better": {TASK: {"acc": False}}}
    folders = [changed(r, tmp_path / r.name, same, **about) for r in runs[1:]]
    found = read_runs(folders, SampleReading())
    assert found.scores.min() == -1
    assert any("lower is better" in n for n in found.notes)


def test_tasks_of_unlike_metrics(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Those of one direction are put together with a word, those of two are refused."""
    other = pick_task(tmp_path, 6, metric="acc_norm", name="other")
    folders = []
    for run, script in zip(runs[1:], names_for("acc_norm"), strict=True):
        folders.append(changed(run, tmp_path / run.name, same))
        plain_run(other, script, folders[-1])
    notes = " ".join(read_runs(folders, SampleReading()).notes)
    assert "one mean of unlike scores, other by acc_norm, pick by acc: task= takes one" in notes
    for path in (p for folder in folders for p in folder.rglob("results_*.json")):
        about = json.loads(path.read_text())
        if "other" in about["higher_is_better"]:
            about["higher_is_better"]["other"]["acc_norm"] = False
            path.write_text(json.dumps(about))
    with pytest.raises(AutoMixError, match=r"more is better of pick \(acc\) and less of other"):
        read_runs(folders, SampleReading())
    assert len(read_runs(folders, SampleReading(task=TASK)).ids) == 40


def test_what_a_corpus_metric_reads_is_no_score_and_no_damage(tmp_path: Path) -> None:
    """A report on a run scored by bleu alone reads its samples: questions without a score."""
    path = tmp_path / "samples_t.jsonl"
    row = {"doc_id": 0, "filter": "none", "metrics": ["bleu"], "prompt_hash": "a"}
    values = ["[1, 2]", '{"p": 1}', "null"]
    path.write_text("\n".join(f'{json.dumps(row)[:-1]}, "bleu": {v}}}' for v in values))
    found = read_samples(path, ScoredBy("bleu"))
    assert (found.scores, found.prompts, found.defects) == ({"none": {}}, {0: "a"}, ())


def test_samples_of_older_harnesses_name_neither_metrics_nor_filters(
    runs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """As lm_eval 0.4.3 to 0.4.6 and the Open LLM Leaderboard's details are; there in a .json."""

    def old(row: dict) -> dict:
        return {k: v for k, v in row.items() if k not in ("metrics", "filter")}

    expected = read_runs(runs[1:], SampleReading())
    folders = [changed(r, tmp_path / r.name, old) for r in runs[1:]]
    for folder in folders:
        (samples,) = folder.glob("samples_*")
        lines = samples.read_text()
        samples.unlink()
        # a second filter's samples stand after those of the first
        samples.with_suffix(".json").write_text(lines + lines.replace('"acc": 1.0', '"acc": 0.0'))
        scores = read_samples(samples.with_suffix(".json"), ScoredBy("acc")).scores
        assert list(scores) == ["none", "unnamed"]
        assert sum(scores["none"].values()) > 0 == sum(scores["unnamed"].values())
    found = read_runs(folders, SampleReading())
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.confidences, expected.confidences)
    assert found.metric == "acc"


def test_scores_of_two_filters_are_not_compared(
    runs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """The first filter of each run is read; another one is asked for as results name it."""

    def filtered(*names: str) -> list[Path]:
        made = []
        for run, name in zip(runs[1:], names, strict=True):
            other = "strict" if name == "loose" else "loose"
            folder = changed(
                run, tmp_path / f"{name} {run.name}", lambda r, f=name: {**r, "filter": f}
            )
            (samples,) = folder.glob("samples_*")
            lines = samples.read_text()
            zero = lines.replace('"acc": 1.0', '"acc": 0.0').replace(f'"{name}"', f'"{other}"')
            samples.write_text(lines + zero)
            made.append(folder)
        return made

    with pytest.raises(AutoMixError, match="acc,strict and acc,loose: set --metric"):
        read_runs(filtered("strict", "loose"), SampleReading())
    folders = filtered("loose", "strict")
    found = read_runs(folders, SampleReading(metric="acc,strict"))
    assert found.metric == "acc,strict"
    assert found.scores[:, 0].sum() == 0 < found.scores[:, 1].sum()
    assert any("under its filter strict, of loose, strict" in n for n in found.notes)
    with pytest.raises(AutoMixError, match="has no filter odd: loose, strict"):
        read_runs(folders, SampleReading(metric="acc,odd"))


def test_scores_as_the_harness_writes_them(runs: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Numbers of numpy's are texts, an undefined one is NaN: it is missing, no damage."""

    def odd(row: dict) -> dict:
        value = float("nan") if row["doc_id"] == 3 else str(bool(row["acc"]))
        return {**row, "acc": value, "prompt_hash": None}

    expected = read_runs(runs[1:], SampleReading()).scores[:, 1].copy()
    expected[3] = np.nan
    found = read_runs([runs[1], changed(runs[2], tmp_path / "odd", odd)], SampleReading())
    np.testing.assert_array_equal(found.scores[:, 1], expected)


def test_the_metric_is_the_one_that_a_run_takes(
    runs: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """The first number of the task's metric_list, in whatever order its code returns them."""

    def with_others(row: dict) -> dict:
        return row | {"metrics": ["acc", "loss", "bleu"], "loss": 0.25, "bleu": [1, 2]}

    listed = {"metric_list": [{"metric": m} for m in ("bleu", "loss", "acc")]}
    about = {"configs": {TASK: listed}}
    folders = [changed(r, tmp_path / r.name, with_others, **about) for r in runs[1:]]
    found = read_runs(folders, SampleReading())
    assert found.metric == "loss"
    assert (found.scores == 0.25).all()
