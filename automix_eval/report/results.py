"""``automix_eval.read``: finished runs or a table of outcomes as one object, for Python.

It stands on what ``automix-eval report`` and ``whatif`` stand on, so that a figure in a notebook is
the one in the report::

    results = automix_eval.read("out")
    results.delta_ibc                            # 0.21 [0.1, 0.33], of the only task and its run
    results["qasper"]["always_llm"].cost.value   # another row of a leaderboard
    results.methods                              # all rows and figures, a pandas frame
    results.pictures["qasper_plane"]             # a matplotlib figure
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automix_eval.analysis.chain_report import is_public_table, report_on_chain
from automix_eval.analysis.figures import Board, MethodFigures, Report
from automix_eval.analysis.gather import ReportAndRuns, Settings, assemble
from automix_eval.costs.from_config import parse_costs
from automix_eval.metrics.bootstrap import RESAMPLES
from automix_eval.records import schema
from automix_eval.records.harness_results import find_results
from automix_eval.records.importers.chain import Choice
from automix_eval.records.importers.lm_eval_samples import SampleReading
from automix_eval.records.outcomes import Outcomes
from automix_eval.report import output
from automix_eval.report.columns import MEANINGS
from automix_eval.report.gate import Gate
from automix_eval.report.notebook import as_html
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import did_you_mean, listing, printable

if TYPE_CHECKING:
    import pandas as pd  # type: ignore[import-untyped]
    from matplotlib.figure import Figure


def read(
    *paths: str | Path | Sequence[str | Path],
    costs: str | Mapping[str, Any] | None = None,
    llm: str | Path | None = None,
    baselines: Sequence[str] = (),
    routers: Sequence[str] = (),
    task: str | None = None,
    models: Sequence[str] | None = None,
    missing: str = "refuse",
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Results:
    """Read finished runs, or outcomes that become a chain of models, as the commands do.

    What holds runs of the cascade, and any other folder of the harness's results, is read as
    ``automix-eval report`` reads it. Two or more folders of plain runs, or one table of outcomes
    (your own or a public one), are read as ``automix-eval whatif`` reads them.

    Args:
        paths: Results folders, a manifest, a file of records, or a table; or lists of them.
        costs: Prices: of runs as after ``report --costs`` (``"paper:1,1,100"``), or as a mapping
            like the run's ``cost``; of a chain a mapping of model to price.
        llm: Runs only: a folder with a run of the LLM alone.
        baselines: Runs only: meta-verifiers to replay.
        routers: Chains only: meta-verifiers to play; none: those fitted in seconds.
        task: Chains only: one data set; None: all together.
        models: Chains only: the chain, cheapest first; None: all.
        missing: Chains only: ``refuse``, ``drop`` or ``zero`` questions that lack a number.
        seed: Seed of the bootstrap intervals.
        resamples: Bootstrap resamples.

    Raises:
        AutoMixError: Nothing is there, it cannot be read, or an argument does not fit to it.
    """
    if resamples < 1:
        raise AutoMixError(f"resamples={resamples}: at least 1 is needed for an interval")
    each = [p for given in paths for p in (given if isinstance(given, (list, tuple)) else [given])]
    found = [_existing(path) for path in each]
    if not found:
        raise AutoMixError("name a folder with results, a file of records, or a table to read")
    of_chain = {"routers": routers, "task": task, "models": models}
    of_runs = {"llm": llm, "baselines": baselines}
    if _is_chain(found):
        _refuse(of_runs, "runs of the cascade", found)
        if isinstance(costs, str):
            raise AutoMixError(
                f"costs={costs!r}: of a chain they are a mapping, a price a model: "
                "{'small': 1, 'large': 50}"
            )
        report, outcomes = report_on_chain(
            found,
            Choice(tuple(models) if models else None, task, costs, missing),
            SampleReading(task),
            routers=routers,
            seed=seed,
            resamples=resamples,
        )
        return Results(ReportAndRuns(report, ()), outcomes)
    if missing != "refuse":
        of_chain["missing"] = missing
    _refuse(of_chain, "tables and chains of plain runs", found)
    prices = parse_costs(costs) if isinstance(costs, str) else costs
    alone = None if llm is None else Path(llm).expanduser()
    settings = Settings(alone, seed, prices, tuple(baselines), resamples)
    return Results(assemble(found, settings), None)


@dataclass(frozen=True, eq=False, repr=False)
class MethodResults:
    """A row of a leaderboard; every figure of ``report/columns.py`` is an attribute.

    A figure has ``value``, and ``low`` and ``high`` where it has a 95 % interval; where it is
    undefined, asking for them raises a GateError with the reason.
    """

    board: str
    figures: MethodFigures

    def __getattr__(self, name: str) -> Gate:
        if name not in MEANINGS:
            raise AttributeError(f"there is no figure {name}{did_you_mean(name, MEANINGS)}")
        return Gate(f"{name} of {self.figures.label} on {self.board}", getattr(self.figures, name))

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *MEANINGS]

    def __repr__(self) -> str:
        return f"{self.figures.label} on {self.board}: {self.quality!r}, {self.cost!r}"


@dataclass(frozen=True, eq=False, repr=False)
class TaskResults:
    """The leaderboard of a task: its rows by name, and the figures of its first row."""

    board: Board

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the rows."""
        return tuple(m.name for m in self.board.methods)

    def __getitem__(self, name: str) -> MethodResults:
        for method in self.board.methods:
            if name in (method.name, method.name.removeprefix("replay:"), method.label):
                return MethodResults(self.board.key, method)
        raise KeyError(
            f"{self.board.key} has no method {name}: it has {listing(list(self.methods), 40)}"
        )

    def __iter__(self) -> Iterator[str]:
        return iter(self.methods)

    def __getattr__(self, name: str) -> Gate:
        if name not in MEANINGS:
            raise AttributeError(f"there is no figure {name}{did_you_mean(name, MEANINGS)}")
        own = self.board.methods[0]
        if own.kind != "live":
            raise AttributeError(
                f"no run of {self.board.key} routed: name a method, results[TASK][METHOD].{name}; "
                f"{listing(list(self.methods), 40)}"
            )
        return getattr(self[own.name], name)  # type: ignore[no-any-return]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *MEANINGS]

    def __repr__(self) -> str:
        board = self.board
        return f"{board.key}: {board.num_questions} questions, {listing(list(self.methods), 40)}"


class Results:
    """Finished runs, or a chain of models, with all figures of their report.

    Attributes:
        report: The report's figures.
        outcomes: What every model of a chain did; None for runs.
    """

    def __init__(self, assembled: ReportAndRuns, outcomes: Outcomes | None) -> None:
        self._assembled = assembled
        self.report: Report = assembled.report
        self.outcomes = outcomes

    @property
    def tasks(self) -> tuple[str, ...]:
        """Keys of the leaderboards: the tasks, numbered where runs of one cannot be compared."""
        return tuple(board.key for board in self.report.boards)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the reader should know, of all tasks and of each."""
        of_tasks = (w for task in self.report.tasks for w in task.warnings)
        return tuple(dict.fromkeys([*self.report.warnings, *of_tasks]))

    def __getitem__(self, key: str) -> TaskResults:
        for board in self.report.boards:
            if key == board.key:
                return TaskResults(board)
        raise KeyError(f"there is no task {key}: there are {listing(list(self.tasks), 40)}")

    def __iter__(self) -> Iterator[str]:
        return iter(self.tasks)

    def __len__(self) -> int:
        return len(self.tasks)

    def __getattr__(self, name: str) -> Gate:
        """A figure of the only task's first row, where that is a run's own."""
        if name not in MEANINGS:
            raise AttributeError(f"results have no {name}{did_you_mean(name, MEANINGS)}")
        if len(self) != 1:
            names = listing(list(self.tasks), 10)
            raise AttributeError(f"of several tasks name one, results[TASK].{name}: {names}")
        return getattr(self[self.tasks[0]], name)  # type: ignore[no-any-return]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *MEANINGS]

    @cached_property
    def methods(self) -> pd.DataFrame:
        """A row a leaderboard and method, with the columns of ``report.csv``; NaN if undefined."""
        return _frames().methods(self.report)

    @cached_property
    def points(self) -> pd.DataFrame:
        """A row an operating point: what one may choose between, and whether it is shown."""
        return _frames().points(self.report)

    @cached_property
    def curves(self) -> pd.DataFrame:
        """A row a policy in the range of a method; ``chosen`` marks the method's own."""
        return _frames().curves(self.report)

    @cached_property
    def questions(self) -> pd.DataFrame:
        """A row a question: of runs with its final tier, score and cost; of chains its identity."""
        if self.outcomes is not None:
            return _frames().chain_questions(self.outcomes)
        return _frames().questions(self._assembled.runs)

    @cached_property
    def tiers(self) -> pd.DataFrame:
        """A row a question and tier that was asked: score, confidence, costs, tokens, seconds."""
        if self.outcomes is not None:
            return _frames().chain_tiers(self.outcomes)
        return _frames().tiers(self._assembled.runs)

    @cached_property
    def texts(self) -> pd.DataFrame:
        """A row a question and tier that was asked: question, references, answer; runs only."""
        return _frames().texts(self._assembled.runs)

    @cached_property
    def pictures(self) -> dict[str, Figure]:
        """The report's pictures by the names that their files have, as matplotlib figures."""
        from automix_eval.report.pictures import pictures_of
        from automix_eval.report.pictures.style import styled

        with styled():
            return dict(pictures_of(self.report))

    def render(self, form: str = "text") -> str:
        """The report as ``automix-eval report --format`` writes it."""
        if form not in output.NAMES:
            raise AutoMixError(f"format {form} is unknown: {', '.join(output.NAMES)}")
        return output.render(self._assembled, form)

    def save(self, folder: str | Path) -> list[Path]:
        """Write every format and the pictures into a folder, as ``automix-eval report --out``."""
        return output.write_folder(self._assembled, Path(folder).expanduser(), tuple(output.NAMES))

    def __str__(self) -> str:
        return self.render()

    def __repr__(self) -> str:
        sizes = [f"{b.key} ({b.num_questions} questions)" for b in self.report.boards]
        return f"<results of {listing(sizes, 10)}>"

    def _repr_html_(self) -> str:
        return as_html(self.report)


def _frames() -> Any:
    """The module of frames: pandas is loaded when the first is asked for."""
    from automix_eval.report import frames

    return frames


def _existing(given: Any) -> Path:
    if not isinstance(given, (str, os.PathLike)):
        if hasattr(given, "to_parquet"):
            raise AutoMixError(
                f"a {type(given).__name__} is no path: write it to a file with "
                "to_parquet('table.parquet'), and name that"
            )
        raise AutoMixError(
            f"{printable(repr(given), 80)} is no path: name folders, records or a table, or a list"
        )
    path = Path(given).expanduser()
    if not path.exists():
        raise AutoMixError(f"{path} does not exist: name a results folder, records or a table")
    return _manifest_of(path)


def _manifest_of(path: Path) -> Path:
    """The manifest of a file of records; any other path as it is."""
    if not path.is_file() or path.suffix != ".jsonl":
        return path
    for manifest in sorted(path.parent.glob(schema.MANIFEST_GLOB)):
        if schema.records_path(manifest, schema.read_manifest(manifest)).name == path.name:
            return manifest
    return path


def _is_chain(paths: Sequence[Path]) -> bool:
    """Whether paths hold models to be made a chain, and no run of the cascade."""
    if any(_has_runs(p) for p in paths):
        return False
    if len(paths) > 1 or paths[0].is_file():
        return True
    return is_public_table(paths[0])


def _has_runs(path: Path) -> bool:
    if path.is_file():
        return path.match(schema.MANIFEST_GLOB)
    if next(path.rglob(schema.MANIFEST_GLOB), None) is not None:
        return True
    # of a run whose manifest is elsewhere the report says so
    return any(r.run_id is not None for r in find_results([path])[0])


def _refuse(given: Mapping[str, Any], of: str, paths: Sequence[Path]) -> None:
    for name, value in given.items():
        if value is not None and value != ():
            raise AutoMixError(f"{name}={value!r} is for {of}, and {paths[0]} holds none")
