"""An experiment from its preset to its files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from automix_eval.analysis.experiments import sources
from automix_eval.analysis.experiments.preset import Preset
from automix_eval.analysis.experiments.study import study
from automix_eval.commands.experiments import live
from automix_eval.report import experiment as present
from automix_eval.report.pictures import experiment as picture
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.files import write_json, write_text


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
    runs, failures = ({}, []) if given or preset.data != "runs" else live.run_all(
        preset, folder / "runs", progress
    )  # fmt: skip
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
