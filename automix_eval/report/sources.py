"""Where the LLM-only figures of a task come from.

In this order: the folder named with ``--llm``; the run itself, where the LLM was asked every
question; a run with ``always_llm`` on the same questions; a plain run of the LLM with
``--log_samples``. What is merely plausible is refused with the reason, never taken silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from automix_eval.metrics.ibc import Undefined
from automix_eval.report.load import Run
from automix_eval.report.samples import HarnessResults, Samples, model_names, read_samples
from automix_eval.report.text import listing, plain
from automix_eval.types import Answer, AutoMixError, Call, CostModel, Record

HOW_TO = (
    "To get them: (1) run again with record=full, or (2) run meta_verifier=always_llm on the same "
    "questions and name its folder too, or (3) evaluate the LLM alone with lm_eval and "
    "--log_samples and name its folder with --llm"
)


@dataclass(frozen=True, slots=True)
class LLMPoint:
    """The LLM alone on a task's questions, in the order of the records.

    Attributes:
        scores: Score of each question, or why there are none.
        costs: Cost of each question, or why there are none.
        source: Where they come from, for the reader.
        warnings: What the reader should know about them.
    """

    scores: tuple[float, ...] | Undefined
    costs: tuple[float, ...] | Undefined
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


def answer_costs(
    answers: Sequence[Answer], cost: CostModel, tier: int | None = None
) -> tuple[float, ...] | Undefined:
    """Price of each answer; the reason where one cannot be priced.

    Args:
        answers: Answers with their calls.
        cost: The prices.
        tier: Price the calls as calls of this tier; None leaves them as they are.
    """
    try:
        return tuple(cost.answer_cost(_at(a, tier)) for a in answers)
    except AutoMixError as err:
        return Undefined(plain(err))


def find_llm(run: Run, task: str, folders: Folders) -> LLMPoint:
    """The LLM-only figures of one task of a run, from the first source that has them."""
    warnings: list[str] = []
    if folders.llm_name is not None:
        named = _from_folder(run, task, folders.llm_runs, folders.llm_results, named=True)
        if isinstance(named, LLMPoint):
            return named
        warnings = [f"--llm {plain(folders.llm_name)} was not used: {named}"]
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
    distinct = list({(p.scores, p.costs): p for p in points}.values())
    if len(distinct) == 1:
        return distinct[0]
    if distinct:
        names = listing([p.source for p in distinct])
        return f"several candidates differ ({names}): name one folder with --llm"
    if not refused and named:
        return f"it holds no LLM answers to the questions of {plain(task)}"
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
            refused.append(f"run {plain(other.run_id)} has another LLM ({theirs}, not {ours})")
            continue
        point = _from_run(run, other, task)
        if isinstance(point, str):
            refused.append(f"run {plain(other.run_id)}: {point}")
        else:
            points.append(point)
    return points, refused


def _from_run(run: Run, other: Run, task: str) -> LLMPoint | str:
    """LLM answers that ``other`` recorded for every evaluated question of ``run``."""
    theirs = {(r.doc_id, r.repeat): r for r in other.records[task]}
    last = len(other.tiers) - 1
    answers, scores = [], []
    missing = 0
    for record in run.records[task]:
        match = theirs.get((record.doc_id, record.repeat))
        if match is None or not _same_prompt(record.prompt_hash, match.prompt_hash):
            return "it did not answer the same questions"
        tier = match.tier(last)
        if tier is None:
            missing += 1
            continue
        answers.append(tier.answer)
        scores.append(tier.score)
    if missing:
        return f"the LLM was not asked {missing} of {len(run.records[task])} questions"
    costs = answer_costs(answers, run.cost, len(run.tiers) - 1)
    source = f"run {plain(other.run_id)} ({other.part('meta_verifier')})"
    return LLMPoint(_all_scores(scores), costs, source)


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
        shown = f"{plain(path.parent.name)}/{plain(path.name)}"
        if not named and (problem := _other_model(result.models, llm, slm)):
            refused.append(f"{shown} {problem}")
            continue
        samples = read_samples(path, metric)
        scores = samples.main()
        absent = [r.doc_id for r in run.records[task] if r.doc_id not in scores]
        if absent:
            refused.append(f"{shown} lacks {metric} for {len(absent)} of the questions")
            continue
        points.append(_plain_point(run, task, shown, samples, scores))
    return points, refused


def _plain_point(
    run: Run, task: str, shown: str, samples: Samples, scores: Mapping[int, float]
) -> LLMPoint:
    records, last = run.records[task], len(run.tiers) - 1
    call = Call(last, "answer", None, None, None)
    costs = answer_costs([Answer(last, "", (call,))] * len(records), run.cost)
    if isinstance(costs, Undefined):
        costs = Undefined(
            "a plain run of the harness records no token counts, so cost="
            f"{run.part('cost')} has no price for it: run with record=full or always_llm instead"
        )
    warnings = []
    if other := [r for r in records if not _same_prompt(r.prompt_hash, _hash(samples, r))]:
        warnings.append(
            f"{shown} asked {len(other)} of {len(records)} questions with another prompt than this "
            "run (chat template, few-shot examples or data differ): compare with care"
        )
    return LLMPoint(
        tuple(scores[r.doc_id] for r in records), costs, f"plain run {shown}", tuple(warnings)
    )


def _other_model(
    models: Sequence[str], llm: tuple[set[str], bool], slm: tuple[set[str], bool]
) -> str | None:
    """Why a plain run of these models does not stand for the LLM; None if it may."""
    names = {_short(m) for m in models}
    if not names or names & llm[0]:
        return None
    if names & slm[0]:
        return f"is a run of the SLM ({plain(models[0])})"
    if llm[1]:
        return (
            f"is a run of {plain(models[0])}, which is not named like the LLM; if it is the LLM, "
            "name its folder with --llm"
        )
    return None


def _names(run: Run, tier: int, part: str) -> tuple[set[str], bool]:
    """Names of a tier's model, and whether its configuration names one at all."""
    configured = model_names(run.config.get(part))
    return {_short(n) for n in (*configured, run.tiers[tier].label)}, bool(configured)


def _short(name: str) -> str:
    return name.rstrip("/").rsplit("/", 1)[-1].lower()


def _same_prompt(one: str, other: str) -> bool:
    return not one or not other or one == other


def _hash(samples: Samples, record: Record) -> str:
    return samples.prompts.get(record.doc_id, "")


def _all_scores(scores: Sequence[float | None]) -> tuple[float, ...] | Undefined:
    known = tuple(s for s in scores if s is not None)
    if len(known) == len(scores):
        return known
    return Undefined(f"the task gave no score to {len(scores) - len(known)} answers")


def _at(answer: Answer, tier: int | None) -> Answer:
    if tier is None:
        return answer
    return replace(answer, tier=tier, calls=tuple(replace(c, tier=tier) for c in answer.calls))
