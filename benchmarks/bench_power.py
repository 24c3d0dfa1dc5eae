"""Whether runs of the size that ``automix-eval plan`` states find what they were planned for.

    python benchmarks/bench_power.py [--runs 300] [--seed 0]

Each simulation makes a pilot, asks how many questions find a delta IBC (or a loss against the LLM)
of just the true size, and makes a run of that many. ``power`` is the share of the runs
whose 95 % interval does not hold 0: the plan aims at 80 %. The runs are those of bench_coverage.py.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.optimize import brentq

sys.path.insert(0, str(Path(__file__).parent))
import bench_coverage as world

from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.power import Pilot

DELTA_IBC = 0.3
SIGNAL_OF_LOSS = 0.95  # of a confidence so good that the loss is small
PILOTS = ((200, 200), (200, 40), (1000, 100))  # questions, documents
BOUNDS = 0.75, 0.85


@dataclass(frozen=True, slots=True)
class Realised:
    """Power of the planned runs, and the median number of their questions, for both aims."""

    delta_ibc: float
    questions: float
    loss: float
    questions_for_loss: float


def realised(number: int, documents: int, runs: int, seed: int) -> Realised:
    """Plan and run, ``runs`` times.

    Args:
        number: Questions of the pilot.
        documents: What they are about.
        runs: Simulations.
        seed: Of all draws.
    """
    signal = float(brentq(lambda s: world.truth(s).delta_ibc - DELTA_IBC, 0.1, 0.95))
    loss = -world.truth(SIGNAL_OF_LOSS).difference
    rng = np.random.default_rng([seed, number, documents])
    found, sizes = np.zeros((runs, 2)), np.zeros((runs, 2))
    for i in range(runs):
        for j, s in enumerate((signal, SIGNAL_OF_LOSS)):
            made = world.simulate(rng, number, documents, s)
            pilot = Pilot.of(np.column_stack(made.columns), made.documents)
            if isinstance(pilot, Undefined):
                continue  # the LLM is not better in this pilot: nothing is planned, nothing found
            size = pilot.size_for_loss(loss) if j else pilot.size_for_delta_ibc(DELTA_IBC)
            assert not isinstance(size, Undefined), size
            run = world.simulate(rng, size.questions, size.documents, s)
            ends = world.intervals(run, i, 500)[(0, 2)[j]]
            found[i, j] = isinstance(ends, tuple) and not ends[0] <= 0 <= ends[1]
            sizes[i, j] = size.questions
    (delta, lost), (questions, other) = found.mean(axis=0), np.median(sizes, axis=0)
    return Realised(float(delta), float(questions), float(lost), float(other))


def main() -> int:
    """Print the table; returns 1 where the power is out of bounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=300, help="of a pilot (default 300)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"Power of planned runs, {args.runs} simulations of each pilot")
    print(f"{'pilot':>6} {'documents':>9} {'find':>14} {'questions':>9} {'power':>6}")
    failed = 0
    for number, documents in PILOTS:
        one = realised(number, documents, args.runs, args.seed)
        for what, questions, power in (
            (f"delta IBC {DELTA_IBC}", one.questions, one.delta_ibc),
            (
                f"loss {-world.truth(SIGNAL_OF_LOSS).difference:.2f}",
                one.questions_for_loss,
                one.loss,
            ),
        ):
            bad = not BOUNDS[0] <= power <= BOUNDS[1]
            failed += bad
            print(f"{number:6d} {documents:9d} {what:>14} {questions:9.0f} {power:6.3f}"
                  + ("  out of bounds" if bad else ""), flush=True)  # fmt: skip
    print(f"Plans out of bounds ({BOUNDS[0]:.0%} to {BOUNDS[1]:.0%}): {failed}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
