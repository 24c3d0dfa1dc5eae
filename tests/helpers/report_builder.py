"""Small synthetic runs in the files' real schema, for the tests of the report."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from automix_eval.analysis.figures import Report, TaskReport
from automix_eval.analysis.gather import Settings, assemble
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.schema import FORMAT, VERSION, to_line
from automix_eval.safety.files import write_json
from automix_eval.types import Answer, Call, Decision, Record, TierRecord, Verification

Row = tuple[float, float, float | None, bool]
"""(SLM score, LLM score, confidence or None, escalated) of a question."""

# 40 questions: wrong SLM answers have the lower confidence and most of them are escalated.
ROWS: list[Row] = [
    (0.0, 1.0, 0.125, True),
    (0.0, 1.0, 0.25, True),
    (1.0, 1.0, 0.875, False),
    (0.0, 0.0, 0.5, False),
] * 10
PAPER = {"name": "paper", "tiers": [1, 50], "verifier": 1}


def call(tier: int, role: Any = "answer", counted: bool = True) -> Call:
    """One call of 100 + 10 tokens, or of an unknown number."""
    return Call(tier, role, 100 if counted else None, 10 if counted else None, 0.1)


def record(
    doc_id: int,
    row: Row,
    *,
    task: str = "coqa",
    full: bool = False,
    policy: str = "pomdp",
    document: str = "",
    counted: bool = True,
) -> Record:
    """A question answered under a policy: pomdp follows the row, the others are constant."""
    slm, llm, confidence, escalated = row
    up = {"always_slm": False, "always_llm": True}.get(policy, escalated)
    verification = Verification(
        0,
        confidence,
        "ok" if confidence is not None else "unparsable",
        (call(0, "verify", counted),) * 8,
        ("The AI generated answer is Correct.",) * 8,
        0 if confidence is not None else 8,
    )
    tiers = []
    if policy != "always_llm" or full:
        on_path = policy != "always_llm"
        tiers.append(
            TierRecord(
                0,
                Answer(0, "\x1b[31mred\x07", (call(0, counted=counted),)),
                slm,
                {"f1": slm},
                verification if policy == "pomdp" else None,
                Decision(0, int(up), "because") if on_path else None,
                on_path,
            )
        )
    if up or full:
        answer = Answer(1, "blue", (call(1, counted=counted),))
        tiers.append(TierRecord(1, answer, llm, {"f1": llm}, on_path=up))
    return Record(
        task, doc_id, 0, "evaluation", int(up), tuple(tiers), f"hash{doc_id}", document, "q", ("a",)
    )


def write_records(path: Path, records: Iterable[Record]) -> None:
    """A records file as a run leaves it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(map(to_line, records)))


def build_run(
    folder: Path,
    run_id: str = "r1",
    rows: Sequence[Row] = ROWS,
    *,
    policy: str = "pomdp",
    full: bool = False,
    samples: Mapping[int, float] | None = None,
    config: Mapping[str, Any] | None = None,
    task: str = "coqa",
    labels: tuple[str, str] = ("small", "large"),
    records: Sequence[Record] | None = None,
    counted: bool = True,
    **fields: Any,
) -> Path:
    """Write a run; ``samples`` also writes the harness's files. Returns the manifest's path."""
    if records is None:
        records = [
            record(i, row, task=task, full=full, policy=policy, counted=counted)
            for i, row in enumerate(rows)
        ]
    write_records(folder / f"automix_records_{run_id}.jsonl", records)
    parts = {
        "slm": {"name": "hf", "pretrained": "org/small"},
        "llm": {"name": "hf", "pretrained": "org/large"},
        "verifier": {"name": "few_shot"},
        "meta_verifier": {"name": policy},
        "cost": PAPER,
        **(config or {}),
    }
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "run_id": run_id,
        "created": f"2026-01-01T00:00:0{len(run_id) % 10}",
        "automix_eval_version": "0.1.0",
        "model_label": "demo",
        "config": parts,
        "tiers": [
            {"index": 0, "name": "slm", "label": labels[0]},
            {"index": 1, "name": "llm", "label": labels[1]},
        ],
        "verifier": {},
        "tasks": {task: {"metric": "f1", "sample": False, "num_questions": len(records)}},
        "calls": [
            {"task": task, "phase": p, "tier": 0, "role": "verify", "made": 311, "stored": 9}
            for p in ("evaluation", "calibration")
        ],
        "warnings": [],
        "records": f"automix_records_{run_id}.jsonl",
        "policies": {task: None},
        **fields,
    }
    path = folder / f"automix_run_{run_id}.json"
    write_json(path, manifest)
    if samples is not None:
        harness(folder, samples, task=task, time=f"t-{run_id}", automix={"run_id": run_id})
    return path


def harness(
    folder: Path,
    scores: Mapping[int, float],
    *,
    task: str = "coqa",
    time: str = "2026-01-02T00-00-00.000001",
    pretrained: str | None = "org/large",
    automix: Mapping[str, str] | None = None,
    prompt: str = "hash",
) -> Path:
    """Write results and samples of the harness, of a plain model or of an automix run."""
    folder.mkdir(parents=True, exist_ok=True)
    config: dict[str, Any] = {"model": "hf", "model_args": {}}
    if automix is not None:
        config = {"model": "automix", "model_args": {}, "automix": automix}
    elif pretrained:
        config["model_args"] = {"pretrained": pretrained}
    write_json(folder / f"results_{time}.json", {"results": {}, "config": config})
    lines = [
        {
            "doc_id": i,
            "doc": {},
            "target": "a",
            "resps": [["x"]],
            "filtered_resps": ["x"],
            "filter": "none",
            "metrics": ["f1"],
            "prompt_hash": f"{prompt}{i}",
            "f1": score,
        }
        for i, score in scores.items()
    ]
    path = folder / f"samples_{task}_{time}.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return path


def finals(rows: Sequence[Row] = ROWS) -> dict[int, float]:
    """Final score of each question under the row's own routing."""
    return {i: llm if up else slm for i, (slm, llm, _, up) in enumerate(rows)}


def llm_scores(rows: Sequence[Row] = ROWS) -> dict[int, float]:
    """The LLM's score on each question."""
    return {i: llm for i, (_, llm, _, _) in enumerate(rows)}


def build(paths: Sequence[Path], llm: Path | None = None, seed: int = 0) -> Report:
    """The report on all runs at or below some folders."""
    return assemble(paths, Settings(llm=llm, seed=seed)).report


def only(folder: Path, run_id: str = "r1", **options: Any) -> TaskReport:
    """The report on the single task of one run of a folder."""
    (task,) = (t for t in build([folder], **options).tasks if t.run_id == run_id)
    return task


def reason(value: object) -> str:
    """The reason of a figure that must be undefined."""
    assert isinstance(value, Undefined), value
    return value.reason
