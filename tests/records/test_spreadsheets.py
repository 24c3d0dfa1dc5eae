"""Tables as spreadsheets and scripts leave them: no figure of a stranger's file is another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from automix_eval.records.tables import StoredTable, TableError, column_names, read_table

TABLE = "id,s:score,s:cost\nq1,1,0.5\nq2,0,0.25\n"


def read(path: Path) -> StoredTable:
    """The three columns of the table."""
    assert column_names(path)[:3] == ["id", "s:score", "s:cost"]
    return read_table(path, ["s:score", "s:cost"], ["id"])


@pytest.mark.parametrize(
    "text",
    [
        "sep=;\n" + TABLE.replace(",", ";"),
        '"sep=;"\r\n' + TABLE.replace(",", ";").replace(".", ",").replace("\n", "\r\n"),
        "\ufeffsep=|\n" + TABLE.replace(",", "|"),
        TABLE.replace(",", "|"),
        TABLE + ",,\n" * 3,
        TABLE.replace("\nq2", "\n,,\nq2"),
        TABLE.replace("cost\n", "cost,note,\n").replace("5\n", "5,,\n") + ",,,,\n",
    ],
)
def test_what_excel_adds_is_no_cell_and_no_row(tmp_path: Path, text: str) -> None:
    """A line that names the sign, another sign, rows and columns without a cell."""
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    table = read(path)
    assert table.texts("id") == ["q1", "q2"]
    assert table.numbers("s:score")[0].tolist() == [1.0, 0.0]
    assert table.numbers("s:cost")[0].tolist() == [0.5, 0.25]


def test_a_row_with_a_cell_in_any_column_is_a_row(tmp_path: Path) -> None:
    """It may be a question whose figures are missing."""
    path = tmp_path / "t.csv"
    path.write_text("id,s:score,s:cost,note\nq1,1,0.5,\n,,,the LLM was down\n")
    assert read(path).numbers("s:score")[1].tolist() == [False, True]


def test_a_bar_in_the_names_of_columns_parts_none(tmp_path: Path) -> None:
    """RouterBench's own."""
    path = tmp_path / "t.csv"
    path.write_text("A,A|total_cost|usd,B|total_cost|usd\n1,2,3\n")
    assert column_names(path) == ["A", "A|total_cost|usd", "B|total_cost|usd"]


@pytest.mark.parametrize("nested", [False, True])
def test_numbers_that_name_questions_are_not_rounded(tmp_path: Path, nested: bool) -> None:
    """Hashes of 64 bits would all be one float, and their questions one document."""
    names = [2**63 + i for i in range(4)]
    lines: list[Any] = [{"a": {"id": n}} if nested else {"a.id": n} for n in names]
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, [*lines, {"a": None} if nested else {}])))
    assert read_table(path, [], ["a.id"]).texts("a.id") == [*map(str, names), ""]


def test_truth_values_are_read_beside_numbers_and_as_texts(tmp_path: Path) -> None:
    """As str(True) writes them, and as a sheet mixes them."""
    mixed = tmp_path / "t.csv"
    mixed.write_text("id,s:score,s:cost\na,TRUE,1\nb,0,1\nc,False,1\nd,,1\n")
    texts = tmp_path / "t.jsonl"
    told = ["True", "0", "false", None]
    texts.write_text(
        "\n".join(json.dumps({"id": i, "s:score": t, "s:cost": 1}) for i, t in enumerate(told))
    )
    for path in (mixed, texts):
        values, empty = read(path).numbers("s:score")
        assert values[:3].tolist() == [1.0, 0.0, 0.0]
        assert empty.tolist() == [False] * 3 + [True]


@pytest.mark.parametrize(
    ("name", "data", "remedy"),
    [
        ("t.csv", "id,s:score\n\xe9,1\n".encode("latin-1"), "save it as UTF-8"),
        ("t.csv", b"id,s:score\na,1\nb,yes\n", "'yes', expected a number, true or false"),
        ("t.jsonl", b'{"id": 1, "s:score": NaN}\n', "line 1: NaN is no JSON: write null"),
        ("t.jsonl", b'[{"id": 1, "s:score": 1}]\n', "a row is one object on one line"),
        ("t.jsonl", b'{"id": "a", "s:score": 1}\n{"id": 2, "s:score": 1}\n', "in one type"),
        ("t.json", b'[{"id": 1, "s:score": 1}]\n', r"jq -c '\.\[\]'"),
        ("t.xlsx", b"PK", "saved as CSV UTF-8"),
    ],
)
def test_what_cannot_be_read_names_the_remedy(
    tmp_path: Path, name: str, data: bytes, remedy: str
) -> None:
    """Beside the cause."""
    (tmp_path / name).write_bytes(data)
    with pytest.raises(TableError, match=remedy):
        read_table(tmp_path / name, ["s:score"], ["id"]).numbers("s:score")
