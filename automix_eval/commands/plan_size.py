"""``automix-eval plan --detect``: how many questions find a difference, from a pilot."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from automix_eval.analysis.beside_llm import pilot_of
from automix_eval.analysis.llm_point import attach
from automix_eval.analysis.replay_input import read_chain
from automix_eval.analysis.routed_paths import ChainRouting, Method, MethodOnRun
from automix_eval.analysis.selection import select
from automix_eval.analysis.slice_sources import RoutedColumns
from automix_eval.analysis.what_if import ChainQuestion
from automix_eval.metrics.ibc import Undefined
from automix_eval.metrics.power import POWER, Pilot, Size
from automix_eval.records.importers.chain import Choice
from automix_eval.records.importers.lm_eval_samples import SampleReading
from automix_eval.records.runs import read_all
from automix_eval.records.schema import MANIFEST_GLOB
from automix_eval.report.blocks import Block, Paragraph, Reasons, Table
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import printable


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be found.

    Attributes:
        delta_ibc: The least delta IBC, a ratio above 0; None: any.
        loss: The least loss of quality against the LLM, above 0; None: any.
    """

    delta_ibc: float | None
    loss: float | None

    def __post_init__(self) -> None:
        for flag, value in (("--detect", self.delta_ibc), ("--detect-loss", self.loss)):
            if value is not None and not (math.isfinite(value) and value > 0):
                raise AutoMixError(f"{flag} {value:g} must be a number above 0")


def plan_size(wanted: Wanted, paths: Sequence[Path], router: str) -> list[Block]:
    """The questions that each task of the pilots needs.

    Args:
        wanted: What is to be found.
        paths: Folders with runs of the cascade, or one table of outcomes.
        router: What is fitted, in folds, on a table.

    Raises:
        AutoMixError: There is no pilot, or one that tells nothing.
    """
    if not paths:
        raise AutoMixError(
            "--detect learns from a pilot how much figures vary: name a folder with a run of the "
            "cascade (--log_samples is not needed), or a table of outcomes"
        )
    if missing := [p for p in paths if not p.exists()]:
        raise AutoMixError(f"there is no {printable(str(missing[0]))}")
    rows: list[tuple[str, ...]] = []
    reasons = Reasons()
    found = list(_pilots(paths, router))
    if all(isinstance(pilot, Undefined) for _, pilot in found):
        why = (f"{name}: {p.reason}" for name, p in found if isinstance(p, Undefined))
        raise AutoMixError(f"the pilot tells nothing: {'; '.join(why)}")
    for name, pilot in found:
        if isinstance(pilot, Undefined):
            rows.append((name, "-", "-", reasons.mark(pilot), "-", "-", "-"))
        else:
            rows += _rows(name, pilot, wanted, reasons)
    header = ("Pilot", "Questions", "Documents", "To find", "Questions", "Documents", "It finds")
    note = (
        f"To find: with {POWER:.0%} power, a 95 % interval that does not hold 0. Questions are "
        "about as many documents each as in the pilot, and the router decides as it did there. "
        "It finds: the least that the pilot's own number of questions finds. The fewer documents "
        "a pilot has, the rougher are these numbers."
    )
    return [Table(header, tuple(rows)), *reasons.blocks(), Paragraph(note)]


def _rows(name: str, pilot: Pilot, wanted: Wanted, reasons: Reasons) -> Iterator[tuple[str, ...]]:
    asked = []
    if wanted.delta_ibc is not None:
        size = pilot.size_for_delta_ibc(wanted.delta_ibc)
        finds = reasons.show(pilot.detectable_delta_ibc(), ".1%")
        asked.append((f"delta IBC {wanted.delta_ibc:.4g}", size, finds))
    if wanted.loss is not None:
        size = pilot.size_for_loss(wanted.loss)
        finds = reasons.show(pilot.detectable_loss(), ".4f")
        asked.append((f"loss {wanted.loss:.4g}", size, finds))
    for what, size, finds in asked:
        needed = (
            (f"{size.questions:,}", f"{size.documents:,}")
            if isinstance(size, Size)
            else (reasons.mark(size), "-")
        )
        yield name, str(pilot.questions), str(pilot.documents), what, *needed, finds


def _pilots(paths: Sequence[Path], router: str) -> Iterator[tuple[str, Pilot | Undefined]]:
    if any(p.match(MANIFEST_GLOB) or any(p.rglob(MANIFEST_GLOB)) for p in paths):
        for questions in attach(select(read_all(paths))):
            run_id = printable(questions.run.run_id)
            part = MethodOnRun(ChainRouting.live(questions), questions, run_id)
            name = f"{printable(questions.task)}, run {run_id}"
            yield name, pilot_of(Method("", "live", "", "", (part,)), questions.rows.documents)
        return
    held = read_chain(paths, Choice(), SampleReading())
    one = RoutedColumns.of(ChainQuestion(held, None, (router,)), router)
    name = f"{printable(held.task)}, {printable(router)} in folds"
    yield name, Pilot.of(one.columns, np.asarray(one.documents))
