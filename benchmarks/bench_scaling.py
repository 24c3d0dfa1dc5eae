"""Scaling: which part is the bottleneck with how many questions, processes and LLM slots.

First the simulation is compared with real runs: 1, 2 and 4 processes whose SLM sleeps, with an LLM
behind a server on loopback that works on so many requests at a time. Then it is asked about runs
of 10^3, 10^5 and 10^7 questions: with the seconds that a run's records hold, and with those of
models that were supposed. 10^7 questions are 10^5 in the steady state, times a hundred.

    python benchmarks/bench_scaling.py --questions 160
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import fmean
from typing import Any

from bench_load import write_data
from simulation import Outcome, Site, simulate

HERE = Path(__file__).resolve().parent
LARGEST = 100_000


@contextmanager
def server(slots: int, seconds: float) -> Iterator[str]:
    """An endpoint that works on ``slots`` requests at a time, each of them so long."""
    places = threading.BoundedSemaphore(slots)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            with places:
                time.sleep(seconds)
            usage = {"prompt_tokens": 200, "completion_tokens": 4}
            choice = {"index": 0, "text": " in the green book", "finish_reason": "stop"}
            body = json.dumps({"choices": [choice], "usage": usage}).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128  # all ranks connect at once

    http = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{http.server_port}/v1/completions"
    finally:
        http.shutdown()
        http.server_close()


def real(questions: int, processes: int, site: Site) -> tuple[float, list[bool]]:
    """Seconds of the cascade in a real run, and which questions were escalated."""
    with tempfile.TemporaryDirectory() as scratch, server(site.slots, site.llm) as url:
        folder = Path(scratch)
        write_data(folder / "data", questions)
        arguments = {
            "slm": "harness",
            "slm.lm": "sleeper",
            "slm.seconds": site.slm / 2,
            "llm": "local_completions",
            "llm.base_url": url,
            "llm.model": "m",
            "llm.num_concurrent": site.in_flight,
            "verifier": "few_shot",
            "verifier.num_samples": 1,
            "meta_verifier": "self_consistency",
            "block_size": site.block,
            "progress": False,
            "records_dir": str(folder / "out"),
        }
        settings = folder / "settings.json"
        settings.write_text(json.dumps({"questions": questions, "model_args": arguments}))
        start = [sys.executable]
        if processes > 1:
            start += ["-m", "torch.distributed.run", "--standalone"]
            start += [f"--nproc_per_node={processes}"]
        done = subprocess.run(
            [*start, str(HERE / "scaled_run.py"), str(settings)],
            capture_output=True,
            text=True,
            env=os.environ
            | {
                "ACCELERATE_USE_CPU": "true",
                "OMP_NUM_THREADS": "1",
                "AUTOMIX_DATA_DIR": str(folder / "data"),
                "AUTOMIX_CACHE_DIR": str(folder / "cache"),
                "PYTHONPATH": os.pathsep.join([str(HERE.parent), *sys.path]),
            },
        )
        if done.returncode:
            raise SystemExit(f"the run of {processes} processes failed: {done.stderr[-3000:]}")
        spans = [json.loads(p.read_text()) for p in folder.glob("settings.*.span")]
        (path,) = (folder / "out").glob("automix_records_*.jsonl")
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    seconds = max(s["ended"] for s in spans) - min(s["begun"] for s in spans)
    return seconds, [row["final"] > 0 for row in sorted(rows, key=lambda r: r["doc_id"])]


def compare(questions: int) -> None:
    """Simulated and real runs side by side."""
    # what the cascade and its client cost here, with a model that takes no time
    idle = Site(slm=0.0, own=0.0, llm=0.0, slots=4, in_flight=4, escalated=0.5, block=40)
    own = real(questions, 1, idle)[0] / questions
    print(f"the cascade's own time, by a run without waiting: {own * 1e3:.2f} ms a question")
    print(
        f"{'limit':<8} {'ranks':>5} {'slots':>5} {'real s':>8} {'simulated s':>12} {'differs':>8}"
    )
    cases = {"ranks": replace(idle, slm=0.05, llm=0.05, slots=8, own=own)}
    cases["server"] = replace(idle, slm=0.02, llm=0.15, slots=2, own=own)
    for name, site in cases.items():
        for processes in (1, 2, 4):
            seconds, escalated = real(questions, processes, site)
            guess = simulate(questions, processes, site, escalated=escalated).wall
            print(
                f"{name:<8} {processes:>5} {site.slots:>5} {seconds:>8.2f} {guess:>10.2f} "
                f"{guess / seconds - 1:>+8.1%}"
            )


def ask(questions: int, ranks: int, site: Site) -> Outcome:
    """The simulation; above the largest size its steady state is stretched."""
    if questions <= LARGEST:
        return simulate(questions, ranks, site)
    begun = replace(site, ready=0.0, merged=0.0)
    steady = simulate(LARGEST, ranks, begun)
    ends = site.ready + site.merged * questions * (1 - 1 / ranks)
    working = steady.wall * questions / LARGEST
    share = working / (working + ends)
    return Outcome(working + ends, steady.ranks * share, steady.server * share, 1 - share)


def measured(folder: Path) -> Site:
    """Mean seconds of the SLM's answers and verifications and of the LLM's answers, by records."""
    small, large, escalated = [], [], []
    for path in folder.rglob("automix_records_*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            first, last = row["tiers"][0], row["tiers"][-1]
            small.append(_seconds(first["answer"]) + _seconds(first["verification"]))
            if last is not first:
                large.append(_seconds(last["answer"]))
            if row["phase"] == "evaluation":
                escalated.append(row["final"] > 0)
    return Site(fmean(small), 0.0, fmean(large), 1, 1, fmean(escalated))


def _seconds(part: dict[str, Any] | None) -> float:
    return sum(call["seconds"] or 0.0 for call in part["calls"]) if part else 0.0


def show(title: str, site: Site, machines: Sequence[tuple[int, int]]) -> None:
    """The bottleneck for each size and (ranks, slots of the server)."""
    print(
        f"\n{title}: a question takes the SLM {site.slm:.3g} s and the cascade {site.own:.2g} s; "
        f"{site.escalated:.0%} are escalated, {site.llm:.3g} s each; {site.in_flight} in flight"
    )
    print(f"{'questions':>10} {'ranks':>5} {'slots':>5} {'hours':>10} {'ranks':>6} {'server':>7}  "
          "bottleneck")  # fmt: skip
    for questions in (10**3, 10**5, 10**7):
        for ranks, slots in machines:
            found = ask(questions, ranks, replace(site, slots=slots))
            print(
                f"{questions:>10} {ranks:>5} {slots:>5} {found.wall / 3600:>10,.3f} "
                f"{found.ranks:>6.0%} {found.server:>7.0%}  {found.bottleneck}"
            )


def main() -> None:
    """Compare, then ask."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=80, help="of the runs compared")
    parser.add_argument(
        "--records", type=Path, default=HERE.parent / "results", help="a run's folder: its seconds"
    )
    parser.add_argument("--own", type=float, default=0.0002, help="seconds a question of ours")
    parser.add_argument("--merged", type=float, default=0.00002, help="seconds a record gathered")
    parser.add_argument("--ready", type=float, default=30.0, help="seconds before the first")
    parser.add_argument("--escalated", type=float, default=0.4, help="share escalated")
    given = parser.parse_args()
    compare(given.questions)
    common = {
        "own": given.own,
        "merged": given.merged,
        "ready": given.ready,
        "escalated": given.escalated,
        "spread": 0.5,
    }
    show(
        f"measured, {given.records.name}",
        replace(measured(given.records), in_flight=8, **common),
        ((1, 8), (8, 8), (64, 64)),
    )
    show(
        "supposed, an 8B model on GPUs and a 70B model on a server",
        Site(slm=0.05, llm=4.0, slots=1, in_flight=32, **common),
        ((1, 32), (8, 32), (64, 32), (64, 512)),
    )


if __name__ == "__main__":
    main()
