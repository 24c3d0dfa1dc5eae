"""Runs every parser of what others wrote on mutated input: python benchmarks/fuzz.py [PARSER ...].

With atheris (pip install '.[fuzz]') the mutations follow the coverage of the package, and without
it they are drawn at random from the same seeds. Prints a line a parser, and every finding once: an
exception that the parser does not promise, with the input that brought it. Exit code 1 if any.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import random
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(REPO), str(REPO / "tests" / "helpers")]


def main() -> int:
    """All parsers, each in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parser", nargs="*", help="names as printed; default: all")
    parser.add_argument("--inputs", type=int, default=20_000, help="of each parser")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--random", action="store_true", help="leave atheris out")
    args = parser.parse_args()
    guided = not args.random and importlib.util.find_spec("atheris") is not None
    print(f"{'atheris' if guided else 'random mutation'}, {args.inputs} inputs, seed {args.seed}")
    worst = 0
    for name in args.parser or names():
        command = [sys.executable, __file__, name, str(args.inputs), str(args.seed), str(guided)]
        started = time.monotonic()
        # the fuzzer ends its process without clean-up: what it leaves goes with this folder
        with tempfile.TemporaryDirectory(prefix="automix-fuzz-") as scratch:
            done = subprocess.run(
                command,
                env={**os.environ, "FUZZ_ONE": "1", "TMPDIR": scratch},
                capture_output=True,
                text=True,
                check=False,
            )
        said = [line for line in done.stdout.splitlines() if line.startswith("fuzz: ")]
        print(f"{name:20} {time.monotonic() - started:6.0f} s  " + "\n   ".join(said), flush=True)
        if done.returncode:
            worst = 1
            lines = [s for s in done.stderr.splitlines() if s[:1] != "#" and "INFO" not in s]
            print("\n".join(lines[-30:]) if not said else "", flush=True)
    return worst


def names() -> list[str]:
    """Names of the parsers."""
    from fuzz_targets import targets

    return list(targets())


def one(name: str, inputs: int, seed: int, guided: bool) -> None:
    """One parser; ends the process."""
    if guided:
        import atheris

        with atheris.instrument_imports(include=["automix_eval"]):
            from fuzz_targets import targets
    else:
        from fuzz_targets import targets
    target = targets()[name]
    found: dict[str, bytes] = {}
    number = 0
    wanted = max(100, round(inputs * target.share))

    def run(data: bytes) -> None:
        nonlocal number
        number += 1
        try:
            target(data)
        except Exception as err:  # noqa: BLE001  whatever it is, it is a finding
            frames = [f for f in traceback.extract_tb(err.__traceback__) if "automix" in f.filename]
            last = frames[-1] if frames else traceback.extract_tb(err.__traceback__)[-1]
            found.setdefault(
                f"{type(err).__name__} at {Path(last.filename).name}:{last.lineno}", data
            )

    def report() -> None:
        print(f"fuzz: {number} inputs, {len(found)} findings")
        for where, data in found.items():
            print(f"fuzz: {where}: {data[:400]!r}")
        sys.stdout.flush()
        os._exit(bool(found))

    rng = random.Random(seed)
    if not guided:
        from fuzz_targets import mutate

        for _ in range(wanted):
            run(mutate(rng.choice(target.seeds), rng))
        report()
    import atheris
    from fuzz_targets import mutate

    folder = Path(tempfile.mkdtemp(prefix="automix-corpus-"))
    for i, data in enumerate(target.seeds):
        (folder / str(i)).write_bytes(data)

    def step(data: bytes) -> None:
        run(data)
        if number >= wanted:
            report()

    def mutator(data: bytes, size: int, draw: int) -> bytes:
        own = random.Random(draw)
        made = mutate(data, own) if own.random() < 0.7 else atheris.Mutate(data, size)
        return bytes(made)[:size]

    longest = max(4096, 2 * max(map(len, target.seeds)))
    flags = [f"-seed={seed}", f"-max_len={longest}", "-len_control=0", "-rss_limit_mb=4096"]
    flags.append(f"-artifact_prefix={folder}/")
    atheris.Setup([__file__, *flags, str(folder)], step, custom_mutator=mutator)
    atheris.Fuzz()
    report()


if __name__ == "__main__":
    if os.environ.get("FUZZ_ONE"):
        one(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "True")
    raise SystemExit(main())
