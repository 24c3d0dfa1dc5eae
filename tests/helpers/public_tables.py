"""Small files in the schemas of the public tables: six questions that two models answered."""

from __future__ import annotations

import csv
import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet

MODELS = ("small-1B", "large-70B")
SCORES = np.array([[1, 1], [0, 1], [0, 0], [1, 1], [0, 1], [1, 0]], dtype=float)
COSTS = (0.001, 0.05)
TOKENS = (100, 20)
QUESTIONS = tuple(f"What, is {i}?\nSay it." for i in range(len(SCORES)))


def rows() -> list[tuple[int, int, str, float]]:
    """(question, model, name of the model, score) of every cell."""
    return [(i, m, MODELS[m], float(SCORES[i, m])) for i in range(len(SCORES)) for m in (0, 1)]


def _csv(path: Path, table: list[dict[str, Any]]) -> Path:
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


def _json(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def routerbench(folder: Path) -> Path:
    """A wide CSV file."""
    return _csv(folder / "bench.csv", _routerbench())


def _routerbench() -> list[dict[str, Any]]:
    table = []
    for i, question in enumerate(QUESTIONS):
        row: dict[str, Any] = {"sample_id": f"q{i}", "prompt": question, "eval_name": "arc"}
        row |= {name: float(SCORES[i, m]) for m, name in enumerate(MODELS)}
        row |= {f"{name}|model_response": f"A{i}" for name in MODELS}
        row |= {f"{name}|total_cost": COSTS[m] for m, name in enumerate(MODELS)}
        table.append({**row, "oracle_model_to_route_to": MODELS[0]})
    return table


def routerbench_parquet(folder: Path) -> Path:
    """The same as Parquet."""
    parquet.write_table(pa.Table.from_pylist(_routerbench()), folder / "bench.parquet")
    return folder / "bench.parquet"


def routellm(folder: Path) -> Path:
    """A folder of one CSV file."""
    table = [
        {"prompt": q, **{n: bool(SCORES[i, m]) for m, n in enumerate(MODELS)}}
        for i, q in enumerate(QUESTIONS)
    ]
    (folder / "routellm").mkdir()
    _csv(folder / "routellm" / "mmlu_law.csv", table)
    return folder / "routellm"


def sprout(folder: Path) -> Path:
    """Parquet with a struct a model."""
    table = []
    for i, q in enumerate(QUESTIONS):
        row: dict[str, Any] = {"key": f"k{i}", "dataset": "math", "prompt": q, "golden_answer": "x"}
        for m, name in enumerate(MODELS):
            row[name] = {
                "num_input_tokens": TOKENS[0], "num_output_tokens": TOKENS[1],
                "response": f"A{i}", "score": float(SCORES[i, m]),
            }  # fmt: skip
        table.append(row)
    parquet.write_table(pa.Table.from_pylist(table), folder / "sprout.parquet")
    return folder / "sprout.parquet"


def embedllm(folder: Path) -> Path:
    """A long CSV file."""
    return _csv(
        folder / "long.csv",
        [
            {
                "prompt_id": i, "model_id": m, "category_id": 0, "label": int(s),
                "prompt": QUESTIONS[i], "model_name": name, "category": "law",
            }
            for i, m, name, s in rows()
        ],
    )  # fmt: skip


def llmrouterbench(folder: Path) -> Path:
    """A tree of JSON files, one of them an older run of a model."""
    tree = folder / "bench"
    for m, name in enumerate(MODELS):
        records = [
            {
                "index": i + 1, "origin_query": q, "prompt": q, "prediction": f"A{i}",
                "score": float(SCORES[i, m]), "cost": COSTS[m],
                "prompt_tokens": TOKENS[0], "completion_tokens": TOKENS[1],
            }
            for i, q in enumerate(QUESTIONS)
        ]  # fmt: skip
        about = {"dataset_name": "aime", "split": "test", "model_name": name, "demo": False}
        for stamp, held in (("20250101_000000", records[:1]), ("20250202_000000", records)):
            path = tree / "aime" / "test" / name / f"aime-test-{name}-{stamp}.json"
            _json(path, {**about, "performance": 0.5, "records": held})
    return tree


def routereval(folder: Path) -> Path:
    """An archive of matrices."""
    texts = np.array(QUESTIONS)
    np.savez(
        folder / "eval.npz", model=np.array(MODELS), train_score=SCORES[:2], test_score=SCORES[2:],
        train_prompt=texts[:2], test_prompt=texts[2:], train_embed=np.zeros((2, 4)),
    )  # fmt: skip
    return folder / "eval.npz"


def every_eval_ever(folder: Path) -> Path:
    """A folder with a file of instances a model."""
    store = folder / "store"
    for m, name in enumerate(MODELS):
        lines = [
            {
                "schema_version": "0.2.1", "evaluation_id": f"e{m}", "model_id": name,
                "evaluation_name": "gsm8k", "sample_id": str(i), "sample_hash": f"h{i}",
                "interaction_type": "single_turn", "input": {"raw": q, "reference": ["x"]},
                "output": {"raw": [f"A{i}"]}, "answer_attribution": [],
                "evaluation": {"score": float(SCORES[i, m]), "is_correct": bool(SCORES[i, m])},
                "token_usage": {
                    "input_tokens": TOKENS[0], "output_tokens": TOKENS[1],
                    "total_tokens": sum(TOKENS),
                },
            }
            for i, q in enumerate(QUESTIONS)
        ]  # fmt: skip
        path = store / "gsm8k" / name / "u_samples.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(map(json.dumps, lines)) + "\n", encoding="utf-8")
    return store


def _inspect(m: int) -> dict[str, Any]:
    samples = [
        {
            "id": i + 1, "epoch": 1, "input": [{"role": "user", "content": q}], "target": "x",
            "output": {"model": MODELS[m], "completion": f"A{i}"},
            "scores": {"match": {"value": "C" if SCORES[i, m] else "I", "answer": "x"}},
            "model_usage": {
                f"openai/{MODELS[m]}": {"input_tokens": TOKENS[0], "output_tokens": TOKENS[1]}
            },
        }
        for i, q in enumerate(QUESTIONS)
    ]  # fmt: skip
    about = {"task": "arc", "model": f"openai/{MODELS[m]}", "run_id": f"r{m}"}
    return {"version": 2, "status": "success", "eval": about, "plan": {}, "samples": samples}


def inspect_ai(folder: Path) -> Path:
    """A folder of logs as JSON."""
    for m, name in enumerate(MODELS):
        _json(folder / "logs" / f"2025_arc_{name}.json", _inspect(m))
    return folder / "logs"


def inspect_ai_zip(folder: Path) -> Path:
    """A folder of logs as .eval archives."""
    (folder / "logs").mkdir()
    for m, name in enumerate(MODELS):
        log = _inspect(m)
        with zipfile.ZipFile(folder / "logs" / f"2025_arc_{name}.eval", "w") as file:
            for sample in log.pop("samples"):
                file.writestr(f"samples/{sample['id']}_epoch_1.json", json.dumps(sample))
            file.writestr("header.json", json.dumps(log))
    return folder / "logs"


def helm(folder: Path) -> Path:
    """A folder of runs, with a perturbed copy of each instance."""
    for m, model in enumerate(MODELS):
        run = folder / "runs" / f"mmlu:subject=law,model={model}"
        name = f"mmlu:subject=law,method=joint,model={model}"
        _json(run / "run_spec.json", {"name": name, "adapter_spec": {"model": f"org/{model}"}})
        states = [
            {
                "instance": {"id": f"id{i}", "split": "test", "input": {"text": q}},
                "result": {"success": True, "completions": [{"text": f"A{i}", "logprob": -1.0}]},
            }
            for i, q in enumerate(QUESTIONS)
        ]
        _json(run / "scenario_state.json", {"request_states": states})
        _json(run / "per_instance_stats.json", [
            {
                "instance_id": f"id{i}", "train_trial_index": 0,
                **({"perturbation": {"name": "typos"}} if typos else {}),
                "stats": [
                    {"name": {"name": key, "split": "test"}, "count": 1, "mean": value}
                    for key, value in (
                        ("num_prompt_tokens", TOKENS[0]), ("num_output_tokens", TOKENS[1]),
                        ("exact_match", 0.5 if typos else float(SCORES[i, m])),
                    )
                ],
            }
            for i in range(len(SCORES)) for typos in (False, True)
        ])  # fmt: skip
    return folder / "runs"


WRITERS: Mapping[str, tuple[Callable[[Path], Path], ...]] = {
    "routerbench": (routerbench, routerbench_parquet),
    "routellm": (routellm,),
    "sprout": (sprout,),
    "embedllm": (embedllm,),
    "llmrouterbench": (llmrouterbench,),
    "routereval": (routereval,),
    "every_eval_ever": (every_eval_ever,),
    "inspect_ai": (inspect_ai, inspect_ai_zip),
    "helm": (helm,),
}
