"""Which runs may be compared question by question, and which are seeds of one method.

Runs are compared, and paired, where the task (its configuration, code and version), metric, data,
prompts and gold answers are the same; they share a leaderboard, and with it the SLM alone and the
LLM alone, where tiers and prices are the same as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from automix_eval.analysis.method_settings import MethodSettings
from automix_eval.analysis.question_sets import QuestionSet
from automix_eval.records.runs import Run
from automix_eval.records.single_model_runs import SingleModelRun
from automix_eval.records.task_settings import differing, unlike_settings
from automix_eval.safety.text import listing, printable


@dataclass(slots=True)
class ComparableRuns:
    """Runs on the same questions, of the cascade and of one model.

    Attributes:
        key: A unique name: the task, with a number where its runs are in several groups.
        why_apart: Why they are not in the task's first group; empty for that one.
    """

    key: str
    sets: list[QuestionSet]
    single_models: list[SingleModelRun]
    why_apart: str


def group(
    sets: Sequence[QuestionSet],
    single_models: Sequence[SingleModelRun],
    versions: Mapping[str, Mapping[str, str]],
) -> list[ComparableRuns]:
    """Runs that can be compared question by question.

    Args:
        sets: Question sets of runs of the cascade.
        single_models: Runs of one model.
        versions: run_id -> version of each task.
    """
    found: dict[str, list[ComparableRuns]] = {}

    def add(task: str, one: ComparableRuns) -> None:
        groups = found.setdefault(task, [])
        one.key = printable(task) + (f" ({len(groups) + 1})" if groups else "")
        groups.append(one)

    for questions in sets:
        groups = found.get(questions.task, [])
        reasons = [_why_apart(g.sets[0], questions, versions) for g in groups]
        place = next((i for i, r in enumerate(reasons) if not r), None)
        if place is None:
            add(questions.task, ComparableRuns("", [questions], [], next(iter(reasons), "")))
        else:
            groups[place].sets.append(questions)
    for one in single_models:
        groups = found.get(one.task, [])
        reasons = [_why_single_apart(one, g) for g in groups]
        for g, reason in zip(groups, reasons, strict=True):
            if not reason:
                g.single_models.append(one)
        if all(reasons):
            add(one.task, ComparableRuns("", [], [one], next(iter(reasons), "")))
    return [g for groups in found.values() for g in groups]


def _why_single_apart(one: SingleModelRun, beside: ComparableRuns) -> str:
    if beside.sets:
        return why_single_unlike(one, beside.sets[0])
    return one.unlike(beside.single_models[0])


def why_single_unlike(one: SingleModelRun, questions: QuestionSet) -> str:
    """Why a run of one model cannot be paired with a question set; empty if it can."""
    metric = questions.run.tasks[questions.task].metric
    if metric not in (None, one.metric):
        return f"{one.shown} is scored by {one.metric}, not by {metric}"
    run = f"run {printable(questions.run.run_id)}"
    if keys := differing(questions.run.tasks[questions.task].settings, one.settings):
        return unlike_settings(run, one.shown, keys)
    return one.unlike_records(questions.rows, run)


def _why_apart(
    one: QuestionSet, other: QuestionSet, versions: Mapping[str, Mapping[str, str]]
) -> str:
    """Why two runs of a task cannot share a leaderboard; empty if they can."""
    if reason := why_unlike(one.run, other.run, one.task, versions):
        return reason
    names = f"run {printable(one.run.run_id)} and run {printable(other.run.run_id)}"
    chains = [" -> ".join(t.label for t in s.run.tiers) for s in (one, other)]
    if chains[0] != chains[1]:
        return f"{names} have different tiers ({chains[0]}, and {chains[1]})"
    if keys := MethodSettings.unequal(MethodSettings.of_tiers(s.run) for s in (one, other)):
        return f"{names} have different settings of the tiers ({listing(keys)})"
    prices = [s.run.prices for s in (one, other)]
    if prices[0] != prices[1]:
        return f"{names} have different prices ({prices[0]}, and {prices[1]}): --costs sets one"
    if len(one.rows) != len(other.rows) or (other.rows.find_rows(one.rows) < 0).any():
        return f"{names} answered different questions ({len(one.rows)} and {len(other.rows)})"
    return ""


def why_unlike(one: Run, other: Run, task: str, versions: Mapping[str, Mapping[str, str]]) -> str:
    """Why two runs of a task cannot be paired question by question; empty if they can."""
    first, second = (f"run {printable(run.run_id)}" for run in (one, other))
    names = f"{first} and {second}"
    pair = [versions.get(run.run_id, {}).get(task, "") for run in (one, other)]
    if all(pair) and pair[0] != pair[1]:
        return f"{names} have different versions of the task ({pair[0]} and {pair[1]})"
    metrics = [run.tasks[task].metric for run in (one, other)]
    if metrics[0] != metrics[1]:
        return (
            f"{names} have different metrics ({printable(metrics[0])} and {printable(metrics[1])})"
        )
    if keys := differing(one.tasks[task].settings, other.tasks[task].settings):
        return unlike_settings(first, second, keys)
    rows, others = one.records[task], other.records[task]
    place = others.find_rows(rows)
    shared = np.flatnonzero(place >= 0)
    if not len(shared):
        return f"{names} have no question in common"
    unlike = shared[~others.same_prompts(rows, place)[shared]]
    if len(unlike):
        first_doc = int(rows.doc_ids[unlike[0]])
        return (
            f"{names} asked {len(unlike)} of {len(shared)} common questions with different prompts "
            f"(the hashes differ, first at doc_id {first_doc}: data, template or few-shot "
            "examples), so they are not paired"
        )
    unlike = shared[~others.same_targets(rows, place)[shared]]
    if len(unlike):
        return (
            f"{names} have different gold answers to {len(unlike)} of {len(shared)} common "
            f"questions (first at doc_id {int(rows.doc_ids[unlike[0]])})"
        )
    return ""
