"""A scripted cascade over two tasks: python run_scripted.py OUTPUT [PROCESSES [NODES]].

Alone, as a process that torchrun started, or, with a number, in so many forks of this process: what
takes longest, the imports, is done once for all of them.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import NoReturn

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
    args = scripted_args(meta_verifier="threshold", **{"calibration.num_docs": 16})
    args["verifier.demonstrations"] = "fixed" if os.environ.get("SPLIT") else "calibration"
    args["block_size"] = 2 if "RANK" in os.environ else 2048
    tasks, paths = TASKS, [str(REPO / "tasks")]
    if share := os.environ.get("SPLIT"):  # the evaluated questions are all there are
        args |= {"calibration.split_documents": float(share), "calibration.min_docs": 2}
        tasks, paths = ["parted"], [*paths, str(output)]
        (output / "parted.yaml").write_text(
            f"include: {REPO}/tasks/coqa/coqa_demo.yaml\ntask: parted\ntraining_split: null\n"
        )
    args["fail_on_error"] = float(os.environ.get("FAIL_SHARE", "0"))
    if os.environ.get("FAIL_RANK") == os.environ.get("RANK", "none"):
        args["llm.fail_after"] = 2
    tracker = EvaluationTracker(output_path=str(output))
    results = lm_eval.simple_evaluate(
        model="automix",
        model_args={**args, "store.path": str(output / f"calls{os.environ.get('RANK', '')}.db")},
        tasks=tasks,
        task_manager=TaskManager(include_path=paths, include_defaults=False),
        evaluation_tracker=tracker,
        bootstrap_iters=0,
        limit=7,
        num_fewshot=2,
        log_samples=True,
    )
    rank = os.environ.get("RANK", "0")
    (output / f"made_{rank}.json").write_text(json.dumps([name for name, _, _ in CALLS]))
    if results is not None:
        samples = results.pop("samples")
        tracker.save_results_aggregated(results, samples)
        for task in tasks:
            tracker.save_results_samples(task_name=task, samples=samples[task])


def in_forks(output: Path, number: int, nodes: int = 1) -> int:
    """The processes of one run, as torchrun would start them; returns 1 if any of them failed.

    Args:
        output: Where they write.
        number: Of processes.
        nodes: Of machines that they are said to be on, in equal shares.
    """
    import accelerate  # noqa: F401

    from automix_eval.harness import model  # noqa: F401

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    on_each = number // nodes
    shared = {"WORLD_SIZE": number, "LOCAL_WORLD_SIZE": on_each, "MASTER_PORT": port}
    ranks = []
    for rank in range(number):
        if not (pid := os.fork()):
            own = {**shared, "RANK": rank, "LOCAL_RANK": rank % on_each}
            os.environ.update({k: str(v) for k, v in own.items()}, MASTER_ADDR="127.0.0.1")
            _end(output)
        ranks.append(pid)
    failed, patience = False, float("inf")
    while ranks:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            ranks.remove(pid)
            if status:  # as torchrun does: the others have some time to say why they end
                failed, patience = True, min(patience, time.monotonic() + 60)
        elif time.monotonic() > patience:
            for other in ranks:
                os.kill(other, signal.SIGKILL)
        else:
            time.sleep(0.02)
    return int(failed)


def _end(output: Path) -> NoReturn:
    """The run of a forked process, which must never return into its parent's loop."""
    status = 1
    try:
        main(output)
        status = 0
    except BaseException:  # noqa: BLE001 - shown as at the end of any process
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _note_open_group(output: Path) -> None:
    """Whether a process group is left to the end of the interpreter."""
    from torch import distributed

    left = distributed.is_initialized()
    (output / f"left_{os.environ.get('RANK', '0')}.json").write_text(json.dumps(left))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        sys.exit(in_forks(Path(sys.argv[1]), *map(int, sys.argv[2:])))
    atexit.register(_note_open_group, Path(sys.argv[1]))
    main(Path(sys.argv[1]))
