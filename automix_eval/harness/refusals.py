"""What cannot be run is said before the first call: for all tasks of a run, in one message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from automix_eval.cascade.tier import Tier, samples
from automix_eval.harness.task_view import TaskView, decode_prompt
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.text import listing
from automix_eval.types import Verifier

if TYPE_CHECKING:
    from lm_eval.api.instance import Instance

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


def why_not(
    view: TaskView,
    fits: MetaVerifier | None,
    tiers: Sequence[Tier] = (),
    verifier: Verifier | None = None,
) -> str:
    """Why a task cannot be run; empty if it can.

    Args:
        view: The task.
        fits: The router, if it is to be fitted on this task.
        tiers: Those that may be asked.
        verifier: Who judges the answers of all but the chain's last; None if nobody does.
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
            check_models(view, first[0], tiers, verifier)
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


def check_models(
    view: TaskView, first: Instance, tiers: Sequence[Tier], verifier: Verifier | None
) -> None:
    """See whether each model can be asked for what a task, and who judges, want of it.

    Raises:
        AutoMixError: One cannot. None is asked.
    """
    choices = first.request_type == "loglikelihood"
    for model in [*(t.backend for t in tiers), *getattr(verifier, "models", ())]:
        if view.run.apply_chat_template:
            model.render(decode_prompt(str(first.arguments[0]), is_chat=True))
        if choices and (check := getattr(model, "check_choices", None)):
            check()
    if verifier is None:
        return
    for tier in tiers[:-1]:
        check = getattr(tier.backend, "check_scoring", None)
        if check and getattr(verifier, "needs_scores", False):
            check()
        if verifier.needs_token_probs and not choices:
            tier.check_token_probs(samples(first.arguments[1]))


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
