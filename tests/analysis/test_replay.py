"""A replay from its command line to its result: figures, sweeps, policies and refusals."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import OmegaConf
from replay_tables import TIERS, arguments, rows, write
from report_builder import write_records
from router_records import record

from automix_eval.analysis.replay import _sampled
from automix_eval.analysis.replay_score import score
from automix_eval.commands.main import main
from automix_eval.config import compose as config
from automix_eval.meta_verifiers.self_consistency import SelfConsistency
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.metrics.bootstrap import RESAMPLES
from automix_eval.metrics.curves import quality_at
from automix_eval.metrics.nested_sample import nested_sample
from automix_eval.paths import hydra_conf_dir
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.files import write_json

pytestmark = pytest.mark.all_folds

ROUTERS = [
    name
    for name in config.options("meta_verifier")
    if ".baselines." not in (hydra_conf_dir() / "meta_verifier" / f"{name}.yaml").read_text()
]


CONSTANT = ("always_llm", "always_slm", "always_tier")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder beside the table."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def table(folder: Path) -> Path:
    """A table of 200 questions, seen from the working folder."""
    return Path("..", write(folder.parent / "t.csv", rows()).name)


def result(folder: Path, *args: str) -> dict[str, Any]:
    """What a replay that succeeds writes."""
    assert main([*args, "output=out.json"]) == 0
    found = json.loads((folder / "out.json").read_text())
    assert isinstance(found, dict)
    return found


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(p.name for p in folder.iterdir())


def outcomes(number: int, cells: int, seed: int = 0) -> Outcomes:
    """Random outcomes of three tiers with few different confidences."""
    rng = np.random.default_rng(seed)
    confidences = rng.integers(0, cells, (number, 3)) / max(1, cells - 1)
    confidences[:, 2] = np.nan
    return Outcomes(
        scores=rng.integers(0, 2, (number, 3)).astype(float),
        answer_costs=np.array([1.0, 5.0, 50.0]) * rng.uniform(0.5, 1.5, (number, 3)),
        confidences=confidences,
        verification_costs=np.array([1.0, 1.0, 0.0]) * np.ones((number, 3)),
        names=("a", "b", "c"),
        ids=tuple(map(str, range(number))),
    )


# --------------------------------------------------------------------------- figures


@pytest.mark.parametrize("name", ROUTERS)
def test_every_router_gives_a_whole_result(folder: Path, table: Path, name: str) -> None:
    """Each option is fitted and scored through the protocol, and its result is plain JSON."""
    found = result(folder, *arguments(table, f"meta_verifier={name}"))
    assert sum(found["escalation"]) == pytest.approx(1)
    costs = [point[0] for point in found["curve"]]
    assert costs == sorted(costs)
    assert (found["n_train"], found["n_test"]) == (100, 100)
    assert found["policy"]["meta_verifier"]["name"] == name
    assert (found["delta_ibc"] is None) == (found["undefined_reason"] is not None)
    assert set(found["cost_at"]) == {"0.95", "0.99", "1.0"}


def test_opponents_stand_beside_the_router(
    folder: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The best single tier, mixtures of tiers and the best pair are part of every result."""
    found = result(folder, *arguments(table, "meta_verifier=pomdp"))
    beside = found["references"]
    singles = [(t["cost"], t["performance"]) for t in beside["tiers"]]
    assert beside["best_single"] == max(beside["tiers"], key=lambda t: t["performance"])
    assert beside["zero"]["performance"] == pytest.approx(quality_at(singles, found["cost"]))
    alone = result(folder, *arguments(table, "meta_verifier=pairs"))
    assert beside["pairs"] == {
        "name": "pairs", **{k: alone[k] for k in ("performance", "cost", "delta_ibc", "auc")}
    }  # fmt: skip
    assert alone["references"]["pairs"] is None
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("alone, the best", "zero router", "\npairs "))


def test_figures_are_those_of_the_definitions(folder: Path, table: Path) -> None:
    """Performance, cost, escalation and delta IBC follow from the test rows by hand."""
    found = result(folder, *arguments(table, "meta_verifier=self_consistency"))
    test = [r for r in rows() if r["split"] == "test"]
    up = [r["s1.5-b:conf"] <= 0.5 for r in test]
    p = np.mean(
        [r["l:correct"] if u else r["s1.5-b:correct"] for r, u in zip(test, up, strict=True)]
    )
    c = 2 + 50 * np.mean(up)
    ps, pl = (np.mean([r[k] for r in test]) for k in ("s1.5-b:correct", "l:correct"))
    assert found["performance"] == pytest.approx(p)
    assert found["cost"] == pytest.approx(c)
    assert found["escalation"] == pytest.approx([1 - np.mean(up), np.mean(up)])
    assert found["delta_ibc"] == pytest.approx((p - ps) / (c - 1) / ((pl - ps) / 49) - 1)
    low, high = found["intervals"]["delta_ibc"]
    assert low < found["delta_ibc"] < high
    oracle = found["references"]["oracle"]["performance"]
    assert oracle == np.mean([max(r["s1.5-b:correct"], r["l:correct"]) for r in test])


def test_an_undefined_lift_has_a_reason_and_no_number(tmp_path: Path, folder: Path) -> None:
    """An LLM that is worse, or costs the same, gives null and why, in every figure it touches."""
    worse = [{**r, "l:correct": 0} for r in rows()]
    found = result(
        folder, *arguments(write(tmp_path / "w.csv", worse), "meta_verifier=self_consistency")
    )
    assert found["delta_ibc"] is None
    assert "not better" in found["undefined_reason"]
    assert found["intervals"]["delta_ibc"] is None
    same = TIERS.replace("cost: 50", "cost: 1")
    found = result(
        folder, "replay", f"table={write(tmp_path / 's.csv', rows())}", same,
        "split_column=split", "meta_verifier=self_consistency",
    )  # fmt: skip
    assert found["auc"] is None
    assert "costs the same" in found["undefined"]["auc"]


@pytest.mark.parametrize(
    "change",
    [
        {"s1.5-b:conf": 0.5},
        {"s1.5-b:conf": None},
        {"s1.5-b:correct": 0},
        {"s1.5-b:correct": 1, "l:correct": 1},
        {"l:correct": 0, "s1.5-b:correct": 0},
        {"doc": "one"},
    ],
)
@pytest.mark.parametrize("name", [r for r in ROUTERS if r not in CONSTANT])
def test_poor_data_have_a_defined_outcome(
    tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture[str], name: str, change: dict
) -> None:
    """Constant or missing confidences and one class only: finite figures or one clear error."""
    path = Path("..", write(tmp_path / "p.csv", [{**r, **change} for r in rows()]).name)
    code = main(arguments(path, f"meta_verifier={name}", "document_column=doc", "output=out.json"))
    if change == {"s1.5-b:conf": None}:
        assert code == 2
        assert "reads confidences" in capsys.readouterr().err
    else:
        assert code == 0
        assert "NaN" not in (folder / "out.json").read_text()


def test_more_bins_than_rows_are_no_error(folder: Path, table: Path) -> None:
    """A fit on a handful of rows stands, whatever the number of bins."""
    found = result(
        folder, *arguments(table, "meta_verifier=pomdp", "meta_verifier.num_bins=64", "max_train=8")
    )
    assert found["n_train"] == 8


@pytest.mark.parametrize(
    ("aim", "said"),
    [
        (["objective=budget", "budget=1000"], "a mean cost of at most 1000;"),
        (["objective=budget", "mean_cost=1000"], "a mean cost of at most 1000;"),
        (["objective=target", "target=0.5"], "0.5 of the last tier's quality,"),
        (["objective=target", "target=2"], "2 of the last tier's quality,"),
        (["objective=gain"], None),
        (["objective=gain", "mean_cost=9"], None),
    ],
)
def test_what_was_aimed_at_is_said_beside_what_was_reached(
    folder: Path, table: Path, aim: list[str], said: str | None
) -> None:
    """A target that no policy reaches is missed in words; gain sets no number."""
    found = result(folder, *arguments(table), "meta_verifier=threshold", *aim, "resamples=20")
    lines = [note for note in found["notes"] if note.startswith("aimed at")]
    unread = [note for note in found["notes"] if "is not read" in note]
    if said is None:
        assert unread == ["mean_cost is not read by objective=gain"] * (len(aim) - 1)
        assert lines == []
        return
    (line,) = lines
    assert said in line
    assert not unread
    assert line.endswith("missed" if aim[-1] == "target=2" else "met")


def test_intervals_are_those_of_a_report_by_default() -> None:
    """The same questions, the same draws: two outputs of one policy say the same."""
    assert OmegaConf.load(hydra_conf_dir() / "replay.yaml").resamples == RESAMPLES


def test_training_rows_are_drawn_by_the_seed() -> None:
    """A smaller sample of them is no beginning of the table, which may be sorted."""
    every = outcomes(60, 5)
    drawn = {s: _sampled(every, OmegaConf.create({"max_train": 10, "seed": s}), []) for s in (3, 4)}
    for seed, found in drawn.items():
        assert found is not None
        assert found.ids == tuple(map(str, sorted(nested_sample(60, 10, seed))))
    assert len({found.ids for found in drawn.values() if found}) == 2


def test_equal_seeds_give_equal_results(folder: Path, table: Path) -> None:
    """Sample, fit and intervals depend on the seed and on nothing else."""
    args = arguments(table, "meta_verifier=threshold", "max_train=40", "seed=5")
    first = result(folder, *args)
    assert result(folder, *args) == first
    assert first["seed"] == 5
    other = result(folder, *args[:-1], "seed=6")
    assert other["intervals"] != first["intervals"]


def test_documents_widen_the_interval(folder: Path, tmp_path: Path) -> None:
    """Questions of one document are drawn together: copies of a question tell nothing new."""
    copies = [r | {"doc": f"{r['split']}{i}"} for i, r in enumerate(rows(80)) for _ in range(8)]
    path = write(tmp_path / "c.csv", copies)
    args = arguments(path, "meta_verifier=self_consistency")
    alone = np.ptp(result(folder, *args)["intervals"]["performance"])
    grouped = result(folder, *args, "document_column=doc")
    assert grouped["clustered_by_document"]
    assert np.ptp(grouped["intervals"]["performance"]) > 2 * alone


def test_test_rows_are_parted_by_a_column(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Slices are of the test rows alone, those without a value are named, and a column exists."""
    half = [r | {"kind": ("a", "b", "")[i % 5 % 3]} for i, r in enumerate(rows(200))]
    path = write(tmp_path / "k.csv", half)
    args = arguments(path, "meta_verifier=threshold", "id_column=id", "resamples=20")
    found = result(folder, *args, "by=kind")["slices"]
    wanted = [r["kind"] for r in half if r["split"] == "test"]
    sizes = {s["label"]: s["num_questions"] for s in found["slices"]}
    assert sizes == {kind: wanted.count(kind) for kind in ("a", "b")}
    assert found["num_lacking"] == wanted.count("")
    assert "threshold by kind" in capsys.readouterr().out
    assert main([*args, "by=nothing"]) == 2
    assert "lacks the column 'nothing'" in capsys.readouterr().err
    assert main(["replay", "records=out", "by=kind"]) == 2
    assert "report FOLDER --by FIELD" in capsys.readouterr().err


def test_the_curve_holds_every_policy_of_the_range() -> None:
    """One point a policy of the router's sweep, ascending in cost; one for a router without."""

    class Swept(Threshold):
        """A threshold with a range of its own."""

        def sweep(self) -> list[tuple[float | None, Any]]:
            return [(t, SelfConsistency(undefined=t)) for t in (1.0, 0.5, 0.0)]

    data = outcomes(200, 5)
    fitted = Swept().fit(data)
    assert sorted(p[2] for p in score(fitted, data, 0, 50)["curve"]) == [0.0, 0.5, 1.0]
    assert [p[2] for p in score(SelfConsistency(), data, 0, 50)["curve"]] == [None]


# --------------------------------------------------------------------------- the command


def test_a_single_run_leaves_one_file(folder: Path, table: Path) -> None:
    """Hydra writes no folder and no log beside the result."""
    result(folder, *arguments(table, "meta_verifier=self_consistency"))
    assert names(folder) == ["out.json"]


def test_a_multirun_writes_a_file_a_job_and_one_table(
    folder: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every combination is a job; flags may stand before the settings."""
    args = arguments(table, "-m", "meta_verifier=always_slm,always_llm", "seed=0,1")
    assert main([*args, "output=out.json"]) == 0
    assert names(folder) == ["out.csv", *(f"out_{i}.json" for i in range(4))]
    with (folder / "out.csv").open() as lines:
        found = list(csv.DictReader(lines))
    assert [r["meta_verifier"] for r in found] == ["always_slm"] * 2 + ["always_llm"] * 2
    assert [r["seed"] for r in found] == ["0", "1"] * 2
    assert found[2]["output"] == "out_2.json"
    lines = capsys.readouterr().out.splitlines()
    said = [x for x in lines if x.startswith("job ") and "=" in x]
    assert ["seed=1" in x for x in said] == [False, True] * 2  # each says all in which they differ
    assert "always_llm" in said[2]


def test_an_interpolated_output_is_taken_as_it_is(folder: Path, table: Path) -> None:
    """The user's own names of the jobs' files win."""
    args = arguments(table, "-m", "meta_verifier=always_slm", "seed=3,4")
    assert main([*args, "output='o_${seed}.json'"]) == 0
    assert names(folder) == ["o_3.json", "o_4.json", "replay.csv"]


def test_a_job_that_fails_does_not_end_the_sweep(
    folder: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other jobs' results are kept, and the exit code says that one is missing."""
    args = arguments(table, "-m", "meta_verifier=self_consistency", "test_split=nope,test")
    assert main([*args, "output=out.json"]) == 2
    assert "1 of 2 jobs failed" in capsys.readouterr().err
    assert names(folder) == ["out.csv", "out_1.json"]


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (["meta_verifier=pomdq"], "did you mean pomdp"),
        (["meta_verifer=pomdp"], "did you mean meta_verifier"),
        (["meta_verifier.undefine=3"], "did you mean meta_verifier.undefined"),
        (["tabel=x.csv"], "did you mean table"),
        (["pomdp"], "pomdp is no setting: KEY=VALUE"),
        (["~seed"], "~seed is no setting: KEY=VALUE, or KEY=null"),
        (["~meta_verifier=pomdp"], "is no setting"),
        (["--config-dir", "mine"], "--config-dir is not taken"),
        (["-cn=run"], "-cn is not taken"),
        (["--experimental-rerun", "x"], "--experimental-rerun is not taken"),
        (["meta_verifier._target_=os.system"], "may not be set"),
        (["seed=-1"], "seed=-1"),
        (["max_train=0"], "max_train=0"),
        (["resamples=many"], "resamples"),
        (["objective=speed"], "objective"),
        (["objective=budget"], "mean_cost=NUMBER"),
        (["train_split=nope"], "no row has the split 'nope'"),
        (["test_split=nope"], "has 'test', 'train'"),
        (["split_column=null"], "split_column=COL"),
        (["records=x"], "both are given"),
        (["table=null"], "neither is given"),
        (["tiers=null"], "tiers is not set"),
        (["table=a=b.csv"], "quoted"),
        (["output=/proc/nowhere/out.json"], "cannot write"),
    ],
)
def test_mistakes_are_named_with_their_remedy(
    folder: Path, table: Path, capsys: pytest.CaptureFixture[str], more: list[str], problem: str
) -> None:
    """One line on stderr, exit code 2, and no file."""
    assert main(arguments(table, "meta_verifier=threshold", *more)) == 2
    shown = capsys.readouterr().err
    assert problem in shown
    assert "Traceback" not in shown
    assert names(folder) == []


def test_cfg_and_help_run_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both show the settings; the help names the meta-verifiers."""
    assert main(["replay", "--cfg", "job", "meta_verifier=threshold"]) == 0
    assert "candidates" in capsys.readouterr().out
    assert main(["replay", "--help"]) == 0
    shown = capsys.readouterr().out
    assert "self_consistency" in shown
    assert "split_column" in shown
    assert names(folder) == []


# --------------------------------------------------------------------------- policies and records


def test_a_policy_scores_as_the_fit_that_made_it(folder: Path, table: Path) -> None:
    """A stored policy, played without its training rows, gives the same figures."""
    first = result(folder, *arguments(table, "meta_verifier=threshold"))
    write_json(folder / "policy.json", first["policy"])
    args = arguments(table, "meta_verifier=threshold", "train_split=none")
    again = result(folder, *args, "meta_verifier.policy=policy.json")
    assert again["performance"] == first["performance"]
    assert again["policy"] == first["policy"]
    assert again["n_train"] == 0


def test_a_policy_for_other_tiers_is_refused(
    folder: Path, table: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another chain, another length or another router is an error; transfer allows the first."""
    found = result(folder, *arguments(table, "meta_verifier=threshold"))
    write_json(folder / "policy.json", found["policy"])
    use = "meta_verifier.policy=policy.json"
    other = [a.replace("name: l", "name: x") for a in arguments(table, "meta_verifier=threshold")]
    assert main([*other, use]) == 2
    assert "fitted on the tiers s, l" in capsys.readouterr().err
    assert main([*other, use, "meta_verifier.transfer=true"]) == 0
    longer = [a.replace("}]", "}, {name: z, score: l:correct, cost: 60}]") for a in other]
    assert main([*longer, use, "meta_verifier.transfer=true"]) == 2
    assert "chain of 2 tiers" in capsys.readouterr().err
    assert main([*arguments(table, "meta_verifier=pomdp"), use]) == 2
    assert "add meta_verifier=threshold" in capsys.readouterr().err


def stored_run(folder: Path, task: str = "toy", number: int = 40) -> Path:
    """The records of a run that asked every tier, calibration and evaluation."""
    rng = np.random.default_rng(1)
    made = []
    for i in range(number):
        v = int(rng.integers(0, 9)) / 8
        one = record(i, (float(rng.random() < v), 1.0), (v, None))
        made.append(replace(one, task=task, phase="calibration" if i % 2 else "evaluation"))
    write_records(folder / "automix_records_1.jsonl", made)
    manifest = {
        "format": "automix-eval run",
        "version": 1,
        "run_id": "1",
        "records": "automix_records_1.jsonl",
        "tiers": [{"index": i, "name": n, "label": n} for i, n in enumerate(("small", "large"))],
        "tasks": {task: {}},
        "policies": {},
    }
    write_json(folder / "automix_run_1.json", manifest)
    return folder / "automix_run_1.json"


def test_records_of_a_run_are_an_input(folder: Path, tmp_path: Path) -> None:
    """Calibration is fitted on, evaluation is scored, and the cost group prices both."""
    path = stored_run(tmp_path)
    args = ["replay", f"records={path}", "meta_verifier=threshold"]
    found = result(folder, *args)
    assert (found["n_train"], found["n_test"]) == (20, 20)
    assert [t["name"] for t in found["references"]["tiers"]] == ["small", "large"]
    assert found["references"]["tiers"][1]["cost"] == 50
    dearer = result(folder, *args, "cost.tiers=[1, 100]")
    assert dearer["references"]["tiers"][1]["cost"] == 100
    assert found["policy"]["fitted_on"]["task"] == "toy"


def test_records_must_name_one_run_and_task(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No run, several runs and an unknown task each say what to name."""
    empty = tmp_path / "none"
    empty.mkdir()
    assert main(["replay", f"records={empty}"]) == 2
    assert "no run in" in capsys.readouterr().err
    path = stored_run(tmp_path)
    assert main(["replay", f"records={path}", "task=other"]) == 2
    assert "toy" in capsys.readouterr().err
    (tmp_path / "automix_run_2.json").write_text(path.read_text())
    assert main(["replay", f"records={tmp_path}"]) == 2
    assert "automix_run_2.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name", [n for n in ROUTERS if "budget" in config.build({"meta_verifier": n}).meta_verifier]
)
def test_the_objective_reaches_the_router(folder: Path, table: Path, name: str) -> None:
    """A budget is what every router with one chooses its policy by, and the policy says so."""
    args = arguments(table, f"meta_verifier={name}", "objective=budget")
    dear, cheap = result(folder, *args, "budget=40"), result(folder, *args, "budget=9")
    held = dear["policy"]["meta_verifier"]
    assert (held["objective"], held["budget"]) == ("budget", 40)
    assert cheap["cost"] < dear["cost"]
