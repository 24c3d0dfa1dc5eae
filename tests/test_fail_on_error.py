"""``fail_on_error``: some questions may fail; they are named, excluded, and asked again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import gold_answers, knows, read_run, run_harness
from faulty_server import FaultyServer, asks, faulty, refused
from werkzeug import Response

from automix_eval.backends import transport
from automix_eval.types import Record

TASK = "coqa_demo"
LIMIT = 12


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in milliseconds."""
    monkeypatch.setattr(transport, "_FIRST_WAIT", 0.001)


@pytest.fixture(scope="module")
def answers() -> dict[str, str]:
    """The sample's questions with their answers."""
    return gold_answers(TASK)


@pytest.fixture
def server(answers: dict[str, str]) -> Iterator[FaultyServer]:
    """A small model that knows half of the sample and a large one that knows nine tenths."""
    with faulty({"small": knows(answers, 0.5), "large": knows(answers, 0.9)}) as made:
        yield made


def validation(answers: dict[str, str]) -> list[str]:
    """The questions of the evaluation, in the order of their doc_ids."""
    from conftest import REPO
    from lm_eval.tasks import TaskManager

    loaded = TaskManager(include_path=str(REPO / "tasks"), include_defaults=False).load([TASK])
    return [doc["question"] for doc in loaded["tasks"][TASK].dataset["validation"]]


def args(server: FaultyServer, tmp_path: Path, **more: Any) -> dict[str, Any]:
    """A cascade that needs no fit, with a store of this test."""
    own = {"meta_verifier": "self_consistency", "store.path": str(tmp_path / "calls.sqlite")}
    return server.arguments(**{**own, **more})


def break_docs(
    server: FaultyServer, answers: dict[str, str], docs: dict[int, str], status: int = 400
) -> None:
    """Let calls on some documents fail: doc_id -> the model, or "verify" for verifications."""
    questions = validation(answers)

    def fault(model: str, prompt: str) -> Response | None:
        verifies = "AI Generated Answer" in prompt
        for doc_id, part in docs.items():
            fits = part == "verify" if verifies else part == model
            if fits and asks(questions[doc_id], prompt, answers):
                return refused(status)
        return None

    server.fault = fault


def evaluated(folder: Path) -> tuple[dict[str, Any], list[Record]]:
    """Manifest and evaluation records of the only run."""
    manifest, rows = read_run(folder)
    return manifest, [r for r in rows if r.phase == "evaluation"]


@pytest.mark.parametrize("status", [400, 429, 500])
def test_failed_questions_are_left_out_and_never_scored_as_wrong(
    status: int, server: FaultyServer, answers: dict[str, str], tmp_path: Path
) -> None:
    """Answer, verification and escalation: no record, named, and the mean is that of the others."""
    questions = validation(answers)
    up = next(i for i in range(LIMIT) if questions[i] in sorted(answers)[len(answers) // 2 + 1 :])
    rest = [i for i in range(LIMIT) if i != up][:2]
    broken = {rest[0]: "small", rest[1]: "verify", up: "large"}
    break_docs(server, answers, broken, status)
    made = run_harness(
        [TASK], args(server, tmp_path, fail_on_error=0.25), tmp_path / "out", limit=LIMIT
    )
    manifest, rows = evaluated(tmp_path / "out")
    assert {r.doc_id for r in rows} == set(range(LIMIT)) - set(broken)
    listed = {f["doc_id"]: (f["tier"], f["role"]) for f in manifest["failed"]}
    assert listed == {rest[0]: (0, "answer"), rest[1]: (0, "verify"), up: (1, "answer")}
    for failed in manifest["failed"]:
        assert (failed["task"], failed["phase"], failed["repeat"]) == (TASK, "evaluation", 0)
        assert f"http_{status}" in failed["reason"]
    scores = [t.score for r in rows for t in r.tiers if t.tier == r.final]
    mean = sum(s for s in scores if s is not None) / len(rows)
    assert made["results"][TASK]["f1,none"] == pytest.approx(mean)
    assert manifest["tasks"][TASK]["num_questions"] == len(rows)
    (text,) = [w["text"] for w in manifest["warnings"] if "failed" in w["text"]]
    assert f"3 of {LIMIT} questions failed" in text
    assert ", ".join(str(i) for i in sorted(broken)) in text
