"""HELM (arXiv 2211.09110): the statistics of every instance, a folder a run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from automix_eval.records.importers.model_outcomes import (
    Long,
    ModelOutcomes,
    field_of,
    json_of,
    lacks,
    list_of,
    number_of,
    part_of,
)
from automix_eval.records.tables import TableError
from automix_eval.safety.text import listing

_STATS, _SPEC, _STATE = "per_instance_stats.json", "run_spec.json", "scenario_state.json"
# Main metrics of HELM's scenarios, the first that a run has is taken.
_METRICS = (
    "exact_match",
    "quasi_exact_match",
    "f1_score",
    "rouge_l",
    "math_equiv_chain_of_thought",
)
_TOKENS = {"prompt_tokens": ("num_prompt_tokens",), "generated_tokens": (
    "num_output_tokens", "num_completion_tokens")}  # fmt: skip


class Helm:
    """A folder of runs, each with ``run_spec.json`` and ``per_instance_stats.json``.

    Questions and answers are those of ``scenario_state.json``, where a run has it. Runs are joined
    by their name without the model. Perturbed instances are left out, the trials of different
    training examples averaged. There are tokens, and no costs.

    Args:
        metric: The statistic that is the score; None: the first of HELM's main ones that all runs
            have.
    """

    def __init__(self, metric: str | None = None) -> None:
        self.metric = metric

    def recognises(self, path: Path) -> bool:
        """By its file names."""
        return path.is_dir() and next(path.rglob(_STATS), None) is not None

    def read(self, path: Path) -> ModelOutcomes:
        """Read the runs; a damaged one is refused."""
        files = sorted(path.rglob(_STATS)) if path.is_dir() else []
        if not files:
            raise lacks(path, "HELM", f"{_STATS} below it; name the folder of the runs")
        read = {file: _instances(file) for file in files}
        metric = self._metric(read)
        long = Long(str(path))
        for file, instances in read.items():
            spec = json_of(file.parent / _SPEC)
            model = str(field_of(spec, file.parent / _SPEC, "adapter_spec", "model"))
            name = _scenario(str(field_of(spec, file.parent / _SPEC, "name")))
            texts = _texts(file.parent / _STATE)
            for instance, stats in instances:
                question = f"{name}/{instance}"
                numbers = {"score": number_of(stats.get(metric), file, f"{metric} of {instance}")}
                for key, names in _TOKENS.items():
                    value = next((stats[n] for n in names if n in stats), None)
                    numbers[key] = number_of(value, file, f"{key} of {instance}")
                asked, answer = texts.get(instance, (None, None))
                long.add(question, model, numbers, answer)
                long.tell(question, questions=asked, tasks=name)
        return long.columns("mean", [f"the score is HELM's {metric}"])

    def _metric(self, read: Mapping[Path, list[tuple[str, dict[str, Any]]]]) -> str:
        common = set.intersection(*(set().union(*(s for _, s in r)) for r in read.values()))
        wanted = (self.metric,) if self.metric else _METRICS
        found = next((m for m in wanted if m in common), None)
        if found is None:
            raise TableError(
                f"no statistic {' or '.join(wanted)} that every run has: choose one with "
                f"format.metric=NAME (whatif --metric NAME), of {listing(sorted(common), 20)}"
            )
        return found


def _instances(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(instance, mean of each of its statistics), perturbed ones left out."""
    found = json_of(path)
    if not isinstance(found, list):
        raise TableError(f"{path} is no list of instances")
    made = []
    for entry in found:
        if field_of(entry, path, "instance_id") and entry.get("perturbation") is not None:
            continue
        stats = {}
        for stat in list_of(entry, path, "stats"):
            name = field_of(stat, path, "name")
            if isinstance(name, Mapping) and name.get("perturbation") is None:
                count = number_of(stat.get("count"), path, "count") or 0.0
                stats[str(name.get("name"))] = _mean(stat, count)
        made.append((str(entry["instance_id"]), stats))
    return made


def _mean(stat: Mapping[str, Any], count: float) -> Any:
    if "mean" in stat:
        return stat["mean"]
    return stat["sum"] / count if count and isinstance(stat.get("sum"), (int, float)) else None


def _scenario(name: str) -> str:
    """A run's name without what differs between models: ``mmlu:subject=law``."""
    return re.sub(r"[,:](?:model|model_deployment)=[^,]*", "", name)


def _texts(path: Path) -> dict[str, tuple[str | None, str | None]]:
    """(question, answer) of each instance, where the run keeps them."""
    if not path.is_file():
        return {}
    found: dict[str, tuple[str | None, str | None]] = {}
    for state in list_of(json_of(path), path, "request_states"):
        instance = field_of(state, path, "instance")
        key = str(field_of(instance, path, "id"))
        if instance.get("perturbation") is not None:
            continue
        made = part_of(state, "result").get("completions")
        first = made[0] if isinstance(made, list) and made else None
        answer = first.get("text") if isinstance(first, Mapping) else None
        text = str(field_of(instance, path, "input", "text"))
        found.setdefault(key, (text, None if answer is None else str(answer)))
    return found
