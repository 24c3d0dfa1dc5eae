"""Tables of outcomes: three formats, missing cells, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from replay_tables import rows, write

from automix_eval.records.from_table import (
    Columns,
    TierColumns,
    from_tables,
    load,
    parse_tiers,
    sample_rows,
)
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


def test_samples_are_stable_and_nested() -> None:
    """The same rows are drawn everywhere, and a smaller sample is part of a larger one."""
    assert sample_rows(10, 4, seed=0).tolist() == [1, 2, 3, 8]
    small, large = set(sample_rows(100, 20, 3).tolist()), set(sample_rows(100, 50, 3).tolist())
    assert small < large
    assert sample_rows(5, 9, 1).tolist() == [0, 1, 2, 3, 4]


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
