"""Runs and reports for tests of the page and of the pictures: figures given, not computed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from report_builder import write_records

from automix_eval.analysis.figures import (
    Board,
    CallRow,
    Comparison,
    CurvePoint,
    Figure,
    MethodFigures,
    Region,
    ReliabilityBin,
    Report,
    Spread,
    System,
    TaskFigures,
    TaskReport,
    Truncation,
    VerifierFigures,
)
from automix_eval.metrics.ibc import Undefined, delta_ibc, ibc
from automix_eval.records.schema import FORMAT, VERSION
from automix_eval.safety.files import write_json
from automix_eval.types import Answer, Call, Decision, Record, TierRecord, Verification

PAPER = {"name": "paper", "tiers": [1, 50], "verifier": 1}
TEXT = (
    "the of a in context says that answer question was river castle letter nobody agreed would "
    "return under north winter because captain market evening however never signed second morning"
)
WORDS = np.array(TEXT.split())


def prose(rng: np.random.Generator, length: int) -> str:
    """So many random words."""
    return " ".join(WORDS[(rng.random(length) * len(WORDS)).astype(int)].tolist()) + "."


def make_records(
    task: str, count: int, seed: int = 0, payload: str = "", samples: int = 8
) -> list[Record]:
    """Records in which every tier was asked; ``payload`` stands in every text."""
    rng = np.random.default_rng(seed)
    return [_record(task, i, rng, payload, samples) for i in range(count)]


def _record(task: str, i: int, rng: np.random.Generator, payload: str, samples: int) -> Record:
    right = bool(rng.random() < 0.5)
    votes = int(rng.binomial(samples, 0.72 if right else 0.45)) if samples else 0
    up = votes / max(samples, 1) <= 0.5
    scores = (float(right), float(rng.random() < (0.85 if right else 0.5)))
    texts = tuple(
        f"{payload}{prose(rng, 30)} Verification Decision: The AI generated answer is "
        + ("Correct." if k < votes else "Incorrect.")
        for k in range(samples)
    )
    judged = Verification(
        0, votes / samples if samples else None, "ok" if samples else "unparsable",
        tuple(Call(0, "verify", 700, 60, 0.21) for _ in range(samples)), texts,
    )  # fmt: skip
    tiers = (
        TierRecord(
            0, Answer(0, f"{payload}{prose(rng, 4)}", (Call(0, "answer", 450, 6, 0.1),)),
            scores[0], {"f1": scores[0], "exact_match": 0.0}, judged,
            Decision(0, int(up), f"v={votes / max(samples, 1):.4g}{payload}"),
        ),
        TierRecord(
            1, Answer(1, f"{payload}{prose(rng, 4)}", (Call(1, "answer", 450, 6, 1.0),)),
            scores[1], {"f1": scores[1], "exact_match": 0.0}, on_path=up,
        ),
    )  # fmt: skip
    return Record(
        task, i, 0, "evaluation", int(up), tiers, f"hash{i}", f"{payload}document-{i // 5}",
        f"{payload}What did {prose(rng, 8)[:-1]}?", (f"{payload}{prose(rng, 3)}", prose(rng, 2)),
    )  # fmt: skip


def write_run(
    folder: Path,
    tasks: dict[str, Sequence[Record]],
    run_id: str = "r1",
    labels: Sequence[str] = ("small-1B", "large-70B"),
    context_words: int = 300,
    payload: str = "",
    cost: Any = None,
) -> Path:
    """A run's manifest and records, and the harness's samples with the contexts."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [r for records in tasks.values() for r in records]
    write_records(folder / f"automix_records_{run_id}.jsonl", rows)
    manifest = {
        "format": FORMAT,
        "version": VERSION,
        "run_id": run_id,
        "created": "2026-01-01T00:00:01",
        "automix_eval_version": "0.1.0",
        "model_label": "demo",
        "config": {
            "verifier": {"name": "few_shot"},
            "meta_verifier": {"name": "pomdp"},
            "cost": PAPER if cost is None else cost,
        },
        "tiers": [{"index": i, "name": f"t{i}", "label": x} for i, x in enumerate(labels)],
        "verifier": {},
        "tasks": {
            t: {"metric": "f1", "sample": False, "num_questions": len(r)} for t, r in tasks.items()
        },
        "calls": [],
        "warnings": [],
        "records": f"automix_records_{run_id}.jsonl",
        "policies": {},
    }
    path = folder / f"automix_run_{run_id}.json"
    write_json(path, manifest)
    stamp = f"2026-01-02T00-00-00.{run_id}"
    config = {"model": "automix", "model_args": {}, "automix": {"run_id": run_id}}
    write_json(folder / f"results_{stamp}.json", {"results": {}, "config": config})
    for task, records in tasks.items():
        if not task.isidentifier():
            continue  # no name of a file
        with (folder / f"samples_{task}_{stamp}.jsonl").open("w", encoding="utf-8") as out:
            for r in records:
                out.write(json.dumps(_sample(r, context_words, payload)) + "\n")
    return path


@lru_cache
def _story(number: int, words: int) -> str:
    return prose(np.random.default_rng(number), words)


def _sample(record: Record, words: int, payload: str) -> dict[str, Any]:
    story = _story(record.doc_id // 5, words)
    final = record.tier(record.final)
    return {
        "doc_id": record.doc_id,
        "doc": {"context": f"{payload}{story}", "question": record.question},
        "target": "a",
        "filter": "none",
        "metrics": ["f1"],
        "prompt_hash": record.prompt_hash,
        "f1": final.score if final else None,
    }


# --------------------------------------------------------------------------- figures


def figure(value: float, half: float = 0.0) -> Figure:
    """A figure with a symmetric interval."""
    return Figure(value, (value - half, value + half) if half else None)


NOT_HERE = Figure(Undefined("the records hold no such figure"))


def method(
    name: str, quality: float, cost: float, rate: float, kind: Any = "replay",
    ends: tuple[float, float, float, float] = (0.48, 1.0, 0.67, 50.0), **more: Any,
) -> MethodFigures:  # fmt: skip
    """A row of the leaderboard; ``ends`` are quality and cost of the SLM and of the LLM."""
    slm_quality, slm_cost, llm_quality, llm_cost = ends
    lift = delta_ibc(quality, cost, slm_quality, slm_cost, llm_quality, llm_cost)
    half = 0.25 + 0.5 * rate
    delta = (
        Figure(lift) if isinstance(lift, Undefined) else Figure(lift, (lift - half, lift + half))
    )
    values: dict[str, Any] = {
        "name": name if kind == "live" else f"replay:{name}" if "always" not in name else name,
        "kind": kind,
        "label": name.replace("_", " "),
        "verifier": "few_shot",
        "runs": ("r1",),
        "seeds": (0,),
        "quality": figure(quality, 0.018),
        "cost": figure(cost, 0.04 * cost),
        "escalation_rate": figure(rate, 0.02),
        "tiers": (),
        "ibc": Figure(ibc(quality, cost, slm_quality, slm_cost)),
        "delta_ibc": delta,
        "random_quality": figure(slm_quality + (llm_quality - slm_quality) * (cost - 1) / 49, 0.01),
        "oracle_quality": figure(min(0.74, quality + 0.09), 0.01),
        "regions": tuple(Region(k, k + 10.0, NOT_HERE) for k in range(0, 50, 10)),
        "regions_mean": NOT_HERE,
        "cost_at": ((0.95, figure(31.0, 4.0)), (0.99, figure(44.0, 5.0)), (1.0, NOT_HERE)),
        "area": figure(0.61, 0.01),
        "calls_saved": figure(1 - rate, 0.02),
        "auroc": figure(0.71, 0.02),
        "calibration_error": figure(0.14, 0.01),
        "curve": (CurvePoint(cost, quality, rate, None, True),),
        "by_seed": {},
        **more,
    }
    return MethodFigures(**values)


def board(task: str = "coqa", shift: float = 0.0, **more: Any) -> Board:
    """A leaderboard with everything on it; ``shift`` moves the method's quality."""
    curve = tuple(
        CurvePoint(2 + 50 * r, 0.48 + 0.19 * (1 - (1 - r) ** 1.7) + shift / 2, r, r)
        for r in np.linspace(0, 1, 9).tolist()
    )
    methods = (
        method("pomdp", 0.545 + shift, 9.3, 0.146, "live", curve=curve,
               by_seed={"delta_ibc": Spread(0.45, 0.2, 0.1, 0.8, 10)}),
        method("always_slm", 0.48, 1.0, 0.0),
        method("always_llm", 0.67, 50.0, 1.0),
        method("threshold", 0.555, 13.1, 0.22),
        method("double_threshold", 0.549, 10.2, 0.16),
        method("self_consistency", 0.575, 17.0, 0.3),
        method("greedy", 0.53, 7.4, 0.11),
        method("knn", 0.60, 28.0, 0.5, note="fitted on the calibration records"),
    )  # fmt: skip
    points = ((1.0, 0.48), (6, 0.58), (12, 0.66), (20, 0.71), (28, 0.74), (50, 0.74))
    oracle = tuple(CurvePoint(c, q, c / 50) for c, q in points)
    values: dict[str, Any] = {
        "key": task,
        "task": task,
        "metric": "f1",
        "sample": False,
        "num_questions": 3908,
        "num_documents": 500,
        "tiers": ("small-1B", "large-70B"),
        "cost": "paper 1:1:50",
        "methods": methods,
        "comparisons": (
            Comparison(
                "pomdp", "replay:threshold", figure(-0.01, 0.006), figure(-3.8, 0.5),
                figure(0.12, 0.3),
                figure(0.004), figure(0.02), figure(0.4), figure(0.8),
                "pomdp is cheaper and somewhat worse; delta IBC tells no difference",
            ),
        ),
        "oracle_curve": oracle,
        **more,
    }  # fmt: skip
    return Board(**values)


def bins(count: int, seed: int = 0) -> tuple[ReliabilityBin, ...]:
    """Bins of an over-confident verifier."""
    rng = np.random.default_rng(seed)
    edges = np.linspace(0, 1, count + 1).tolist()
    found = []
    for low, high in pairwise(edges):
        number = int(400 * (0.15 + high**2) * (20 / count) * rng.uniform(0.6, 1.2))
        right = int(number * min(0.95, 0.25 + 0.5 * high))
        middle = (low + high) / 2
        found.append(ReliabilityBin(low, high, number, middle, right / number, right))
    return tuple(found)


def pomdp_policy(parts: int = 17) -> dict[str, Any]:
    """A policy file of the three-state router."""
    edges = np.linspace(0, 1, parts + 1)
    middle = (edges[:-1] + edges[1:]) / 2
    needy = 0.15 + 0.6 * np.exp(-(((middle - 0.35) / 0.18) ** 2))
    simple = (1 - needy) * middle
    belief = np.stack([simple, needy, 1 - needy - simple], axis=1)
    summary = {
        "bounds": edges[1:-1].tolist(),
        "next": [*(needy > 0.4).astype(int).tolist(), 1],
        "belief": [*belief.tolist(), [0.2, 0.5, 0.3]],
    }
    return {
        "meta_verifier": {"name": "pomdp"},
        "learned": {"summary": [summary], "share": 0.0, "high": None},
        "fitted_on": {"task": "coqa"},
    }


def task_report(
    task: str = "coqa", policy: Any = None, run_id: str = "r1", **more: Any
) -> TaskReport:
    """One task of one run."""
    none = Figure(0.0)
    systems = [
        System(figure(q, 0.01), figure(c), none) for q, c in ((0.48, 1), (0.67, 50), (0.54, 9))
    ]
    verifier = VerifierFigures(
        0, figure(0.71, 0.02), figure(0.14, 0.01), figure(0.21, 0.01), figure(0.3, 0.02),
        (0, 0.25, 0.5, 0.75, 1.0), 9,
        {"ok": 3890, "unparsable": 18}, 31264, 412, bins(10), bins(20),
    )  # fmt: skip
    figures = TaskFigures(
        3908, 500, *systems, figure(0.4, 0.3), (3300, 608), 3908,
        (CallRow(0, "answer", 3908, 3908, 0, 1000, 0), CallRow(1, "answer", 608, 3908, 0, 1000, 0)),
        (verifier,), (Truncation(0, "verify", 3908, 12, 30, 451),),
    )  # fmt: skip
    values: dict[str, Any] = {
        "run_id": run_id,
        "label": "demo",
        "created": "2026-01-01T00:00:01",
        "version": "0.1.0",
        "task": task,
        "metric": "f1",
        "sample": False,
        "meta_verifier": "pomdp",
        "verifier": "few_shot",
        "cost": "paper 1:1:50",
        "tiers": ("small-1B", "large-70B"),
        "figures": figures,
        "llm_source": "this run",
        "warnings": (),
        "policy": pomdp_policy() if policy is None else policy,
        "kept": Figure(0.97),
        **more,
    }
    return TaskReport(**values)


def make_report(tasks: Sequence[str] = ("coqa",), **more: Any) -> Report:
    """A report whose tasks pay, do not pay, and cannot be told, in turn."""
    shifts = (0.0, -0.055, -0.027)
    boards = tuple(board(t, shifts[i % 3]) for i, t in enumerate(tasks))
    return Report(
        tuple(task_report(t) for t in tasks),
        ("left out results_x.json: no config",),
        0,
        boards,
        **more,
    )
