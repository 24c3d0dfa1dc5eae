"""What the cascade adds to a run of its SLM alone.

`lm_eval --model automix` with always_slm against `lm_eval --model hf` with the same model, task and
batch size, as whole processes, in turn; every run of the cascade starts with an empty call store.
Prints wall seconds and the ratio pair by pair.

    python benchmarks/bench_overhead.py --pairs 5 --task narrativeqa_demo
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from automix_eval.backends.embedded import ensure_model


def seconds(model: str, model_args: str, task: str, batch_size: int) -> float:
    """Wall time of one whole evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(Path(sys.executable).with_name("lm_eval")),
            *("--model", model, "--model_args", model_args, "--tasks", task),
            *("--num_fewshot", "2", "--batch_size", str(batch_size), "--output_path", folder),
        ]
        begun = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        return time.perf_counter() - begun


def main() -> None:
    """Run the pairs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--task", default="narrativeqa_demo")
    parser.add_argument("--batch-size", type=int, default=8)
    arguments = parser.parse_args()
    folder = ensure_model("smollm2-135m-instruct")
    plain = f"pretrained={folder},max_length=2048"
    print(f"{arguments.task}, batch size {arguments.batch_size}, SmolLM2-135M on this machine")
    print(f"{'pair':>4} {'hf s':>8} {'automix s':>10} {'ratio':>7}")
    ratios = []
    for pair in range(arguments.pairs):
        with tempfile.TemporaryDirectory() as scratch:
            ours = (
                f"slm=hf,slm.{plain.replace(',', ',slm.')},meta_verifier=always_slm,"
                f"store.path={scratch}/calls.sqlite"
            )
            runs = [("hf", plain), ("automix", ours)]
            order = runs if pair % 2 == 0 else runs[::-1]
            took = {
                model: seconds(model, given, arguments.task, arguments.batch_size)
                for model, given in order
            }
        ratios.append(took["automix"] / took["hf"])
        print(f"{pair + 1:>4} {took['hf']:>8.1f} {took['automix']:>10.1f} {ratios[-1]:>7.3f}")
    print(f"median ratio automix / hf: {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
