"""The harness's run as its own functions hold it: tasks, settings and output folder.

The harness hands a model requests and no more, so the rest is read from the variables of its
functions on the call stack. All that is read so is named in :data:`READ`, which is checked before
anything is asked.
"""

from __future__ import annotations

import dataclasses
import functools
import gc
import importlib.metadata
import importlib.util
import sys
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.abc import InspectLoader
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance


#: Variables of functions of ``lm_eval.evaluator`` that are read here, and nowhere else.
READ: Mapping[str, frozenset[str]] = {
    "evaluate": frozenset(
        [
            "apply_chat_template",
            "eval_results_acc",
            "eval_tasks",
            "fewshot_as_multiturn",
            "groups",
            "limits",
            "requests",
            "samples",
            "system_instruction",
        ]
    ),
    "simple_evaluate": frozenset(
        ["evaluation_tracker", "fewshot_random_seed", "gen_kwargs", "limit", "metadata"]
    ),
}


def check_interface(has: Mapping[str, Collection[str]] | None = None) -> None:
    """Refuse a harness whose functions do not have the variables that are read.

    Args:
        has: Variables by function; None looks at the installed harness.

    Raises:
        AutoMixError: Some are missing; names them, and the release that has them.
    """
    found = variables_of(_evaluator()) if has is None else has
    missing = [
        f"{function}: {name}"
        for function, names in READ.items()
        for name in sorted(names - set(found.get(function, ())))
    ]
    if missing:
        version = importlib.metadata.version("lm-eval")
        raise AutoMixError(
            f"this harness (lm-eval {version}) lacks what the cascade reads from it "
            f"({', '.join(missing)}): install lm-eval==0.4.13, or a newer automix-eval"
        )


def variables_of(module: CodeType) -> dict[str, set[str]]:
    """Names of the variables of the module's functions that are read, by function."""
    return {
        code.co_name: {*code.co_varnames, *code.co_cellvars}
        for code in module.co_consts
        if isinstance(code, CodeType) and code.co_name in READ
    }


@functools.lru_cache(maxsize=1)
def _evaluator() -> CodeType:
    """The code of the harness's module, which a decorator on its functions does not hide."""
    spec = importlib.util.find_spec("lm_eval.evaluator")
    code = (
        spec.loader.get_code(spec.name) if spec and isinstance(spec.loader, InspectLoader) else None
    )
    if code is None:
        raise AutoMixError("lm_eval.evaluator cannot be read: reinstall lm-eval")
    return code


@dataclasses.dataclass(frozen=True)
class HarnessRun:
    """The settings of the evaluation in progress.

    Attributes:
        tasks: The harness's task objects by name.
        fewshot_seed: Seed of the demonstrations.
        output_folder: Where the harness will write; None without ``--output_path``.
        samples: For each task the chosen documents of its split; empty without ``--samples``.
    """

    tasks: Mapping[str, Any]
    system_instruction: str | None = None
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = False
    fewshot_seed: int | None = 1234
    output_folder: Path | None = None
    samples: Mapping[str, Sequence[int]] = dataclasses.field(default_factory=dict)

    def doc_id(self, task: str, place: int) -> int:
        """Index in its split of a document that a request names by its place among the chosen."""
        chosen = self.samples.get(task)
        return int(chosen[place]) if chosen else place


def current_run(requests: Sequence[Instance]) -> HarnessRun:
    """Read the run from the call stack.

    Args:
        requests: The requests to answer; every task they name must be part of the run.

    Raises:
        AutoMixError: The model was called by something other than the harness's ``evaluate``, or
            a chat template is asked for by name.
    """
    evaluate = _locals_of("evaluate", "lm_eval.evaluator")
    if evaluate is None or not isinstance(evaluate.get("eval_tasks"), dict):
        raise AutoMixError(
            "the cascade reads its tasks from the harness: run it through lm_eval, "
            "lm_eval.simple_evaluate or lm_eval.evaluate (lm-eval 0.4.13 or a compatible release)"
        )
    unknown = {str(r.task_name) for r in requests} - set(evaluate["eval_tasks"])
    if unknown:
        raise AutoMixError(f"requests name tasks outside the run: {', '.join(sorted(unknown))}")
    chat = evaluate.get("apply_chat_template")
    if isinstance(chat, str) and chat.lower() != "true":
        raise AutoMixError(
            f"--apply_chat_template {printable(chat, 80)}: each tier applies the template of its "
            "own tokenizer, and no name chooses another (in lm_eval 0.4.13 it changes no prompt "
            "either): leave the name out, or the whole option where no template is wanted"
        )
    simple = _locals_of("simple_evaluate", "lm_eval.evaluator") or {}
    return HarnessRun(
        tasks=evaluate["eval_tasks"],
        system_instruction=evaluate.get("system_instruction"),
        apply_chat_template=bool(chat),
        fewshot_as_multiturn=bool(evaluate.get("fewshot_as_multiturn")),
        fewshot_seed=simple.get("fewshot_random_seed", 1234),
        output_folder=_output_folder(simple.get("evaluation_tracker")),
        samples=_samples(evaluate.get("samples")),
    )


def _samples(chosen: Any) -> dict[str, list[int]]:
    """The documents of ``--samples``.

    Raises:
        AutoMixError: They are not in ascending order: the harness takes the documents in the order
            of the split, and calls the first of them by the first number of the list.
    """
    found = {}
    for task, some in (chosen or {}).items():
        if some is None:
            continue
        numbers = [int(i) for i in some]
        right = sorted({i for i in numbers if i >= 0})
        if numbers != right or not right:
            raise AutoMixError(
                f"--samples of {task} must name documents by their numbers from 0 on, in ascending "
                "order, each once: the harness would take others, or call them by wrong numbers. "
                + (f"Give {right}" if right else "Name at least one, or leave the task out")
            )
        found[str(task)] = numbers
    return found


def leave_out(tasks: Iterable[str]) -> None:
    """Take tasks out of the evaluation in progress: the harness scores and reports the others."""
    evaluate = _locals_of("evaluate", "lm_eval.evaluator") or {}
    results, limits = evaluate.get("eval_results_acc", {}), evaluate.get("limits", [])
    for task in tasks:
        if task in results:
            del limits[list(results).index(task)]
            del results[task]
        for name, group in list(evaluate.get("groups", {}).items()):
            group.pop(task)
            if not group.get_all_tasks():
                del evaluate["groups"][name]


def pending_requests() -> list[Instance]:
    """All requests of the evaluation in progress, of every type, repeats included."""
    evaluate = _locals_of("evaluate", "lm_eval.evaluator") or {}
    by_type: Mapping[str, Sequence[Instance]] = evaluate.get("requests", {})
    return [r for group in by_type.values() for r in group for _ in range(max(r.repeats or 1, 1))]


def planned_questions() -> dict[str, int]:
    """Questions of each task of the evaluation in progress that this process has to answer."""
    evaluate = _locals_of("evaluate", "lm_eval.evaluator") or {}
    by_type: Mapping[str, Sequence[Instance]] = evaluate.get("requests", {})
    planned: Counter[str] = Counter()
    for group in by_type.values():
        for request in group:
            if request.idx == 0:  # the first choice stands for its question
                planned[str(request.task_name)] += max(request.repeats or 1, 1)
    return dict(planned)


def refuse_limit_zero() -> None:
    """Stop a run with ``--limit 0``, which the harness takes for no limit at all.

    Raises:
        AutoMixError: The run in progress was started with a limit of 0.
    """
    simple = _locals_of("simple_evaluate", "lm_eval.evaluator") or {}
    limit = simple.get("limit")
    if limit is not None and limit <= 0:
        raise AutoMixError(
            f"--limit {limit:g} asks for no question, and the harness would run all of them: give "
            "a positive number, or leave --limit out for the whole split"
        )


@contextmanager
def set_aside() -> Iterator[None]:
    """Spare the garbage collector what the harness holds: its documents and requests stay anyway.

    A fifth of the cascade's own time on a task of many questions.
    """
    if gc.get_freeze_count():  # somebody else has, and will want to undo it
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def kept_arguments() -> dict[str, Any]:
    """Arguments of the evaluation in progress that the harness writes into its results."""
    simple = _locals_of("simple_evaluate", "lm_eval.evaluator") or {}
    return {k: simple[k] for k in ("gen_kwargs", "metadata") if simple.get(k)}


def _locals_of(function: str, module: str) -> dict[str, Any] | None:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == function and frame.f_globals.get("__name__") == module:
            return dict(frame.f_locals)
        frame = frame.f_back
    return None


def _output_folder(tracker: Any) -> Path | None:
    path = getattr(tracker, "output_path", None)
    if not path:
        return None
    folder = Path(path)
    if folder.suffix == ".json":
        return folder.parent
    name = getattr(getattr(tracker, "general_config_tracker", None), "model_name_sanitized", None)
    return folder / str(name) if name else folder


def group_by_task(requests: Iterable[Instance]) -> dict[str, list[int]]:
    """Positions of the requests of each task, in order of appearance."""
    groups: dict[str, list[int]] = {}
    for position, request in enumerate(requests):
        groups.setdefault(str(request.task_name), []).append(position)
    return groups
