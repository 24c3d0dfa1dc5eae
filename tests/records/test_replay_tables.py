"""Tables of outcomes: three formats, missing cells, and what is refused."""

from __future__ import annotations

import json
import os
import pickle
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from replay_tables import rows, write

from automix_eval.records.from_table import from_tables, load
from automix_eval.records.table_columns import (
    Columns,
    TierColumns,
    columns_of_header,
    parse_tiers,
)
from automix_eval.records.tables import TableError, column_names, read_table
from automix_eval.safety.errors import AutoMixError

TWO = (
    TierColumns("s", "s1.5-b:correct", 1.0, "s1.5-b:conf", 1.0),
    TierColumns("l", "l:correct", "l:cost"),
)
COLUMNS = Columns(TWO, split_column="split", id_column="id", document_column="doc")


def source(path: Path, columns: Columns = COLUMNS, **more: Any) -> Any:
    """Both splits of a table."""
    return from_tables(columns, path, more.get("test_table"), "train", "test")


def test_formats_hold_the_same_outcomes(tmp_path: Path) -> None:
    """CSV, compressed CSV, TSV, JSON lines and Parquet give equal columns."""
    table = rows()
    table[4]["s1.5-b:conf"] = None
    written = write(tmp_path / "t.csv", table)
    (tmp_path / "t.jsonl").write_text("\n".join(json.dumps(r) for r in table), encoding="utf-8")
    parquet.write_table(pa.Table.from_pylist(table), tmp_path / "t.parquet")
    (tmp_path / "t.tsv").write_text(written.read_text().replace(",", "\t"))
    with pa.CompressedOutputStream(str(tmp_path / "t.csv.gz"), "gzip") as out:
        out.write(written.read_bytes())
    expected = source(written)
    assert np.isnan(expected.test.confidences[2, 0])
    for name in ("t.jsonl", "t.parquet", "t.tsv", "t.csv.gz"):
        found = source(tmp_path / name)
        for part in ("train", "test"):
            one, two = getattr(expected, part), getattr(found, part)
            assert (one.ids, one.documents, one.names) == (two.ids, two.documents, two.names)
            np.testing.assert_array_equal(one.scores, two.scores)
            np.testing.assert_array_equal(one.confidences, two.confidences)
            np.testing.assert_array_equal(one.answer_costs, two.answer_costs)


def test_files_as_other_programs_write_them(tmp_path: Path) -> None:
    """A byte order mark, semicolons with decimal commas, gzip and zstd change no figure."""
    table = rows()
    plain = write(tmp_path / "t.csv", table)
    expected = source(plain).test
    (tmp_path / "bom.csv").write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    comma = [{k: str(v).replace(".", ",") if k[-1] != "t" else v for k, v in r.items()}
             for r in table]  # fmt: skip
    lines = [";".join(table[0]), *(";".join(map(str, r.values())) for r in comma)]
    (tmp_path / "semicolons.csv").write_text("\n".join(lines), encoding="utf-8")
    for name, codec in (("t.csv.gz", "gzip"), ("t.csv.zst", "zstd")):
        with pa.CompressedOutputStream(str(tmp_path / name), codec) as out:
            out.write(plain.read_bytes())
    for name in ("bom.csv", "semicolons.csv", "t.csv.gz", "t.csv.zst"):
        found = source(tmp_path / name).test
        assert found.ids == expected.ids
        np.testing.assert_array_equal(found.scores, expected.scores)
        np.testing.assert_array_equal(found.confidences, expected.confidences)


def test_types_of_pandas_are_numbers(tmp_path: Path) -> None:
    """Booleans, categories, nullable integers and decimals in Parquet are read as what they say."""
    frame = pd.DataFrame(
        {
            "s": pd.array([True, False, True], dtype="boolean"),
            "l": pd.Categorical([1, 0, 1]),
            "c": pd.array([1, None, 2], dtype="Int64"),
            "k": pd.Categorical(["0.5", "0.25", "0.5"]),
        }
    )
    frame.to_parquet(tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet", ["s", "l", "c", "k"])
    assert table.numbers("s")[0].tolist() == [1, 0, 1]
    assert table.numbers("l")[0].tolist() == [1, 0, 1]
    assert table.numbers("c")[1].tolist() == [False, True, False]
    assert table.numbers("k")[0].tolist() == [0.5, 0.25, 0.5]


@pytest.mark.parametrize("suffix", ["parquet", "jsonl"])
def test_fields_of_nested_columns_have_dotted_names(tmp_path: Path, suffix: str) -> None:
    """A struct a model is read field by field; a dot in a name of the top level is part of it."""
    nested = [{"a": {"b": {"score": i}, "cost": None}, "x.y": 2 * i} for i in range(3)]
    path = tmp_path / f"t.{suffix}"
    if suffix == "parquet":
        parquet.write_table(pa.Table.from_pylist(nested), path)
    else:
        path.write_text("\n".join(map(json.dumps, nested)), encoding="utf-8")
    table = read_table(path, ["a.b.score", "x.y", "a.cost"])
    assert table.numbers("a.b.score")[0].tolist() == [0, 1, 2]
    assert table.numbers("x.y")[0].tolist() == [0, 2, 4]
    assert table.numbers("a.cost")[1].all()
    assert column_names(path) == ["a.b.score", "a.cost", "x.y"]
    with pytest.raises(AutoMixError, match=r"'a'; it has a\.b\.score"):
        read_table(path, ["a"])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_a_table_of_the_same_size_and_time_is_another(tmp_path: Path, suffix: str) -> None:
    """What stands in a file counts, also where another was copied over it with its time."""
    path, found = tmp_path / f"t{suffix}", []
    for swapped in (False, True):
        table = rows()
        if swapped:
            table[0]["l:correct"], table[2]["l:correct"] = 0, 1
        else:
            table[0]["l:correct"], table[2]["l:correct"] = 1, 0
        write(path, table) if suffix == ".csv" else path.write_text(
            "".join(f"{json.dumps(r)}\n" for r in table), encoding="utf-8"
        )
        os.utime(path, ns=(10**18, 10**18))
        found.append(source(path).test.scores[:2, 1].tolist())
        time.sleep(0.02)  # longer than a tick of the file system's clock
    assert found == [[1, 0], [0, 1]]


def test_a_column_named_twice_is_refused(tmp_path: Path) -> None:
    """Neither of two columns of one name is taken for the other."""
    (tmp_path / "t.csv").write_text("a,b,a\n1,2,3\n")
    with pytest.raises(AutoMixError, match="more than once"):
        read_table(tmp_path / "t.csv", ["a"])
    (tmp_path / "t.jsonl").write_text('{"a": 1, "a": 2}\n')
    with pytest.raises(AutoMixError, match=r"t\.jsonl"):
        read_table(tmp_path / "t.jsonl", ["a"])


def test_a_pickle_is_refused_with_its_conversion(tmp_path: Path) -> None:
    """Reading a pickle runs code, so the user is told how to convert one that is trusted."""
    (tmp_path / "routerbench_0shot.pkl").write_bytes(pickle.dumps(rows(3)))
    with pytest.raises(AutoMixError, match=r"read_pickle.*to_parquet\('routerbench_0shot\.parquet"):
        read_table(tmp_path / "routerbench_0shot.pkl", ["a"])


def gaps(folder: Path) -> Path:
    """A table of 20 rows, two of which lack a score and one of those a cost."""
    table = rows(20)
    table[4]["s1.5-b:correct"] = None
    table[6]["s1.5-b:correct"] = table[6]["l:cost"] = None
    return write(folder / "t.csv", table)


def test_missing_scores_and_costs_are_a_choice(tmp_path: Path) -> None:
    """They are refused with their number and the two other ways, left out, or counted as 0."""
    path = gaps(tmp_path)
    with pytest.raises(AutoMixError, match=r"row 5.*2 of 20 rows.*missing=drop.*missing=zero"):
        source(path)
    dropped = source(path, replace(COLUMNS, missing="drop"))
    assert len(dropped.test) == 8
    assert "q4" not in dropped.test.ids
    assert "2 of 20 rows" in dropped.notes[0]
    zero = source(path, replace(COLUMNS, missing="zero"))
    assert len(zero.test) == 10
    assert zero.test.scores[[2, 3], 0].tolist() == [0, 0]
    assert zero.test.answer_costs[3, 1] == 0
    assert "counted as 0" in zero.notes[0]
    with pytest.raises(AutoMixError, match="refuse, drop, zero"):
        replace(COLUMNS, missing="skip")


def test_a_damaged_cell_is_no_missing_one(tmp_path: Path) -> None:
    """missing=zero fills empty cells alone."""
    table = rows(20)
    table[6]["l:cost"] = "nan"
    with pytest.raises(AutoMixError, match=r"row 7, column 'l:cost'"):
        source(write(tmp_path / "t.csv", table), replace(COLUMNS, missing="zero"))


@pytest.mark.parametrize("id_column", [None, "prompt_id"])
def test_a_row_a_question_and_model_is_no_row_a_question(
    tmp_path: Path, id_column: str | None
) -> None:
    """A long table is recognised, and counted as such; never each row as a question."""
    table = [
        {"prompt_id": i, "model_name": m, "label": 1, "cost": 1}
        for i in range(4) for m in ("a", "b", "c")
    ]  # fmt: skip
    tiers = (TierColumns("a", "label", 1.0), TierColumns("b", "label", 2.0))
    with pytest.raises(AutoMixError, match=r"several rows a question: 12 rows, 4 values.*format="):
        source(write(tmp_path / "t.csv", table), Columns(tiers, id_column=id_column))
    with pytest.raises(AutoMixError, match="several rows a question: 12 rows, 4 values"):
        columns_of_header(tmp_path / "t.csv", {})


def test_a_header_describes_a_chain(tmp_path: Path) -> None:
    """TIER:score, TIER:confidence and TIER:cost need no description; what was read is said."""
    names = {"s1.5-b:conf": "s:confidence", "s1.5-b:correct": "s:score", "l:cost": "l:cost_usd"}
    table = [{**{names.get(k, k): v for k, v in r.items()}, "s:cost": 1} for r in rows()]
    columns, note = columns_of_header(write(tmp_path / "t.csv", table), {"document_column": "doc"})
    assert columns.tiers == (
        TierColumns("s", "s:score", "s:cost", "s:confidence"),
        TierColumns("l", "l:correct", "l:cost_usd"),
    )
    assert (columns.split_column, columns.id_column, columns.document_column) == (
        "split", "id", "doc",
    )  # fmt: skip
    assert note.endswith("s, l; split_column=split; id_column=id")
    table = [r | {"s:verify_costs": 1, "m:scores": 1, "m:cost": 2, "at 9:30": 1} for r in table]
    _, note = columns_of_header(write(tmp_path / "t.csv", table), {"by": "at 9:30"})
    assert "; not read: s:verify_costs, m:scores, m:cost (" in note
    assert len(from_tables(columns, tmp_path / "t.csv", None, "train", "test").test) == 100


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_white_space_and_case_of_a_header_lose_no_column(tmp_path: Path, suffix: str) -> None:
    """Documents that are not read would make intervals too narrow, without a word."""
    plain = {"s1.5-b:conf": "s:confidence", "s1.5-b:correct": "s:score", "doc": "document"}
    odd = {
        "s1.5-b:conf": " s: Confidence", "s1.5-b:correct": " s:score ", "doc": "Document_ID ",
        "split": " Split", "id": "ID", "l:correct": "l:Correct",
    }  # fmt: skip
    found = []
    for number, names in enumerate((plain, odd)):
        table = [{**{names.get(k, k): v for k, v in r.items()}, " s:cost": 1} for r in rows()]
        path = tmp_path / f"{number}.{suffix}"
        if suffix == "csv":
            write(path, table)
        elif suffix == "jsonl":
            path.write_text("\n".join(json.dumps(r) for r in table), encoding="utf-8")
        else:
            parquet.write_table(pa.Table.from_pylist(table), path)
        columns, _ = columns_of_header(path, {})
        found.append(from_tables(columns, path, None, "train", "test"))
    one, two = (f.test for f in found)
    assert one.documents == two.documents is not None
    assert (one.ids, one.names, found[0].grouped) == (two.ids, two.names, found[1].grouped)
    np.testing.assert_array_equal(one.confidences, two.confidences)
    np.testing.assert_array_equal(one.scores, two.scores)


def test_a_line_that_lacks_a_key_loses_no_column(tmp_path: Path) -> None:
    """The first line names no confidence and no document, others do; an object may be null."""
    names = {"s1.5-b:conf": "s:confidence", "s1.5-b:correct": "s:score", "doc": "document"}
    table = [{**{names.get(k, k): v for k, v in r.items()}, "s:cost": 1} for r in rows()]
    table[0] |= {"more": None}
    for key in ("s:confidence", "document"):
        del table[0][key]
    table[1]["more"] = {"why": "x"}
    path = tmp_path / "t.jsonl"
    path.write_text("\n".join(map(json.dumps, table)), encoding="utf-8")
    assert column_names(path)[-4:] == ["s:cost", "document", "s:confidence", "more.why"]
    columns, _ = columns_of_header(path, {})
    assert (columns.tiers[0].confidence, columns.document_column) == ("s:confidence", "document")


def test_questions_without_a_document_are_no_document_together(tmp_path: Path) -> None:
    """Empty cells name nothing that questions could share."""
    table = [{**r, "doc": r["doc"] if i < 100 else " " * (i % 2)} for i, r in enumerate(rows())]
    documents = source(write(tmp_path / "t.csv", table)).test.documents
    assert len(set(documents)) == 25 + 50


def test_decimal_commas_and_points_in_one_table_are_refused(tmp_path: Path) -> None:
    """5.846 beside 0,95 is five thousand, and would be read as nearly six."""
    path = tmp_path / "t.csv"
    path.write_text("a;b\n0,95;5.846\n0,5;4.772\n")
    with pytest.raises(TableError, match="'a' has decimal commas and column 'b' points"):
        read_table(path, ["a", "b"])
    path.write_text("a;b\n0.95;5.846\n1;4.772\n")
    np.testing.assert_allclose(read_table(path, ["a", "b"]).numbers("b")[0], [5.846, 4.772])


@pytest.mark.parametrize("name", ["t.csv.xz", "t.parquet.zip", "t.jsonl.7z"])
def test_a_compression_that_is_not_read_is_named(tmp_path: Path, name: str) -> None:
    """Its bytes are not read as a header."""
    (tmp_path / name).write_bytes(b"\xfd7zXZ")
    with pytest.raises(TableError, match="no suffix of one that can be read"):
        column_names(tmp_path / name)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("id,score,cost", "names no chain"),
        ("s:score,s:cost", "names no chain"),
        ("s:score,s:cost,l:score", "no column l:cost"),
        ("s:score,s:correct,s:cost,l:score,l:cost", "both 's:score' and 's:correct'"),
        ("s:score,s:score,s:cost,l:score,l:cost", "column s:score more than once"),
    ],
)
def test_headers_that_describe_no_chain(tmp_path: Path, header: str, problem: str) -> None:
    """What lacks is said, and so is the other way."""
    (tmp_path / "t.csv").write_text(header + "\n")
    with pytest.raises(AutoMixError, match=problem):
        columns_of_header(tmp_path / "t.csv", {})


@pytest.mark.parametrize("name", ["mmlu_llama_chain", "triviaqa_qwen_oai_chain"])
def test_public_chains_need_no_description(name: str) -> None:
    """Tables of published cascades are read as they are."""
    path = Path(__file__).parents[3] / "shared" / "data" / "cascades" / f"{name}.csv"
    if not path.is_file():
        pytest.skip("the tables are not here")
    columns, _ = columns_of_header(path, {})
    found = from_tables(columns, path, None, "train", "test")
    assert found.train is not None
    assert found.test.num_tiers == len(columns.tiers) >= 4
    assert not np.isnan(found.test.confidences[:, :-1]).any()


def test_missing_columns_are_named_beside_those_present(tmp_path: Path) -> None:
    """The message lists what lacks and what there is."""
    path = write(tmp_path / "t.csv", rows(4))
    bad = Columns((TierColumns("s", "nope", 1.0), TierColumns("l", "l:correct", "neither")))
    with pytest.raises(AutoMixError, match=r"'nope', 'neither'; it has split, id, doc, s1\.5-b"):
        source(path, bad)


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("s1.5-b:conf", "NaN", "confidence in"),
        ("s1.5-b:conf", "1.2", "confidence in"),
        ("s1.5-b:conf", "-0.1", "confidence in"),
        ("s1.5-b:conf", "high", "a number"),
        ("s1.5-b:correct", "nan", "score"),
        ("s1.5-b:correct", "inf", "score"),
        ("s1.5-b:correct", "", "score"),
        ("l:cost", "-1", "at least 0"),
        ("l:cost", "", "cost"),
    ],
)
def test_damaged_cells_are_named_by_row_and_column(
    tmp_path: Path, column: str, value: str, problem: str
) -> None:
    """No damaged cell is read as something else."""
    table = rows(20)
    table[6][column] = value
    with pytest.raises(AutoMixError, match=rf"row 7, column '{column}'.*{problem}"):
        source(write(tmp_path / "t.csv", table))


def test_truth_values_are_scores(tmp_path: Path) -> None:
    """A column of True and False is one of ones and zeros."""
    table = rows(20)
    expected = source(write(tmp_path / "a.csv", table)).test.scores
    for row in table:
        row["l:correct"] = bool(row["l:correct"])
    np.testing.assert_array_equal(source(write(tmp_path / "b.csv", table)).test.scores, expected)


def test_texts_keep_their_lines(tmp_path: Path) -> None:
    """Questions and answers reach routers that read them, line ends and commas included."""
    table = [{**r, "q": f"what,\n{i}?", "a": f"it is\n{i}"} for i, r in enumerate(rows(20))]
    tiers = tuple(
        TierColumns(t.name, t.score, t.cost, t.confidence, t.verify_cost, "a") for t in TWO
    )
    found = source(write(tmp_path / "t.csv", table), Columns(tiers, "split", question="q")).test
    assert found.questions is not None
    assert found.answers is not None
    assert found.questions[1] == "what,\n2?"
    assert found.answers[1][1] == "it is\n2"
    assert found.ids[1] == "3"


def test_the_confidence_of_the_last_tier_is_not_read(tmp_path: Path) -> None:
    """The last tier is never verified, so its column need not even exist."""
    last = TierColumns("l", "l:correct", 50.0, confidence="absent", verify_cost="absent")
    found = source(write(tmp_path / "t.csv", rows(20)), Columns((TWO[0], last), "split")).test
    assert np.isnan(found.confidences[:, 1]).all()
    assert (found.verification_costs[:, 1] == 0).all()


def test_signals_are_columns_of_their_own(tmp_path: Path) -> None:
    """A tier without a signal has none of it; an empty cell is a missing one."""
    table = [{**r, "m": None if i == 2 else 3.5} for i, r in enumerate(rows(20))]
    first = TierColumns("s", "s1.5-b:correct", 1.0, signals=(("margin", "m"),))
    found = source(write(tmp_path / "t.csv", table), Columns((first, TWO[1]), "split")).test
    assert found.signals["margin"][0, 0] == 3.5
    assert np.isnan(found.signals["margin"][1, 0])
    assert np.isnan(found.signals["margin"][:, 1]).all()


def test_a_table_is_read_once_until_it_changes(tmp_path: Path) -> None:
    """Jobs of a sweep share the parsed table; a file written anew is read anew."""
    path = write(tmp_path / "t.csv", rows(20))
    load.cache_clear()
    first = source(path)
    assert source(path).train is first.train
    assert load.cache_info().misses == 1
    write(path, rows(40))
    assert len(source(path).train) == 20


@pytest.mark.parametrize("name", ["Total", " average:", "q9"])
def test_a_row_that_sums_up_the_others_is_no_question(tmp_path: Path, name: str) -> None:
    """As the last row of a sheet; a question may be called anything else."""
    table = rows(12)
    table[-1]["id"] = name
    path = write(tmp_path / "t.csv", table)
    if name == "q9":
        assert name in source(path).test.ids + source(path).train.ids
        return
    with pytest.raises(TableError, match=r"last row of .*sums up the others"):
        source(path)


def test_another_table_is_the_test(tmp_path: Path) -> None:
    """Out of domain: the policy comes from one file, the figures from the other."""
    columns = Columns(TWO)
    one, two = write(tmp_path / "a.csv", rows(20)), write(tmp_path / "b.csv", rows(30, seed=1))
    found = source(one, columns, test_table=two)
    assert (len(found.train), len(found.test)) == (20, 30)
    assert found.about["test_sha256"] != found.about["sha256"]


def test_one_split_for_both_is_refused(tmp_path: Path) -> None:
    """A policy is not scored on the rows it was fitted on."""
    with pytest.raises(AutoMixError, match="train_split and test_split"):
        from_tables(COLUMNS, write(tmp_path / "t.csv", rows(8)), None, "train", "train")


@pytest.mark.parametrize("name", ["t.xlsx", "t.csv", "empty.csv", "torn.jsonl", "torn.parquet"])
def test_unreadable_files_are_named(tmp_path: Path, name: str) -> None:
    """An unknown format, a missing, empty or torn file is one clear error."""
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "torn.jsonl").write_text('{"split": "train", "id"')
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(AutoMixError, match=name.replace(".", r"\.")):
        source(tmp_path / name)


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        (None, "at least two tiers"),
        ([{"score": "a", "cost": 1}], "at least two tiers"),
        ([{"scor": "a"}, {}], "did you mean score"),
        ([{"cost": 1}, {}], "no score"),
        ([{"score": "a"}, {}], "no cost"),
        ([{"score": True, "cost": 1}, {}], "quote"),
        ([{"score": "a", "cost": -1}, {}], "at least 0"),
        ([{"score": "a", "cost": float("inf")}, {}], "finite"),
        (
            [{"name": "x", "score": "a", "cost": 1}, {"name": "x", "score": "a", "cost": 1}],
            "must differ",
        ),
    ],
)
def test_tiers_are_checked(entries: Any, problem: str) -> None:
    """A wrong description of the columns says what is wrong with it."""
    with pytest.raises(AutoMixError, match=problem):
        parse_tiers(entries)
