"""A seeded sample of mutants of what figures, prices, keys and decisions come from.

mutmut (settings in pyproject.toml) makes all mutants and runs, for each of the sample, the quick
tests that call the function it is in. A mutant that no test calls counts as alive.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

MUTMUT = Path(sys.executable).with_name("mutmut")
# Any mutant: before it mutmut makes all, and finds out which test calls what.
FIRST = "automix_eval.metrics.nested_sample.x_nested_sample__mutmut_1"
KILLED = {1: "killed", 3: "killed", 24: "timeout", -24: "timeout", 36: "timeout", 152: "timeout"}
BAR = 0.9


def verdicts() -> dict[str, int | None]:
    """Exit code of the tests by mutant, as mutmut keeps it; None where it was not run."""
    found: dict[str, int | None] = {}
    for file in sorted(Path("mutants/automix_eval").rglob("*.py.meta")):
        found |= json.loads(file.read_text())["exit_code_by_key"]
    return found


def main() -> int:
    """Make, draw, run and count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mutants", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--equivalent", type=Path, default=Path("tests/equivalent_mutants.txt"))
    asked = parser.parse_args()
    if (done := subprocess.run([MUTMUT, "run", FIRST])).returncode:
        return done.returncode
    every = sorted(verdicts())
    sample = random.Random(asked.seed).sample(every, min(asked.mutants, len(every)))
    equivalent = {
        line.split()[0]: line
        for line in asked.equivalent.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    }
    subprocess.run([MUTMUT, "run", *sample])
    codes = verdicts()
    rooms: dict[str, Counter[str]] = {}
    alive = []
    for name in sample:
        what = KILLED.get(codes[name] or 0, "alive")
        if what == "alive" and name in equivalent:
            what = "equivalent"
        elif what == "alive":
            alive.append(name)
        rooms.setdefault(name.split(".")[1], Counter())[what] += 1
    for room, counts in sorted(rooms.items()):
        print(f"{room:16}", ", ".join(f"{n} {what}" for what, n in sorted(counts.items())))
    for name in alive:
        print(f"\nalive: {name}")
        subprocess.run([MUTMUT, "show", name])
    judged = len(sample) - sum(c["equivalent"] for c in rooms.values())
    score = 1 - len(alive) / judged
    print(f"{score:.1%} of {judged} mutants killed ({len(every)} there are; seed {asked.seed})")
    return int(score < BAR)


if __name__ == "__main__":
    sys.exit(main())
