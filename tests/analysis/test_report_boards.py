"""Leaderboards: who is compared with whom, replays and their closed forms, seeds, prices."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_builder import ROWS, Row, build_run, call, finals, harness, llm_scores, reason, record

from automix_eval.analysis.figures import Board, MethodFigures
from automix_eval.analysis.gather import Settings, assemble
from automix_eval.costs.from_config import parse_costs
from automix_eval.meta_verifiers.base import Router
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import IntArray, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Answer, Record, TierRecord, Verification

# Four kinds of questions; the confidence tells most of them apart.
KINDS: list[Row] = [
    (0.0, 1.0, 0.125, True),
    (0.25, 1.0, 0.25, True),
    (1.0, 1.0, 0.875, False),
    (0.0, 0.0, 0.5, False),
    (1.0, 0.0, 0.5, False),
]


def boards(folder: Path, *baselines: str, **settings: Any) -> tuple[Board, ...]:
    """The leaderboards of a folder."""
    chosen = Settings(baselines=baselines, resamples=200, **settings)
    return assemble([folder], chosen).report.boards


def only(folder: Path, *baselines: str, **settings: Any) -> dict[str, MethodFigures]:
    """The methods of the only leaderboard, by name."""
    (board,) = boards(folder, *baselines, **settings)
    return {m.name: m for m in board.methods}


def full_run(folder: Path, run_id: str = "r1", rows: list[Row] | None = None, **more: Any) -> Path:
    """A run with calibration and evaluation records of every tier."""
    evaluated = [record(i, row, full=True) for i, row in enumerate(rows or KINDS * 8)]
    fitting = [replace(r, phase="calibration") for r in evaluated]
    return build_run(folder, run_id, records=[*fitting, *evaluated], **more)


def value(figure: Any) -> float:
    """A figure that must be defined."""
    assert not isinstance(figure.value, Undefined), figure.value.reason
    return float(figure.value)


def test_closed_forms(tmp_path: Path) -> None:
    """Constants, random and oracle are those counted by hand."""
    full_run(tmp_path)
    methods = only(tmp_path)
    slm, llm = 2.25 / 5, 3 / 5
    assert value(methods["replay:always_slm"].quality) == pytest.approx(slm)
    assert value(methods["replay:always_llm"].quality) == pytest.approx(llm)
    assert value(methods["replay:always_llm"].cost) == 50
    oracle = methods["replay:oracle"]
    assert (value(oracle.quality), value(oracle.cost)) == (
        pytest.approx(4 / 5), pytest.approx((3 + 2 * 50) / 5),
    )  # fmt: skip
    live = methods["pomdp"]
    cost = (5 * 2 + 2 * 50) / 5
    assert value(live.cost) == pytest.approx(cost)
    on_line = slm + (cost - 1) / 49 * (llm - slm)
    assert value(live.random_quality) == pytest.approx(on_line)
    assert value(methods["random@pomdp"].quality) == pytest.approx(on_line)
    assert value(methods["random@pomdp"].delta_ibc) == pytest.approx(0, abs=1e-9)
    assert value(live.oracle_quality) == pytest.approx(4 / 5)


def test_oracle_at_a_cost_draws_lots_between_its_corners(tmp_path: Path) -> None:
    """With the price of half its gains it reaches the dearest gains last."""
    rows: list[Row] = [(0.0, 1.0, 0.1, True), (0.5, 1.0, 0.9, False)] * 10
    full_run(tmp_path, rows=rows)
    live = only(tmp_path)["pomdp"]
    # cost 27 = 2 + 50 / 2; the oracle pays 1 or 50 and takes the gains of 1 before those of 0.5
    assert value(live.cost) == 27
    assert value(live.oracle_quality) == pytest.approx(0.75 + 0.25 * (27 - 25.5) / 24.5)


def test_nothing_beats_the_oracle_at_its_cost(tmp_path: Path) -> None:
    """Every method lies on or below the oracle at the same cost."""
    full_run(tmp_path)
    for method in only(tmp_path, "threshold", "self_consistency", "pomdp").values():
        if isinstance(method.quality.value, float) and method.name != "replay:always_slm":
            assert value(method.quality) <= value(method.oracle_quality) + 1e-9


def test_replay_of_the_live_router_is_the_live_run(tmp_path: Path) -> None:
    """A router replayed on the records of a run of its own reaches the figures of the run."""
    rows = [(a, b, c, c is not None and c <= 0.5) for a, b, c, _ in KINDS * 8]
    full_run(tmp_path, rows=rows, config={"meta_verifier": {"name": "self_consistency"}})
    methods = only(tmp_path, "self_consistency")
    live, played = methods["self_consistency"], methods["replay:self_consistency"]
    for name in ("quality", "cost", "escalation_rate", "delta_ibc", "calls_saved"):
        assert getattr(live, name) == getattr(played, name)
    assert live.tiers == played.tiers


def test_a_family_has_a_curve_and_regions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A router with a parameter gives operating points and a policy for each cost region."""

    class Fixed(Router):
        needs_verification = True

        def __init__(self, threshold: float) -> None:
            self.threshold = threshold

        def choose(self, seen: Seen) -> IntArray:
            if seen.tier != 0:
                return np.full(len(seen), max(seen.tier, 0))
            return np.where(seen.confidence > self.threshold, 0, 1)

    monkeypatch.setattr(
        Threshold, "sweep", lambda self: [(t, Fixed(t)) for t in (0.2, 0.3, 0.6, 1.0)]
    )
    full_run(tmp_path)
    threshold = only(tmp_path, "threshold")["replay:threshold"]
    assert [p.cost for p in threshold.curve] == pytest.approx([12, 22, 42, 52])
    assert [p.parameter for p in threshold.curve] == [0.2, 0.3, 0.6, 1.0]
    assert sum(p.chosen for p in threshold.curve) == 1
    regions = threshold.regions
    # ends 1, 10.8, 20.6, 30.4, 40.2, 50; the dearest policy costs more than the LLM
    assert [r.parameter for r in regions] == [None, 0.2, 0.3, None, 0.6]
    by_parameter = {r.parameter: r for r in regions if r.parameter is not None}
    assert value(by_parameter[0.3].delta_ibc) > value(by_parameter[0.6].delta_ibc)
    assert "regions" in reason(threshold.regions_mean.value)
    line = value(only(tmp_path)["replay:always_llm"].area)
    assert value(threshold.area) > line


def test_baseline_needs_full_records_and_calibration(tmp_path: Path) -> None:
    """What cannot be replayed is a row with the reason."""
    build_run(tmp_path)
    routed = only(tmp_path, "threshold")
    assert "record=full" in reason(routed["replay:threshold"].quality.value)
    assert "record=full" in reason(routed["replay:oracle"].quality.value)
    build_run(tmp_path, full=True)
    assert "calibration" in reason(only(tmp_path, "threshold")["replay:threshold"].quality.value)


def test_opponents_are_played_unasked_where_they_can_be(tmp_path: Path) -> None:
    """The best pair of tiers is a row of every run with records to fit and play it on, once."""
    full_run(tmp_path / "full")
    for baselines in ((), ("pairs",), ("always_llm",)):
        names = [m.name for m in boards(tmp_path / "full", *baselines)[0].methods]
        assert len(set(names)) == len(names)
        assert "replay:pairs" in names
    build_run(tmp_path / "routed")
    assert not {"replay:pairs", "replay:zero"} & set(only(tmp_path / "routed"))


def test_unknown_baseline_is_refused(tmp_path: Path) -> None:
    """A baseline that does not exist is an error with the nearest names."""
    full_run(tmp_path)
    with pytest.raises(AutoMixError, match="did you mean threshold"):
        boards(tmp_path, "treshold")


@pytest.mark.slow
def test_runs_of_a_sweep_stand_in_the_order_of_its_jobs(tmp_path: Path) -> None:
    """Not in that in which they ended, which is chance where they run at once."""
    folders = [full_run(tmp_path / name, f"r{name}").parent for name in "213"]
    for as_named, order in ((True, ["r2", "r1", "r3"]), (False, ["r1", "r2", "r3"])):
        found = assemble(folders, Settings(resamples=20, as_named=as_named))
        assert [t.run_id for t in found.report.tasks] == order
        assert [r.run_id for r in found.runs] == order


def test_seeds_are_pooled(tmp_path: Path) -> None:
    """Runs that differ in their seed alone are one row with mean, std, minimum and maximum."""
    for seed in range(3):
        rows = [*KINDS * 8, *[(0.0, 1.0, 0.5, seed > i) for i in range(5)]]
        # the last seed is the oldest run: the order of a row is that of the seeds all the same
        full_run(tmp_path / str(seed), f"r{2 - seed}", rows, config={"seed": seed})
    methods = only(tmp_path)
    live = methods["pomdp"]
    assert (live.seeds, len(live.runs)) == ((0, 1, 2), 3)
    spread = live.by_seed["quality"]
    single = [value(only(tmp_path / str(s))["pomdp"].quality) for s in range(3)]
    assert (spread.mean, spread.std, spread.low, spread.high) == pytest.approx(
        (np.mean(single), np.std(single), min(single), max(single))
    )
    assert value(live.quality) == pytest.approx(np.mean(single))
    assert isinstance(live.quality.interval, tuple)


def test_the_oracle_of_a_seed_with_fewer_gains_ends_at_its_last(tmp_path: Path) -> None:
    """Seeds are pooled down to the last corner of each: one more gain may be bought alone."""
    for seed, slm in enumerate(([0.0, 0.25, 0.5, 1.0], [1.0] * 4)):
        rows: list[Row] = [(s, 1.0, 0.5, False) for s in slm]
        full_run(tmp_path / str(seed), f"r{seed}", rows, config={"seed": seed})
    (board,) = boards(tmp_path)
    found = [(p.cost, p.quality) for p in board.oracle_curve]
    scores = np.cumsum([1.75 + 4, 1.0, 0.75, 0.5])  # of 8 answers, and what the LLM adds
    assert found == [(1 + 49 * i / 8, score / 8) for i, score in enumerate(scores)]


def test_pooled_seeds_are_no_more_questions(tmp_path: Path) -> None:
    """Three equal runs with three seeds give the interval of one, not one of thrice the data."""
    for seed in range(3):
        full_run(tmp_path / str(seed), f"r{seed}", config={"seed": seed})
    one, three = only(tmp_path / "0")["pomdp"], only(tmp_path)["pomdp"]
    assert three.quality.interval == pytest.approx(one.quality.interval)
    assert three.delta_ibc.interval == pytest.approx(one.delta_ibc.interval)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"labels": ("small", "huge")}, "different tiers"),
        ({"rows": KINDS * 7}, "different questions (40 and 35)"),
        ({"config": {"cost": {"name": "paper", "tiers": [1, 60], "verifier": 1}}}, "prices"),
    ],
)
def test_runs_that_differ_stand_apart(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """Other tiers, questions or prices make a leaderboard of their own, with the reason."""
    full_run(tmp_path / "a")
    full_run(tmp_path / "b", "r22", **change)
    first, second = boards(tmp_path)
    assert first.why_apart == ""
    assert words in second.why_apart
    assert [b.key for b in (first, second)] == ["coqa", "coqa (2)"]


def test_other_prompts_are_not_paired(tmp_path: Path) -> None:
    """Runs whose prompt hashes differ are refused for pairing, and it is said which."""
    full_run(tmp_path / "a")
    records = [replace(record(i, r, full=True), prompt_hash="x") for i, r in enumerate(KINDS * 8)]
    build_run(tmp_path / "b", "r22", records=records)
    _, second = boards(tmp_path)
    assert "run r1 and run r22 asked 40 of 40" in second.why_apart
    assert "hashes differ" in second.why_apart


def test_other_versions_of_the_task_are_not_paired(tmp_path: Path) -> None:
    """The harness's results name the version of a task; another one stands apart."""
    for name, run_id, version in (("a", "r1", 1.0), ("b", "r22", 2.0)):
        full_run(tmp_path / name, run_id)
        path = harness(tmp_path / name, {}, automix={"run_id": run_id}).with_name(
            "results_2026-01-02T00-00-00.000001.json"
        )
        results = json.loads(path.read_text())
        path.write_text(json.dumps({**results, "versions": {"coqa": version}}))
    _, second = boards(tmp_path)
    assert "different versions of the task (1.0 and 2.0)" in second.why_apart


def test_copies_of_a_run_count_once(tmp_path: Path) -> None:
    """The same run in two folders is one run, and that is said."""
    full_run(tmp_path / "a")
    full_run(tmp_path / "b")
    report = assemble([tmp_path], Settings(resamples=200)).report
    assert len(report.tasks) == 1
    assert any("the first counts" in w for w in report.warnings)


def test_plain_runs_stand_beside_the_cascade(tmp_path: Path) -> None:
    """A plain run on the same prompts is a row; with the LLM's name it has the LLM's price."""
    full_run(tmp_path / "a", rows=ROWS)
    harness(tmp_path / "b", llm_scores())
    for other in ("small", "third"):
        harness(tmp_path / other, finals(), pretrained=f"org/{other}", time=f"2026-01-03-{other}")
    rows = only(tmp_path)
    row = rows["plain:org/large"]
    assert (row.kind, value(row.quality), value(row.cost)) == ("plain", 0.75, 50)
    small = rows["plain:org/small"]  # each model has its own place in the chain
    assert (value(row.escalation_rate), value(row.calls_saved)) == (1, 0)
    assert (value(small.escalation_rate), value(small.calls_saved)) == (0, 1)
    assert value(row.apgr) == value(rows["replay:always_llm"].apgr)
    assert "one model alone" in reason(rows["plain:org/third"].escalation_rate.value)


def test_plain_runs_alone_make_a_report(tmp_path: Path) -> None:
    """Folders of the harness without a cascade have qualities, intervals and paired tests."""
    harness(tmp_path / "a", dict.fromkeys(range(40), 0.25), pretrained="org/one")
    harness(tmp_path / "b", dict.fromkeys(range(40), 0.75), pretrained="org/two")
    (board,) = boards(tmp_path)
    assert {m.name: value(m.quality) for m in board.methods} == {
        "plain:org/one": 0.25, "plain:org/two": 0.75,
    }  # fmt: skip
    (pair,) = board.comparisons
    assert "has the higher quality" in pair.words
    assert "no SLM" in reason(board.methods[0].delta_ibc.value)


def test_results_without_samples_are_named(tmp_path: Path) -> None:
    """A plain run without --log_samples is left out with the remedy."""
    full_run(tmp_path / "a")
    harness(tmp_path / "b", llm_scores()).unlink()
    report = assemble([tmp_path], Settings(resamples=200)).report
    assert any("--log_samples" in w for w in report.warnings)


def test_samples_without_records_are_named(tmp_path: Path) -> None:
    """Results of a cascade whose records lie elsewhere are not taken for a plain run."""
    full_run(tmp_path / "a")
    harness(tmp_path / "b", llm_scores(), automix={"run_id": "gone"})
    report = assemble([tmp_path], Settings(resamples=200)).report
    assert any("gone" in w and "records" in w for w in report.warnings)
    assert {m.kind for m in report.boards[0].methods} == {"live", "replay"}


def test_new_prices_need_no_new_run(tmp_path: Path) -> None:
    """--costs prices the recorded calls anew, in paper units and by tokens."""
    full_run(tmp_path)
    assert value(only(tmp_path, costs=parse_costs("paper:2,3,100"))["pomdp"].cost) == (
        pytest.approx(2 + 3 + 0.4 * 100)
    )
    prices = tmp_path / "prices.yaml"
    prices.write_text("- {prompt: 1000, generated: 0}\n- {prompt: 10000, generated: 100000}\n")
    by_tokens = only(tmp_path, costs=parse_costs(f"tokens:{prices}"))
    # 9 calls of 100 tokens, and of 2 in 5 questions one call of 100 and 10 tokens
    assert value(by_tokens["pomdp"].cost) == pytest.approx(0.9 + 0.4 * (1 + 1))
    assert value(by_tokens["replay:always_llm"].cost) == pytest.approx(2)


@pytest.mark.parametrize("text", ["paper", "paper:a,b", "paper:1", "tokens:nowhere.yaml", "x:1"])
def test_wrong_prices_are_refused(text: str) -> None:
    """Prices that cannot be understood are an error that shows the form."""
    with pytest.raises(AutoMixError, match="--costs"):
        parse_costs(text)


def test_one_question_and_equal_scores(tmp_path: Path) -> None:
    """A single question has no intervals and equal scores no gain; both are said, not NaN."""
    full_run(tmp_path / "one", rows=KINDS[:1])
    one = only(tmp_path / "one")["pomdp"]
    assert "at least 6 documents" in reason(one.quality.interval)
    full_run(tmp_path / "same", rows=[(0.5, 0.5, 0.5, True)] * 10)
    same = only(tmp_path / "same", "threshold")
    assert "not better" in reason(same["pomdp"].delta_ibc.value)
    assert "not better" in reason(same["replay:threshold"].delta_ibc.value)


def test_methods_that_cannot_be_told_apart_are_said_to_be(tmp_path: Path) -> None:
    """Two routers with one question's difference are not distinguishable, in words."""
    full_run(tmp_path / "a")
    rows = [*KINDS * 8]
    rows[3] = (0.0, 0.0, 0.5, True)
    full_run(tmp_path / "b", "r22", rows, config={"meta_verifier": {"name": "threshold"}})
    (board,) = boards(tmp_path)
    pair = next(c for c in board.comparisons if {c.first, c.second} == {"pomdp", "threshold"})
    assert "not distinguishable" in pair.words
    assert value(pair.quality_holm) >= value(pair.quality_p)


def test_three_tiers(tmp_path: Path) -> None:
    """A longer chain has its escalation at each tier, and an oracle over all tiers."""

    def chain(i: int) -> Record:
        scores = ((1.0, 1.0, 1.0), (0.0, 1.0, 1.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0))[i % 4]
        final = min(i % 4, 2)
        tiers = tuple(
            TierRecord(
                t, Answer(t, "a", (call(t),)), scores[t],
                verification=Verification(t, 0.5, calls=(call(t, "verify"),)) if t < 2 else None,
                on_path=t <= final,
            )
            for t in range(3)
        )  # fmt: skip
        return Record("coqa", i, 0, "evaluation", final, tiers, f"hash{i}")

    names = [{"index": t, "name": f"t{t}", "label": f"m{t}"} for t in range(3)]
    cost = {"cost": {"name": "paper", "tiers": [1, 10, 100], "verifier": 1}}
    build_run(tmp_path, records=[chain(i) for i in range(40)], tiers=names, config=cost)
    methods = only(tmp_path)
    live, oracle = methods["pomdp"], methods["replay:oracle"]
    assert value(live.cost) == pytest.approx((2 + 13 + 113 + 113) / 4)
    assert [t.escalated.value for t in live.tiers[:2]] == [0.75, pytest.approx(2 / 3)]
    assert value(oracle.quality) == 0.75
    assert value(oracle.cost) == pytest.approx((1 + 10 + 100 + 1) / 4)
    assert value(methods["replay:always_tier:tier=1"].quality) == 0.5
    zero, llm = methods["replay:zero"], methods["replay:always_llm"]
    assert (zero.quality, zero.cost) == (llm.quality, llm.cost)
    # quality per cost falls from tier to tier: all three are corners of what mixtures attain
    area = (0.375 * 9 + 0.625 * 90) / 99
    assert value(zero.area) == pytest.approx(area)
    assert not any("zero" in name for c in boards(tmp_path)[0].comparisons
                   for name in (c.first, c.second))  # fmt: skip
    # the run reaches the best score dearly, so the oracle at its cost can do no better
    assert value(methods["oracle@pomdp"].quality) == 0.75


def test_lazy_records_are_read_again(tmp_path: Path) -> None:
    """Rows give the whole record of any question, and notice a file that changed."""
    path = full_run(tmp_path).with_name("automix_records_r1.jsonl")
    (run,) = assemble([tmp_path], Settings(resamples=200)).runs
    rows = run.records["coqa"]
    found = list(rows.read([7, 2]))
    assert [r.doc_id for r in found] == [7, 2]
    assert found[0].tiers[0].verification is not None
    path.write_text("".join(path.read_text().splitlines(keepends=True)[1:]))
    with pytest.raises(AutoMixError, match="changed"):
        list(rows.read([7]))


def configured(filters: str, **more: str) -> dict[str, Any]:
    """A manifest's tasks, one of which was configured with these filters."""
    hashes = {"filter_list": filters, "metric_list": "m", **more}
    return {"coqa": {"metric": "f1", "sample": False, "config_hashes": hashes}}


def test_a_changed_filter_is_no_seed(tmp_path: Path) -> None:
    """Runs between which the task's scoring changed are apart, each with references of its own."""
    full_run(tmp_path, "r1", [(0.0, 0.0, 0.5, True)] * 10, tasks=configured("old"))
    full_run(tmp_path, "r22", [(0.0, 1.0, 0.5, True)] * 10, tasks=configured("new"))
    report = assemble([tmp_path], Settings(resamples=200)).report
    first, second = report.boards
    assert "run r1 and run r22 have different settings of the task (filter_list)" in (
        second.why_apart
    )
    assert any("filter_list" in w for w in report.warnings)
    llm = [{m.name: m for m in b.methods}["replay:always_llm"] for b in (first, second)]
    assert [value(m.quality) for m in llm] == [0.0, 1.0]
    assert all(len(m.runs) == 1 for b in (first, second) for m in b.methods if m.kind == "live")


def test_the_llm_of_another_scoring_is_not_taken(tmp_path: Path) -> None:
    """LLM answers scored by another filter are no reference, and the reason is said."""
    build_run(tmp_path / "a", "r1", tasks=configured("old"))
    build_run(tmp_path / "b", "r22", policy="always_llm", tasks=configured("new"))
    _, task = sorted(assemble([tmp_path], Settings(resamples=200)).report.tasks,
                     key=lambda t: t.run_id == "r1")  # fmt: skip
    assert "different settings of the task (filter_list)" in reason(task.figures.llm.quality.value)


def test_settings_that_differ_are_rows_of_their_own(tmp_path: Path) -> None:
    """A setting besides the seed makes a row, and label and warnings name it."""
    for seed, bins in enumerate((8, 8, 16)):
        config = {"seed": seed, "meta_verifier": {"name": "pomdp", "num_bins": bins}}
        full_run(tmp_path / str(seed), f"r{seed}", config=config, tasks=configured("f"))
    report = assemble([tmp_path], Settings(resamples=200)).report
    live = [m for m in report.boards[0].methods if m.kind == "live"]
    assert [(m.label, len(m.runs)) for m in live] == [
        ("AutoMix (pomdp on few_shot, meta_verifier.num_bins=8)", 2),
        ("AutoMix (pomdp on few_shot, meta_verifier.num_bins=16)", 1),
    ]
    assert any("differ in meta_verifier.num_bins" in w for w in report.warnings)


def test_other_settings_of_a_tier_stand_apart(tmp_path: Path) -> None:
    """A tier of the same label with other settings gives other references: another table."""
    for run_id, length in (("r1", 10), ("r22", 20)):
        slm = {"name": "hf", "pretrained": "org/small", "max_length": length}
        full_run(tmp_path, run_id, config={"slm": slm})
    _, second = boards(tmp_path)
    assert "different settings of the tiers (tier 0.max_length)" in second.why_apart


def test_other_gold_answers_are_not_paired(tmp_path: Path) -> None:
    """The same prompts with other gold answers are other data."""
    full_run(tmp_path, "r1")
    rows = [replace(record(i, r, full=True), references=("b",)) for i, r in enumerate(KINDS * 8)]
    build_run(tmp_path, "r22", records=rows)
    _, second = boards(tmp_path)
    assert "different gold answers to 40 of 40 common questions" in second.why_apart


def test_unknown_configurations_are_said_to_be(tmp_path: Path) -> None:
    """Runs of earlier releases pool by what is known of them, and it is said what is not."""
    for seed in range(2):
        full_run(tmp_path, f"r{seed}", config={"seed": seed})
    report = assemble([tmp_path], Settings(resamples=200)).report
    assert [len(m.runs) for m in report.boards[0].methods if m.kind == "live"] == [2]
    assert any("configured is not known of run r0, run r1" in w for w in report.warnings)
