"""Where the LLM-only figures of a task come from.

In this order: the folder named with ``--llm``; the run itself, where the LLM was asked every
question; a run with ``always_llm`` on the same questions; a plain run of the LLM with
``--log_samples``. What is merely plausible is refused with the reason, never taken silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from automix_eval.analysis.comparable import why_unlike
from automix_eval.analysis.method_settings import MethodSettings
from automix_eval.analysis.question_sets import LLMPoint, QuestionSet
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.harness_results import model_names
from automix_eval.records.record_columns import FloatArray
from automix_eval.records.repricing import Prices, answer_price, price_answers
from automix_eval.records.runs import FoundRuns, Run
from automix_eval.records.single_model_runs import SingleModelRun
from automix_eval.records.task_settings import differing, unlike_settings
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import listing, printable
from automix_eval.types import Call

_HOW_TO = (
    "To get them: (1) run again with record=full, or (2) run meta_verifier=always_llm on the same "
    "questions and name its folder too, or (3) evaluate the LLM alone with lm_eval and "
    "--log_samples and name its folder with --llm"
)


def attach(found: FoundRuns) -> list[QuestionSet]:
    """The evaluated questions of every task of every run, each with its LLM-only point."""
    return [
        QuestionSet.of(run, task, _find_llm(run, task, found))
        for run in found.runs
        for task in run.tasks
        if task in run.records
    ]


def _find_llm(run: Run, task: str, found: FoundRuns) -> LLMPoint:
    """The LLM-only figures of one task of a run, from the first source that has them."""
    warnings: list[str] = []
    if found.llm is not None:
        named = _from_folder(run, task, found.llm, named=True)
        if isinstance(named, LLMPoint):
            return named
        warnings = [f"--llm {printable(str(found.llm.paths[0]))} was not used: {named}"]
    own = _from_run(run, run, task)
    if isinstance(own, LLMPoint):
        return replace(own, source="this run", warnings=tuple(warnings))
    other = _from_folder(run, task, found, named=False)
    if isinstance(other, LLMPoint):
        return replace(other, warnings=(*warnings, *other.warnings))
    reason = Undefined(f"{own}; {other}. {_HOW_TO}" if other else f"{own}. {_HOW_TO}")
    return LLMPoint(reason, reason, warnings=tuple(warnings))


def _from_folder(run: Run, task: str, found: FoundRuns, named: bool) -> LLMPoint | str:
    points, refused = _automix_points(run, task, found, named)
    if not points:
        points, reasons = _single_model_points(run, task, found.single_models, named)
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
    run: Run, task: str, found: FoundRuns, named: bool
) -> tuple[list[LLMPoint], list[str]]:
    points, refused = [], []
    for other in found.runs:
        if other.run_id == run.run_id or task not in other.records:
            continue
        if not named and other.part("meta_verifier") != "always_llm":
            continue
        ours, theirs = run.tiers[-1].label, other.tiers[-1].label
        if ours != theirs and not named:
            refused.append(f"run {printable(other.run_id)} has another LLM ({theirs}, not {ours})")
            continue
        point = _why_not(run, other, task, found.versions, named) or _from_run(run, other, task)
        if isinstance(point, str):
            refused.append(f"run {printable(other.run_id)}: {point}")
        else:
            points.append(point)
    return points, refused


def _why_not(
    run: Run, other: Run, task: str, versions: Mapping[str, Mapping[str, str]], named: bool
) -> str:
    """Why the LLM answers of another run are not those of this one; empty if they may be."""
    llms = map(MethodSettings.of_last_tier, (run, other))
    if not named and (keys := MethodSettings.unequal(llms)):
        return f"its LLM has other settings ({listing(keys)})"
    return why_unlike(run, other, task, versions)


def _from_run(run: Run, other: Run, task: str) -> LLMPoint | str:
    """LLM answers that ``other`` recorded for every evaluated question of ``run``."""
    rows, theirs, last = run.records[task], other.records[task], len(other.tiers) - 1
    place = rows.find_rows(theirs)
    if (place < 0).any() or not rows.same_prompts(theirs, place).all():
        return "it did not answer the same questions"
    if missing := int((~theirs.asked[place, last]).sum()):
        return f"the LLM was not asked {missing} of {len(rows)} questions"
    costs = price_answers(theirs, last, run.cost, len(run.tiers) - 1)
    source = f"run {printable(other.run_id)} ({other.part('meta_verifier')})"
    scores = theirs.scores[place, last]
    return LLMPoint(
        _all_scores(scores), costs if isinstance(costs, Undefined) else costs[place], source
    )


def _single_model_points(
    run: Run, task: str, single_models: Sequence[SingleModelRun], named: bool
) -> tuple[list[LLMPoint], list[str]]:
    metric = run.tasks[task].metric
    points: list[LLMPoint] = []
    refused: list[str] = []
    llm, slm = (_names(run, i, part) for i, part in ((-1, "llm"), (0, "slm")))
    for one in single_models:
        if (one.task, one.metric) != (task, metric):
            continue
        if not named and (problem := _other_model(one.models, llm, slm)):
            refused.append(f"{one.shown} {problem}")
            continue
        if keys := differing(run.tasks[task].settings, one.settings):
            refused.append(unlike_settings(f"run {printable(run.run_id)}", one.shown, keys))
            continue
        absent = int(np.isin(run.records[task].doc_ids, one.doc_ids, invert=True).sum())
        if absent:
            refused.append(f"{one.shown} lacks {metric} for {absent} of the questions")
            continue
        if moved := _under_other_numbers(run, task, one):
            refused.append(
                f"{one.shown} numbers the documents otherwise: {moved} of this run's prompts stand "
                "there under another doc_id (a selection with --samples, or other data)"
            )
            continue
        points.append(_single_model_point(run, task, one))
    return points, refused


def _under_other_numbers(run: Run, task: str, one: SingleModelRun) -> int:
    """Prompts of a run that another holds under a number that is not theirs."""
    rows = run.records[task]
    theirs = one.prompts[np.searchsorted(one.doc_ids, rows.doc_ids)]
    differ = (rows.prompts != theirs) & (rows.prompts != 0)
    return int(np.isin(rows.prompts[differ], one.prompts).sum())


def _single_model_point(run: Run, task: str, one: SingleModelRun) -> LLMPoint:
    rows = run.records[task]
    place = np.searchsorted(one.doc_ids, rows.doc_ids)
    costs = _cost_without_records(run, len(run.tiers) - 1, len(rows))
    warnings = list(one.defects)
    prompts = one.prompts[place]
    other = (rows.prompts != prompts) & (rows.prompts != 0) & (prompts != 0)
    if other.any():
        warnings.append(
            f"{one.shown} asked {int(other.sum())} of {len(rows)} questions with another prompt "
            "than this run (chat template, few-shot examples or data differ): compare with care"
        )
    return LLMPoint(one.scores[place], costs, f"plain run {one.shown}", tuple(warnings))


def single_model_place(
    one: SingleModelRun, questions: QuestionSet | None
) -> tuple[Prices, int | None]:
    """Cost of each question of a run of one model, and the tier that it is of the chain beside."""
    if questions is None:
        return Undefined("the run names no prices: it is not part of a cascade"), None
    tier = _tier_of(questions.run, one.models)
    if tier is None:
        return Undefined("the model is no tier of the chain, so it has no price"), None
    return _cost_without_records(questions.run, tier, len(one.scores)), tier


def _cost_without_records(run: Run, tier: int, number: int) -> Prices:
    """Cost of answers of a tier without records, where the prices need no token counts."""
    try:
        value = answer_price(run.cost)(Call(tier, "answer", None, None, None))
    except AutoMixError:
        return Undefined(
            "a plain run of the harness records no token counts, so cost="
            f"{run.part('cost')} has no price for it: run with record=full or always_llm instead"
        )
    return np.full(number, value)


def _tier_of(run: Run, models: Sequence[str]) -> int | None:
    """The tier that a run of these models alone stands for; None if its name is of none."""
    names = {_short(m) for m in models}
    parts = {0: "slm", len(run.tiers) - 1: "llm"}
    tiers = range(len(run.tiers))
    return next((t for t in tiers if names & _names(run, t, parts.get(t, ""))[0]), None)


def _other_model(
    models: Sequence[str], llm: tuple[set[str], bool], slm: tuple[set[str], bool]
) -> str | None:
    """Why a run of these models alone does not stand for the LLM; None if it may."""
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
