"""An experiment from its preset to its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from automix_eval.analysis.experiments import sources
from automix_eval.analysis.experiments.preset import Preset
from automix_eval.analysis.experiments.sources import Failure
from automix_eval.analysis.experiments.study import study
from automix_eval.harness.evaluate import evaluate
from automix_eval.records.schema import MANIFEST_GLOB
from automix_eval.report import experiment as present
from automix_eval.report.pictures import experiment as picture
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import safe_name, write_json, write_text


@dataclass(frozen=True, slots=True)
class Result:
    """What a run of an experiment left.

    Attributes:
        text: Its page, in Markdown.
        files: What was written.
        failed: Number of cells, sources and evaluations that failed.
        first: Reason of the first failure.
    """

    text: str
    files: tuple[Path, ...]
    failed: int
    first: str | None


def run(preset: Preset, progress: Callable[[str], None]) -> Result:
    """Run an experiment and write ``NAME.md``, ``NAME.json``, and CSV and pictures of each part.

    Raises:
        AutoMixError: There are no outcomes to work on, or a file cannot be written.
    """
    folder = Path(preset.out or f"results/experiments/{preset.name}").expanduser()
    given = bool(preset.tables or preset.outcomes or preset.records)
    runs: dict[str, Path] = {}
    failures: list[Failure] = []
    if not given and preset.data == "runs":
        runs, failures = evaluated(preset, folder / "runs", progress)
    found, more = sources.open_all(preset, runs)
    failures = [*failures, *more]
    studies = [study(preset, part, found, progress) for part in preset.parts]
    text = present.as_markdown(preset, studies, found, failures)
    files: list[Path] = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for one in studies:
            files.append(folder / f"{one.part.name}.csv")
            write_text(files[-1], present.as_csv(one))
            files += picture.draw(one, folder, _note(preset, found))
        files += [folder / f"{preset.name}.md", folder / f"{preset.name}.json"]
        write_text(files[-2], text)
        write_json(files[-1], present.as_json(preset, studies, found, failures))
    except OSError as err:
        raise AutoMixError(f"cannot write into out={folder}: {err.strerror or err}") from err
    every = [*failures, *(f for s in studies for f in s.failures)]
    first = f"{every[0]['what']}: {every[0]['reason']}" if every else None
    return Result(text, tuple(files), len(every), first)


def _note(preset: Preset, found: list[sources.StudySource]) -> str:
    kinds = {s.kind for s in found}
    words = ["simulated outcomes, no model"] if "simulated" in kinds else []
    words += ["smoke run"] if preset.size == "smoke" else []
    many = f"{len(preset.seeds)} seeds" if len(preset.seeds) > 1 else f"seed {preset.seeds[0]}"
    return "; ".join([f"{preset.name}: 95 % intervals, {many}", *words])


def evaluated(
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
