"""Small tables of outcomes, and the arguments of a replay on them."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

TIERS = (
    "tiers=[{name: s, score: s1.5-b:correct, confidence: 's1.5-b:conf', cost: 1, verify_cost: 1},"
    " {name: l, score: l:correct, cost: 50}]"
)


def rows(number: int = 200, seed: int = 0) -> list[dict[str, Any]]:
    """Questions whose SLM is right more often where it is sure; half are training rows."""
    rng = np.random.default_rng(seed)
    sure = rng.integers(0, 9, number) / 8
    return [
        {
            "split": "train" if i % 2 else "test",
            "id": f"q{i}",
            "doc": f"d{i // 4}",
            "s1.5-b:correct": int(rng.random() < 0.2 + 0.7 * v),
            "s1.5-b:conf": v,
            "l:correct": int(rng.random() < 0.9),
            "l:cost": 40 + (i % 3) * 10,
        }
        for i, v in enumerate(sure.tolist())
    ]


def write(path: Path, table: Sequence[Mapping[str, Any]]) -> Path:
    """The table as a CSV file; None is an empty cell."""
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(table[0]))
        writer.writeheader()
        writer.writerows(table)
    return path


def arguments(path: Path, *more: str) -> list[str]:
    """A replay of a table with two tiers."""
    return ["replay", f"table={path}", TIERS, "split_column=split", *more]
