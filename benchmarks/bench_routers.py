"""Speed of the meta-verifiers: against automix-llm, on a million rows, and one decision.

Figures of one run, side by side. The first table needs automix-llm: pip install --no-deps
automix-llm==1.0.3.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import automix_eval
from automix_eval.config import compose as config
from automix_eval.config import parts
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.threshold import EIGHTHS
from automix_eval.records.outcomes import Outcomes
from automix_eval.types import Observation

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))
from automix_frames import methods, train_and_test

ROWS = 1_000_000
ROUTERS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("threshold", {}),
    ("threshold", {"meta_verifier.candidates": list(EIGHTHS)}),
    ("double_threshold", {}),
    ("greedy", {}),
    ("pomdp_v1", {}),
    ("union", {}),
    ("pomdp", {}),
)


def seconds(act: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """Seconds of a call, by the clock on the wall."""
    start = clock()
    act()
    return clock() - start


def cpu_seconds(act: Callable[[], object]) -> float:
    """Seconds of the processor: a busy machine slows neither side of a ratio."""
    return seconds(act, time.process_time)


def against_automix_llm() -> None:
    """Training on 1000 rows and evaluating 4000, and one row, of the same frames."""
    try:
        import automix
    except ModuleNotFoundError:
        print("automix-llm is not installed: pip install --no-deps automix-llm==1.0.3\n")
        return
    train, test = train_and_test(0)
    row = test.iloc[0]
    automix_eval.AutoMix(automix_eval.POMDP(8)).train(train)  # imports are paid before
    print("CPU time: train 1000, test 4000    automix-llm      drop-in    ratio   one row")
    for name, theirs in methods(automix).items():
        reference = automix.Automix(theirs)
        ours = automix_eval.AutoMix(methods(automix_eval)[name])

        def run(method: Any) -> None:
            method.train(train)
            method.evaluate(test, return_dict=True)

        slow = cpu_seconds(lambda reference=reference: run(reference))
        fast = cpu_seconds(lambda ours=ours: [run(ours) for _ in range(20)]) / 20
        rows = [
            cpu_seconds(lambda method=method: [method.infer(row) for _ in range(300)]) / 300
            for method in (reference, ours)
        ]
        print(
            f"{name:28} {slow:15.4f} s {fast:10.5f} s {slow / fast:8.0f} "
            f"{rows[0] * 1e6:8.0f} / {rows[1] * 1e6:.0f} us = {rows[0] / rows[1]:.0f}"
        )
    print()


def million() -> Outcomes:
    """A chain of three tiers with continuous confidences and measured costs."""
    random = np.random.RandomState(0)
    skill = random.random_sample(ROWS)
    confidence = np.full((ROWS, 3), np.nan)
    for tier in (0, 1):
        confidence[:, tier] = np.clip(skill + 0.1 * tier + random.normal(0, 0.2, ROWS), 0, 1)
    chances = np.stack([skill * 0.8, skill * 0.5 + 0.4, skill * 0.3 + 0.65], axis=1)
    return Outcomes(
        (random.random_sample((ROWS, 3)) < chances) * random.random_sample((ROWS, 1)),
        np.tile([1.0, 10.0, 50.0], (ROWS, 1)) * random.uniform(0.5, 1.5, (ROWS, 3)),
        confidence,
        np.tile([1.0, 1.0, 0.0], (ROWS, 1)),
        ("small", "middle", "large"),
        tuple(map(str, range(ROWS))),
    )


def at_scale() -> None:
    """Fitting and replaying a million rows of three tiers, and one decision of what was fitted."""
    outcomes = million()
    observation = Observation(0, 3, (0.4,), costs=(1.0,))
    print(f"{ROWS:,} rows, 3 tiers          fit      replay    policies    one decision    peak")
    for name, arguments in ROUTERS:
        router = parts.make_meta_verifier(config.build({"meta_verifier": name, **arguments}))
        fit = seconds(lambda router=router: router.fit(outcomes))
        play = seconds(lambda router=router: follow(router, outcomes))
        decide = cpu_seconds(
            lambda router=router: [router.decide([observation]) for _ in range(2000)]
        )
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        label = f"{name} by eighths" if arguments else name
        print(
            f"{label:26} {fit:8.2f} s {play:8.2f} s {len(router.sweep()):9d} "
            f"{decide / 2000 * 1e6:12.0f} us {peak:6.2f} GB",
            flush=True,
        )


if __name__ == "__main__":
    against_automix_llm()
    at_scale()
