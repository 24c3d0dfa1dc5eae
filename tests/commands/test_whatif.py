"""``automix-eval whatif``: a leaderboard from runs and tables that nobody made for a cascade."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import public_tables as tables
import pytest
from plain_runs import pick_task, plain_run
from replay_tables import rows, write
from sklearn.metrics import roc_auc_score

import automix_eval
from automix_eval.backends import embeddings
from automix_eval.commands.main import main

pytestmark = pytest.mark.all_folds

QUICK = ["--resamples", "50"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Results folders of a small and a large model."""
    folder = tmp_path_factory.mktemp("plain")
    task = pick_task(folder, 60)
    small, large = (plain_run(task, s, folder / s) for s in ("small-1B", "large-70B"))
    return small, large


def board(folder: Path, *arguments: Any) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The report as JSON, and the methods of its board by name."""
    out = folder / "report.json"
    given = [*map(str, arguments), *QUICK, "--format", "json", "--out", str(out)]
    assert main(["whatif", *given]) == 0
    report = json.loads(out.read_text())
    (found,) = report["boards"]
    return report, {m["name"]: m for m in found["methods"]}


def test_two_plain_runs_become_a_leaderboard(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """Models alone, mixture, oracle and routers; what it rests on is said, whatever the order."""
    small, large = runs
    report, found = board(tmp_path, large, small)
    (made,) = report["boards"]
    assert made["tiers"] == ["small-1B", "large-70B"]
    assert made["metric"] == "acc"
    assert (made["num_questions"], made["num_documents"]) == (60, 30)
    assert "FLOPs" in made["cost"]
    alone = found["replay:always_slm"], found["replay:always_llm"]
    assert alone[0]["cost"]["value"] == 2e9
    assert alone[1]["cost"]["value"] == 140e9
    assert found["replay:zero"]["quality"]["value"] == alone[1]["quality"]["value"]
    assert found["replay:oracle"]["quality"]["value"] >= alone[1]["quality"]["value"]
    for name in ("replay:threshold", "replay:pomdp"):
        assert found[name]["delta_ibc"]["value"] is not None
        assert len(found[name]["curve"]) > 2
    said = " ".join(report["warnings"])
    assert "softmax of the choices' log-probabilities" in said
    assert "5 folds, whole documents" in said
    assert "ordered by mean cost" in said


def test_nearest_questions_are_played_where_they_can_be(
    runs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """knn_query is a default where there are texts and an encoder, else one line says why not."""
    report, found = board(tmp_path, *runs)
    assert found["replay:knn_query"]["quality"]["value"] is not None
    assert not any("knn_query is not played" in w for w in report["warnings"])
    report, _ = board(tmp_path, *runs, "--router", "knn_query")
    (summary,) = report["operating_points"]
    assert [p["name"] for p in summary["points"]] == ["slm", "gain", "llm"]
    assert "knn_query reads texts" in " ".join(summary["notes"])
    monkeypatch.setattr("automix_eval.analysis.what_if.why_not", lambda name: f"no {name}")
    report, found = board(tmp_path, *runs)
    assert "replay:knn_query" not in found
    assert any("no all-minilm-l6-v2, so knn_query is not played" in w for w in report["warnings"])


def test_the_speed_of_embedding_is_printed_apart(
    runs: tuple[Path, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One line on stderr for the questions that are embedded, none where all are known."""
    monkeypatch.setattr(embeddings, "_memory", {})
    embeddings.speed()
    report, _ = board(tmp_path, *runs, "--router", "knn_query")
    said = re.findall(r"embedded (.*) questions in [0-9.]+ s \([0-9]+/s\)", capsys.readouterr().err)
    assert said == ["60"]
    assert board(tmp_path, *runs, "--router", "knn_query")[0] == report
    assert "embedded" not in capsys.readouterr().err


def test_other_runs_may_be_fitted_on(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """--train takes the policy from the questions that are not scored, and the same chain."""
    task = pick_task(tmp_path, 90)
    other = [plain_run(task, s, tmp_path / s) for s in ("small-1B", "large-70B")]
    report, found = board(tmp_path, *runs, "--train", *other, "--router", "threshold")
    assert any("fitted on 30 other questions" in w for w in report["warnings"])
    assert "replay:pomdp" not in found
    assert found["replay:threshold"]["quality"]["value"] is not None


def test_costs_and_order_can_be_given(runs: tuple[Path, Path], tmp_path: Path) -> None:
    """--costs prices every model, and the chain follows them."""
    report, found = board(tmp_path, *runs, "--costs", "small-1B=50,large-70B=2")
    assert report["boards"][0]["tiers"] == ["large-70B", "small-1B"]
    assert found["replay:always_llm"]["cost"]["value"] == 50
    report, _ = board(tmp_path, *runs, "--models", "large-70B,small-1B")
    assert report["boards"][0]["tiers"] == ["large-70B", "small-1B"]


@pytest.mark.parametrize("name", sorted(tables.WRITERS))
def test_every_public_table_makes_a_leaderboard(tmp_path: Path, name: str) -> None:
    """One command for all formats; without a confidence that is said, and no router guesses."""
    path = tables.WRITERS[name][0](tmp_path)
    report, found = board(tmp_path, path)
    assert len(report["boards"][0]["tiers"]) == 2
    assert found["replay:oracle"]["quality"]["value"] == tables.SCORES.max(axis=1).mean()
    assert "replay:threshold" not in found
    assert any("no answer has a confidence" in w for w in report["warnings"])
    assert any(f"read as {name}" in w for w in report["warnings"])


def test_a_table_of_your_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A header that names the chain is enough; every format of a report can be written."""
    names = {"s1.5-b:conf": "s:confidence", "s1.5-b:correct": "s:score", "l:cost": "l:cost_usd"}
    table = [{**{names.get(k, k): v for k, v in r.items()}, "s:cost": 1} for r in rows()]
    numbered = [{**r, "id": f"q{i // 2}"} for i, r in enumerate(table)]  # anew in each split
    path = write(tmp_path / "mine.csv", numbered)
    assert main(["whatif", str(path), *QUICK]) == 0
    shown = capsys.readouterr().out
    assert "zero router" in shown
    assert re.search(r"\nthreshold +replay +0\.", shown)
    assert main(["whatif", str(path), *QUICK, "--out", str(tmp_path / "out")]) == 0
    assert {"report.html", "report.csv", "report.tex", "report.json"} <= {
        p.name for p in (tmp_path / "out").iterdir()
    }
    made = json.loads((tmp_path / "out" / "report.json").read_text())["boards"][0]["methods"]
    areas = {m["name"]: m["auroc"]["value"] for m in made}
    right, confidence = ([r[k] for r in table] for k in ("s:score", "s:confidence"))
    expected = pytest.approx(roc_auc_score(right, confidence))
    assert (areas["replay:threshold"], areas["replay:always_slm"]) == (expected, None)


@pytest.mark.parametrize(("ids", "documents"), [("restart", 40), ("thrice", 14)])
def test_rows_of_one_question_are_told_also_where_a_table_has_splits(
    tmp_path: Path, ids: str, documents: int
) -> None:
    """Identities may begin anew in each split; those that come again in one are one question."""
    names = {"restart": lambda i: i % 20, "thrice": lambda i: i // 3}[ids]
    table = [
        {**{k: v for k, v in row.items() if k != "doc"}, "id": names(i)}
        | {"split": "train" if i < 20 else "test"}
        for i, row in enumerate(rows(40))
    ]
    heads = {"s1.5-b:correct": "s:score", "s1.5-b:conf": "s:confidence", "l:correct": "l:score"}
    table = [{**{heads.get(k, k): v for k, v in row.items()}, "s:cost": 1} for row in table]
    report, _ = board(tmp_path, write(tmp_path / "t.csv", table), "--router", "always_slm")
    # the seventh question stands in both splits
    assert report["boards"][0]["num_documents"] == documents + (ids == "thrice")
    assert not any("cheapest first" in w for w in report["warnings"])


@pytest.mark.parametrize("split", ["split", "other"])
def test_rows_have_identities(tmp_path: Path, split: str) -> None:
    """With the split before them, where there is one; an empty cell is no question again."""
    path = tmp_path / "t.csv"
    lines = [f"{'train' if i % 2 else 'test'},{i // 2 if i < 20 else ''}" for i in range(40)]
    head = f"{split},id,s:score,s:confidence,s:cost,l:score,l:cost\n"
    path.write_text(head + "".join(f"{line},{i % 3 // 2},0.{i % 9},1,1,50\n"
                                   for i, line in enumerate(lines)))  # fmt: skip
    results = automix_eval.read(path, routers=["threshold"], resamples=50)
    assert results.outcomes is not None
    assert results.outcomes.ids[1] == ("train/0" if split == "split" else "0")
    assert results["t"].board.num_documents == (40 if split == "split" else 30)
    assert isinstance(results["t"]["threshold"].quality.value, float)


def test_tiers_that_are_not_cheapest_first_are_told(tmp_path: Path) -> None:
    """A header whose order is another one, in one sentence with the remedy."""
    path = tmp_path / "t.csv"
    for nearly in (50, 48):
        path.write_text("l:score,l:cost,s:score,s:cost\n" + f"1,50,0,{nearly}\n" * 10)
        report, _ = board(tmp_path, path, "--router", "always_slm")
        assert not any("cheapest first" in w for w in report["warnings"])
    path.write_text("l:score,l:cost,s:score,s:cost\n" + "1,50,0,1\n1,50,1,1\n" * 10)
    report, _ = board(tmp_path, path, "--router", "always_slm")
    (told,) = [w for w in report["warnings"] if "not cheapest first" in w]
    assert "l 50, s 1" in told
    report, _ = board(tmp_path, path, "--router", "always_slm", "--models", "s,l")
    assert not any("cheapest first" in w for w in report["warnings"])


def test_a_table_is_no_run(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The remedy is named, and no neighbour of the file is taken for it."""
    path = runs[0].parent / "t.csv"
    path.write_text("a:score,a:cost,b:score,b:cost\n1,1,1,2\n")
    for command in (["whatif", str(runs[0]), str(path)], ["report", str(path)]):
        assert main(command) == 2
    several, manifest = capsys.readouterr().err.splitlines()
    assert "t.csv is a file: a chain is made of results folders" in several
    assert "tables and samples of single models are read by automix-eval whatif" in manifest


def test_the_confidence_that_is_judged_is_the_one_a_method_reads(tmp_path: Path) -> None:
    """A chain whose first model guesses: routers start at the second, and so does their AUROC."""
    draw = random.Random(3)
    head = "id,a:score,a:confidence,a:cost,b:score,b:confidence,b:cost,c:score,c:cost"
    lines, right, sure = [head], [], []
    for i in range(120):
        right.append(int(draw.random() < 0.6))
        sure.append(round(0.4 * right[-1] + 0.6 * draw.random(), 3))
        lines.append(f"{i},{i % 4 == 0:d},{draw.random():.3f},1,{right[-1]},{sure[-1]},2,1,50")
    path = tmp_path / "three.csv"
    path.write_text("\n".join(lines))
    _, found = board(tmp_path, path, "--router", "threshold")
    made = found["replay:threshold"]
    page = tmp_path / "report.html"
    arguments = [str(path), "--router", "threshold", *QUICK, "--format", "html"]
    assert main(["whatif", *arguments, "--out", str(page)]) == 0
    # neither b alone nor the zero router is a cascade that could pay
    assert "Of 1 task: " in page.read_text()
    assert made["tiers"][0]["asked"]["value"] == 0
    assert made["auroc"]["value"] == pytest.approx(roc_auc_score(right, sure))
    assert made["benefit_auroc"]["value"] == pytest.approx(roc_auc_score(right, sure))


def test_a_router_that_cannot_be_fitted_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Too few rows are the reason, not a router that was not asked for."""
    path = tmp_path / "few.csv"
    lines = [f"q{i},{i % 2},0.{i},1,1,50" for i in range(1, 4)]
    head = "id,s:score,s:confidence,s:cost,l:score,l:cost"
    path.write_text("\n".join([head, *lines]) + "\n")
    assert main(["whatif", str(path), "--router", "threshold", *QUICK]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "Only the models alone are known: threshold: 3 questions cannot be parted" in shown
    assert "a run of one model alone" not in shown
    path.write_text(
        "\n".join(["document," + head, *(f"d{i % 2}," + r for i, r in enumerate(lines * 3))])
    )
    assert main(["whatif", str(path), "--router", "always_llm", *QUICK]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "in 5 folds of questions, 2 documents being fewer: no" in shown


def test_what_is_scored_is_not_fitted_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of another table what is scored too is left out; the same table is refused."""
    names = {"s1.5-b:conf": "s:confidence", "s1.5-b:correct": "s:score", "l:cost": "l:cost_usd"}
    table = [
        {**{names.get(k, k): v for k, v in r.items() if k not in ("doc", "split")},
         "s:cost": 1, "question": f"What is {i}?"}
        for i, r in enumerate(rows())
    ]  # fmt: skip
    scored = write(tmp_path / "scored.csv", table[:120])
    other = write(tmp_path / "other.csv", table[90:])
    report, _ = board(tmp_path, scored, "--train", other, "--router", "threshold")
    told = " ".join(report["warnings"])
    assert f"30 of {len(table) - 90} training rows are scored too" in told
    assert f"fitted on {len(table) - 120} other questions" in told
    assert main(["whatif", str(scored), "--train", str(scored)]) == 2
    assert "are the same questions" in capsys.readouterr().err
    twice = write(tmp_path / "twice.csv", [*table, *table[:7]])
    report, _ = board(tmp_path, twice, "--router", "threshold")
    assert report["boards"][0]["num_documents"] == len(table)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["absent"], "does not exist"),
        (["absent", "absent2"], "does not exist"),
        (["mine.csv", "--costs", "s=1,l=2"], "its header has the costs"),
        (["mine.csv", "--models", "s,x"], "x is not in the table"),
        (["mine.csv", "--models", "s,s"], "at least two different models"),
        (["mine.csv", "--models", "s"], "at least two different models"),
        (["none.csv"], "is empty"),
        (["absent", "--format", "json,csv"], "need a folder"),
        (["absent", "--by", "topic", "--format", "json,md"], "in one format"),
        (["mine.csv", "--router", "thresold"], "did you mean threshold"),
        (["mine.csv", "--folds", "1"], "folds"),
        (["bench.pkl"], "read_pickle"),
    ],
)
def test_mistakes_are_named(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    problem: str,
) -> None:
    """One line on stderr, exit code 2."""
    header = "s:score,s:confidence,s:cost,l:score,l:cost\n"
    (tmp_path / "mine.csv").write_text(header + "1,0.5,1,1,50\n0,0.2,1,1,50\n" * 10)
    (tmp_path / "none.csv").write_text("\n")
    (tmp_path / "bench.pkl").write_bytes(b"\x80\x04.")
    monkeypatch.chdir(tmp_path)
    assert main(["whatif", *arguments, *QUICK]) == 2
    shown = capsys.readouterr().err
    assert problem in shown
    assert "Traceback" not in shown


def test_a_replay_of_samples_is_scored_in_folds(
    runs: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Replay samples=[...] needs folds for a router that is fitted, and gives whatif's figures."""
    monkeypatch.chdir(tmp_path)
    given = [
        "replay", f"samples=['{runs[0]}','{runs[1]}']", "meta_verifier=threshold", "resamples=50"
    ]  # fmt: skip
    assert main(given) == 2
    assert "folds=5" in capsys.readouterr().err
    assert main([*given, "folds=5", "output=out.json"]) == 0
    replayed = json.loads(Path("out.json").read_text())
    _, found = board(tmp_path, *runs)
    threshold = found["replay:threshold"]
    assert replayed["performance"] == pytest.approx(threshold["quality"]["value"], abs=1e-12)
    assert replayed["delta_ibc"] == pytest.approx(threshold["delta_ibc"]["value"], abs=1e-12)
    assert replayed["policy"]["fitted_on"]["num_questions"] == 60
