"""Random frames in the layout of automix-llm, and what its release 1.0.3 made of them.

``python tests/automix_frames.py`` runs that release on them (half an hour) and writes
``tests/data/automix_llm.json``, so that the tests need no other package.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from automix_eval.meta_verifiers.pomdp_v1 import label_states

FROZEN = Path(__file__).parents[1] / "data" / "automix_llm.json"
NOISES = (0.02, 0.1, 0.2, 0.4, 1.0)
# 50 frames with the confidences of a verifier of 8 samples, then 10 with any number in [0, 1]:
# there GreedyPOMDP of automix-llm bins differently when it fits and when it decides.
SHARES, ANY = range(50), range(50, 60)
FIGURES = ("ibc_lift", "automix_slm_slope", "avg_performance", "avg_cost")


def make(seed: int, rows: int) -> pd.DataFrame:
    """A frame: scores in quarters, confidences that follow them more or less, and the labels."""
    random = np.random.RandomState(seed)  # its stream never changes between releases of numpy
    skill = random.random_sample(rows)
    sure = np.clip(skill + random.normal(0, NOISES[seed % 5], rows), 0, 1)
    confidence = sure if seed % 1000 in ANY else random.binomial(8, sure) / 8
    slm = random.binomial(4, skill) / 4
    llm = random.binomial(4, np.clip(skill / 2 + 0.45, 0, 1)) / 4
    labels = np.array(["NEEDY", "GOOD", "HOPELESS"])[label_states(slm, llm)]
    return pd.DataFrame(
        {
            "llama13b_f1": slm,
            "llama70b_f1": llm,
            "p_ver_13b": confidence,
            "category": labels,
        }
    )


def train_and_test(seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """1000 and 4000 rows."""
    return make(seed, 1000), make(1000 + seed, 4000)


def methods(package: Any) -> dict[str, Any]:
    """The methods of one of the two packages, 8 bins each."""
    return {
        "threshold": package.Threshold(num_bins=8),
        "self_consistency": package.SelfConsistency(num_bins=8),
        "double_threshold": package.DoubleThreshold(num_bins=8),
        "pomdp_simple": package.POMDPSimple(num_bins=8),
        "greedy": package.GreedyPOMDP(num_bins=8),
        "union": package.POMDP(num_bins=8),
    }


def results(automix: Any, seed: int) -> dict[str, Any]:
    """Train and evaluate: the figures, and a digest of the decisions."""
    train, test = train_and_test(seed)
    automix.train(train)
    found = automix.evaluate(test, return_dict=True, return_decisions=True)
    route = np.asarray(found["route_to_llm"], dtype=bool)
    digest = hashlib.sha256(np.packbits(route).tobytes()).hexdigest()[:16]
    return {name: float(found[name]) for name in FIGURES} | {"decisions": digest}


def main() -> None:
    """Write the frozen results."""
    import automix

    frozen = {
        str(seed): {
            name: results(automix.Automix(method), seed)
            for name, method in methods(automix).items()
            if seed in SHARES or name not in ("greedy", "union")
        }
        for seed in (*SHARES, *ANY)
    }
    FROZEN.write_text(json.dumps(frozen, indent=0) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
