"""Evaluations that an experiment needs first: every tier asked, so that replays can follow."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from automix_eval.analysis.experiments.preset import Preset
from automix_eval.analysis.experiments.sources import Failure
from automix_eval.harness.evaluate import evaluate
from automix_eval.records.schema import MANIFEST_GLOB
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import safe_name


def run_all(
    preset: Preset, folder: Path, progress: Callable[[str], None]
) -> tuple[dict[str, Path], list[Failure]]:
    """Make the evaluations of a preset, or take those that an earlier call of the same made.

    Args:
        preset: Its ``runs``, ``tasks``, ``model_args``, ``limit`` and ``num_fewshot``.
        folder: Where the runs go, each in a folder named after its arguments.
        progress: Told of each.

    Returns:
        Label -> folder, and the evaluations that failed with the reason.
    """
    done: dict[str, Path] = {}
    failures: list[Failure] = []
    for label, own in (preset.runs or {"the pair": {}}).items():
        arguments = {**preset.model_args, **own, "record": "full", "progress": False}
        arguments.setdefault("seed", preset.seed)
        place = folder / _name(label, arguments, preset)
        try:
            if not any(place.rglob(MANIFEST_GLOB)):
                progress(f"evaluating {label} on {', '.join(preset.tasks)}")
                evaluate(
                    arguments, preset.tasks, place, num_fewshot=preset.num_fewshot,
                    limit=preset.limit, batch_size=8, bootstrap_iters=0,
                )  # fmt: skip
            done[str(label)] = place
        except AutoMixError as err:
            failures.append({"what": str(label), "reason": str(err)})
    return done, failures


def _name(label: str, arguments: dict[str, Any], preset: Preset) -> str:
    key = [arguments, list(preset.tasks), preset.limit, preset.num_fewshot]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    return f"{safe_name(label)}-{digest[:8]}"
