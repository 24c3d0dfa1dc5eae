"""The reference of the demo: one run in its files and in the pictures of the README."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from automix_eval.records.schema import MANIFEST_GLOB

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "results" / "reference_demo"


def run_id() -> str:
    """The one run of the reference."""
    (manifest,) = REFERENCE.glob(MANIFEST_GLOB)
    return str(json.loads(manifest.read_text())["run_id"])


@pytest.mark.parametrize("name", ["report.png", "report-dark.png"])
def test_pictures_are_of_the_run_that_is_kept(name: str) -> None:
    """Each picture names its run, and it is that of the records and of the report."""
    with Image.open(ROOT / "docs" / name) as picture:
        assert picture.info["run"] == run_id()
    assert run_id() in (REFERENCE / "report.txt").read_text()
    assert run_id() in (REFERENCE / "report.json").read_text()


def test_documents_tell_the_figures_of_the_run_that_is_kept() -> None:
    """The tutorial's lines stand in its report, and so do the README's quality and cost."""
    report = (REFERENCE / "report.txt").read_text(encoding="utf-8")
    block = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8").split("```")
    (shown,) = [b for b in block if b.startswith("text\nThe live policy")]
    assert all(line in report for line in shown.splitlines()[1:])
    live = next(line for line in report.splitlines() if line.startswith("Live policy:"))
    found = re.search(r"0(\.\d+) \[.*\] +([\d.]+) ", live)
    assert found
    quality, cost = found.groups()
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    told = re.search(rf"scores (\.\d{{3}}) for {cost} units", readme)
    assert told
    assert float(told[1]) == pytest.approx(float(quality), abs=6e-4)


def test_the_reference_is_small_and_copies_no_rows() -> None:
    """Below 2 MB, and without the questions and references of the data set."""
    files = list(REFERENCE.iterdir())
    assert sum(f.stat().st_size for f in files) < 2_000_000
    (records,) = REFERENCE.glob("automix_records_*.jsonl")
    rows = [json.loads(line) for line in records.read_text().splitlines()]
    assert {row["phase"] for row in rows} == {"calibration", "evaluation"}
    assert all(row["question"] == "" and row["references"] == [] for row in rows)
    assert not list(REFERENCE.glob("samples_*"))
