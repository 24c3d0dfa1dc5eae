"""Damaged and wrong inputs: one line that names the place, never a traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_builder import ROWS, build, build_run, finals, harness, record

from automix_eval import __version__
from automix_eval.commands.main import main

Capture = pytest.CaptureFixture[str]


def failure(capsys: Capture, *arguments: object) -> str:
    """The one line it prints when it fails."""
    assert main(["report", *map(str, arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("automix-eval: error: ")
    return err


def test_folder_without_runs(tmp_path: Path, capsys: Capture) -> None:
    """An empty folder's error says what was looked for; a missing one's that it is missing."""
    assert "automix_run_*.json" in failure(capsys, tmp_path)
    assert "does not exist" in failure(capsys, tmp_path / "nowhere")


def test_a_run_stopped_in_its_first_block(tmp_path: Path, capsys: Capture) -> None:
    """The run, its task and the remedy are named, and nothing else that is known of the run."""
    warnings = [{"task": "", "text": "small: rounding depends on the batch"}]
    build_run(tmp_path, records=[], rows=[], warnings=warnings)
    said = failure(capsys, tmp_path)
    assert "run r1 has no evaluation records" in said
    assert "The same command resumes it" in said
    assert "rounding" not in said


def edit(field: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change of one field of a record, given by its dotted path."""

    def change(row: Any) -> None:
        *path, last = field.split(".")
        for part in path:
            row = row[int(part) if part.isdigit() else part]
        row[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (edit("final", 1.5), "$.final"),
        (edit("final", 7), "final is tier 7"),
        (edit("final", 1), "the routed path ends at tier 0"),
        (edit("task", "other"), "not in the manifest"),
        (edit("tiers.0.tier", 9), "not ascending numbers"),
        (edit("tiers.0.answer", [1]), "not a record"),
        (edit("tiers.0.score", 10**400), "not a record"),
        (edit("tiers.0.score", 1e300), "a score is beyond"),
        (edit("tiers.0.verification.confidence", 1.5), "confidence"),
        (edit("tiers.0.verification.outcome", "fine"), "outcome"),
        (edit("tiers.0.answer.calls.0.tier", 5), "a call names a tier"),
        (edit("tiers.0.answer.calls.0.prompt_tokens", -5), "prompt_tokens"),
    ],
)
def test_damaged_records_are_named_and_left_out(
    tmp_path: Path, change: Callable[[Any], None], words: str
) -> None:
    """A record with one wrong field is left out by file, line and field; the rest is read."""
    build_run(tmp_path, full=True)
    path = tmp_path / "automix_records_r1.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    change(rows[2])
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    report = build([tmp_path])
    said = " ".join([*report.warnings, *report.tasks[0].warnings])
    assert words in said
    assert "automix_records_r1.jsonl" in said
    assert "line 3" in said
    assert report.tasks[0].figures.num_questions == len(rows) - 1


@pytest.mark.parametrize("damage", [b'{"task": ', b"\xff\xfe\n", b"[1]\n", b"3\n", b"\n"])
def test_damaged_lines_are_named_and_left_out(tmp_path: Path, damage: bytes) -> None:
    """Half a line, another encoding and other JSON are named; what else the files hold is read."""
    build_run(tmp_path, samples=finals())
    for name in ("samples_coqa_t-r1.jsonl", "automix_records_r1.jsonl"):
        path = tmp_path / name
        lines = path.read_bytes().splitlines(keepends=True)
        path.write_bytes(b"".join([*lines[:2], damage]))
        report = build([tmp_path])
        said = " ".join([*report.warnings, *report.tasks[0].warnings])
        assert name in said
        assert "line 3" in said
    assert report.tasks[0].figures.num_questions == 2


def test_file_without_a_readable_line_is_an_error(tmp_path: Path, capsys: Capture) -> None:
    """Where nothing can be read the first line's defect is the error."""
    build_run(tmp_path)
    (tmp_path / "automix_records_r1.jsonl").write_text("{\n[\n")
    assert "automix_records_r1.jsonl, line 1" in failure(capsys, tmp_path)


@pytest.mark.parametrize("same", [True, False])
def test_duplicates_of_several_ranks_count_once(tmp_path: Path, same: bool) -> None:
    """A question written twice counts once, and it is said whether the two agree."""
    records = [record(i, row, full=True) for i, row in enumerate(ROWS)]
    again = records[3] if same else record(3, ROWS[0], full=True)
    build_run(tmp_path, records=[*records, again])
    (task,) = build([tmp_path]).tasks
    said = " ".join(task.warnings)
    assert task.figures.num_questions == len(ROWS)
    assert "doc_id 3" in said
    assert ("differ" not in said) == same


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"tiers": []}, "numbered 0, 1"),
        ({"tiers": [{"index": 0}]}, "field `name`"),
        ({"tasks": {"coqa": 3}}, "Expected `object`"),
        ({"calls": [{"task": "coqa"}]}, "field `phase`"),
        ({"warnings": "x"}, "Expected `array`"),
        ({"config": {}}, "no cost model is named"),
        ({"config": {"cost": {"name": "x"}}}, "paper, tokens"),
        ({"config": {"cost": {"name": "paper", "tiers": [1]}}}, "1 prices for 2 tiers"),
        ({"records": "../secret.jsonl"}, "names no records file beside it"),
        ({"version": 99}, "upgrade"),
    ],
)
def test_damaged_manifests_name_the_file(
    tmp_path: Path, capsys: Capture, fields: dict[str, Any], words: str
) -> None:
    """A manifest that is not one is an error that names it and the field."""
    path = build_run(tmp_path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    error = failure(capsys, tmp_path)
    assert words in error
    assert "automix_run_r1.json" in error


def test_unreadable_results_are_left_out_by_name(tmp_path: Path, capsys: Capture) -> None:
    """A results file that is none is left out with a warning, the report goes on."""
    build_run(tmp_path)
    harness(tmp_path / "plain", {})
    (tmp_path / "results_x.json").write_text("{")
    assert main(["report", str(tmp_path)]) == 0
    assert "left out" in capsys.readouterr().out


def test_out_that_cannot_be_written(tmp_path: Path, capsys: Capture) -> None:
    """An unwritable --out is one line, not a traceback."""
    build_run(tmp_path)
    (tmp_path / "file").write_text("")
    assert "cannot write" in failure(capsys, tmp_path, "--out", tmp_path / "file" / "a.md")


def test_version(capsys: Capture) -> None:
    """--version prints the package's version."""
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"automix-eval {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["report"], ["report", ".", "--seed", "-1"], ["plot"]])
def test_wrong_arguments(capsys: Capture, arguments: list[str]) -> None:
    """Wrong arguments end with 2 and the usage."""
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert "usage: automix-eval" in capsys.readouterr().err
