"""How the tasks score an answer, and how a composite model's routing enters the results.

The composite model answers with a ``str`` that has an attribute ``routing``, a mapping with the
keys ``decision`` (str), ``confidence`` (float or None), ``cost`` (float or None: unpriced) and
``escalation`` (0.0 or 1.0), or with the key ``failed`` alone where its calls failed for good. Any
other model answers with a plain ``str``.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from automix_eval.metrics.answers import each_exact_match, each_token_f1, exact_match, token_f1

__all__ = ["count_decisions", "free_form", "leave_one_out", "mean_of_defined", "with_routing"]


def free_form(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score a free-form answer: ``process_results`` of Qasper and NarrativeQA.

    Token F1 is Qasper's official metric (Dasigi et al. 2021, arXiv 2105.03011) and that by which
    SCROLLS (Shaham et al. 2022, arXiv 2201.03533) and the AutoMix paper score NarrativeQA. As in
    Qasper's own evaluator and SQuAD 1.1's, which it follows, no token in common scores 0.0, also
    where answer and reference are articles or punctuation alone.

    Args:
        doc: A uniform document.
        results: The answer, as the harness's filters left it.

    Returns:
        ``f1`` and ``exact_match`` in [0, 1], the maximum over the references, and the routing.
    """
    answer, references = results[0], doc["answers"]
    metrics = {
        "f1": token_f1(answer, references, both_empty=0.0),
        "exact_match": exact_match(answer, references),
    }
    return with_routing(metrics, answer)


def leave_one_out(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, Any]:
    """Score a free-form answer as CoQA's own script does: ``process_results`` of CoQA.

    Each reference is left out once and the best of the others taken, so that a model is measured
    as the people are who answered. Where normalising leaves nothing of both, they agree. Source:
    Reddy et al. 2019 (arXiv 1808.07042), section 6.1, and the official evaluation script; the
    harness's own task scores likewise.

    Args:
        doc: A uniform document with every person's answer as ``references``.
        results: The answer, as the harness's filters left it.

    Returns:
        ``f1`` and ``exact_match`` so, ``f1_max`` the maximum over all references (the AutoMix
        paper's, arXiv 2310.12963), and the routing.
    """
    answer, references = results[0], doc["references"]
    f1, f1_max = _left_out(each_token_f1(answer, references))
    exact, _ = _left_out(each_exact_match(answer, references))
    metrics = {"f1": f1, "exact_match": exact, "f1_max": f1_max}
    return with_routing(metrics, answer)


def _left_out(scores: Sequence[float]) -> tuple[float, float]:
    """Mean of the best scores without each in turn, where there are several; the best of all."""
    best = max(scores)
    if len(scores) == 1:
        return best, best
    folds = (max((*scores[:i], *scores[i + 1 :])) for i in range(len(scores)))
    return math.fsum(folds) / len(scores), best


def with_routing(metrics: Mapping[str, float], answer: str) -> dict[str, Any]:
    """Add a composite model's routing to the metrics of its answer.

    The keys added land in each logged sample and are aggregated by the task's ``metric_list``:
    ``escalation_rate`` and ``cost`` by their mean, ``confidence`` by :func:`mean_of_defined`,
    ``decision`` by :func:`count_decisions`. An unpriced answer has no ``cost``; a plain answer has
    none of the four. A question that failed has nothing at all, so that no mean counts it.

    Returns:
        A new dictionary.
    """
    routing: Mapping[str, Any] | None = getattr(answer, "routing", None)
    if not routing:
        return dict(metrics)
    if routing.get("failed"):
        return {}
    fields: dict[str, Any] = {
        **metrics,
        "escalation_rate": float(routing["escalation"]),
        "decision": str(routing["decision"]),
        "confidence": routing["confidence"] if _is_defined(routing["confidence"]) else None,
    }
    if routing["cost"] is not None:
        fields["cost"] = float(routing["cost"])
    return fields


def mean_of_defined(values: Sequence[float | None]) -> float | None:
    """Mean of the values that are neither None nor NaN; None if there are none.

    Not NaN then, since the harness writes results as JSON.
    """
    defined = [value for value in values if _is_defined(value)]
    return math.fsum(defined) / len(defined) if defined else None


def count_decisions(decisions: Sequence[str]) -> str:
    """Counts as the results table shows them, frequent ones first: "keep 30, escalate 10"."""
    counts = sorted(Counter(decisions).items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{name} {count}" for name, count in counts)


def _is_defined(value: float | None) -> TypeGuard[float]:
    return value is not None and not math.isnan(value)
