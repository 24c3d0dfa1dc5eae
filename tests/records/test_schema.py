"""Laws of a record on disk: written and read are inverse, and damage is refused."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Iterator, Mapping
from copy import deepcopy
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from automix_eval.cascade.store import CallStore
from automix_eval.records import stream
from automix_eval.records.schema import RecordError, from_json, from_line, to_json, to_line
from automix_eval.types import (
    Answer,
    Call,
    Decision,
    Generation,
    Outcome,
    Phase,
    Record,
    Role,
    TierRecord,
    Verification,
)

REFERENCE = Path(__file__).parents[2] / "results" / "reference_demo"
# What earlier releases did not write yet.
LATER = {"cached_tokens", "signals", "saved_samples", "repeats", "latency", "abstains"}

counts = st.integers(0, 2**53)
texts = st.text(st.characters(), max_size=8)  # half surrogate pairs included
numbers = st.floats(allow_nan=False, allow_infinity=False)
some = {"max_size": 2}
named = st.dictionaries(texts, numbers, **some)


def tuples(entries: st.SearchStrategy[Any]) -> st.SearchStrategy[tuple[Any, ...]]:
    """Tuples of a few of these."""
    return st.lists(entries, max_size=2).map(tuple)


def choice(literal: Any) -> st.SearchStrategy[Any]:
    """One of a literal's values."""
    return st.sampled_from(get_args(literal))


calls = st.builds(
    Call, counts, choice(Role), st.none() | counts, st.none() | counts, st.none() | numbers,
    st.none() | counts,
)  # fmt: skip
answers = st.builds(
    Answer, counts, texts, tuples(calls), tuples(st.tuples(numbers, st.booleans())),
    tuples(numbers), tuples(numbers), counts, counts,
)  # fmt: skip
verifications = st.builds(
    Verification, counts, st.none() | numbers, choice(Outcome), tuples(calls), tuples(texts),
    counts, counts, counts, named, counts,
)  # fmt: skip
tiers = st.builds(
    TierRecord, counts, answers, st.none() | numbers, named, st.none() | verifications,
    st.none() | st.builds(Decision, counts, counts, texts, st.booleans()), st.booleans(),
)  # fmt: skip
records = st.builds(
    Record, texts, counts, counts, choice(Phase), counts, tuples(tiers), texts, texts, texts,
    tuples(texts),
)  # fmt: skip


def whole() -> Record:
    """A record in which every field holds something."""
    call = Call(0, "answer", 7, 2, 0.25, 3, 0.125)
    answer = Answer(0, "pier", (call,), ((-0.5, True),), (-0.25,), (0.5,), 1, 2)
    verification = Verification(
        0, 0.5, "ok", (Call(0, "verify", 9, 1, 0.5, 0),), ("Correct",), 1, 2, 3, {"margin": 0.5}, 4
    )
    tier = TierRecord(0, answer, 0.5, {"f1": 0.5}, verification, Decision(0, 0, "v=0.5"), True)
    return Record("t", 3, 0, "evaluation", 0, (tier,), "hash", "doc", "where?", ("a", "b"))


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where in a JSON value anything stands, from the outermost inwards."""
    pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
    for key, inner in pairs:
        yield (*path, key)
        if isinstance(inner, (Mapping, list)):
            yield from places(inner, (*path, key))


def row() -> Any:
    """The whole record as JSON values."""
    return json.loads(to_line(whole()))


def at(value: Any, path: tuple[Any, ...]) -> Any:
    """What stands at a place."""
    for key in path:
        value = value[key]
    return value


FIELDS = [p for p in places(row()) if isinstance(p[-1], str) and p[-2:-1] != ("metrics",)
          and p[-2:-1] != ("signals",)]  # fmt: skip


@given(records)
def test_decode_and_encode_are_inverse(record: Record) -> None:
    """As values and as a line of a file, whatever the texts hold."""
    assert from_json(to_json(record)) == record
    line = to_line(record)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert from_line(line) == record
    plain = json.dumps(to_json(record), ensure_ascii=False).encode(errors="backslashreplace")
    assert line == plain + b"\n"


@pytest.mark.parametrize("path", FIELDS, ids=lambda p: ".".join(map(str, p)))
def test_a_field_that_every_writer_wrote_must_be_there(path: tuple[Any, ...]) -> None:
    """A record without it is refused, which names it; what came later may be absent."""
    value = row()
    del at(value, path[:-1])[path[-1]]
    if path[-1] in LATER:
        assert isinstance(from_json(value), Record)
    else:
        with pytest.raises(RecordError, match=path[-1]):
            from_json(value)


@pytest.mark.parametrize("path", FIELDS, ids=lambda p: ".".join(map(str, p)))
@pytest.mark.parametrize("wrong", [{"a": "b"}, "many", 1.5, True, [None]], ids=repr)
def test_a_value_of_another_type_is_refused(path: tuple[Any, ...], wrong: Any) -> None:
    """Whatever reads is of the very type that the field had."""
    value = row()
    before = at(value, path)
    at(value, path[:-1])[path[-1]] = deepcopy(wrong)
    try:
        from_json(value)
    except RecordError:
        return
    alike = isinstance(wrong, type(before)) and not isinstance(before, (Mapping, list))
    wider = isinstance(before, float) and type(wrong) in (int, float)
    assert (alike and isinstance(wrong, bool) == isinstance(before, bool)) or wider


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        to_line(whole())[:-20],
        to_line(whole()).replace(b"0.25", b"NaN"),
        to_line(whole()).replace(b"0.25", b"1e999"),
        to_line(whole()).replace(b'"pier"', b'"\xff"'),
        to_line(whole()).replace(b'"pier"', b'"\\ud83d'),
        to_line(whole()).replace(b'"evaluation"', b'"test"'),
        to_line(whole()).replace(b'"on_path": true', b'"on_path": 1'),
        b"[" * 100_000,
    ],
)
def test_a_damaged_line_is_refused(line: bytes) -> None:
    """Cut short, no JSON, no finite number, no text, or a value that is none of those allowed."""
    with pytest.raises(RecordError, match="not a record"):
        from_line(line)


@pytest.mark.parametrize("number", [math.nan, math.inf, np.float64("nan")])
def test_a_number_without_an_end_is_not_written(number: float) -> None:
    """It would read as null; the writer says so at once."""
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_line(Record("t", 0, 0, "evaluation", 0, (TierRecord(0, Answer(0, ""), number),)))


NUMBERS = [p for p in places(row()) if isinstance(at(row(), p), float)]


@pytest.mark.parametrize("path", NUMBERS, ids=lambda p: ".".join(map(str, p)))
@pytest.mark.parametrize("number", [math.nan, -math.inf, 5e-5, -1e17, 0.0])
def test_wherever_a_number_stands_its_line_is_that_of_json(
    path: tuple[Any, ...], number: float
) -> None:
    """The quick writer spells like json, or leaves the record to it: very small numbers, NaN."""
    value = row()
    at(value, path[:-1])[path[-1]] = number
    record = msgspec.convert(value, Record)
    if math.isfinite(number):
        assert to_line(record) == json.dumps(to_json(record)).encode() + b"\n"
    else:
        with pytest.raises(ValueError, match="not JSON compliant"):
            to_line(record)


def test_numbers_of_numpy_are_written_as_numbers() -> None:
    """Scores and log-probabilities may come as scalars of any precision."""
    answer = Answer(0, "x", token_logprobs=(np.float32(-0.5), np.float64(-0.25)))
    tier = TierRecord(0, answer, np.float32(0.5), {"f1": np.int64(1)})
    found = from_line(to_line(Record("t", 0, 0, "evaluation", 0, (tier,))))
    assert found.tiers[0].answer.token_logprobs == (-0.5, -0.25)
    assert (found.tiers[0].score, found.tiers[0].metrics) == (0.5, {"f1": 1.0})


def test_reference_records_are_read_and_written_as_they_stand() -> None:
    """Every stored line is the very line that its record writes."""
    (file,) = REFERENCE.rglob("automix_records_*.jsonl")
    lines = file.read_bytes().splitlines(keepends=True)
    assert len(lines) == 495
    assert all(to_line(from_line(line)) == line for line in lines)


# ------------------------------------------------------------------------ one schema


def kind_of(hint: Any) -> Any:
    """A type of either schema in a common form: bounds dropped, lists as tuples, by name."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return kind_of(inner[0])
    if hint is msgspec.Raw:  # a text that is left unread
        return str
    if origin in (Union, types.UnionType):
        return frozenset(map(kind_of, inner))
    if origin in (list, tuple):
        return ("list", kind_of(inner[0]))
    if origin in (dict, Mapping):
        return ("mapping", *map(kind_of, inner))
    if is_dataclass(hint) or (isinstance(hint, type) and issubclass(hint, msgspec.Struct)):
        return hint.__name__.lstrip("_").removesuffix("Record") or "Record"
    return hint


@pytest.mark.parametrize(
    ("struct", "noun"),
    [
        (stream._Record, Record),
        (stream._Tier, TierRecord),
        (stream._Decision, Decision),
        (stream._Answer, Answer),
        (stream._Verification, Verification),
        (stream._Call, Call),
    ],
)
def test_the_columns_read_the_fields_of_a_record(struct: Any, noun: Any) -> None:
    """Names and types are a subset of the record's, and the same fields may be absent."""
    ours, theirs = get_type_hints(struct, include_extras=True), get_type_hints(noun)
    assert {n: kind_of(h) for n, h in ours.items()} == {n: kind_of(theirs[n]) for n in ours}
    optional = {f.name for f in msgspec.structs.fields(struct) if not f.required}
    assert optional == LATER & set(ours)
    assert set(ours) <= {f.name for f in fields(noun)}


unknown = st.none() | st.integers(0, 1000)


@given(
    st.lists(
        st.builds(
            stream._Call, st.just(0), st.just("verify"), unknown, unknown, unknown, unknown, unknown
        ),
        max_size=4,
    )
)
def test_what_calls_spent_is_their_sum(several: list[Any]) -> None:
    """A sum is unknown where a call's number is, but for cached tokens; of waits the longest."""

    def total(name: str, of: Any = sum) -> float:
        values = [getattr(call, name) for call in several]
        return math.nan if None in values else float(of([0, *values]))

    cached = sum(min(c.cached_tokens or 0, c.prompt_tokens or 0) for c in several)
    tokens = (total("prompt_tokens"), float(cached), total("generated_tokens"))
    expected = (len(several), *tokens, total("seconds"), 1.0, 2.0, total("latency", max))
    found = stream._spent(stream._Answer(several, 1, 2))
    assert np.array_equal(found, expected, equal_nan=True)


# ------------------------------------------------------------------------ the call store


@given(text=texts)
def test_any_answer_is_kept_by_the_call_store(
    text: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Half a surrogate pair too, which is no text of UTF-8."""
    result = Generation(text, 3, 1, 0.5, (-0.5,))
    with CallStore(tmp_path_factory.getbasetemp() / "calls.sqlite") as store:
        store.put("key", to_json(result))
        found = store.get("key")
    assert msgspec.convert(found, Generation) == result
