"""How large a report's page is, how long it takes to write and when a browser first paints it.

Run it with ``python benchmarks/bench_page.py [NUMBER ...]``: the reference run of the demo, and
runs of that many made-up questions with all texts (default 20,000). The bounds that the project
holds are a demo's page within 2 s and 2 MB, and 20,000 questions within 25 MB and a first paint
within 2 s. Opening it needs Debian's chromium; without it the page is written alone.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_report import manifest
from playwright.sync_api import sync_playwright

DEMO = Path(__file__).resolve().parents[1] / "results" / "reference_demo"
VOWELS, CONSONANTS = "aeiou", "bcdfglmnprstv"
STAMP = "2026-01-01T00-00-00.000000"
PASSAGE, QUESTIONS = 250, 15  # words of a document, questions asked about it


def vocabulary(rng: random.Random, size: int = 3_000) -> list[str]:
    """Words as varied as a language's, so that compression has no easier work than in earnest."""
    syllables = [c + v for c in CONSONANTS for v in VOWELS]
    return ["".join(rng.choices(syllables, k=rng.randint(1, 4))) for _ in range(size)]


def write_run(folder: Path, number: int) -> None:
    """A run with record=full: a document for every 15 questions, eight verifier samples each."""
    rng = random.Random(0)
    words = vocabulary(rng)
    weights = [1 / (rank + 2) for rank in range(len(words))]

    def prose(length: int) -> str:
        return " ".join(rng.choices(words, weights, k=length)) + "."

    def answer(tier: int) -> dict[str, object]:
        call = {"tier": tier, "role": "answer", "prompt_tokens": 900, "generated_tokens": 12,
                "seconds": 0}  # fmt: skip
        return {"tier": tier, "text": prose(6), "calls": [call], "choice_logprobs": [],
                "token_logprobs": [], "token_margins": [], "dropped_demonstrations": 0,
                "cut_context_tokens": 0}  # fmt: skip

    path = folder / "automix_records_bench.jsonl"
    samples = folder / f"samples_bench_{STAMP}.jsonl"
    with path.open("w", encoding="utf-8") as out, samples.open("w", encoding="utf-8") as kept:
        for i in range(number):
            if i % QUESTIONS == 0:
                passage = prose(PASSAGE)
            votes = rng.randint(0, 8)
            right, up = rng.random() < 0.3 + 0.05 * votes, votes < 4
            judged = {
                "tier": 0, "confidence": votes / 8, "outcome": "ok", "num_unparsable": 0,
                "calls": [{"tier": 0, "role": "verify", "prompt_tokens": 1200,
                           "generated_tokens": 30, "seconds": 0}] * 8,
                "samples": [prose(18) + (" Correct." if k < votes else " Incorrect.")
                            for k in range(8)],
                "dropped_demonstrations": 0, "cut_context_tokens": 0,
            }  # fmt: skip
            llm = float(rng.random() < 0.8)
            tiers = [
                {"tier": 0, "answer": answer(0), "score": float(right),
                 "metrics": {"f1": float(right)}, "verification": judged, "on_path": True,
                 "decision": {"tier": 0, "to": int(up), "reason": f"v={votes / 8}"}},
                {"tier": 1, "answer": answer(1), "score": llm, "metrics": {"f1": llm},
                 "verification": None, "decision": None, "on_path": up},
            ]  # fmt: skip
            record = {
                "task": "bench", "doc_id": i, "repeat": 0, "phase": "evaluation", "final": int(up),
                "tiers": tiers, "prompt_hash": f"{i:064x}", "document": f"{i // QUESTIONS:064x}",
                "question": prose(9), "references": [prose(3)],
            }  # fmt: skip
            out.write(json.dumps(record) + "\n")
            sample = {"doc_id": i, "doc": {"context": passage}, "filter": "none",
                      "prompt_hash": f"{i:064x}", "f1": llm if up else float(right)}  # fmt: skip
            kept.write(json.dumps(sample) + "\n")
    (folder / "automix_run_bench.json").write_text(json.dumps(manifest(path.name, number)))
    config = {"model": "automix", "automix": {"run_id": "bench"}}
    results = {"results": {}, "config": config}
    (folder / f"results_{STAMP}.json").write_text(json.dumps(results))


def first_paint(page: Path, chromium: str) -> tuple[float, float]:
    """Seconds from opening the file in a new browser to its first paint, and to its samples."""
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        tab = browser.new_page()
        start = time.perf_counter()
        tab.goto(page.as_uri(), wait_until="commit")
        tab.wait_for_selector("#samples[data-ready]", state="attached")
        ready = time.perf_counter() - start
        paint = tab.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
        browser.close()
    return paint / 1000, ready


def measure(name: str, folder: Path) -> None:
    """Write the page of a folder as its user would, open it, and print a line of the table."""
    with tempfile.TemporaryDirectory() as out:
        page = Path(out) / "page.html"
        command = [
            sys.executable, "-m", "automix_eval", "report", str(folder), "--format", "html",
            "--out", str(page),
        ]  # fmt: skip
        start = time.perf_counter()
        subprocess.run(command, check=True, capture_output=True)
        written = time.perf_counter() - start
        size = page.stat().st_size / 1e6
        opened = "no chromium: not opened"
        if chromium := shutil.which("chromium"):
            paint, ready = first_paint(page, chromium)
            opened = f"{paint:9.2f} s  {ready:12.2f} s"
    print(f"{name:>16}  {written:7.1f} s  {size:7.2f} MB  {opened}")


def main() -> None:
    """Print the table."""
    numbers = [int(n) for n in sys.argv[1:]] or [20_000]
    print("       questions    written       size  first paint  samples ready")
    measure("the demo's", DEMO)
    for number in numbers:
        with tempfile.TemporaryDirectory() as folder:
            write_run(Path(folder), number)
            measure(f"{number:,}", Path(folder))


if __name__ == "__main__":
    main()
