"""One process of a run that :mod:`bench_scaling` times; started alone or by torchrun.

python scaled_run.py SETTINGS.json
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from pathlib import Path
from typing import Any

from lm_eval.api.model import LM
from lm_eval.api.registry import model_registry


class Sleeper(LM):  # type: ignore[misc]  # the harness ships no types
    """An SLM whose calls take a given time; its verdict depends on the question alone."""

    def __init__(self, seconds: float, **_: Any) -> None:
        super().__init__()
        self.seconds = seconds

    def generate_until(self, requests: list[Any]) -> list[str]:
        """One after the other, each reported when it is there."""
        answers = []
        for request in requests:
            time.sleep(self.seconds)
            prompt, arguments = request.args
            answers.append(say(prompt))
            self.cache_hook.add_partial("generate_until", (prompt, arguments), answers[-1])
        return answers

    def loglikelihood(self, requests: list[Any]) -> list[Any]:
        """Not needed."""
        raise NotImplementedError

    loglikelihood_rolling = loglikelihood


def say(prompt: str) -> str:
    """An answer, or a verdict: about half of the questions are escalated."""
    if "AI Generated Answer" not in prompt:
        return " in the book"
    verdict = "correct" if zlib.crc32(prompt.encode()) % 2 else "incorrect"
    return f" Verification Decision: The AI generated answer is {verdict}."


def main(path: Path) -> None:
    """Evaluate, and note when the cascade began and ended, and whom it escalated."""
    settings = json.loads(path.read_text(encoding="utf-8"))
    model_registry.register("sleeper", target=Sleeper)
    import lm_eval
    from lm_eval.tasks import TaskManager

    from automix_eval.harness.model import AutoMixLM
    from automix_eval.paths import tasks_dir

    rank = os.environ.get("RANK", "0")
    arguments = settings["model_args"]
    lm = AutoMixLM(**arguments | {"store.path": str(path.with_suffix(f".{rank}.sqlite"))})
    answer, span = lm.generate_until, {}

    def timed(requests: list[Any]) -> list[str]:
        span["begun"] = time.time()
        results = answer(requests)
        span["ended"] = time.time()
        return results

    lm.generate_until = timed  # type: ignore[method-assign]
    lm_eval.simple_evaluate(
        model=lm,
        tasks=["coqa"],
        task_manager=TaskManager(include_path=str(tasks_dir()), include_defaults=False),
        bootstrap_iters=0,
        limit=settings["questions"],
    )
    path.with_suffix(f".{rank}.span").write_text(json.dumps(span), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
