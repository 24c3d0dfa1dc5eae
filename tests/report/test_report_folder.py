"""What a report writes: stable names, schema, the harness's table, and never half a file."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from report_builder import build_run, harness, llm_scores

from automix_eval.commands.main import main
from automix_eval.report import output
from automix_eval.report.json_report import render_schema

FAST = ("--resamples", "50")
PLAIN = "text,md,csv,latex,json,lm-eval"


def write(folder: Path, out: Path, *arguments: str, code: int = 0) -> None:
    """Run the sub-command."""
    assert main(["report", str(folder), "--out", str(out), *FAST, *arguments]) == code


def test_folder_has_stable_names(tmp_path: Path) -> None:
    """Every format has its name, and the JSON its schema."""
    build_run(tmp_path / "run", full=True)
    write(tmp_path / "run", tmp_path / "out", "--format", PLAIN)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [
        "lm_eval_results.json", "report.csv", "report.json", "report.md", "report.schema.json",
        "report.tex", "report.txt",
    ]  # fmt: skip


def test_it_says_what_it_wrote_and_what_to_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder is named with its number of files, a page by its path; a file on stderr."""
    build_run(tmp_path / "run", full=True)
    write(tmp_path / "run", tmp_path / "out", "--format", PLAIN)
    assert capsys.readouterr().out == f"wrote 7 files into {tmp_path / 'out'}\n"
    write(tmp_path / "run", tmp_path / "page", "--format", "html")
    assert f"page: {tmp_path / 'page' / 'report.html'}\n" in capsys.readouterr().out
    write(tmp_path / "run", tmp_path / "one.csv", "--format", "csv")
    assert capsys.readouterr() == ("", f"wrote {tmp_path / 'one.csv'}\n")


def test_pages_and_pictures_come_with_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page and the pictures get the report and the runs, and land under stable names."""
    page, plots = types.ModuleType("page"), types.ModuleType("plots")
    page.render_html = lambda report, runs: f"<html>{len(runs)}"  # type: ignore[attr-defined]

    def save_all(report: Any, folder: Path) -> list[Path]:
        (folder / "curve.png").write_bytes(b"png")
        return [folder / "curve.png"]

    plots.save_all = save_all  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "automix_eval.report.page", page)
    monkeypatch.setitem(sys.modules, "automix_eval.report.pictures", plots)
    build_run(tmp_path / "run", full=True)
    write(tmp_path / "run", tmp_path / "out")
    assert (tmp_path / "out" / "report.html").read_text() == "<html>1"
    assert (tmp_path / "out" / "pictures" / "curve.png").exists()


@pytest.mark.skipif(
    importlib.util.find_spec("automix_eval.report.page") is None, reason="no page in this tree"
)
def test_real_page_of_a_report(tmp_path: Path) -> None:
    """The page of a small run is a whole document."""
    build_run(tmp_path / "run", full=True)
    write(tmp_path / "run", tmp_path / "out.html", "--format", "html")
    assert "</html>" in (tmp_path / "out.html").read_text(encoding="utf-8").lower()


def matches(value: Any, schema: dict[str, Any], root: dict[str, Any], place: str = "$") -> None:
    """Check a value against the part of JSON schema that ours uses."""
    if "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rpartition("/")[2]]
    if "const" in schema:
        assert value == schema["const"], place
    if "enum" in schema:
        assert value in schema["enum"], place
    if "anyOf" in schema:
        failures = 0
        for option in schema["anyOf"]:
            try:
                matches(value, option, root, place)
            except AssertionError:
                failures += 1
        assert failures < len(schema["anyOf"]), place
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int,
             "number": (int, float), "null": type(None)}  # fmt: skip
    wanted = schema.get("type")
    if wanted:
        names = wanted if isinstance(wanted, list) else [wanted]
        assert any(isinstance(value, kinds[n]) for n in names), (place, wanted, value)
    if isinstance(value, dict) and "properties" in schema:
        assert set(schema["required"]) <= set(value), place
        assert set(value) <= set(schema["properties"]), place
    for key, part in schema.get("properties", {}).items():
        matches(value[key], part, root, f"{place}.{key}")
    extra = schema.get("additionalProperties")
    if isinstance(extra, dict):
        for key, part in value.items():
            matches(part, extra, root, f"{place}.{key}")
    if isinstance(value, list):
        parts = schema.get("prefixItems") or [schema.get("items", {})] * len(value)
        for i, (item, part) in enumerate(zip(value, parts, strict=True)):
            matches(item, part, root, f"{place}[{i}]")


def test_json_is_what_its_schema_says(tmp_path: Path) -> None:
    """A report with runs, replays, plain runs and undefined figures fits the schema."""
    build_run(tmp_path / "a", full=True)
    build_run(tmp_path / "b", "r22", policy="always_slm")
    harness(tmp_path / "c", llm_scores())
    write(tmp_path, tmp_path / "out.json", "--format", "json", "--baseline", "self_consistency")
    report, schema = json.loads((tmp_path / "out.json").read_text()), json.loads(render_schema())
    matches(report, schema, schema)
    assert schema["properties"]["version"] == {"const": report["version"]}
    with pytest.raises(AssertionError):
        matches({**report, "boards": 3}, schema, schema)


def test_schema_describes_its_fields() -> None:
    """What a figure means stands in the schema."""
    schema = json.loads(render_schema())
    method = schema["$defs"]["MethodFigures"]["properties"]
    assert "over always asking the llm" in method["delta_ibc"]["description"].lower()
    assert schema["$defs"]["Figure"]["required"] == ["value", "low", "high", "stderr", "undefined"]


def test_the_harness_prints_the_leaderboard(tmp_path: Path) -> None:
    """The harness's own table maker takes the exported results."""
    from lm_eval.utils import make_table

    build_run(tmp_path / "run", full=True)
    write(tmp_path / "run", tmp_path / "out", "--format", "lm-eval")
    results = json.loads((tmp_path / "out" / "lm_eval_results.json").read_text())
    table = make_table(results)
    assert "coqa: AutoMix (pomdp)" in table
    row = next(line for line in table.splitlines() if "delta_ibc" in line)
    assert "0.8846" in row  # 49 / 26 - 1
    assert "±" in row


def test_several_formats_need_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two formats into one file are refused, an unknown one too."""
    build_run(tmp_path / "run", full=True)
    write(tmp_path / "run", tmp_path / "out.md", "--format", "md,csv", code=2)
    assert "need a folder" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path), "--format", "pdf"])


def test_failure_leaves_the_old_report_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A disk that is full while a report is written costs neither the old one nor a half one."""
    build_run(tmp_path / "run", full=True)
    out = tmp_path / "out"
    write(tmp_path / "run", out, "--format", PLAIN)
    before = {p.name: p.read_bytes() for p in out.iterdir()}

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    write(tmp_path / "run", out, "--format", PLAIN, "--seed", "9", code=2)
    assert "No space left" in capsys.readouterr().err
    assert {p.name: p.read_bytes() for p in out.iterdir()} == before


@pytest.mark.skipif(not Path("/dev/full").is_char_device(), reason="this system has no /dev/full")
def test_device_is_written_to_not_replaced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A full device is an error and stays a device; a pipe carries the report."""
    build_run(tmp_path / "run", full=True)
    write(tmp_path / "run", Path("/dev/full"), "--format", "csv", code=2)
    assert "No space left" in capsys.readouterr().err
    assert Path("/dev/full").is_char_device()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(pipe.read_text)
        write(tmp_path / "run", pipe, "--format", "csv")
        assert read.result(timeout=30).startswith("leaderboard,task")
    assert pipe.is_fifo()


def test_links_are_replaced_not_followed(tmp_path: Path) -> None:
    """A link that leads out of the folder under a report's name is not written through."""
    build_run(tmp_path / "run", full=True)
    out, outside = tmp_path / "out", tmp_path / "outside.md"
    out.mkdir()
    outside.write_text("mine")
    (out / "report.md").symlink_to(outside)
    write(tmp_path / "run", out, "--format", "md")
    assert outside.read_text() == "mine"
    assert not (out / "report.md").is_symlink()


def test_names_from_runs_are_no_paths(tmp_path: Path) -> None:
    """A task called like a path writes nothing outside the folder."""
    build_run(tmp_path / "run", full=True, task="..-..-evil/../x")
    write(tmp_path / "run", tmp_path / "out", "--format", PLAIN)
    assert {p.name for p in tmp_path.iterdir()} == {"run", "out", "cache"} & {
        p.name for p in tmp_path.iterdir()
    }
    assert {p.parent for p in (tmp_path / "out").rglob("*")} == {tmp_path / "out"}


def test_every_format_has_a_name() -> None:
    """Names are fixed: scripts rely on them."""
    assert output.NAMES == {
        "text": "report.txt", "md": "report.md", "csv": "report.csv", "latex": "report.tex",
        "json": "report.json", "html": "report.html", "lm-eval": "lm_eval_results.json",
    }  # fmt: skip
