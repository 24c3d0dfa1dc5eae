"""Where the LLM-only figures of a task come from.

In this order: the folder named with ``--llm``; the run itself, where the LLM was asked every
question; a run with ``always_llm`` on the same questions; a plain run of the LLM with
``--log_samples``. What is merely plausible is refused with the reason, never taken silently.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from automix_eval.metrics.ibc import Undefined
from automix_eval.records.columns import BoolArray, FloatArray, IntArray, RecordColumns
from automix_eval.records.harness_results import HarnessResults, Samples, model_names, read_samples
from automix_eval.records.pricing import Prices, answer_price, price_answers
from automix_eval.records.runs import Run
from automix_eval.records.stream import digest
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import listing, printable
from automix_eval.types import Call

HOW_TO = (
    "To get them: (1) run again with record=full, or (2) run meta_verifier=always_llm on the same "
    "questions and name its folder too, or (3) evaluate the LLM alone with lm_eval and "
    "--log_samples and name its folder with --llm"
)


@dataclass(frozen=True, slots=True, eq=False)
class LLMPoint:
    """The LLM alone on a task's questions, in the order of the records.

    Attributes:
        scores: Score of each question, or why there are none.
        costs: Cost of each question, or why there are none.
        source: Where they come from, for the reader.
        warnings: What the reader should know about them.
    """

    scores: FloatArray | Undefined
    costs: Prices
    source: str = ""
    warnings: tuple[str, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class Folders:
    """Everything that was found: the folders reported on, and those of ``--llm``."""

    runs: Sequence[Run]
    results: Sequence[HarnessResults]
    llm_runs: Sequence[Run] = ()
    llm_results: Sequence[HarnessResults] = ()
    llm_name: str | None = None


def find_llm(run: Run, task: str, folders: Folders) -> LLMPoint:
    """The LLM-only figures of one task of a run, from the first source that has them."""
    warnings: list[str] = []
    if folders.llm_name is not None:
        named = _from_folder(run, task, folders.llm_runs, folders.llm_results, named=True)
        if isinstance(named, LLMPoint):
            return named
        warnings = [f"--llm {printable(folders.llm_name)} was not used: {named}"]
    own = _from_run(run, run, task)
    if isinstance(own, LLMPoint):
        return replace(own, source="this run", warnings=tuple(warnings))
    found = _from_folder(run, task, folders.runs, folders.results, named=False)
    if isinstance(found, LLMPoint):
        return replace(found, warnings=(*warnings, *found.warnings))
    reason = Undefined(f"{own}; {found}. {HOW_TO}" if found else f"{own}. {HOW_TO}")
    return LLMPoint(reason, reason, warnings=tuple(warnings))


def _from_folder(
    run: Run, task: str, runs: Sequence[Run], results: Sequence[HarnessResults], named: bool
) -> LLMPoint | str:
    points, refused = _automix_points(run, task, runs, named)
    if not points:
        # Samples files are read only where they are needed: they can be large.
        points, reasons = _plain_points(run, task, results, named)
        refused += reasons
    # Repeated runs that agree on every question are one source.
    distinct = list({(_bytes(p.scores), _bytes(p.costs)): p for p in points}.values())
    if len(distinct) == 1:
        return distinct[0]
    if distinct:
        names = listing([p.source for p in distinct])
        return f"several candidates differ ({names}): name one folder with --llm"
    if not refused and named:
        return f"it holds no LLM answers to the questions of {printable(task)}"
    return "; ".join(refused)


def _automix_points(
    run: Run, task: str, runs: Sequence[Run], named: bool
) -> tuple[list[LLMPoint], list[str]]:
    points, refused = [], []
    for other in runs:
        if other.run_id == run.run_id or task not in other.records:
            continue
        if not named and other.part("meta_verifier") != "always_llm":
            continue
        ours, theirs = run.tiers[-1].label, other.tiers[-1].label
        if ours != theirs and not named:
            refused.append(f"run {printable(other.run_id)} has another LLM ({theirs}, not {ours})")
            continue
        point = _from_run(run, other, task)
        if isinstance(point, str):
            refused.append(f"run {printable(other.run_id)}: {point}")
        else:
            points.append(point)
    return points, refused


def _from_run(run: Run, other: Run, task: str) -> LLMPoint | str:
    """LLM answers that ``other`` recorded for every evaluated question of ``run``."""
    rows, theirs, last = run.records[task], other.records[task], len(other.tiers) - 1
    place = find_rows(rows, theirs)
    if (place < 0).any() or not same_prompts(rows, theirs, place).all():
        return "it did not answer the same questions"
    if missing := int((~theirs.asked[place, last]).sum()):
        return f"the LLM was not asked {missing} of {len(rows)} questions"
    costs = price_answers(theirs, last, run.cost, len(run.tiers) - 1)
    source = f"run {printable(other.run_id)} ({other.part('meta_verifier')})"
    scores = theirs.scores[place, last]
    return LLMPoint(
        _all_scores(scores), costs if isinstance(costs, Undefined) else costs[place], source
    )


def find_rows(rows: RecordColumns, among: RecordColumns) -> IntArray:
    """(n,) for each question its row among other rows; -1 where it is not there."""
    repeats = 1 + int(max(rows.repeats.max(), among.repeats.max()))
    ours, theirs = (r.doc_ids * repeats + r.repeats for r in (rows, among))
    place = np.searchsorted(theirs, ours)
    found = theirs[np.minimum(place, len(theirs) - 1)] == ours
    return np.where(found, place, -1)


def same_prompts(rows: RecordColumns, others: RecordColumns, place: IntArray) -> BoolArray:
    """(n,) whether questions and their rows among others were asked with one prompt."""
    one, other = rows.prompts, others.prompts[place]
    return np.asarray((one == other) | (one == 0) | (other == 0))


def _plain_points(
    run: Run, task: str, results: Sequence[HarnessResults], named: bool
) -> tuple[list[LLMPoint], list[str]]:
    metric = run.tasks[task].metric
    points: list[LLMPoint] = []
    refused: list[str] = []
    if metric is None:
        return points, refused
    llm, slm = (_names(run, i, part) for i, part in ((-1, "llm"), (0, "slm")))
    for result in results:
        path = result.samples_path(task) if result.run_id is None else None
        if path is None:
            continue
        shown = f"{printable(path.parent.name)}/{printable(path.name)}"
        if not named and (problem := _other_model(result.models, llm, slm)):
            refused.append(f"{shown} {problem}")
            continue
        samples = read_samples(path, metric)
        scores = samples.main()
        absent = [i for i in run.records[task].doc_ids.tolist() if i not in scores]
        if absent:
            refused.append(f"{shown} lacks {metric} for {len(absent)} of the questions")
            continue
        points.append(_plain_point(run, task, shown, samples))
    return points, refused


def _plain_point(run: Run, task: str, shown: str, samples: Samples) -> LLMPoint:
    rows, scores = run.records[task], samples.main()
    costs = plain_cost(run, len(run.tiers) - 1, len(rows))
    warnings = list(samples.defects)
    prompts = [digest(samples.prompts.get(i, "")) for i in rows.doc_ids.tolist()]
    other = (rows.prompts != prompts) & (rows.prompts != 0) & (np.array(prompts) != 0)
    if other.any():
        warnings.append(
            f"{shown} asked {int(other.sum())} of {len(rows)} questions with another prompt than "
            "this run (chat template, few-shot examples or data differ): compare with care"
        )
    found = np.array([scores[i] for i in rows.doc_ids.tolist()])
    return LLMPoint(found, costs, f"plain run {shown}", tuple(warnings))


def plain_cost(run: Run, tier: int, number: int) -> Prices:
    """Cost of answers of a tier without records, where the prices need no token counts."""
    try:
        value = answer_price(run.cost)(Call(tier, "answer", None, None, None))
    except AutoMixError:
        return Undefined(
            "a plain run of the harness records no token counts, so cost="
            f"{run.part('cost')} has no price for it: run with record=full or always_llm instead"
        )
    return np.full(number, value)


def tier_of(run: Run, models: Sequence[str]) -> int | None:
    """The tier that a plain run of these models stands for; None if its name is of none."""
    names = {_short(m) for m in models}
    parts = {0: "slm", len(run.tiers) - 1: "llm"}
    tiers = range(len(run.tiers))
    return next((t for t in tiers if names & _names(run, t, parts.get(t, ""))[0]), None)


def _other_model(
    models: Sequence[str], llm: tuple[set[str], bool], slm: tuple[set[str], bool]
) -> str | None:
    """Why a plain run of these models does not stand for the LLM; None if it may."""
    names = {_short(m) for m in models}
    if not names or names & llm[0]:
        return None
    if names & slm[0]:
        return f"is a run of the SLM ({printable(models[0])})"
    if llm[1]:
        return (
            f"is a run of {printable(models[0])}, which is not named like the LLM; if it is the "
            "LLM, name its folder with --llm"
        )
    return None


def _names(run: Run, tier: int, part: str) -> tuple[set[str], bool]:
    """Names of a tier's model, and whether its configuration names one at all."""
    configured = model_names(run.config.get(part))
    return {_short(n) for n in (*configured, run.tiers[tier].label)}, bool(configured)


def _short(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].lower()


def _all_scores(scores: FloatArray) -> FloatArray | Undefined:
    missing = int(np.isnan(scores).sum())
    return Undefined(f"the task gave no score to {missing} answers") if missing else scores


def _bytes(values: Prices) -> object:
    return values if isinstance(values, Undefined) else values.tobytes()
