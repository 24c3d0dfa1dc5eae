"""A scripted cascade over two tasks, alone or by torchrun: python run_scripted.py OUTPUT."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import lm_eval
from lm_eval.loggers import EvaluationTracker
from lm_eval.tasks import TaskManager
from scripted import CALLS, REPO, SCRIPTS, gold_answers, knows, scripted_args

TASKS = ["coqa_demo", "quality_demo"]


def main(output: Path) -> None:
    """One evaluation; every process notes the calls it made."""
    answers = gold_answers("coqa_demo")
    failing = json.loads(os.environ.get("FAIL_ON", "[]"))

    def script(share: float):
        free = knows(answers, share)

        def answer(prompt: str, generation: dict[str, object]) -> str:
            if any(text in prompt.rsplit("Question", 1)[-1] for text in failing):
                raise ConnectionError("the scripted model fails on this one")
            if any(q in prompt for q in answers):
                return free(prompt, generation)
            if "AI Generated Answer" in prompt:
                verdict = "Correct" if len(prompt) % 3 else "Incorrect"
                return f" Verification Decision: The AI generated answer is {verdict}."
            return " (A)" if len(prompt) % 2 else " (B)"

        return answer

    SCRIPTS["small"], SCRIPTS["large"] = script(0.5), script(0.9)
    args = scripted_args(meta_verifier="threshold", **{"calibration.num_docs": 11})
    args["block_size"] = 2 if "RANK" in os.environ else 2048
    args["fail_on_error"] = float(os.environ.get("FAIL_SHARE", "0"))
    if os.environ.get("FAIL_RANK") == os.environ.get("RANK", "none"):
        args["llm.fail_after"] = 2
    tracker = EvaluationTracker(output_path=str(output))
    results = lm_eval.simple_evaluate(
        model="automix",
        model_args={**args, "store.path": str(output / f"calls{os.environ.get('RANK', '')}.db")},
        tasks=TASKS,
        task_manager=TaskManager(include_path=str(REPO / "tasks"), include_defaults=False),
        evaluation_tracker=tracker,
        bootstrap_iters=0,
        limit=7,
        log_samples=True,
    )
    rank = os.environ.get("RANK", "0")
    (output / f"made_{rank}.json").write_text(json.dumps([name for name, _, _ in CALLS]))
    if results is not None:
        samples = results.pop("samples")
        tracker.save_results_aggregated(results, samples)
        for task in TASKS:
            tracker.save_results_samples(task_name=task, samples=samples[task])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
