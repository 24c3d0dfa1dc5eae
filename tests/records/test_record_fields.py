"""Laws of what a record keeps of calls that shared a prompt's start."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest

from automix_eval.cascade.store import call_key
from automix_eval.records.schema import RecordError, from_json, to_json
from automix_eval.types import Answer, Call, GenerateRequest, Record, TierRecord, Verification


def record(cached: int | None, saved: int) -> Record:
    """One question, answered and verified."""
    call = Call(0, "verify", 100, 5, 0.5, cached)
    verification = Verification(0, 0.5, calls=(call,), saved_samples=saved)
    tier = TierRecord(0, Answer(0, "pier", (call,)), verification=verification)
    return Record("t", 0, 0, "evaluation", 0, (tier,))


@pytest.mark.parametrize(("cached", "saved"), [(None, 0), (0, 0), (80, 3)])
def test_cached_tokens_and_saved_samples_survive(cached: int | None, saved: int) -> None:
    """What is written is read, unknown included."""
    assert from_json(to_json(record(cached, saved))) == record(cached, saved)


def test_records_of_earlier_releases_are_read() -> None:
    """A row without the fields means: unknown, and nothing saved."""
    row: dict[str, Any] = to_json(record(80, 3))
    tier = row["tiers"][0]
    del tier["answer"]["calls"][0]["cached_tokens"]
    del tier["verification"]["calls"][0]["cached_tokens"]
    del tier["verification"]["saved_samples"]
    assert from_json(row) == record(None, 0)


def test_a_damaged_count_is_an_error() -> None:
    """A count that is no integer names the field."""
    row: dict[str, Any] = to_json(record(80, 3))
    row["tiers"][0]["answer"]["calls"][0]["cached_tokens"] = "many"
    with pytest.raises(RecordError, match="cached_tokens"):
        from_json(row)


def test_a_request_without_an_early_end_keeps_its_key() -> None:
    """Stored calls of earlier releases are found again."""
    from automix_eval.cascade.tier import _asked

    plain = GenerateRequest("p", {"until": []}, 1)
    old = {k: v for k, v in asdict(plain).items() if k != "stop_after"}
    assert call_key(_asked(plain)) == call_key(old)
    assert call_key(_asked(GenerateRequest("p", {"until": []}, 1, "x"))) != call_key(old)
