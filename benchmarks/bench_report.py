"""How long a report takes, and how much memory, by the number of records.

Run it with ``python benchmarks/bench_report.py [NUMBER ...]``; the default is 10,000 and 100,000
records; the bound that the project holds is 1,000,000 records, ten methods and 1,000 resamples
within 120 s and 4 GB on two cores. Each size runs in a process of its own, so that the peak memory
is its own; the time to read is that of a bare ``json.loads`` of the same file, measured beside it.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BASELINES = ("threshold", "self_consistency", "threshold:candidates=observed", "pomdp")
RESAMPLES = 1_000
CALIBRATION = 1_000


def write_run(folder: Path, number: int) -> None:
    """A run with record=full: ``number`` evaluation records and 1,000 of calibration."""
    rng = np.random.default_rng(0)
    call = {"tier": 0, "role": "answer", "prompt_tokens": 900, "generated_tokens": 12, "seconds": 0}
    answer = {
        "tier": 0, "text": "word " * 20, "calls": [call], "choice_logprobs": [],
        "token_logprobs": [], "token_margins": [], "dropped_demonstrations": 0,
        "cut_context_tokens": 0,
    }  # fmt: skip
    path = folder / "automix_records_bench.jsonl"
    with path.open("w", encoding="utf-8") as out:
        for i in range(-CALIBRATION, number):
            right, llm = rng.random() < 0.5, float(rng.random() < 0.8)
            slm = float(right) * float(rng.choice([1.0, 0.7]))
            confidence = float(np.clip(rng.normal(0.6 if right else 0.4, 0.2), 0, 1))
            up = confidence < 0.45
            verification = {
                "tier": 0, "confidence": confidence, "outcome": "ok",
                "calls": [{**call, "role": "verify"}] * 8, "samples": ["It is correct."] * 8,
                "num_unparsable": 0, "dropped_demonstrations": 0, "cut_context_tokens": 0,
            }  # fmt: skip
            first = {
                "tier": 0, "answer": answer, "score": slm, "metrics": {"f1": slm},
                "verification": verification, "on_path": True,
                "decision": {"tier": 0, "to": int(up), "reason": f"v={confidence:.2f}"},
            }  # fmt: skip
            second = {
                "tier": 1, "answer": {**answer, "tier": 1, "calls": [{**call, "tier": 1}]},
                "score": llm, "metrics": {"f1": llm}, "verification": None, "decision": None,
                "on_path": bool(up),
            }  # fmt: skip
            record = {
                "task": "bench", "doc_id": max(i, i + CALIBRATION * (i < 0)), "repeat": 0,
                "phase": "calibration" if i < 0 else "evaluation", "final": int(up),
                "tiers": [first, second], "prompt_hash": f"{i:064x}", "document": "",
                "question": "what? " * 20, "references": ["a word"],
            }  # fmt: skip
            out.write(json.dumps(record) + "\n")
    (folder / "automix_run_bench.json").write_text(json.dumps(manifest(path.name, number)))


def manifest(records: str, number: int) -> dict[str, object]:
    """What stands beside the records of a run that never was."""
    return {
        "format": "automix-eval run", "version": 1, "run_id": "bench", "created": "", "config": {
            "meta_verifier": {"name": "threshold"}, "verifier": {"name": "few_shot"},
            "cost": {"name": "paper", "tiers": [1, 50], "verifier": 1},
        },
        "tiers": [{"index": 0, "name": "slm"}, {"index": 1, "name": "llm"}],
        "tasks": {"bench": {"metric": "f1", "sample": False, "num_questions": number}},
        "calls": [], "warnings": [], "records": records, "policies": {},
    }  # fmt: skip


def measure(folder: Path) -> None:
    """Print seconds, peak memory in GB and the number of methods of a report on a folder."""
    from automix_eval.analysis.gather import Settings, assemble
    from automix_eval.records.runs import read_all
    from automix_eval.report.output import render

    settings = Settings(baselines=BASELINES, resamples=RESAMPLES)
    start = time.perf_counter()
    read_all([folder])
    read = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    assembled = assemble([folder], settings)
    render(assembled, "text")
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    start = time.perf_counter()
    with (folder / "automix_records_bench.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            json.loads(line)
    bare = time.perf_counter() - start
    print(seconds, cpu, read, bare, peak, len(assembled.report.boards[0].methods))


def main() -> None:
    """Print the table."""
    numbers = [int(n) for n in sys.argv[1:]] or [10_000, 100_000]
    print(
        "  records  methods    report   its CPU  reading alone  reading / json.loads  peak memory"
    )
    for number in numbers:
        with tempfile.TemporaryDirectory() as name:
            write_run(Path(name), number)
            command = [sys.executable, __file__, "--measure", name]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
        seconds, cpu, read, bare, peak, methods = map(float, done.stdout.split()[-6:])
        print(
            f"{number:>9,}  {methods:7.0f}  {seconds:6.1f} s  {cpu:6.1f} s  {read:11.1f} s  "
            f"{read / bare:18.2f} x  {peak:8.2f} GB"
        )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(Path(sys.argv[2]))
    else:
        main()
