"""Choosing one policy among candidates by what the user asks for: pure functions of numbers.

A candidate is a policy with a mean score P, a mean cost C and a share of escalated questions on the
fitting data. Six objectives::

    gain     largest  P - (what a random choice of single tiers of the same cost scores)
    ibc      largest  ((P - P_SLM) / (C - C_SLM)) / ((P_LLM - P_SLM) / (C_LLM - C_SLM)) - 1
    budget   largest  P  among those with  C <= budget
    target   least    C  among those with  P >= target * P_LLM
    assured  least    C  among those shown to have  P >= target * P_LLM  (``assured.py``)
    loss     least    C + error_price * (1 - P)

``gain`` is the default. Between two tiers it is the vertical distance to the chord from the first
to the last, P - [P_SLM + IBC_base (C - C_SLM)]: delta IBC times the quality that the extra cost
buys on the chord. Where a tier between them beats the chord, the line is the upper hull of the
single tiers.

``ibc`` is that of the paper (AutoMix, arXiv 2310.12963). It is a slope, and largest where almost
nothing is spent: alone it prefers a policy that escalates one lucky question to any policy that can
be measured. ``min_escalation`` bounds the escalated share from below. Its default, 0.05:

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

import numpy as np

from automix_eval.metrics.bootstrap import delta_ibc_values
from automix_eval.metrics.curves import Point, envelope
from automix_eval.metrics.ibc import TOLERANCE, exceeds
from automix_eval.records.outcomes import BoolArray, FloatArray, Outcomes
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number

OBJECTIVES = ("gain", "ibc", "budget", "target", "assured", "loss")
MIN_ESCALATION = 0.05

# In a chain of three tiers or more a slope is compared from this share of C_LLM - C_SLM on: where
# two tiers cost nearly the same, the better of them has a slope without end and none of the others.
LEAST_RUN = 0.01

# Standard errors at the one-sided level of 5 %.
ONE_SIDED = 1.645

_NUMBERS = {
    "budget": ("budget",),
    "target": ("target", "assured"),
    "error_price": ("loss",),
}


@dataclass(kw_only=True, eq=False)
class Selection:
    """How a router chooses among its policies; the hyper-parameters of every router that does.

    Args:
        objective: One of :data:`OBJECTIVES`.
        budget: Largest mean cost of a question, for ``budget``.
        target: Share of the last tier's mean score to reach, for ``target`` and ``assured``.
        confidence: With which ``assured`` shows that it is reached.
        error_price: What a wrong answer costs, in the units of the cost model, for ``loss``.
        min_escalation: Least share of the fitting questions to escalate, for ``ibc``.

    Raises:
        AutoMixError: A value is missing or out of range.
    """

    objective: str = "gain"
    budget: float | None = None
    target: float | None = None
    confidence: float = 0.9
    error_price: float | None = None
    min_escalation: float = MIN_ESCALATION

    def __post_init__(self) -> None:
        if self.objective not in OBJECTIVES:
            raise AutoMixError(
                f"objective={self.objective!r} is unknown: choose one of {', '.join(OBJECTIVES)}"
            )
        for key, objectives in _NUMBERS.items():
            value = getattr(self, key)
            said = _said(key)
            if value is None and self.objective in objectives:
                raise AutoMixError(f"objective={self.objective} needs {said}=NUMBER")
            if key == "error_price" and is_number(value, 0.0, 0.0):
                raise AutoMixError("error_price=0 must be above 0: free errors need no second tier")
            if value is not None and not is_number(value, 0.0, np.inf):
                least = "above" if key == "error_price" else "of at least"
                raise AutoMixError(f"{said}={value!r} must be a number {least} 0")
        if not is_number(self.confidence, 0.5, 0.9999):
            raise AutoMixError(f"confidence={self.confidence!r} must be in [0.5, 0.9999]")
        if not is_number(self.min_escalation, 0.0, 1.0):
            raise AutoMixError(f"min_escalation={self.min_escalation!r} must be a share in [0, 1]")

    def unread(self) -> list[str]:
        """Numbers that are set and that the objective has no use for, by the names of settings."""
        given = (key for key in _NUMBERS if getattr(self, key) is not None)
        return [_said(key) for key in given if self.objective not in _NUMBERS[key]]


def _said(key: str) -> str:
    return "mean_cost" if key == "budget" else key


@dataclass(frozen=True, slots=True)
class Ends:
    """Mean score and mean cost of the first and of the last tier alone, without verification.

    Attributes:
        slm_score: Of the first tier; the others likewise.
        between: (cost, score) of each tier between the two.
    """

    slm_score: float
    slm_cost: float
    llm_score: float
    llm_cost: float
    between: tuple[Point, ...] = ()

    @classmethod
    def of(cls, outcomes: Outcomes) -> Ends:
        """The ends of a chain on these questions."""
        return cls.from_means(outcomes.scores.mean(axis=0), outcomes.answer_costs.mean(axis=0))

    @classmethod
    def from_means(cls, score: FloatArray, cost: FloatArray) -> Ends:
        """The ends, from (N,) mean scores and costs of all tiers."""
        s, c = score.tolist(), cost.tolist()
        return cls(s[0], c[0], s[-1], c[-1], tuple(zip(c[1:-1], s[1:-1], strict=True)))

    @property
    def singles(self) -> list[Point]:
        """(cost, score) of each tier alone."""
        return [(self.slm_cost, self.slm_score), *self.between, (self.llm_cost, self.llm_score)]

    @property
    def hull(self) -> list[Point]:
        """Corners of what single tiers attain, mixed at random."""
        return envelope(self.singles)

    def coin_toss(self, cost: FloatArray) -> FloatArray:
        """Mean score of the best random choice of single tiers at each mean cost.

        The chord from the first to the last tier goes on beyond the last: what costs more than
        asking it alone is a loss.
        """
        corners = np.array(self.hull)
        line = np.interp(cost, corners[:, 0], corners[:, 1])
        if self.undefined:
            return np.asarray(line)
        base = (self.llm_score - self.slm_score) / (self.llm_cost - self.slm_cost)
        return np.asarray(np.maximum(line, self.slm_score + base * (cost - self.slm_cost)))

    @property
    def undefined(self) -> str:
        """Why delta IBC exists for no policy on these data; empty where it exists."""
        if not exceeds(self.llm_score, self.slm_score):
            return (
                f"the last tier is not better than the first on the fitting data "
                f"({self.llm_score:.4g} against {self.slm_score:.4g}), so delta IBC is undefined"
            )
        if not exceeds(self.llm_cost, self.slm_cost):
            return (
                f"the last tier is better and does not cost more than the first on the fitting "
                f"data ({self.llm_cost:.4g} against {self.slm_cost:.4g}), so delta IBC is "
                "undefined (leave the first tier out of the chain)"
            )
        return ""


@dataclass(frozen=True, slots=True)
class Chosen:
    """The chosen candidate.

    Attributes:
        index: Which candidate; None where the objective is defined for none: keep every answer.
        value: The objective's value there (gain, delta IBC, mean score, mean cost, or loss).
        note: What the reader of the policy must know, else empty.
    """

    index: int | None
    value: float | None
    note: str = ""


def delta_ibc(score: FloatArray, cost: FloatArray, ends: Ends) -> tuple[FloatArray, BoolArray]:
    """Delta IBC of each candidate, and whether it is defined (the value is 0 where it is not)."""
    points = (ends.slm_score, ends.slm_cost, ends.llm_score, ends.llm_cost)
    lift = delta_ibc_values(score, cost, *(np.full(len(score), p) for p in points))
    defined = ~np.isnan(lift)
    return np.where(defined, lift, 0.0), defined


def select(
    score: FloatArray,
    cost: FloatArray,
    escalation: FloatArray,
    ends: Ends,
    asked: Selection,
    doubt: FloatArray | None = None,
) -> Chosen:
    """The best candidate: by the objective, then the cheapest, then fewest escalations, then first.

    Where no candidate meets a bound (``min_escalation``, ``budget``, ``target``), the nearest to it
    are compared and the note says so. ``assured`` chooses like ``target`` here; what is shown is
    found out on other questions than those fitted on, see ``assured.py``.

    Args:
        score: (m,) mean score of each candidate on the fitting data.
        cost: (m,) mean cost.
        escalation: (m,) share of questions answered by a tier above the first.
        ends: Both ends of the chain.
        asked: What is asked for.
        doubt: (m,) score to be taken off each candidate before they are compared by ``gain``.
    """
    if asked.objective == "gain":
        return _by_gain(score, cost, escalation, ends, doubt)
    if asked.objective == "ibc":
        return _by_ibc(score, cost, escalation, ends, asked.min_escalation)
    every = np.full(len(score), True)
    if asked.objective == "loss":
        assert asked.error_price is not None
        loss = cost + asked.error_price * (1 - score)
        index = _first(every, loss, cost, escalation)
        return Chosen(index, float(loss[index]))
    if asked.objective == "budget":
        assert asked.budget is not None
        allowed, note = cost <= asked.budget * (1 + TOLERANCE), ""
        if not allowed.any():
            allowed = _near(cost, cost.min())
            note = f"no policy costs at most {asked.budget:.6g} (budget) on the fitting data; "
            note += f"the cheapest costs {cost.min():.6g}"
        index = _first(allowed, -score, cost, escalation)
        return Chosen(index, float(score[index]), note)
    assert asked.target is not None
    least = asked.target * ends.llm_score
    allowed, note = score >= least - TOLERANCE * abs(least), ""
    if not allowed.any():
        allowed = _near(score, score.max())
        note = f"no policy reaches {asked.target:.6g} (target) of the last tier's score, "
        note += f"{least:.6g}, on the fitting data; the best reaches {score.max():.6g}"
    index = _first(allowed, cost, escalation)
    return Chosen(index, float(cost[index]), note)


def _by_gain(
    score: FloatArray,
    cost: FloatArray,
    escalation: FloatArray,
    ends: Ends,
    doubt: FloatArray | None,
) -> Chosen:
    every = np.full(len(score), True)
    if doubt is None:
        doubt = np.zeros(len(score))
    if len(ends.hull) == 1:
        reason = ends.undefined
        if not reason or exceeds(ends.hull[0][1], ends.slm_score):
            # quality is to be had for nothing, and no line is needed to say so
            index = _first(every, doubt - score, cost, escalation)
            reason = reason or "a tier is the best and costs no more than the first"
            return Chosen(index, None, f"{reason}: the policy of the best quality is taken")
        return Chosen(None, None, f"{reason}: the policy keeps every answer")
    gain = score - ends.coin_toss(cost)
    index = _first(every, doubt - gain, cost, escalation)
    return Chosen(index, float(gain[index]))


def _by_ibc(
    score: FloatArray, cost: FloatArray, escalation: FloatArray, ends: Ends, least: float
) -> Chosen:
    value, defined = delta_ibc(score, cost, ends)
    if not defined.any():
        reason = ends.undefined or "no candidate costs more than the first tier alone"
        if exceeds(ends.llm_score, ends.slm_score) and ends.undefined:
            # quality is to be had for nothing, and no ratio is needed to say so
            index = _first(np.full(len(score), True), -score, cost, escalation)
            return Chosen(index, None, f"{reason}: the policy of the best quality is taken")
        return Chosen(None, None, f"{reason}: the policy keeps every answer")
    if ends.between:
        run = cost - ends.slm_cost >= LEAST_RUN * (ends.llm_cost - ends.slm_cost)
        defined = defined & run if (defined & run).any() else defined
    allowed, note = defined & (escalation >= least - TOLERANCE), ""
    if not allowed.any():
        most = float(escalation[defined].max())
        allowed = defined & (escalation >= most - TOLERANCE)
        note = (
            f"no candidate escalates {least:.3g} of the fitting questions (min_escalation); the "
            f"most is {most:.3g}"
        )
    index = _first(allowed, -value, cost, escalation)
    return Chosen(index, float(value[index]), note)


def _first(allowed: BoolArray, *keys: FloatArray) -> int:
    """The allowed candidate with the least first key; ties within rounding by the next keys."""
    left = np.flatnonzero(allowed)
    for key in keys:
        left = left[_near(key[left], key[left].min())]
    return int(left[0])


def _near(values: FloatArray, best: float) -> BoolArray:
    return np.asarray(np.abs(values - best) <= TOLERANCE * max(1.0, abs(best)))
