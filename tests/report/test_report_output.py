"""The report as people and programs meet it: its text and the other formats."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path

import pytest
from report_builder import build_run

from automix_eval.commands.main import main
from automix_eval.safety.text import printable

HOSTILE = "\x1b[2Jevil\x07\u202e|<b>\r\n=1"
Capture = pytest.CaptureFixture[str]


def report(capsys: Capture, *arguments: object) -> str:
    """What the sub-command prints when it succeeds."""
    assert main(["report", "--full", *map(str, arguments)]) == 0
    return capsys.readouterr().out


# --------------------------------------------------------------------------- text


def test_text_says_what_a_newcomer_needs(tmp_path: Path, capsys: Capture) -> None:
    """The text has the rows, figures and explanations that the report promises."""
    build_run(tmp_path, full=True)
    text = report(capsys, tmp_path)
    for words in (
        "Task coqa\n",
        "40 questions; metric: f1; tiers: small -> large",
        "Run r1, task coqa",
        "The live policy pays: 100% of the LLM's quality at 54% of its cost",
        "IBC: AutoMix 0.0192, always asking the LLM 0.0102",
        "  +88% [",
        "LLM answers saved against always asking the LLM: 20 of 40 (50.0%)",
        "AUROC 1.000 (correct = score > 0.5)",
        "Outcomes: ok 40",
        "Overall",
        "Above 0%: AutoMix buys quality more",
    ):
        assert words in text
    assert text.count("undefined") == text.count("Latency: undefined: batched") == 1
    assert re.search(r"Live.* 0\.7500 \[0\.\d{4}, 0\.\d{4}\] +27 +46% +50%", text)
    assert "benchmark" not in text


def test_text_fits_one_hundred_columns(tmp_path: Path, capsys: Capture) -> None:
    """No line is wider than 100 columns, whatever the labels; numbers are never cut."""
    build_run(
        tmp_path,
        labels=("s" * 90, "l" * 90),
        config={"meta_verifier": {"name": "a_router_with_quite_a_long_name_indeed"}},
    )
    text = report(capsys, tmp_path)
    assert max(map(len, text.splitlines())) <= 100
    assert re.search(r"0\.750 \[0\.\d{3}, 0\.\d{3}\]", text)


def test_undefined_figures_have_numbered_reasons(tmp_path: Path, capsys: Capture) -> None:
    """Each undefined figure points to a reason, printed once a section, and nothing is NaN."""
    build_run(tmp_path)
    text = report(capsys, tmp_path)
    assert "Nothing can be concluded: the LLM was not asked 20 of 40 questions" in text
    assert text.count("undefined: the LLM was not asked 20 of 40 questions") == 3
    assert "nan" not in text.lower()


def test_few_questions_are_said_to_be_few(tmp_path: Path, capsys: Capture) -> None:
    """With few questions the report warns, and an interval around 0 is called what it is."""
    rows = [(0, 1, 0.1, True), (0, 1, 0.9, False), (1, 1, 0.5, True), (1, 1, 0.5, False)] * 3
    build_run(tmp_path, rows=rows, full=True)
    text = report(capsys, tmp_path)
    assert "Only 12 questions: the intervals are rough" in text
    assert "12 questions do not tell its delta IBC from 0" in text


def test_embedded_samples_are_marked(tmp_path: Path, capsys: Capture) -> None:
    """An embedded sample is no benchmark, and heading and footer say so."""
    build_run(tmp_path, tasks={"coqa": {"metric": "f1", "sample": True, "num_questions": 40}})
    text = report(capsys, tmp_path)
    note = "an embedded sample for trying the tool, not a benchmark"
    assert f"Task coqa ({note})" in text
    assert f"* coqa: {note}" in text


def test_truncations_are_counted(tmp_path: Path, capsys: Capture) -> None:
    """Shortened prompts are counted with what was left out of them."""
    build_run(tmp_path)
    path = tmp_path / "automix_records_r1.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[0]["tiers"][0]["verification"].update(dropped_demonstrations=2, cut_context_tokens=7)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    expected = "1 of 40 (SLM, verify): 2 demonstrations and 7 context tokens left out"
    assert expected in " ".join(report(capsys, tmp_path).split())


# --------------------------------------------------------------------------- other formats


def test_json(tmp_path: Path, capsys: Capture) -> None:
    """JSON is strict and holds the figures, undefined ones as null with the reason."""
    build_run(tmp_path)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    value = json.loads(report(capsys, tmp_path, "--format", "json"), parse_constant=refuse)
    (task,) = value["tasks"]
    assert task["figures"]["method"]["quality"]["value"] == 0.75
    assert task["figures"]["delta_ibc"]["value"] is None
    assert "record=full" in task["figures"]["delta_ibc"]["undefined"]


def table(capsys: Capture, folder: Path, *arguments: object) -> dict[str, dict[str, str]]:
    """The CSV's rows by method."""
    text = report(capsys, folder, "--format", "csv", *arguments)
    return {r["method"]: r for r in csv.DictReader(io.StringIO(text))}


def test_csv(tmp_path: Path, capsys: Capture) -> None:
    """CSV has one row a method and a point; numbers parse, undefined cells are empty."""
    build_run(tmp_path, full=True)
    build_run(tmp_path / "b", "r22", policy="always_slm")
    rows = table(capsys, tmp_path)
    points = [
        rows.pop(f"point:{n}") for n in ("slm", "live", "gain", "keeps_95", "keeps_99", "llm")
    ]
    assert {p["kind"] for p in points} == {"point"}
    assert list(rows) == [
        "pomdp", "always_slm", "replay:always_slm", "replay:always_llm", "replay:zero",
        "replay:oracle", "random@pomdp", "oracle@pomdp", "random@always_slm", "oracle@always_slm",
    ]  # fmt: skip
    assert float(rows["pomdp"]["delta_ibc"]) == pytest.approx(49 / 26 - 1)
    assert float(rows["pomdp"]["delta_ibc_low"]) < float(rows["pomdp"]["delta_ibc_high"])
    assert rows["always_slm"]["delta_ibc"] == ""
    assert "delta_ibc" in rows["always_slm"]["undefined"]
    assert {r["kind"] for r in rows.values()} == {"live", "replay"}


@pytest.mark.parametrize("start", "=+-@")
def test_csv_has_no_formulas(tmp_path: Path, capsys: Capture, start: str) -> None:
    """A name that a spreadsheet would run is quoted; a negative number is not."""
    labels = (f"{start}cmd()", "large")
    build_run(tmp_path, full=True, labels=labels, rows=[(0.0, 0.1, 0.5, True)] * 9)
    rows = table(capsys, tmp_path)
    assert rows["pomdp"]["tiers"] == f"'{start}cmd() -> large"
    assert float(rows["pomdp"]["delta_ibc"]) == pytest.approx(-2 / 51)


def test_latex_shows_special_characters(tmp_path: Path, capsys: Capture) -> None:
    """LaTeX has a row a method, and commands in names stay text."""
    build_run(tmp_path, full=True, config={"meta_verifier": {"name": r"\input{x}%$&_#^~"}})
    text = report(capsys, tmp_path, "--format", "latex")
    assert r"\textbackslash{}input\{x\}\%\$\&\_\#\textasciicircum{}\textasciitilde{}" in text
    assert r"\input" not in text
    assert text.count(r" \\") == 1 + 7  # the header, live, four closed forms and two matched


def test_markdown(tmp_path: Path, capsys: Capture) -> None:
    """Markdown has tables of equal rows, and markup in names stays text."""
    build_run(tmp_path, full=True, model_label="<b>|x|</b>")
    text = report(capsys, tmp_path, "--format", "md")
    table = [line for line in text.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in table[:5]} == {8}
    assert "\\<b\\>\\|x\\|" in text


def test_out_writes_the_file(tmp_path: Path, capsys: Capture) -> None:
    """--out writes what would be printed, and prints nothing."""
    build_run(tmp_path, full=True)
    printed = report(capsys, tmp_path)
    assert report(capsys, tmp_path, "--out", tmp_path / "report.txt") == ""
    assert (tmp_path / "report.txt").read_text(encoding="utf-8") == printed


def test_seed_moves_the_intervals_only(tmp_path: Path, capsys: Capture) -> None:
    """Another seed gives other intervals of the same figures."""
    build_run(tmp_path, rows=[(0.0, i / 40, 0.5, i % 3 == 0) for i in range(40)], full=True)
    deltas = [
        json.loads(report(capsys, tmp_path, "--format", "json", "--seed", seed))["tasks"][0][
            "figures"
        ]["delta_ibc"]
        for seed in (0, 0, 1)
    ]
    assert deltas[0] == deltas[1] != deltas[2]
    assert deltas[0]["value"] == deltas[2]["value"]


@pytest.mark.parametrize("form", ["text", "md", "csv", "json"])
def test_control_characters_do_not_arrive(tmp_path: Path, capsys: Capture, form: str) -> None:
    """Escape sequences and bidirectional overrides in a run's texts are stripped everywhere."""
    build_run(
        tmp_path,
        run_id="r1",
        full=True,
        task=HOSTILE,
        labels=(HOSTILE, HOSTILE),
        model_label=HOSTILE,
        created=HOSTILE,
        warnings=[{"task": HOSTILE, "text": HOSTILE}],
        config={"verifier": {"name": HOSTILE}, "meta_verifier": {"name": HOSTILE}},
    )
    text = report(capsys, tmp_path, "--format", form)
    assert "evil" in text
    assert not set(text) & set("\x1b\x07\u202e\r\x7f")
    assert "\\u001b" not in text


def test_plain_keeps_what_is_printable() -> None:
    """Letters of all scripts stay, white space becomes a blank, the rest goes."""
    assert printable("Grüße\t漢字\x00\x9b31m\u200b!") == "Grüße 漢字31m!"
    assert printable("x" * 400, limit=10) == "xxxxxxxx.."
