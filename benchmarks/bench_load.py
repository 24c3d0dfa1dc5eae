"""Load: what the cascade itself costs a question, in time, memory and disk.

Questions go through the whole cascade of a real harness run whose models answer at once, so that
what is measured is the cascade: prompts, call store, verification, routing, scores and records. A
call store of a million calls is opened and searched. Prints the figures with their targets.

    python benchmarks/bench_load.py --questions 100000 --calls 1000000
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import sqlite3
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from automix_eval.cascade.store import CallStore, call_key
from automix_eval.types import GenerateRequest, Generation, Prompt, ScoreRequest, Scores

ROOT = Path(__file__).resolve().parents[1]
TASK = "coqa"
STORY = "The keeper of the lighthouse wrote down the weather of each day in a green book. " * 10
QUESTIONS_A_STORY = 10
VERIFIERS = {
    "margin": {},
    "p_true": {},
    "few_shot": {"verifier.num_samples": 4},
}


# --------------------------------------------------------------------------- the cascade


class Instant:
    """A model that answers at once, with as many token probabilities as its answer has tokens."""

    gives_token_probs = True
    varies = ""
    max_length = 4096

    def __init__(self, name: str) -> None:
        self.label = name
        self.identity: Mapping[str, Any] = {"lm": "instant", "args": {"name": name}}

    def set_defaults(self, arguments: Mapping[str, Any]) -> None:
        """Nothing to set."""

    def load(self) -> None:
        """Nothing to load."""

    def counter(self) -> Callable[[Prompt], int]:
        """A quarter of the characters."""
        return lambda prompt: len(prompt.text) // 4

    def count_tokens(self, text: str) -> int:
        """A quarter of the characters."""
        return len(text) // 4

    def render(self, prompt: Prompt) -> str:
        """The text."""
        return prompt.text

    def generate(
        self,
        requests: Sequence[GenerateRequest],
        on_result: Callable[[int, Generation], None],
        token_probs: bool = False,
    ) -> None:
        """The day's number as an answer; a verdict where one is asked for."""
        for i, request in enumerate(requests):
            draw = self._draw(request.prompt, request.seed or 0)
            if "AI Generated Answer" in request.prompt[-400:]:
                verdict = "correct" if draw % 3 else "incorrect"
                text = f" It fits. Verification Decision: The AI generated answer is {verdict}."
            else:
                found = "day" if self.knows(draw) else "page"
                text = f" the {found} in the green book"
            probs = (-(draw % 97) / 97,) * 8 if token_probs else ()
            on_result(i, Generation(text, len(request.prompt) // 4, 8, 0.0, probs, probs))

    def loglikelihood(
        self, requests: Sequence[ScoreRequest], on_result: Callable[[int, Scores], None]
    ) -> None:
        """Drawn numbers."""
        for i, request in enumerate(requests):
            draw = self._draw(request.prompt, 0)
            numbers = tuple(-((draw + k) % 97) / 97 for k in range(len(request.continuations)))
            on_result(i, Scores(numbers, (False,) * len(numbers), len(request.prompt) // 4, 0.0))

    def knows(self, draw: int) -> bool:
        """The SLM half of the answers, the LLM most."""
        return draw % 97 < (48 if self.label == "slm" else 80)

    def _draw(self, prompt: str, seed: int) -> int:
        return zlib.crc32(prompt[-80:].encode(), seed)

    score = loglikelihood


def write_data(folder: Path, questions: int) -> None:
    """Stories in CoQA's own schema, ten questions each."""
    (folder / TASK).mkdir(parents=True)
    for split, number in (("train", 200), ("validation", questions)):
        with (folder / TASK / f"{split}.jsonl").open("w", encoding="utf-8") as out:
            for story in range(0, number, QUESTIONS_A_STORY):
                days = range(story, min(story + QUESTIONS_A_STORY, number))
                row = {
                    "id": f"{split}-{story}",
                    "story": f"Book {split} {story}. {STORY}",
                    "questions": {"input_text": [f"Where is day {d} of {split}?" for d in days]},
                    "answers": {"input_text": ["day in the green book" for _ in days]},
                }
                out.write(json.dumps(row) + "\n")


def cascade(questions: int, verifier: str) -> dict[str, float]:
    """One run in this process.

    Returns:
        Processor seconds and wall seconds a question inside the model's own method; by how many
        bytes the process grew in it; bytes of the answers it returned, a question; calls a
        question; and bytes of the store a call.
    """
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.models.dummy import DummyLM
    from lm_eval.tasks import TaskManager

    from automix_eval.harness.model import AutoMixLM
    from automix_eval.paths import tasks_dir

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_data(folder / "data", questions)
        os.environ["AUTOMIX_DATA_DIR"] = str(folder / "data")
        os.environ["AUTOMIX_CACHE_DIR"] = str(folder / "cache")
        DummyLM.tokenizer = None  # its own is loaded from the hub
        lm = AutoMixLM(
            **{
                "slm": "harness",
                "slm.lm": "dummy",
                "llm": "harness",
                "llm.lm": "dummy",
                "meta_verifier": "threshold",
                "verifier": verifier,
                "progress": False,
                "store.path": str(folder / "calls.sqlite"),
                **VERIFIERS[verifier],
            }
        )
        for tier in lm.tiers:
            tier.backend = Instant(tier.name)  # type: ignore[assignment]
        found: dict[str, float] = {}
        answer = lm.generate_until

        def timed(requests: list[Any]) -> list[str]:
            before, begun, spent = memory(), time.perf_counter(), time.process_time()
            results = answer(requests)
            found["seconds"] = (time.process_time() - spent) / len(requests)
            found["wall"] = (time.perf_counter() - begun) / len(requests)
            found["peak"] = peak() - before
            found["answers"] = sum(held(a) for a in results) / len(requests)
            return results

        lm.generate_until = timed  # type: ignore[method-assign]
        lm_eval.simple_evaluate(
            model=lm,
            tasks=[TASK],
            task_manager=TaskManager(include_path=str(tasks_dir()), include_defaults=False),
            evaluation_tracker=EvaluationTracker(output_path=str(folder / "out")),
            bootstrap_iters=0,
            log_samples=False,
        )
        made = sum(row["made"] for row in lm.log.summary()["calls"])
        lm.store.close()
        size = sum(p.stat().st_size for p in folder.glob("calls.sqlite*"))
        found |= {"calls": made / questions, "store": size / made, "questions": questions}
    return found


def held(answer: Any) -> int:
    """Bytes of an answer with its routing, which the harness keeps."""
    routing = answer.routing
    values = sum(sys.getsizeof(v) for v in routing.values())
    return sum(map(sys.getsizeof, (answer, answer.__dict__, routing))) + values


def memory() -> int:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize()


def peak() -> int:
    """Most bytes this process ever had in memory."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def apart(function: str, *arguments: object) -> dict[str, float]:
    """One function of this file in a process of its own."""
    call = f"{function}({', '.join(map(repr, arguments))})"
    code = f"import bench_load, json; print('\\n' + json.dumps(bench_load.{call}))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parent,
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


# --------------------------------------------------------------------------- the store


def big_store(calls: int) -> dict[str, float]:
    """A store of many calls: half answers with their token probabilities, half long samples.

    Returns:
        Seconds to open it and take the first call out, seconds a look-up of a call that is there
        and of one that is not, seconds a call put, and bytes a call.
    """
    numbers = [-math.log1p(i) / 3 for i in range(24)]
    answer = {"text": " the day in the green book " * 3, "token_logprobs": numbers}
    answer |= {"token_margins": numbers, "prompt_tokens": 900, "generated_tokens": 24}
    sample = {"text": STORY + " Verification Decision: The AI generated answer is correct."}
    sample |= {"token_logprobs": [], "token_margins": [], "prompt_tokens": 900}
    sample |= {"generated_tokens": 220}
    values = [
        json.dumps(v | {"seconds": 0.123456789, "cached_tokens": 0, "events": []})
        for v in (answer, sample)
    ]
    keys = [call_key({"prompt": i}) for i in range(calls)]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "calls.sqlite"
        CallStore(path).close()
        with sqlite3.connect(path) as db:
            rows = ((key, values[i % 2], float(i)) for i, key in enumerate(keys))
            db.executemany("INSERT INTO calls VALUES (?, ?, ?)", rows)
        db.close()
        begun = time.perf_counter()
        store = CallStore(path)
        assert store.get(keys[0]) is not None
        found = {"start": time.perf_counter() - begun}
        size = sum(p.stat().st_size for p in path.parent.iterdir())
        found["bytes"] = size / calls
        some = random.Random(0).sample(keys, min(20_000, calls))
        found["there"] = a_call(some, store.get)
        found["absent"] = a_call([k[::-1] for k in some], store.get)
        found["put"] = a_call([k[::-1] for k in some[:5000]], lambda k: store.put(k, answer))
        store.close()
    return found


def a_call(keys: Sequence[str], act: Callable[[str], object]) -> float:
    """Wall seconds a key."""
    begun = time.perf_counter()
    for key in keys:
        act(key)
    return (time.perf_counter() - begun) / len(keys)


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=20_000)
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--verifier", choices=sorted(VERIFIERS), default="margin")
    arguments = parser.parse_args()
    few, many = (
        apart("cascade", n, arguments.verifier)
        for n in (arguments.questions // 10, arguments.questions)
    )
    store = apart("big_store", arguments.calls)
    slope = (many["peak"] - few["peak"]) / (many["questions"] - few["questions"])
    print(
        f"{arguments.questions} questions, verifier={arguments.verifier}, {many['calls']:.2f} "
        f"calls a question; a store of {arguments.calls} calls"
    )
    print(f"{'figure':<58} {'measured':>12} {'target':>10}")
    rows = [
        ("processor time a question, us", many["seconds"] * 1e6, "200"),
        ("  wall time, with all else that this machine does", many["wall"] * 1e6, ""),
        ("  a tenth of the questions", few["seconds"] * 1e6, ""),
        ("memory that grows with each question, bytes", slope, "flat"),
        ("  of that the answers, which the harness keeps", many["answers"], ""),
        ("  memory of a run at its most, MB", many["peak"] / 2**20, ""),
        ("store of the run, bytes a call", many["store"], "2000"),
        ("store of long samples and token probabilities", store["bytes"], "2000"),
        ("look-up of a call that is there, us", store["there"] * 1e6, "100"),
        ("look-up of a call that is not, us", store["absent"] * 1e6, "100"),
        ("a call put, us", store["put"] * 1e6, ""),
        ("start-up with the first look-up, s", store["start"], "2"),
    ]
    for name, value, target in rows:
        print(f"{name:<58} {value:>12,.4g} {target:>10}")


if __name__ == "__main__":
    main()
