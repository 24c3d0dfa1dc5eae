"""``automix_eval.read``: one object over the report, with frames, pictures and an HTML form."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import public_tables as tables
import pytest
from plain_runs import pick_task, plain_run
from replay_tables import rows, write
from report_builder import ROWS, build, build_run

import automix_eval
from automix_eval.metrics.ibc import Undefined
from automix_eval.report.columns import COLUMNS
from automix_eval.report.gate import GateError
from automix_eval.report.results import Results
from automix_eval.safety.errors import AutoMixError

pytestmark = pytest.mark.all_folds


def read(*paths: object, **options: object) -> Results:
    """The results with few resamples."""
    return automix_eval.read(*paths, **{"resamples": 50, **options})  # type: ignore[arg-type]


def test_figures_are_those_of_the_report(tmp_path: Path) -> None:
    """Every single figure of every row, as an attribute and in the frame of methods."""
    build_run(tmp_path, full=True)
    results = read(tmp_path, resamples=1000)
    (board,) = build([tmp_path]).boards
    frame = results.methods.set_index("method")
    for method in board.methods:
        row = results["coqa"][method.name]
        for column in COLUMNS:
            if column.several is not None:
                continue
            figure = getattr(method, column.field)
            shown = frame.loc[method.name, column.name]
            if isinstance(figure.value, Undefined):
                assert np.isnan(shown)
                with pytest.raises(GateError, match="undefined"):
                    _ = getattr(row, column.field).value
            else:
                assert getattr(row, column.field).value == figure.value == shown
    own = board.methods[0].delta_ibc
    assert isinstance(own.interval, tuple)
    assert (results.delta_ibc.value, results.delta_ibc.low) == (own.value, own.interval[0])


def test_frames_of_a_run_hold_its_records(tmp_path: Path) -> None:
    """A row a question, and a row a tier that was asked; their means are the report's figures."""
    build_run(tmp_path)
    results = read(tmp_path)
    questions, tiers, texts = results.questions, results.tiers, results.texts
    escalated = sum(up for *_, up in ROWS)
    assert len(questions) == len(ROWS)
    assert len(tiers) == len(texts) == len(ROWS) + escalated
    assert questions.score.mean() == pytest.approx(results.quality.value)
    assert questions.cost.mean() == pytest.approx(results.cost.value)
    assert questions.escalated.mean() == pytest.approx(results.escalation_rate.value)
    assert tiers.groupby("tier").size().tolist() == [len(ROWS), escalated]
    assert tiers[tiers.tier == 0].confidence.tolist() == [c for _, _, c, _ in ROWS]
    paid = tiers.groupby("doc_id")[["answer_cost", "verification_cost"]].sum().sum(axis=1)
    assert paid.tolist() == questions.cost.tolist()
    assert texts[texts.final].answer.isin(["\x1b[31mred\x07", "blue"]).all()
    chosen = results.curves[results.curves.chosen]
    assert results.quality.value in chosen.quality.tolist()


def test_operating_points_are_those_of_the_report(tmp_path: Path) -> None:
    """A row a point, its quality and cost the report's own; what is shown stands beside it."""
    build_run(tmp_path, full=True)
    results = read(tmp_path)
    (one,) = results.report.operating_points
    frame = results.points
    assert frame.method.tolist() == [f"point:{p.name}" for p in one.points]
    assert frame.quality.tolist() == [p.quality.value for p in one.points]
    assert frame.cost.tolist() == [p.cost.value for p in one.points]


def test_a_manifest_or_its_records_are_the_run(tmp_path: Path) -> None:
    """One file of a run is enough, whichever of the two it is."""
    manifest = build_run(tmp_path)
    build_run(tmp_path, "other", policy="always_llm")
    records = tmp_path / "automix_records_r1.jsonl"
    for path in (manifest, records):
        assert read(path).questions.run.unique().tolist() == ["r1"]


def test_pictures_are_figures_under_the_names_of_their_files(tmp_path: Path) -> None:
    """What ``save`` writes as PNG and SVG is what ``pictures`` holds."""
    build_run(tmp_path / "run", full=True)
    results = read(tmp_path / "run")
    written = results.save(tmp_path / "report")
    names = {p.stem for p in written if p.suffix == ".svg"}
    assert set(results.pictures) == names >= {"ibc_by_task", "coqa_plane"}
    assert results.pictures["coqa_plane"].axes[0].get_title(loc="left") == "coqa"


def test_a_notebook_shows_tables_and_a_picture_and_no_markup_of_others(tmp_path: Path) -> None:
    """Every leaderboard is there; a name that is markup is shown, and nothing is a script."""
    task = "<script>alert(1)</script>"
    build_run(tmp_path, task=task, full=True)
    shown = read(tmp_path)._repr_html_()
    assert "<table>" in shown
    assert 'src="data:image/png;base64,' in shown
    assert "<script" not in shown
    assert "&lt;script&gt;" in shown


def test_several_tasks_are_asked_for_by_name(tmp_path: Path) -> None:
    """A figure of the whole exists where there is one task; else the tasks are named."""
    build_run(tmp_path, "r1", task="coqa")
    build_run(tmp_path, "r22", task="qasper")
    results = read(tmp_path)
    assert results.tasks == ("coqa", "qasper")
    with pytest.raises(AttributeError, match=r"several tasks.*qasper"):
        _ = results.quality
    assert results["qasper"].quality.value == results["coqa"].quality.value
    with pytest.raises(KeyError, match="no task nope: there are coqa"):
        _ = results["nope"]
    with pytest.raises(AttributeError, match="did you mean quality"):
        _ = results["coqa"].qualty


def test_plain_runs_and_tables_become_a_chain(tmp_path: Path) -> None:
    """Two folders, a table of one's own and a public one: the leaderboard of whatif."""
    task = pick_task(tmp_path, 60)
    folders = [plain_run(task, s, tmp_path / s) for s in ("small-1B", "large-70B")]
    results = read(folders, routers=["threshold"])
    assert results.outcomes is not None
    assert results.outcomes.names == ("small-1B", "large-70B")
    assert len(results.questions) == 60
    assert len(results.tiers) == 120
    (board,) = results.tasks
    slm = results.tiers[results.tiers.tier == 0]
    assert results[board]["always_slm"].quality.value == pytest.approx(slm.score.mean())
    with pytest.raises(AttributeError, match="name a method"):
        _ = results[board].quality
    names = {"s1.5-b:conf": "s:confidence", "s1.5-b:correct": "s:score", "l:cost": "l:cost_usd"}
    table = [{**{names.get(k, k): v for k, v in r.items()}, "s:cost": 1} for r in rows()]
    own = read(write(tmp_path / "mine.csv", table), routers=["threshold"])
    assert len(own.questions) == len(table)
    public = tables.WRITERS["routerbench"][0](tmp_path)
    assert "zero router" in read(public, routers=["random"]).render()


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"routers": ["threshold"]}, "routers=.* is for tables"),
        ({"task": "coqa"}, "task='coqa' is for tables"),
        ({"missing": "drop"}, "missing='drop' is for tables"),
        ({"costs": "free"}, "costs"),
        ({"resamples": 0}, "at least 1"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, options: dict[str, object], problem: str
) -> None:
    """An argument of the other kind is never passed over."""
    build_run(tmp_path)
    with pytest.raises(AutoMixError, match=problem):
        read(tmp_path, **options)
    with pytest.raises(AutoMixError, match="does not exist"):
        read(tmp_path / "absent")
    for nothing in ((), ([],)):
        with pytest.raises(AutoMixError, match="name a folder"):
            read(*nothing)
    for given in (3, [tmp_path, None]):
        with pytest.raises(AutoMixError, match="is no path: name"):
            read(given)
    with pytest.raises(AutoMixError, match=r"^a DataFrame is no path: .*to_parquet"):
        read(pd.DataFrame({"s:score": range(100)}))


def test_the_package_is_imported_quickly_and_without_what_is_heavy() -> None:
    """``import automix_eval`` loads neither torch nor numpy, pandas, the harness or Hydra."""
    code = (
        "import sys, time; t = time.process_time(); import automix_eval; "
        "t = time.process_time() - t; heavy = {'torch', 'numpy', 'pandas', 'lm_eval', 'hydra', "
        "'matplotlib'} & set(sys.modules); print(heavy or '', t < 0.15)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
