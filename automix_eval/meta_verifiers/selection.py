"""Choosing one policy among candidates on the fitting data: pure functions of numbers.

A candidate is a boolean mask over the fitting questions, true where it escalates. For a mask with
mean score P and mean cost C, and the points of the two tiers alone (arXiv 2310.12963)::

    delta IBC = ((P - P_SLM) / (C - C_SLM)) / ((P_LLM - P_SLM) / (C_LLM - C_SLM)) - 1

Delta IBC is a slope, so alone it prefers a policy that escalates one lucky question to any policy
that can be measured. ``min_escalation`` bounds the escalated share from below. Its default, 0.05:

* the policies of the paper that help most escalate 6 to 20 % of the questions (AutoMix's first
  version: 9.9 % on CoQA, 9.3 % on CNLI in the mean of ten fits), and a bound must not exclude them;
* on the 1000 questions the paper fits on, 5 % are 50 questions; the standard error of their mean
  gain is then at most 1 / sqrt(50) = 0.14, about the gap between the paper's two tiers. Below that
  the slope that is maximised is mostly noise;
* a much higher bound does harm: where the confidences crowd into few values, the first candidate
  that passes it may be the one that escalates everything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from automix_eval.types import AutoMixError

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

# "ibc" is the paper's. Further ones compute other values in `select`.
OBJECTIVES = ("ibc",)
MIN_ESCALATION = 0.05

# Means of the same numbers, summed in another order, differ in their last digits; such a
# difference is neither a gain nor a cost, and it must not break a tie.
TOLERANCE = 1e-9


@dataclass(frozen=True, slots=True)
class Outcomes:
    """Scores and costs of one pair of neighbouring tiers, one entry a fitting question.

    Attributes:
        keep_score: Score of the lower tier's answer.
        next_score: Score of the upper tier's answer.
        keep_cost: Cost of the lower tier's answer.
        verification_cost: Cost of its verification.
        next_cost: Cost of the upper tier's answer.
    """

    keep_score: FloatArray
    next_score: FloatArray
    keep_cost: FloatArray
    verification_cost: FloatArray
    next_cost: FloatArray

    def __post_init__(self) -> None:
        columns = (getattr(self, name) for name in self.__slots__)
        if not all(np.isfinite(column).all() for column in columns):
            raise AutoMixError(
                "a policy can only be selected on finite scores and costs: drop the questions "
                "without a score, or price every call"
            )

    @property
    def gain(self) -> FloatArray:
        """What escalating adds to each question's score."""
        return self.next_score - self.keep_score


@dataclass(frozen=True, slots=True)
class Selection:
    """The chosen candidate.

    Attributes:
        index: Which candidate; None where the objective is defined for none: keep every answer.
        value: The objective's value there.
        note: What the reader of the policy must know, else empty.
    """

    index: int | None
    value: float | None
    note: str = ""


def check_selection(name: str, objective: Any, min_escalation: Any) -> None:
    """Raise AutoMixError unless the two hyper-parameters of :func:`select` are valid."""
    if objective not in OBJECTIVES:
        raise AutoMixError(
            f"meta_verifier.objective={objective!r} is unknown to {name}: choose one of "
            f"{', '.join(OBJECTIVES)}"
        )
    number = isinstance(min_escalation, (int, float)) and not isinstance(min_escalation, bool)
    if not number or not 0 <= min_escalation <= 1:
        raise AutoMixError(
            f"meta_verifier.min_escalation={min_escalation!r} of {name} must be a share in [0, 1]"
        )


def points(masks: BoolArray, outcomes: Outcomes) -> tuple[FloatArray, FloatArray]:
    """Mean score and mean cost of each candidate: lower answer + verification + upper answer."""
    gain, price = outcomes.gain, outcomes.next_cost
    score = outcomes.keep_score.mean() + np.array([_mean(gain, m) for m in masks])
    fixed = outcomes.keep_cost.mean() + outcomes.verification_cost.mean()
    return score, fixed + np.array([_mean(price, m) for m in masks])


def undefined_base(outcomes: Outcomes) -> str:
    """Why delta IBC exists for no policy on these data; empty where it exists."""
    low, high = outcomes.keep_score.mean(), outcomes.next_score.mean()
    if not _exceeds(high, low):
        return (
            f"the larger tier is not better than the smaller on the fitting data ({high:.4g} "
            f"against {low:.4g}), so delta IBC is undefined"
        )
    low, high = outcomes.keep_cost.mean(), outcomes.next_cost.mean()
    if not _exceeds(high, low):
        return (
            f"the larger tier is better and does not cost more than the smaller on the fitting "
            f"data ({high:.4g} against {low:.4g}), so delta IBC is undefined (leave the smaller "
            "tier out of the chain)"
        )
    return ""


def delta_ibc(masks: BoolArray, outcomes: Outcomes) -> tuple[FloatArray, BoolArray]:
    """Delta IBC of each candidate, and whether it is defined (the value is 0 where it is not)."""
    if undefined_base(outcomes):
        return np.zeros(len(masks)), np.zeros(len(masks), dtype=np.bool_)
    score, cost = points(masks, outcomes)
    slm_score, slm_cost = outcomes.keep_score.mean(), outcomes.keep_cost.mean()
    base = (outcomes.next_score.mean() - slm_score) / (outcomes.next_cost.mean() - slm_cost)
    defined = np.array([_exceeds(c, slm_cost) for c in cost], dtype=np.bool_)
    extra = np.where(defined, cost - slm_cost, 1.0)
    return np.where(defined, (score - slm_score) / extra / base - 1.0, 0.0), defined


def select(
    masks: BoolArray,
    outcomes: Outcomes,
    objective: str = "ibc",
    min_escalation: float = MIN_ESCALATION,
) -> Selection:
    """The best candidate: largest objective, then fewest escalations, then the first.

    Args:
        masks: Candidates by questions, true where the candidate escalates.
        outcomes: Scores and costs of the questions.
        objective: One of :data:`OBJECTIVES`.
        min_escalation: Least share of the questions a candidate must escalate. If no candidate
            reaches it, those that escalate most are compared, and the note says so.

    Raises:
        AutoMixError: An unknown objective, or masks that do not fit the questions.
    """
    check_selection("select", objective, min_escalation)
    if masks.ndim != 2 or not len(masks) or masks.shape[1] != len(outcomes.keep_score):
        raise AutoMixError(
            f"candidates of shape {masks.shape} do not fit {len(outcomes.keep_score)} questions: "
            "pass one row a candidate and one column a question"
        )
    value, defined = delta_ibc(masks, outcomes)
    if not defined.any():
        reason = undefined_base(outcomes) or "no candidate costs more than the smaller tier alone"
        return Selection(None, None, f"{reason}: the policy keeps every answer")
    share = masks.mean(axis=1)
    allowed, note = defined & (share >= min_escalation - TOLERANCE), ""
    if not allowed.any():
        most = share[defined].max()
        allowed = defined & (share >= most - TOLERANCE)
        note = (
            f"no candidate escalates {min_escalation:.3g} of the fitting questions "
            f"(min_escalation); the most is {most:.3g}"
        )
    best = value[allowed].max()
    tied = np.flatnonzero(allowed & (value >= best - TOLERANCE * max(1.0, abs(best))))
    index = int(tied[np.argmin(masks[tied].sum(axis=1))])
    return Selection(index, float(value[index]), note)


def _mean(values: FloatArray, mask: BoolArray) -> float:
    """Mean over all questions of the values of the escalated ones."""
    return float(values[mask].sum() / len(values))


def _exceeds(high: float, low: float) -> bool:
    """Whether ``high`` is greater than ``low`` by more than rounding."""
    return bool(high - low > TOLERANCE * max(abs(high), abs(low)))
