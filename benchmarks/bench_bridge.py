"""What the bridge adds to the start of a Python interpreter.

Two bare environments differ only in the bridge's two files; `python -c pass` runs in both, in turn,
so that a change of the machine's load falls on both. Prints medians and quartiles in milliseconds.

    python benchmarks/bench_bridge.py --runs 200
"""

from __future__ import annotations

import argparse
import compileall
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BRIDGE = ("_automix_bridge.py", "automix_eval_bridge.pth")


def make_environment(folder: Path, bridge: bool) -> Path:
    """Create an environment without pip and return its interpreter."""
    venv.create(folder, symlinks=True, with_pip=False)
    python = folder / "bin" / "python"
    site = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    if bridge:
        for name in BRIDGE:
            shutil.copy(ROOT / name, site)
        compileall.compile_dir(site, quiet=1)  # as pip does when it installs
    return python


def start_time(python: Path) -> float:
    """Return the wall time of `python -c pass` in milliseconds."""
    began = time.perf_counter()
    subprocess.run([python, "-c", "pass"], check=True)
    return 1000 * (time.perf_counter() - began)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=200, help="starts of each environment")
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        pythons = {
            "without": make_environment(Path(folder) / "without", bridge=False),
            "with": make_environment(Path(folder) / "with", bridge=True),
        }
        times: dict[str, list[float]] = {name: [] for name in pythons}
        for python in pythons.values():  # warms the file cache
            start_time(python)
        for run in range(runs):
            names = list(pythons) if run % 2 else list(reversed(pythons))
            for name in names:
                times[name].append(start_time(pythons[name]))
    print(f"python -c pass, Python {sys.version.split()[0]}, {runs} starts each, milliseconds")
    print(f"{'bridge':<8} {'median':>7} {'q1':>7} {'q3':>7}")
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"{name:<8} {middle:7.2f} {low:7.2f} {high:7.2f}")
    pairs = [b - a for a, b in zip(times["without"], times["with"], strict=True)]
    medians = {name: statistics.median(values) for name, values in times.items()}
    print(f"difference of medians {medians['with'] - medians['without']:.2f}")
    print(f"median of differences {statistics.median(pairs):.2f}")
    print(f"ratio of medians {medians['with'] / medians['without']:.3f}")


if __name__ == "__main__":
    main()
