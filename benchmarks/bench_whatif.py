"""``automix-eval whatif`` on a table of RouterBench's size, with a confidence of every answer.

    python benchmarks/bench_whatif.py --questions 36000 --models 11

The table is made up (seeded): texts, truth values, costs of each answer, confidences. Every default
router is fitted, those that read texts apart: how fast questions are embedded is a line of its own.
"""

from __future__ import annotations

import argparse
import csv
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from automix_eval.backends import embeddings
from automix_eval.backends.encoder import DEFAULT, why_not

ROUTERS = ("threshold", "pomdp", "pairs")
WORDS = ("who", "what", "when", "keeper", "lighthouse", "day", "book", "rain", "river", "city")
WORDS_A_QUESTION, EMBEDDED = 60, 400


def texts(number: int, random: np.random.RandomState) -> list[str]:
    """Questions of about 300 characters, no two alike."""
    drawn = random.randint(len(WORDS), size=(number, WORDS_A_QUESTION))
    return [f"{i} {' '.join(WORDS[w] for w in row)}?" for i, row in enumerate(drawn.tolist())]


def write_table(path: Path, questions: int, models: int) -> None:
    """A wide table; a dearer model is better, with one in three no better than the one before."""
    random = np.random.RandomState(0)
    quality = np.linspace(0.45, 0.85, models) - 0.05 * (np.arange(models) % 3 == 2)
    hard = random.normal(0, 1, questions)[:, None]
    ability = np.log(quality / (1 - quality)) * 1.4
    right = 1 / (1 + np.exp(hard * 1.2 - ability))
    correct = random.random_sample(right.shape) < right
    seen = ability + 1.5 * (correct - 0.5) - 0.6 * hard + random.normal(0, 1, right.shape)
    confidence = 1 / (1 + np.exp(-seen))
    length = np.exp(random.normal(0, 0.4, (questions, 1)))
    cost = np.geomspace(1, 300, models) * length * np.exp(random.normal(0, 0.1, right.shape))
    names = [f"model-{k}" for k in range(models)]
    header = ["question"]
    header += [f"{n}:{kind}" for n in names for kind in ("score", "confidence", "cost")]
    cells = np.stack([correct, confidence, cost], axis=2).reshape(questions, -1)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for text, row in zip(texts(questions, random), cells.tolist(), strict=True):
            writer.writerow([text, *(f"{value:.6g}" for value in row)])


def embedding_speed() -> str:
    """Questions a second of the sentence encoder that ``knn_query`` reads with, on one thread."""
    if reason := why_not(DEFAULT):
        return reason
    with tempfile.TemporaryDirectory() as empty:
        embeddings.cache_dir = lambda: Path(empty)
        some = texts(EMBEDDED, np.random.RandomState(1))
        embeddings.embed(DEFAULT, tuple(some[:8]), 128)
        begin = time.process_time()
        embeddings.embed(DEFAULT, tuple(some), 128)
    return f"{EMBEDDED / (time.process_time() - begin):.0f} questions a CPU second"


def main() -> None:
    """Print seconds and memory of the command, and the speed of the encoder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--questions", type=int, default=36_000)
    parser.add_argument("--models", type=int, default=11)
    parser.add_argument("--router", action="append", help=f"default: {', '.join(ROUTERS)}")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "table.csv"
        write_table(table, asked.questions, asked.models)
        played = asked.router or ROUTERS
        routers = [f"--router={name}" for name in played]
        begin = time.perf_counter()
        done = subprocess.run(
            [sys.executable, "-m", "automix_eval", "whatif", str(table), *routers],
            check=True, capture_output=True, text=True, env={**os.environ, "COLUMNS": "150"},
        )  # fmt: skip
        spent = time.perf_counter() - begin
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(done.stdout)
    print(
        f"whatif   {asked.questions:,} questions x {asked.models} models, {', '.join(played)}: "
        f"{spent:.1f} s ({used.ru_utime + used.ru_stime:.1f} CPU s), {used.ru_maxrss / 1e6:.2f} GB"
    )
    print(f"whatif   {DEFAULT}: {embedding_speed()}")


if __name__ == "__main__":
    main()
