"""Experiment presets: every one runs, says what its outcomes are, and fails cell by cell."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from replay_tables import rows, write
from scripted import SCRIPTS, gold_answers, knows, scripted_args

from automix_eval.analysis.experiments import axes, preset, routers
from automix_eval.analysis.experiments.cell_figures import cell_figures, difference, verdict
from automix_eval.analysis.experiments.simulate import simulated
from automix_eval.analysis.method import MethodScore
from automix_eval.commands.main import main
from automix_eval.meta_verifiers.always import AlwaysLLM, AlwaysSLM
from automix_eval.meta_verifiers.follow import follow
from automix_eval.metrics.ibc import delta_ibc
from automix_eval.records.table_columns import chain_of_header
from automix_eval.report.pictures.experiment import WORDS
from automix_eval.safety.errors import AutoMixError


def _table(path: Path, number: int = 200, seed: int = 0) -> Path:
    """A table of a two-tier chain whose columns say what they are."""
    renamed = [
        {
            "split": r["split"],
            "small-1:correct": r["s1.5-b:correct"],
            "small-1:confidence": r["s1.5-b:conf"],
            "small-1:cost": 1,
            "large-2:correct": r["l:correct"],
            "large-2:cost_usd": r["l:cost"],
        }
        for r in rows(number, seed)
    ]
    return write(path, renamed)


def _run(name: str, out: Path, *changes: str) -> tuple[int, dict[str, Any]]:
    code = main(["experiment", name, "size=smoke", f"out={out}", *changes])
    return code, json.loads((out / f"{name}.json").read_text())


@pytest.mark.parametrize("name", preset.names())
def test_every_preset_runs_small(name: str, tmp_path: Path) -> None:
    """A smoke run writes tables, figures with interval and seed, pictures, and says "simulated"."""
    code, result = _run(name, tmp_path)
    assert code == 0
    page = (tmp_path / f"{name}.md").read_text()
    assert "**These outcomes are simulated" in page
    assert "smoke run" in page
    drawn = 0
    for part, held in result["parts"].items():
        lines = list(csv.DictReader((tmp_path / f"{part}.csv").open()))
        assert len(lines) == len(held["rows"])
        assert held["failures"] == []
        for row in held["rows"]:
            assert row["figures"]["quality"]["interval"] is not None
            assert row["simulated"] is True
        drawn += (tmp_path / f"{part}.png").stat().st_size > 1000 if held["rows"] else 0
        if held["rows"]:
            assert "<svg" in (tmp_path / f"{part}.svg").read_text()
    assert drawn
    assert result["seeds"] == list(result["seeds"])


@pytest.mark.parametrize("name", ["cost_sensitivity", "multi_context", "tiers", "transfer"])
def test_presets_take_tables(name: str, tmp_path: Path) -> None:
    """The same presets work on the user's tables, and then nothing is called simulated."""
    one, two = _table(tmp_path / "one.csv"), _table(tmp_path / "two.csv", seed=1)
    code, result = _run(name, tmp_path / "out", f"tables=[{one},{two}]")
    assert code == 0
    assert [s["kind"] for s in result["sources"]] == ["table", "table"]
    assert "simulated" not in (tmp_path / "out" / f"{name}.md").read_text()
    assert sum(len(p["rows"]) for p in result["parts"].values()) > 0


def test_every_preset_is_declared_whole() -> None:
    """A preset opens with what it shows, and its parts name axes and figures that exist."""
    for name in preset.names():
        made = preset.read(name)
        assert len(made.about) > 30
        for part in made.parts:
            assert part.y in WORDS
            assert set(part.series) <= {*preset.AXES, "source", "family"}


def test_changes_of_an_axis_count_in_their_order() -> None:
    """The later change of one axis holds, and of several wrong keys the first is named."""
    changes = ["router=[pairs]", "lift.router=[union]", "objective=[gain]"]
    made = preset.read("tiers", [*changes, "lift.objective=[ibc]", "tiers=[2]", "lift.tiers=[3]"])
    held = {p.name: [p.axes[k] for k in ("router", "objective", "tiers")] for p in made.parts}
    assert held["lift"] == [("union",), ("ibc",), (3,)]
    assert held["target"] == [("pairs",), ("gain",), (2,)]
    turned = preset.read("tiers", ["lift.router=[union]", "router=[pairs]"])
    assert all(p.axes["router"] == ("pairs",) for p in turned.parts)
    with pytest.raises(AutoMixError, match=r"^wrong0 is no setting"):
        preset.read("tiers", [f"wrong{i}=1" for i in range(8)])


@pytest.mark.slow
def test_a_run_is_evaluated_and_then_reused(tmp_path: Path, capsys: Any) -> None:
    """With data=runs the cascade runs first; the same command again calls no model."""
    answers = gold_answers("coqa_demo")
    SCRIPTS["small"], SCRIPTS["large"] = knows(answers, 0.5), knows(answers, 0.9)
    given = json.dumps(scripted_args())
    call = ("multi_context", tmp_path, "data=runs", "tasks=[coqa_demo]", f"model_args={given}",
            "runs={a: {verifier.num_samples: 1}}", "limit=12",
            "router=[threshold, random]")  # fmt: skip
    code, first = _run(*call)
    assert code == 0, capsys.readouterr().err
    assert [s["name"] for s in first["sources"]] == ["coqa_demo a"]
    (row, *_) = first["parts"]["routers"]["rows"]
    assert (row["train_rows"], row["test_rows"], row["auroc"]) == (20, 12, 1.0)
    SCRIPTS.clear()
    assert _run(*call)[1]["parts"] == first["parts"]


@pytest.mark.slow
def test_numbers_of_a_run_stand_for_its_records(tmp_path: Path, capsys: Any) -> None:
    """What `automix-eval outcomes` writes counts as a run and gives the figures of the records."""
    answers = gold_answers("coqa_demo")
    SCRIPTS["small"], SCRIPTS["large"] = knows(answers, 0.5), knows(answers, 0.9)
    call = ("verifier_quality", tmp_path / "live", "data=runs", "tasks=[coqa_demo]", "limit=12",
            f"model_args={json.dumps(scripted_args())}", "runs={k=2: {verifier: few_shot}}",
            "encoder.router=[random]")  # fmt: skip
    code, live = _run(*call)
    assert code == 0, capsys.readouterr().err
    (run,) = (tmp_path / "live" / "runs").iterdir()
    assert main(["outcomes", str(run), "--out", str(tmp_path)]) == 0
    (tmp_path / "coqa_demo.csv").rename(tmp_path / "k=2.csv")
    code, replayed = _run(
        "verifier_quality", tmp_path / "o", f"outcomes=[{tmp_path / 'k=2.csv'}]",
        "encoder.router=[random]",
    )  # fmt: skip
    assert code == 0
    assert [s["kind"] for s in replayed["sources"]] == ["run"]
    for part in ("verifiers", "encoder", "votes", "shuffled"):
        mine, theirs = replayed["parts"][part]["rows"], live["parts"][part]["rows"]
        assert len(mine) == len(theirs) > 0
        assert [(r["router"], r["auroc"], r["figures"]) for r in mine] == [
            (r["router"], r["auroc"], r["figures"]) for r in theirs
        ]


@pytest.mark.slow
def test_an_encoder_is_shown_with_its_own_auroc(
    tmp_path: Path, fast_routers: dict[str, Any], capsys: Any
) -> None:
    """It judges the answers, once, whatever the verifiers of the runs said."""
    answers = gold_answers("coqa_demo")
    SCRIPTS["small"], SCRIPTS["large"] = knows(answers, 0.5), knows(answers, 0.9)
    entry = json.dumps({"option": "frugal_gpt", **fast_routers["frugal_gpt"]})
    code, result = _run(
        "verifier_quality", tmp_path, "data=runs", "tasks=[coqa_demo]", "limit=12",
        f"model_args={json.dumps(scripted_args())}",
        "runs={a: {verifier.num_samples: 1}, b: {verifier.num_samples: 2}}",
        f"encoder.router=[{entry}]", "seeds=[0]", "objective=ibc",
    )  # fmt: skip
    assert code == 0, capsys.readouterr().err
    assert [r["auroc"] for r in result["parts"]["verifiers"]["rows"]] == [1.0] * 4
    (row,) = result["parts"]["encoder"]["rows"]
    assert row["source"] == "coqa_demo a"
    assert row["auroc"] != 1.0  # a random encoder is not the truthful verifier


def test_two_runs_of_an_experiment_are_equal(tmp_path: Path) -> None:
    """The same seed gives the same files, byte for byte."""
    for name in ("a", "b"):
        _run("transfer", tmp_path / name)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_a_failed_cell_stops_nothing(tmp_path: Path, capsys: Any) -> None:
    """It is listed with its reason, the others have figures, and the command says so."""
    code, result = _run("size_gap", tmp_path, "router=[threshold, {option: pomdp, num_bins: -3}]")
    assert code == 2
    part = result["parts"]["size_gap"]
    assert part["rows"]
    assert all("num_bins" in f["reason"] for f in part["failures"])
    assert "num_bins" in (tmp_path / "size_gap.md").read_text()
    assert "failed" in capsys.readouterr().err


def test_an_unreadable_table_stops_nothing(tmp_path: Path) -> None:
    """The other tables are used, and the reason is on the page."""
    good = _table(tmp_path / "good.csv")
    code, result = _run("families", tmp_path / "o", f"tables=[{good},{tmp_path / 'no.csv'}]")
    assert code == 2
    assert [s["name"] for s in result["sources"]] == ["good"]
    assert "does not exist" in result["failed_sources"][0]["reason"]


def test_too_few_tiers_are_left_out_by_name(tmp_path: Path) -> None:
    """A chain of two tiers has no five: no failure, and not silent either."""
    table = _table(tmp_path / "t.csv")
    code, result = _run("tiers", tmp_path / "o", f"tables={table}", "tiers=[2, 5]")
    assert code == 0
    assert "too few for tiers=5" in result["parts"]["lift"]["left_out"][0]["reason"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["teirs"], "did you mean tiers"),
        (["tiers", "sede=1"], "did you mean seed"),
        (["tiers", "lift.tires=[2]"], "did you mean lift.tiers"),
        (["tiers", "ratio=[50]"], "no part of this experiment varies ratio"),
        (["tiers", "router=[]"], "leaves nothing to do"),
        (["tiers", "seeds=[]"], "leaves nothing to do"),
        (["tiers", "seeds=[-1]"], "at least 0"),
        (["tiers", "resamples=0"], "at least 1"),
        (["tiers", "size=tiny"], "full or smoke"),
        (["tiers", "simulated={rows: 3}"], "at least 2 tiers, 20 rows"),
        (["tiers", "simulated={row: 30}"], "cannot be made"),
        (["tiers", "tables"], "KEY=VALUE"),
        (["tiers", "tables=[a"], "cannot be read as YAML"),
        (["tiers", "tables=absent.csv"], "does not exist"),
        (["tiers", "records=absent"], "no outcomes to work on"),
    ],
)
def test_bad_settings_are_one_clear_line(
    arguments: list[str], problem: str, tmp_path: Path, capsys: Any
) -> None:
    """Cause and remedy, exit code 2."""
    assert main(["experiment", *arguments, f"out={tmp_path}"]) == 2
    error = capsys.readouterr().err
    assert problem in error
    assert error.count("\n") == 1


def test_tables_without_a_chain_or_rows_are_refused(tmp_path: Path, capsys: Any) -> None:
    """The columns that are needed are named, and so is a lack of rows."""
    bad = write(tmp_path / "bad.csv", [{"split": "train", "x:score": 1}])
    small = _table(tmp_path / "small.csv", 12)
    for table, problem in ((bad, "TIER:score"), (small, "at least 10 of each")):
        assert main(["experiment", "tiers", f"tables={table}", f"out={tmp_path}"]) == 2
        assert problem in capsys.readouterr().err


def test_columns_are_found_by_their_names(tmp_path: Path) -> None:
    """The tiers come in the file's order, a missing price of a verification is 0."""
    small, large = chain_of_header(_table(tmp_path / "t.csv"))
    assert (small.name, small.score, small.confidence) == (
        "small-1",
        "small-1:correct",
        "small-1:confidence",
    )
    assert (large.cost, large.confidence, large.verify_cost) == ("large-2:cost_usd", None, 0.0)


def test_chains_of_an_axis() -> None:
    """Each word stands for the chains it says."""
    assert axes.chains("ends", 5) == [(0, 4)]
    assert axes.chains("neighbours", 3) == [(0, 1), (1, 2)]
    assert len(axes.chains("pairs", 5)) == 10
    assert axes.chains(3, 5) == [(0, 2, 4)]
    assert axes.chains(6, 5) == []
    assert axes.chains([0, 3], 5) == [(0, 3)]
    with pytest.raises(AutoMixError, match="ends, all, pairs"):
        axes.chains("most", 5)


def test_prices_are_those_asked_for() -> None:
    """Ratios set answers, verifications follow their tier, and the last tier is not judged."""
    _, test = simulated(3, 40)
    made = axes.priced(test, 100.0, 2.0)
    np.testing.assert_allclose(made.answer_costs[0], [1, 10, 100])
    np.testing.assert_allclose(made.verification_costs[0], [2, 20, 0])
    assert axes.priced(test, None, None) is test


def test_votes_and_shuffles_make_a_verifier_worse() -> None:
    """One vote is 0 or 1 and calibrated; a full shuffle keeps the values and loses the order."""
    _, test = simulated(2, 4000, noise=0.0)
    one = axes.voted(test, 1, 0).confidences[:, 0]
    assert set(one.tolist()) == {0.0, 1.0}
    assert abs(one.mean() - test.confidences[:, 0].mean()) < 0.05
    mixed = axes.shuffled(test, 1.0, 0).confidences[:, 0]
    np.testing.assert_array_equal(np.sort(mixed), np.sort(test.confidences[:, 0]))
    assert abs(np.corrcoef(mixed, test.confidences[:, 0])[0, 1]) < 0.1


def test_two_tier_routers_in_a_row_are_one_router_for_two_tiers() -> None:
    """For a chain of two they decide as the router itself; in a longer one some stop midway."""
    train, test = simulated(2, 400)
    for option in ("threshold", "pomdp"):
        plain = follow(routers.make(option, "ibc", "none", 0).fit(train), test)
        entry = {"option": option, "chained": True}
        chained = follow(routers.make(entry, "ibc", "none", 0).fit(train), test)
        np.testing.assert_array_equal(plain.final, chained.final)
    train, test = simulated(4, 2000)
    entry = {"option": "union", "chained": True}
    made = routers.make(entry, "target=0.95", "none", 0).fit(train)
    found = follow(made, test)
    assert 0 < (found.final == 1).mean() < 1
    # nobody skips a tier but where its router asks the next one without looking
    asked = [router.only_tier != -1 for router in made.routers_] + [True]
    assert sum(asked) >= 3
    assert (found.visited == (asked & (np.arange(4) <= found.final[:, None]))).all()


def test_routers_in_a_row_hand_on_what_they_never_ask() -> None:
    """A tier that its router skips unseen is not asked by those who come from below, either."""
    train, test = simulated(4, 400)
    row = routers.make({"option": "threshold", "chained": True}, "ibc", "none", 0).fit(train)
    row.routers_ = [row.routers_[0], AlwaysLLM(), AlwaysSLM()]
    found = follow(row, test)
    assert 0 < (found.final == 2).mean() < 1
    assert (
        found.visited == np.isin(np.arange(4), [0, 2]) & (np.arange(4) <= found.final[:, None])
    ).all()


def test_routers_in_a_row_that_look_at_nothing_verify_nothing() -> None:
    """Where every fitted router asks one tier alone, the row pays for one answer a question."""
    train, test = simulated(4, 400)
    entry = {"option": "threshold", "chained": True}
    made = routers.make(entry, "budget=0", "none", 0).fit(train)
    assert [router.only_tier for router in made.routers_] == [0, 0, 0]
    np.testing.assert_array_equal(follow(made, test).cost, test.answer_costs[:, 0])


def test_figures_are_means_over_seeds() -> None:
    """Value, std (ddof 0), least and greatest are those of the seeds; one seed has no std."""
    train, test = simulated(2, 400)
    fitted = [
        routers.make("threshold", "ibc", "none", 0).fit(axes.sampled(train, 30, s))
        for s in range(4)
    ]
    paths = [follow(router, test) for router in fitted]
    found = cell_figures(MethodScore.of_routers(fitted, test, 0, 200))
    each = [
        delta_ibc(
            p.score.mean(), p.cost.mean(), test.scores[:, 0].mean(), 1.0,
            test.scores[:, 1].mean(), 50.0,
        )
        for p in paths
    ]  # fmt: skip
    lift = found["delta_ibc"]
    np.testing.assert_allclose(lift.each, each)
    np.testing.assert_allclose((lift.value, lift.std), (np.mean(each), np.std(each)))
    np.testing.assert_allclose((lift.low, lift.high), (min(each), max(each)))
    assert lift.interval is not None
    assert lift.interval[0] < np.mean(each) < lift.interval[1]
    assert difference(lift, lift).interval == (0.0, 0.0)


def test_a_lift_that_does_not_exist_is_no_number() -> None:
    """Where the LLM is no better the figure is undefined, with the reason."""
    _, test = simulated(2, 200, weakest=2.0, strongest=-2.0)
    router = routers.make("always_llm", "ibc", "none", 0)
    lift = cell_figures(MethodScore.of_routers([router], test, 0, 50))["delta_ibc"]
    assert lift.value is None
    assert "not better" in str(lift.reason)
    assert verdict(lift) == "undefined"


def test_routers_that_read_texts_are_left_out_of_numbers(tmp_path: Path) -> None:
    """A fine-tuned encoder has nothing to read in a table; one that draws lots needs nothing."""
    table = _table(tmp_path / "t.csv")
    code, result = _run(
        "families", tmp_path / "o", f"tables={table}", "router=[random, frugal_gpt]"
    )
    assert code == 0
    part = result["parts"]["families"]
    assert [r["router"] for r in part["rows"]] == ["random"]
    assert "reads texts" in part["left_out"][0]["reason"]


KEPT = Path(__file__).parents[2] / "results" / "reference_experiments"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "part"),
    [
        ("verifier_quality", "verifier_quality/live", "verifiers"),
        ("low_resource_language", "low_resource_language", "routers"),
        ("multi_context", "multi_context", "routers"),
    ],
)
def test_the_references_of_real_runs_are_what_their_numbers_give(
    name: str, folder: str, part: str, tmp_path: Path
) -> None:
    """The tables kept of the runs, replayed, give the figures kept beside them."""
    with (KEPT / folder / f"{part}.csv").open(encoding="utf-8") as lines:
        kept = list(csv.DictReader(lines))
    stems = list(dict.fromkeys(row["source"].replace(" ", "_") for row in kept))
    tables = [str(KEPT / folder / "outcomes" / f"{stem}.csv") for stem in stems]
    small = ["votes.votes=8", "shuffled.shuffled=0.0", "encoder.router=[random]"]
    code = main(["experiment", name, f"outcomes={json.dumps(tables)}", f"out={tmp_path}",
                 "resamples=2",
                 *(small if name == "verifier_quality" else [])])  # fmt: skip
    assert code == 0
    with (tmp_path / f"{part}.csv").open(encoding="utf-8") as lines:
        found = list(csv.DictReader(lines))
    assert len(found) == len(kept) > 0
    for mine, theirs in zip(found, kept, strict=True):
        assert mine["source"] == theirs["source"].replace(" ", "_")
        for column in ("objective", "router"):
            assert mine.get(column) == theirs.get(column)
        for column in ("quality", "cost", "escalated", "delta_ibc", "auroc", "judged",
                       "slm_quality", "llm_quality", "train_rows", "test_rows"):  # fmt: skip
            one, other = mine[column], theirs[column]
            assert one == other or float(one) == pytest.approx(float(other), abs=1e-9), column
