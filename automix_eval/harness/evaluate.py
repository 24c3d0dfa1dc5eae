"""One evaluation of the cascade in this process, with the files of ``lm_eval --output_path``.

The harness's own ``simple_evaluate`` and ``EvaluationTracker`` do the work, so that an evaluation
started from Python or from a sweep is the one that ``lm_eval --model automix`` runs.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automix_eval.harness.templates import templates_compiled_once
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import did_you_mean
from automix_eval.safety.untrusted import parse_json

if TYPE_CHECKING:
    from lm_eval.api.model import LM


class EvaluationError(AutoMixError):
    """An evaluation that cannot start, failed or could not be written; names the remedy."""


def evaluate(
    model_args: Mapping[str, Any],
    tasks: Sequence[str],
    output_path: Path,
    *,
    num_fewshot: int | None = None,
    limit: float | None = None,
    batch_size: int | str | None = None,
    max_batch_size: int | None = None,
    device: str | None = None,
    apply_chat_template: bool | str = False,
    fewshot_as_multiturn: bool | None = None,
    system_instruction: str | None = None,
    gen_kwargs: Mapping[str, Any] | str | None = None,
    include_path: Path | str | None = None,
    metadata: Mapping[str, Any] | None = None,
    log_samples: bool = True,
    bootstrap_iters: int = 100_000,
    model: LM | None = None,
) -> Path:
    """Evaluate the cascade and write the harness's results and samples, and our records.

    Args:
        model_args: As after ``--model_args``: see :func:`automix_eval.config.compose.build`.
        tasks: Names of tasks, groups and tags of the harness, or patterns of them.
        output_path: As after ``--output_path``: a folder, in which the harness makes one named
            after the argument ``model`` (or by chance); or, ending in ``.json``, a file's name,
            beside which everything is written.
        num_fewshot: Demonstrations in each prompt; None is the task's own number.
        limit: Questions of each task, or below 1 their share; None is the whole split.
        batch_size: Of tiers that set none: a number, ``auto`` or ``auto:N``.
        max_batch_size: Likewise, where the batch size is found automatically.
        device: Likewise.
        apply_chat_template: Whether each tier's own template is applied.
        fewshot_as_multiturn: Whether demonstrations are turns; None: with a chat template.
        system_instruction: Put in front of every prompt.
        gen_kwargs: Override the tasks' generation arguments: see :func:`generation_arguments`.
        include_path: Another folder with tasks.
        metadata: Passed on to the tasks that ask for it.
        log_samples: Whether the harness's samples are written.
        bootstrap_iters: Of the harness's own standard errors; 0 gives none.
        model: A model made already of ``model_args``; None makes the cascade.

    Returns:
        The folder that holds the files.

    Raises:
        AutoMixError: A setting or a task does not exist, a model failed, or the files cannot be
            written; names cause and remedy. Finished model calls are kept.
    """
    _check(num_fewshot, limit, batch_size, output_path)
    # as the harness's command does: tokenizers warn about forked threads otherwise
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    import lm_eval
    from lm_eval.loggers import EvaluationTracker

    manager = task_manager(include_path, metadata, tasks)
    names = task_names(manager, tasks)
    tracker = EvaluationTracker(output_path=str(output_path))
    try:
        with templates_compiled_once():
            results = lm_eval.simple_evaluate(
                model="automix" if model is None else model,
                model_args=dict(model_args),
                tasks=names,
                task_manager=manager,
                num_fewshot=num_fewshot,
                limit=limit,
                batch_size=batch_size,
                max_batch_size=max_batch_size,
                device=device,
                apply_chat_template=apply_chat_template,
                fewshot_as_multiturn=(
                    bool(apply_chat_template)
                    if fewshot_as_multiturn is None
                    else fewshot_as_multiturn
                ),
                system_instruction=system_instruction,
                gen_kwargs=generation_arguments(gen_kwargs),
                evaluation_tracker=tracker,
                log_samples=log_samples,
                bootstrap_iters=bootstrap_iters,
            )
    except (OSError, ValueError, KeyError, ImportError) as err:
        raise EvaluationError(
            f"the evaluation of {', '.join(map(str, names))} failed: {type(err).__name__}: "
            f"{err}. Finished model calls are kept: mend the cause, and the same command resumes"
        ) from err
    folder = _folder(tracker, output_path)
    # in a run of several processes the first one has the results
    if results is not None:
        _save(tracker, folder, results, log_samples)
    return folder


def _check(
    num_fewshot: int | None, limit: float | None, batch_size: int | str | None, output: Path
) -> None:
    """Refuse values that the harness would misread or choke on after loading the models."""
    if num_fewshot is not None and num_fewshot < 0:
        raise EvaluationError(f"num_fewshot={num_fewshot} must be at least 0")
    if limit is not None and not limit > 0:
        raise EvaluationError(
            f"limit={limit:g} asks for no question, and the harness would run all of them: give a "
            "positive number, or leave limit out for the whole split"
        )
    text = str(batch_size)
    automatic = text == "auto" or (text.startswith("auto:") and text[5:].isdigit())
    if batch_size is not None and not automatic and not (text.isdigit() and int(text) > 0):
        raise EvaluationError(f"batch_size={batch_size} must be a positive number, auto or auto:N")
    folder = output.parent if output.suffix == ".json" else output
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as err:
        raise EvaluationError(
            f"the output folder {folder} cannot be made ({err.strerror}): name a writable one"
        ) from err


def generation_arguments(given: Mapping[str, Any] | str | None) -> dict[str, Any]:
    r"""Generation arguments in whatever form the harness's command takes them.

    Args:
        given: A mapping, JSON text of one, or ``key=value,key=value``.

    Returns:
        The arguments; in stop sequences \n, \t and \r stand for the characters they name.

    Raises:
        EvaluationError: The text is neither, or holds a list that commas would cut; or a number is
            not finite.
    """
    from lm_eval.utils import simple_parse_args_string

    if isinstance(given, str):
        text = given.strip()
        if text.startswith("{"):
            try:
                found = parse_json(text.encode("utf-8", "replace"))
            except ValueError as err:
                raise EvaluationError(f"gen_kwargs={text!r:.200} is no JSON: {err}") from err
        elif any(mark in text for mark in "[]{}") or any("=" not in p for p in _pieces(text)):
            raise EvaluationError(
                f"gen_kwargs={text!r:.200} is not understood: give key=value,key=value, or for "
                'lists JSON, as in {"max_gen_toks": 32, "until": ["Q:"]}'
            )
        else:
            found = simple_parse_args_string(text)
    else:
        found = dict(given or {})
    if endless := [k for k, v in found.items() if isinstance(v, float) and not math.isfinite(v)]:
        raise EvaluationError(f"gen_kwargs: {', '.join(endless)} must be a finite number")
    return {k: _unescaped(v) if k in ("until", "stop") else v for k, v in found.items()}


def _pieces(text: str) -> list[str]:
    return [piece for piece in text.split(",") if piece.strip()]


_ESCAPES = {"\\n": "\n", "\\t": "\t", "\\r": "\r"}


def _unescaped(stop: Any) -> Any:
    """Stop sequences with their escapes, which shells and Hydra leave as they are, resolved."""
    if isinstance(stop, str):
        for written, meant in _ESCAPES.items():
            stop = stop.replace(written, meant)
        return stop
    return [_unescaped(s) for s in stop] if isinstance(stop, (list, tuple)) else stop


def task_manager(
    include_path: Path | str | None = None,
    metadata: Mapping[str, Any] | None = None,
    tasks: Sequence[str] = (),
) -> Any:
    """The harness's index of tasks, once a process.

    Args:
        include_path: Another folder with tasks.
        metadata: Passed on to the tasks that ask for it.
        tasks: Those that are asked for. Where each is one of ours or of ``include_path``, the
            harness's own, more than ten thousand files and many seconds, are left unread.

    Raises:
        EvaluationError: The folder does not exist.
    """
    folder = None if include_path is None else str(include_path)
    passed = json.dumps(dict(metadata or {}))
    if tasks:
        few = _task_manager(folder, passed, False)
        if set(_listed(tasks)) <= set(few.all_subtasks):
            return few
    return _task_manager(folder, passed, True)


@lru_cache(maxsize=4)
def _task_manager(include_path: str | None, metadata: str, include_defaults: bool) -> Any:
    from lm_eval.tasks import TaskManager

    if include_path is not None and not Path(include_path).is_dir():
        raise EvaluationError(f"include_path={include_path} is no folder of tasks")
    return TaskManager(
        include_path=include_path, include_defaults=include_defaults, metadata=json.loads(metadata)
    )


def _listed(tasks: Sequence[str]) -> list[str]:
    return tasks.split(",") if isinstance(tasks, str) else list(tasks)


def task_names(manager: Any, tasks: Sequence[str]) -> list[str]:
    """The tasks' names as the harness loads them, each once.

    Raises:
        EvaluationError: There is none, or one does not exist; names the nearest.
    """
    found: dict[str, None] = {}
    for task in _listed(tasks):
        path = Path(task)
        matches = [str(path.resolve())] if path.suffix == ".yaml" else manager.match_tasks([task])
        if not matches or (path.suffix == ".yaml" and not path.is_file()):
            raise EvaluationError(
                f"the harness has no task {task!r}{did_you_mean(task, manager.all_tasks)} "
                "A folder with tasks of your own is given as include_path"
            )
        found |= dict.fromkeys(matches)
    if not found:
        raise EvaluationError("no task is named: tasks=coqa,qasper, say")
    return list(found)


def _folder(tracker: Any, output_path: Path) -> Path:
    """Where the harness writes; it names the folder when the run starts."""
    if output_path.suffix == ".json":
        return output_path.parent
    return output_path / str(tracker.general_config_tracker.model_name_sanitized)


def _save(tracker: Any, folder: Path, results: dict[str, Any], log_samples: bool) -> None:
    """Write results and samples as the harness's command does.

    Raises:
        EvaluationError: The harness, which only warns, wrote a file less than it should have.
    """
    before = set(folder.glob("*"))
    samples = results.pop("samples", {}) if log_samples else {}
    tracker.save_results_aggregated(results=results, samples=samples or None)
    for task in results["configs"] if log_samples else ():
        tracker.save_results_samples(task_name=task, samples=samples[task])
    written = set(folder.glob("*")) - before
    if len(written) < 1 + (len(results["configs"]) if log_samples else 0):
        raise EvaluationError(
            f"results or samples could not be written to {folder}: free the disk or name another "
            "folder. Finished model calls are kept: the same command writes them again"
        )
