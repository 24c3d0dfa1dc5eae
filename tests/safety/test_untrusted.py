"""Files and texts of others: bounds, names that are no paths, and nothing that a reader obeys."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from report_builder import build_run

from automix_eval.backends.servers import replies
from automix_eval.cascade.store import CallStore
from automix_eval.commands import main as cli
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.records import policies as policy
from automix_eval.records import schema as records
from automix_eval.records.schema import RecordError
from automix_eval.records.tables import TableError, column_names, read_table
from automix_eval.report.page.visible import visible
from automix_eval.safety import files
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import safe_name, write_json
from automix_eval.safety.logs import LogFilter
from automix_eval.safety.text import csv_cell, printable
from automix_eval.safety.untrusted import (
    MIB,
    bounded,
    parse_json,
    parse_yaml,
    read_bytes,
    read_json,
)

# --------------------------------------------------------------------------- bounds

DEEP = 100_000
BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join([f'*{chr(97 + i)}'] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * DEEP + "]" * DEEP, "nested deeper"),
        ("[" * 80 + "]" * 80, "nested deeper"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ("[NaN]", "no number of JSON"),
        ("[-Infinity]", "no number of JSON"),
        ("[1e999]", "beyond all"),
        ("[" + "9" * 5000 + "]", "more than 64 bits"),
        ('"\\x00"', "Expecting|Invalid"),
        ("", "Expecting"),
        ("{} {}", "Extra data"),
    ],
)
def test_json_that_is_refused(text: str, words: str) -> None:
    """Depth, numbers without bounds, doubled keys."""
    with pytest.raises(ValueError, match=words):
        parse_json(text.encode())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (BOMB, "aliases included"),
        ("a: &a [*a]", "refers to what it stands in"),
        ("[" * 300 + "]" * 300, "nested deeper"),
        ("[" * 5000 + "]" * 5000, "nested deeper"),
        ("a: 1\na: 2", "stands twice"),
        ("? [1]\n: 2", "stands twice or is none"),
        ("!!python/object/apply:os.system [id]", "could not determine a constructor"),
        ("!!python/name:os.system", "could not determine a constructor"),
        ("a: .nan", "no finite number"),
        ("a: .inf", "no finite number"),
        ("a: 1e999", "no finite number"),
        ("a: " + "9" * 90, "more than 64 bits"),
        ("a: \x07", "special characters|unacceptable"),
        ("a: b: c", "mapping values"),
    ],
)
def test_yaml_that_is_refused(text: str, words: str) -> None:
    """Bombs of aliases, tags that name code, numbers without bounds, doubled keys."""
    with pytest.raises(ValueError, match=words):
        parse_yaml(text.encode())


def test_yaml_that_is_taken() -> None:
    """Aliases and merged keys, numbers as Hydra reads them, dates as texts; a mark at the start."""
    text = "a: &a {x: 1, y: 1e-3}\nb: {<<: *a, x: 2}\nc: 2026-01-01\nd: [1_000, .5, yes, null]\n"
    assert parse_yaml(b"\xef\xbb\xbf" + text.encode()) == {
        "a": {"x": 1, "y": 1e-3},
        "b": {"x": 2, "y": 1e-3},
        "c": "2026-01-01",
        "d": [1000, 0.5, True, None],
    }


def test_only_ordinary_files_of_a_bounded_size_are_read(tmp_path: Path) -> None:
    """A pipe is not waited for; what is too large is not held."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="no ordinary file"):
        read_bytes(tmp_path / "pipe", MIB)
    (tmp_path / "large").write_bytes(b"x" * (MIB + 1))
    with pytest.raises(ValueError, match="larger than 1 MiB"):
        read_bytes(tmp_path / "large", MIB)
    with pytest.raises(IsADirectoryError):
        read_bytes(tmp_path, MIB)


def test_a_link_to_itself_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As manifest or results file; the system's own error would be a traceback."""
    build_run(tmp_path)
    manifest = tmp_path / "automix_run_r1.json"
    manifest.unlink()
    manifest.symlink_to(manifest)
    (tmp_path / "results_2026-01-01T00-00-00.0.json").symlink_to(
        "results_2026-01-01T00-00-00.0.json"
    )
    assert cli.main(["report", str(tmp_path)]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    assert "cannot read the manifest" in said


def test_a_pipe_is_neither_records_nor_a_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A report or a replay does not wait for a writer that never comes: one line says why."""
    build_run(tmp_path / "run")
    (tmp_path / "run" / "automix_records_r1.jsonl").unlink()
    os.mkfifo(tmp_path / "run" / "automix_records_r1.jsonl")
    os.mkfifo(tmp_path / "table.csv")
    for command in (["report", str(tmp_path / "run")], ["whatif", str(tmp_path / "table.csv")]):
        assert cli.main(command) == 2
        (said,) = capsys.readouterr().err.splitlines()
        assert "no ordinary file" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (r'{"a": "\ud83d"}', "half a surrogate pair"),
        (r'{"a": "x \uDC00 y", "b": 1}', "half a surrogate pair"),
        (r'{"a": "\ud83d\ude00", "b"', "truncated"),
    ],
)
def test_half_a_character_in_a_table_is_not_called_torn(
    tmp_path: Path, text: str, said: str
) -> None:
    """The line and what is wrong with it are named, whether its names or its cells are read."""
    (tmp_path / "t.jsonl").write_text(f"{text}\n")
    for read in (column_names, lambda path: read_table(path, [], ["a"])):
        with pytest.raises(TableError, match=f"line 1: .*{said}"):
            read(tmp_path / "t.jsonl")


def test_a_number_beyond_all_numbers_is_damage(tmp_path: Path) -> None:
    """As JSON it is whole, and only who reads the cell finds out."""
    (tmp_path / "t.jsonl").write_text('{"a": 1e999}\n')
    with pytest.raises(TableError, match=r"is damaged: .*Number too big to be stored in double"):
        read_table(tmp_path / "t.jsonl", ["a"])


def test_an_error_of_a_damaged_table_is_one_line(tmp_path: Path) -> None:
    """The reader's own error quotes rows of several lines; ours does not."""
    path = tmp_path / "table.csv"
    path.write_text('a:score,b:score\n0,1\n1,"x\ny",2\n')
    with pytest.raises(TableError) as caught:
        read_table(path, ["a:score", "b:score"])
    assert "\n" not in str(caught.value)


def test_a_line_without_an_end_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not held whole."""
    monkeypatch.setattr("automix_eval.safety.untrusted.LONGEST_LINE", 10)
    assert list(bounded(io.BytesIO(b"short\n\nlines\n"))) == [b"short\n", b"\n", b"lines\n"]
    with pytest.raises(ValueError, match="a line is longer"):
        list(bounded(io.BytesIO(b"short\n" + b"x" * 11)))


def test_half_a_character_is_refused_where_it_would_be_written_again(tmp_path: Path) -> None:
    """A file of UTF-8 cannot hold it."""
    (tmp_path / "x.json").write_text('{"a": "\\ud800"}')
    with pytest.raises(ValueError, match="surrogates"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    "text",
    [
        BOMB,
        "!!python/name:os.system",
        "slm: hf\nslm: hf",
        "slm: {_target_: os.system}",
        "\x00",
        "[",
    ],
)
def test_a_configuration_of_others_is_an_error_of_ours(text: str, tmp_path: Path) -> None:
    """Whatever the file holds, and it runs nothing."""
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(AutoMixError):
        config.build({"config": str(tmp_path / "c.yaml")})


@pytest.mark.parametrize("name", ["c.yaml", "."])
def test_a_configuration_that_is_no_file(name: str, tmp_path: Path) -> None:
    """Missing, or a folder."""
    with pytest.raises(AutoMixError, match="cannot be read"):
        config.build({"config": str(tmp_path / name)})


# --------------------------------------------------------------------------- found by fuzzing


def test_a_line_of_null_is_no_table(tmp_path: Path) -> None:
    """Pyarrow would end the process."""
    for i, text in enumerate((b"null", b"[]", b'{"a": 1}\nnull\n', b"[" * 100_000, b"\xff")):
        (tmp_path / f"{i}.jsonl").write_bytes(text)
        with pytest.raises(TableError, match="damaged: line"):
            read_table(tmp_path / f"{i}.jsonl", ["a"])


def test_probabilities_above_one_are_none() -> None:
    """The exponential of a large number has no value."""
    tokens = {"content": [{"token": "a", "logprob": 2**53}, "x", {"token": "b", "logprob": -1}]}
    assert [t.text for t in replies.tokens_of({"logprobs": tokens})] == ["b"]


def test_counts_of_a_server_are_bounded() -> None:
    """Negative and endless numbers of tokens are unknown ones."""
    for value in (-1, 10**400, True, 1.5, "7", None):
        assert replies.usage_of({"usage": {"prompt_tokens": value}}).prompt is None


def test_a_stored_value_of_another_shape_is_no_result(tmp_path: Path) -> None:
    """Blobs, numbers, lists."""
    with CallStore(tmp_path / "calls.sqlite") as store:
        for value in (b"\xff", 7, "[1]", "[" * 100_000, "{"):
            store._db.execute("INSERT OR REPLACE INTO calls VALUES ('k', ?, 0)", (value,))
            assert store.get("k") is None


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "C:x", "a\x00", "a\nb", None, 7]
)
def test_a_manifest_names_files_beside_it_only(name: Any, tmp_path: Path) -> None:
    """A path is an error; a policy by such a name is not looked for."""
    path = build_run(tmp_path / "run")
    manifest = json.loads(path.read_text())
    with pytest.raises(RecordError, match="names no records file beside it"):
        records.records_path(path, {**manifest, "records": name})
    assert not files.is_file_name(name)


# --------------------------------------------------------------------------- where is written


@pytest.mark.parametrize("label", ["..", ".", "...", " ", "a\x1b[2J", "a\nb", "\x00", "x" * 300])
def test_a_label_names_a_folder_of_its_own(label: str) -> None:
    """The harness calls the output's folder by it."""
    with pytest.raises(config.ConfigError, match="model="):
        config.build({"model": label})


@pytest.mark.parametrize(
    "name", ["../../x", "/etc/passwd", "..", "", "a\x00b", "a/../b", "\u202ex"]
)
def test_task_names_become_parts_of_file_names(name: str) -> None:
    """No separator and no leading dot is left."""
    made = safe_name(name)
    assert made
    assert not set(made) & set("/\\\x00\u202e")
    assert not made.startswith(".")


def test_no_file_is_written_through_a_link(tmp_path: Path) -> None:
    """A link that somebody laid where a file or its temporary is written is replaced."""
    victim = tmp_path / "victim"
    victim.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / "x.json").symlink_to(victim)
    (out / f".x.json.{os.getpid()}.tmp").symlink_to(victim)
    write_json(out / "x.json", {"a": 1})
    assert victim.read_text() == "mine"
    assert json.loads((out / "x.json").read_text()) == {"a": 1}
    assert not (out / "x.json").is_symlink()


def test_pictures_are_not_written_through_a_link(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A folder of results may hold a link by the name of the pictures' folder."""
    build_run(tmp_path / "run", full=True)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "report").mkdir()
    (tmp_path / "report" / "pictures").symlink_to(tmp_path / "elsewhere")
    command = ["report", str(tmp_path / "run"), "--out", str(tmp_path / "report")]
    assert cli.main([*command, "--format", "html", "--resamples", "10"]) == 2
    assert "link to elsewhere" in capsys.readouterr().err
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_policy_names_no_code(tmp_path: Path) -> None:
    """Not by a target, nor by a reference, nor by an option that is none."""
    for parameters in ({"_target_": "os.system"}, {"x": "${oc.env:HOME}"}, {"calibrator": "x"}):
        made = policy.make("threshold", parameters, {}, {})
        policy.save(tmp_path / "p.json", made)
        with pytest.raises(AutoMixError):
            parts.restore(policy.load(tmp_path / "p.json"))


# --------------------------------------------------------------------------- what is shown

HOSTILE = "a\x1b[2J\x9b31m\x07b\u202ec\u200bd\u2066e\rf"


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", " =1", "\uff1d1", "\u200b=1", "\x00=1"],
)
def test_no_text_is_a_formula(text: str) -> None:
    """Behind blanks, in full width, and behind what a spreadsheet does not see."""
    shown = str(csv_cell(text))
    assert shown.startswith("'")
    held = io.StringIO()
    csv.writer(held).writerow([shown])
    assert next(csv.reader([held.getvalue()])) == [shown]


@pytest.mark.parametrize("value", [-1, -0.5, 0, None])
def test_numbers_stay_numbers(value: float | None) -> None:
    """A negative number is no formula."""
    assert csv_cell(value) == ("" if value is None else value)


def test_nothing_that_a_terminal_obeys_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    """In tables, errors and log lines."""
    handler = caplog.handler
    handler.addFilter(LogFilter())
    logging.getLogger("automix_eval.x").warning("server said %s", HOSTILE)
    handler.removeFilter(handler.filters[-1])
    for shown in (
        printable(HOSTILE),
        visible(HOSTILE),
        str(AutoMixError(HOSTILE)),
        caplog.messages[-1],
    ):
        assert not set(shown) & set("\x1b\x9b\x07\u202e\u200b\u2066\r")
        assert "b" in shown


def test_an_error_keeps_its_lines() -> None:
    """Line ends and tabs are no commands."""
    assert str(AutoMixError("a\n\tb")) == "a\n\tb"


@pytest.mark.parametrize(
    "text", ["a: 1\na: sk-secret\na: 2", "a: sk-secret\n b: 1", "{a: sk-secret,"]
)
def test_what_is_wrong_with_yaml_shows_no_text_of_it(text: str) -> None:
    """A configuration that cannot be read may hold secrets: the line is named, not shown."""
    with pytest.raises(ValueError, match=r"^line \d: ") as caught:
        parse_yaml(text.encode())
    assert "secret" not in str(caught.value)
