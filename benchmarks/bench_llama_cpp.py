"""The embedded pair in transformers (float32, shared prompts) and in llama.cpp, side by side.

Seconds and answers, free and of multiple choice, on the samples written for this project, in one
thread and without loading. The arithmetic differs: llama.cpp computes on the packed weights.

    python benchmarks/bench_llama_cpp.py --questions 20
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from automix_eval.backends.hf.backend import HFBackend
from automix_eval.backends.llama_cpp import LlamaCppBackend
from automix_eval.types import GenerateRequest, ScoreRequest

ROOT = Path(__file__).resolve().parent.parent
TASKS = ("coqa", "narrativeqa", "qasper", "quality", "cnli")


def questions(name: str, number: int) -> list[dict[str, Any]]:
    """Rows of a written sample, with their prompt."""
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=str(ROOT / "tasks"), include_defaults=False)
    task = manager.load([f"{name}_demo"])["tasks"][f"{name}_demo"]
    rows = list(task.dataset["validation"])[:number]
    return [{"prompt": task.doc_to_text(row), "score": task.process_results, **row} for row in rows]


def timed(call: Callable[..., None], requests: list[Any]) -> tuple[float, list[Any]]:
    """Seconds, and the results in order."""
    found: dict[int, Any] = {}
    begun = time.perf_counter()
    call(requests, found.__setitem__)
    return time.perf_counter() - begun, [found[i] for i in range(len(requests))]


def main() -> None:
    """One line a model and task."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--questions", type=int, default=20)
    number = parser.parse_args().questions
    torch.set_num_threads(1)
    print(f"{'':<34} {'hf s':>7} {'llama s':>7} {'same':>6} {'hf':>6} {'llama':>6}")
    for model in ("smollm2-135m-instruct", "gemma3-270m"):
        hf = HFBackend(embedded=model, dtype="float32", batch_size=8, device="cpu", max_length=2048)
        llama = LlamaCppBackend(embedded=model, threads=1)
        hf.load_weights()
        llama.load()
        for task in TASKS:
            rows = questions(task, number)
            arguments = {"do_sample": False, "until": ["\n"], "max_gen_toks": 32}
            requests = [GenerateRequest(row["prompt"], arguments) for row in rows]
            (a, ours), (b, theirs) = (timed(m.generate, requests) for m in (hf, llama))
            same = sum(x.text == y.text for x, y in zip(ours, theirs, strict=True))
            show(f"{model[:8]}, {task}", a, b, same, len(rows), [ours, theirs], rows)
        rows = questions("quality", number)
        choices = [ScoreRequest(r["prompt"], (f" {o}",)) for r in rows for o in r["options"]]
        (a, ours), (b, theirs) = (timed(m.loglikelihood, choices) for m in (hf, llama))
        gap = max(abs(x.logprobs[0] - y.logprobs[0]) for x, y in zip(ours, theirs, strict=True))
        taken = [best([s.logprobs[0] for s in side], rows) for side in (ours, theirs)]
        same = sum(x == y for x, y in zip(*taken, strict=True))
        right = [sum(t == r["gold"] for t, r in zip(side, rows, strict=True)) for side in taken]
        print(
            f"{f'{model[:8]}, choices of quality':<34} {a:>7.1f} {b:>7.1f} {same:>3}/{len(rows)} "
            f"{right[0] / len(rows):>6.3f} {right[1] / len(rows):>6.3f}  largest gap {gap:.2f}",
            flush=True,
        )
        llama.close()


def best(logprobs: list[float], rows: list[dict[str, Any]]) -> list[int]:
    """The choice taken of each question."""
    taken = []
    for row in rows:
        own, logprobs = logprobs[: len(row["options"])], logprobs[len(row["options"]) :]
        taken.append(max(range(len(own)), key=own.__getitem__))
    return taken


def show(
    name: str, a: float, b: float, same: int, number: int, sides: list[Any], rows: list[Any]
) -> None:
    """Seconds, equal answers and mean scores of free answers."""
    means = []
    for side in sides:
        scores = [r["score"](r, [g.text]) for r, g in zip(rows, side, strict=True)]
        metric = "f1_max" if "f1_max" in scores[0] else next(iter(scores[0]))
        means.append(sum(float(s[metric]) for s in scores) / number)
    print(
        f"{name:<34} {a:>7.1f} {b:>7.1f} {same:>3}/{number} {means[0]:>6.3f} {means[1]:>6.3f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
