"""A scripted model of the harness, and runs of it in this process."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any
from uuid import uuid4

import lm_eval.models  # noqa: F401  registers the harness's models, and through the bridge ours
from datasets import arrow_dataset
from lm_eval import utils
from lm_eval.api.model import LM
from lm_eval.api.registry import model_registry
from torch.utils import collect_env

from automix_eval.records.schema import MANIFEST_GLOB, read_manifest, read_records, records_path
from automix_eval.types import Record

REPO = Path(__file__).resolve().parents[2]

# Every run of the harness asks pip, the compiler and the drivers for their versions, which takes
# longer than the rest of a scripted run. Commands that start as a user starts them still ask.
collect_env.get_pretty_env_info = lambda: "not asked for in tests"
# Names of files in a cache, computed of all data: data in memory have no such files.
arrow_dataset.generate_fingerprint = lambda _: uuid4().hex[:16]
# The harness compiles a template for every document.
utils.env.from_string = lru_cache(maxsize=None)(utils.env.from_string)

Script = Callable[[str, dict[str, Any]], str]
SCRIPTS: dict[str, Script] = {}
CALLS: list[tuple[str, str, str]] = []


class ScriptedLM(LM):
    """A model that answers from a script and notes each call: no weights, no randomness."""

    def __init__(
        self, script: str, batch_size: int = 1, device: str | None = None, fail_after: int = -1
    ) -> None:
        super().__init__()
        self.script = script
        self.batch_size = batch_size
        self._device = device
        self.fail_after = fail_after

    def generate_until(self, requests: list[Any], disable_tqdm: bool = False) -> list[str]:
        """Answer by the script, reporting each result to the cache hook like the harness's own."""
        answers = []
        for request in requests:
            prompt, generation = request.args
            if self.fail_after == 0:
                raise ConnectionError("the scripted model went away")
            self.fail_after -= 1
            CALLS.append((self.script, "generate", prompt))
            answers.append(SCRIPTS[self.script](prompt, generation))
            self.cache_hook.add_partial("generate_until", request.args, answers[-1])
        return answers

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[Any]:
        """Score a continuation by the number the script returns for it."""
        results = []
        for request in requests:
            prompt, continuation = request.args
            CALLS.append((self.script, "loglikelihood", prompt + continuation))
            value = float(SCRIPTS[self.script](prompt, {"continuation": continuation}))
            results.append((value, value > -1.0))
        return results

    def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
        """Not scripted."""
        raise NotImplementedError


class ScriptedChatLM(ScriptedLM):
    """A scripted model with a chat template of its own."""

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """A template that marks who wrote it."""
        turns = "".join(f"<{self.script}:{t['role']}>{t['content']}" for t in chat_history)
        return turns + (f"<{self.script}:assistant>" if add_generation_prompt else "")


for _name, _class in (("scripted", ScriptedLM), ("scripted-chat", ScriptedChatLM)):
    if _name not in model_registry:
        model_registry.register(_name, target=_class)


def gold_answers(task: str) -> dict[str, str]:
    """Question -> first reference of all rows of an embedded sample."""
    return dict(_gold(task))


@cache
def _gold(task: str) -> dict[str, str]:
    from lm_eval.tasks import TaskManager

    loaded = TaskManager(include_path=str(REPO / "tasks"), include_defaults=False).load([task])
    found: dict[str, str] = {}
    for docs in loaded["tasks"][task].dataset.values():
        found |= {doc["question"]: doc["answers"][0] for doc in docs}
    return found


def knows(answers: dict[str, str], share: float, wrong: str = " nothing of the kind") -> Script:
    """A script that answers a share of the questions right, and judges its answers truthfully."""
    order = sorted(answers)
    known = set(order[: round(share * len(order))])

    def script(prompt: str, generation: dict[str, Any]) -> str:
        asked = [q for q in answers if q in prompt]
        question = max(asked, key=lambda q: prompt.rfind(q))
        right = question in known
        if "AI Generated Answer" in prompt:
            verdict = "Correct" if right else "Incorrect"
            return f" Verification Decision: The AI generated answer is {verdict}."
        return f" {answers[question]}" if right else wrong

    return script


def run_harness(
    tasks: list[str], model_args: dict[str, Any], output: Path | None = None, **options: Any
) -> dict[str, Any]:
    """One evaluation in this process, written like the command writes it."""
    import lm_eval
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    tracker = EvaluationTracker(output_path=str(output)) if output else None
    results = lm_eval.simple_evaluate(
        model="automix",
        model_args=model_args,
        tasks=tasks,
        task_manager=TaskManager(
            include_path=str(REPO / "tasks"),
            include_defaults=bool(options.pop("built_in_tasks", False)),
        ),
        evaluation_tracker=tracker,
        bootstrap_iters=0,
        **options,
    )
    assert results is not None
    if tracker is not None:
        samples = results["samples"]
        tracker.save_results_aggregated(
            {k: v for k, v in results.items() if k != "samples"}, samples
        )
        for task in results["configs"]:
            tracker.save_results_samples(task_name=task, samples=samples[task])
    return dict(results)


def read_run(folder: Path) -> tuple[dict[str, Any], list[Record]]:
    """Manifest and records of the only run under a folder."""
    (path,) = folder.rglob(MANIFEST_GLOB)
    manifest = read_manifest(path)
    return manifest, list(read_records(records_path(path, manifest)))


def scripted_args(small: str = "small", large: str = "large", **more: Any) -> dict[str, Any]:
    """Model arguments of a cascade of two scripted models."""
    return {
        "slm": "harness",
        "slm.lm": "scripted",
        "slm.script": small,
        "llm": "harness",
        "llm.lm": "scripted",
        "llm.script": large,
        "verifier": "few_shot",
        "verifier.num_samples": 2,
        "progress": False,
        **more,
    }
