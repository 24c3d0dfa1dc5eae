"""What cannot be run is said before the first call: for all tasks of a run, in one message."""

from __future__ import annotations

from collections.abc import Mapping

from automix_eval.harness.task_view import TaskView
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import listing

_PERPLEXITY = (
    "it measures the perplexity of a text, so there is no answer to verify or to route: run it "
    "with --model hf"
)
_ONE_CONTINUATION = (
    "it scores one given continuation a document, so there is no answer to verify or to route: "
    "run it with --model hf"
)
_SEVERAL = (
    "it asks a model several things about each document ({}) and scores them together, so there is "
    "no single answer to verify or to route: run it with --model hf"
)


def why_not(view: TaskView, fits: MetaVerifier | None) -> str:
    """Why a task cannot be run; empty if it can.

    Args:
        view: The task.
        fits: The router, if it is to be fitted on this task.
    """
    kind = view.task.OUTPUT_TYPE
    if kind == "loglikelihood_rolling":
        return _PERPLEXITY
    instances = list(view.task.instances or ())
    doc_id = instances[0].doc_id if instances else None
    first = [i for i in instances if i.doc_id == doc_id]
    if first and first[0].request_type == "loglikelihood" and len(first) < 2:
        return _ONE_CONTINUATION
    kinds = [i.request_type for i in first]
    if kinds[1:] and set(kinds) != {"loglikelihood"}:
        return _SEVERAL.format(", ".join(kinds))
    try:
        if first:
            view.metrics.try_out(first, view.repeats)
        view.check_demonstrations(None if fits is None else view.fitting.choice)
    except AutoMixError as err:
        return str(err)
    if fits is None or not (view.metrics.is_corpus or view.metrics.is_bypassed):
        return ""
    what, remedy = (
        ("scores nothing (the metric bypass, as with --predict_only)", "score it")
        if view.metrics.is_bypassed
        else (
            f"has no metric that is a number for each question ({view.metric} is one of all "
            "questions together)",
            "name another with metric=",
        )
    )
    return (
        f"task {view.name} {what}, and the router is fitted on such numbers: {remedy}, give "
        "meta_verifier.policy=FILE.json, or use a meta-verifier that needs no fit "
        "(self_consistency, always_slm, always_llm)"
    )


def refuse(reasons: Mapping[str, str], number: int) -> None:
    """Refuse a run for all of its tasks that cannot be run.

    Args:
        reasons: By task.
        number: Tasks of the run.

    Raises:
        AutoMixError: There is one.
    """
    if not reasons:
        return
    alike: dict[str, list[str]] = {}
    for name, why in sorted(reasons.items()):
        own = f"task {name}"
        reason = why.removeprefix(own) if why.startswith(f"{own} ") else f": {why}"
        alike.setdefault(reason, []).append(name)
    said = "; ".join(
        (f"each of {listing(names)}" if names[1:] else f"task {names[0]}") + why
        for why, names in alike.items()
    )
    rest = (
        ""
        if len(reasons) == number
        else f". skip_unsupported=true leaves them out and runs the other {number - len(reasons)}"
    )
    raise AutoMixError(
        f"{len(reasons)} of {number} tasks cannot be run, and no model has been asked: {said}{rest}"
    )
