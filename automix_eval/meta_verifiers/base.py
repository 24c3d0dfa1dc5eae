"""What the meta-verifiers share: the live form of a decision, and the loop from tier to tier."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from automix_eval.records.outcomes import (
    ABSTAIN,
    ROUNDING,
    BoolArray,
    FloatArray,
    IntArray,
    Outcomes,
    Seen,
)
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number
from automix_eval.types import Decision, Observation

Self = TypeVar("Self", bound="Router")


class Walk(NamedTuple):
    """Where a router led n questions of a chain of N tiers.

    Attributes:
        final: (n,) tier whose answer counts.
        visited: (n, N) whether each tier was asked.
        abstained: (n,) whether the answer is not to count.
        verified: (n,) whether the tiers asked are verified, where that differs by question; None:
            as the router says of itself.
    """

    final: IntArray
    visited: BoolArray
    abstained: BoolArray
    verified: BoolArray | None = None


class Router(ABC):
    """The contract's form that is the same for all; a subclass says in :meth:`choose` what to do.

    One that learns overrides ``fit``, ``get_learned`` and ``set_learned``; one with a parameter
    that moves it between cheap and dear overrides ``sweep``.
    """

    needs_verification = False
    needs_fit = False
    needs_texts = False
    needs_hindsight = False
    only_tier: int | None = None
    # what the reader of a report must know about the fit, else empty
    note_: str = ""

    def check_chain(self, num_tiers: int) -> None:  # noqa: B027 - most route any chain
        """Raise AutoMixError unless it routes chains of this length."""

    @property
    def reads(self) -> Sequence[str]:
        """Names of the signals it reads: of those it is to be fitted on, then of its policy."""
        return ()

    def check_signals(self, given: Collection[str]) -> None:
        """Raise AutoMixError unless a verifier that gives these signals gives all it reads."""
        require_signals(self.reads, given)

    def fit(self: Self, outcomes: Outcomes) -> Self:  # noqa: ARG002 - for those that learn
        """Learn nothing."""
        return self

    @abstractmethod
    def choose(self, seen: Seen) -> IntArray:
        """(n,) the tier each question goes to next; the tier reached keeps its answer."""

    def walk(self, outcomes: Outcomes, known: dict[Any, Any]) -> Walk | None:  # noqa: ARG002
        """Where :meth:`choose` leads all rows, for a router that knows a faster way; else None.

        Args:
            outcomes: What every tier did.
            known: Empty at first; what is the same for other policies of a sweep may be kept here.
        """
        return None

    def decide(self, observations: Sequence[Observation]) -> list[Decision]:
        """One decision an observation, in order, with its reason.

        Raises:
            AutoMixError: A confidence is NaN or outside [0, 1].
        """
        decisions: list[Decision | None] = [None] * len(observations)
        groups: dict[tuple[int, int], list[int]] = {}
        for i, o in enumerate(observations):
            groups.setdefault((o.tier, o.num_tiers), []).append(i)
        for (tier, _), rows in groups.items():
            group = [observations[i] for i in rows]
            chosen = self.choose(see(group, self.reads)).tolist()
            for i, observation, to in zip(rows, group, chosen, strict=True):
                decisions[i] = as_decision(tier, to, self._reason(observation, to))
        return [d for d in decisions if d is not None]

    def sweep(self) -> list[tuple[float | None, Any]]:
        """Every (parameter, policy) of the range; here the one policy there is."""
        return [(None, self)]

    def only_last(self) -> Any:
        """After ``fit``: the policy that asks the last tier alone; None where the range has it."""
        return None

    def notes(self) -> list[str]:
        """What the reader of a report must know about the fit."""
        return [self.note_] if self.note_ else []

    def describe(self) -> str:
        """The policy in words."""
        return (type(self).__doc__ or "").strip().splitlines()[0]

    def get_learned(self) -> dict[str, Any]:
        """The learned values as JSON."""
        return {}

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore what :meth:`get_learned` returned."""
        if learned:
            raise AutoMixError(
                f"{type(self).__name__} learns nothing, so the policy with {sorted(learned)} "
                "belongs to another meta_verifier"
            )

    def _reason(self, observation: Observation, to: int) -> str:
        """One short phrase for the record."""
        if observation.tier < 0:
            return f"starts at tier {to}"
        if observation.tier == observation.num_tiers - 1:
            return "last tier"
        value = observation.confidence
        seen = "undefined confidence" if value is None else f"v={value:.4g}"
        return seen if self.needs_verification else type(self).__name__


def as_decision(tier: int, to: int, reason: str = "") -> Decision:
    """The decision that a choice of :meth:`Router.choose` is."""
    if to != ABSTAIN:
        return Decision(tier, to, reason)
    return Decision(tier, tier, ", ".join(filter(None, ("abstains", reason))), abstains=True)


def see(observations: Sequence[Observation], reads: Sequence[str] = ()) -> Seen:
    """What a live run shows of questions that reached the same tier.

    Args:
        observations: Of these questions.
        reads: Signals that are unknown where none of their answers has them.
    """
    first = observations[0]
    values = [[_read(value, o) for value in o.confidences[: first.tier + 1]] for o in observations]
    found = {name for o in observations for signals in o.signals for name in signals}
    width = first.tier + 1
    return Seen(
        tier=first.tier,
        num_tiers=first.num_tiers,
        confidences=np.array(values).reshape(len(observations), width),
        ids=tuple(_identity(o) for o in observations),
        signals={
            name: np.array(
                [
                    [s.get(name, math.nan) for s in (*o.signals, *[{}] * width)[:width]]
                    for o in observations
                ]
            ).reshape(len(observations), width)
            for name in sorted(found.union(reads))
        },
        questions=tuple(o.question.question if o.question else "" for o in observations),
        answers=tuple(o.answer.text if o.answer else "" for o in observations),
        costs=_costs(observations, width),
    )


def stand_in(confidence: FloatArray, undefined: str | float) -> FloatArray:
    """Confidences with ``undefined`` in the place of NaN, where it is a number."""
    if isinstance(undefined, str):
        return confidence
    return np.where(np.isnan(confidence), float(undefined), confidence)


def check_undefined(undefined: Any) -> None:
    """Raise AutoMixError unless it says what an undefined confidence counts as."""
    if isinstance(undefined, str) and undefined in ("escalate", "keep"):
        return
    if not is_number(undefined, 0.0, 1.0):
        raise AutoMixError(
            f"meta_verifier.undefined={undefined!r} must be escalate, keep or a confidence in "
            "[0, 1]"
        )


def require_fitted(learned: Any, name: str) -> Any:
    """The learned value, or an AutoMixError that says how to get one."""
    if learned is None:
        raise AutoMixError(
            f"meta_verifier={name} has learned nothing yet: call fit(outcomes), or load a policy "
            "with set_learned"
        )
    return learned


def require_signals(wanted: Collection[str], there: Collection[str]) -> None:
    """Raise AutoMixError unless all the signals that a router wants are there."""
    if lacking := sorted(set(wanted).difference(there)):
        raise AutoMixError(
            f"the router reads the signals {', '.join(lacking)}, which are not among those that "
            f"the verifier gives ({', '.join(sorted(there)) or 'none'}): use the verifier that "
            "gives them, name others (meta_verifier.signals, or signal), or take another router"
        )


def require_rows(outcomes: Outcomes, name: str) -> None:
    """Raise AutoMixError unless there are two questions to fit on, and a tier to escalate to."""
    if len(outcomes) < 2:
        raise AutoMixError(
            f"meta_verifier={name} is fitted on at least 2 records and got {len(outcomes)}: give "
            "it more (calibration.num_docs of a run, training rows or fewer folds of a table), or "
            "load a fitted policy"
        )
    if outcomes.num_tiers < 2:
        raise AutoMixError(
            f"meta_verifier={name} is fitted on records of at least 2 tiers, and these have only "
            "the first: record them with every tier asked (record=full)"
        )


def require_chain(who: str, fitted: int, met: int) -> None:
    """Raise AutoMixError unless a chain has as many tiers as the one that was fitted on."""
    if fitted != met:
        raise AutoMixError(
            f"{who} was fitted for {fitted} tiers and meets a chain of {met}: fit it on records of "
            "this chain"
        )


def _read(value: Any, observation: Observation) -> float:
    if value is None:
        return math.nan
    # numpy's numbers pass float() too; a text would as well, and is none.
    number = math.nan if isinstance(value, str) else float(value)
    if not -ROUNDING <= number <= 1 + ROUNDING:
        raise AutoMixError(
            f"{_place(observation)}tier {observation.tier}: the confidence is {value!r}, not a "
            "number in [0, 1]. A verifier reports a confidence it does not have as None (see "
            "meta_verifier.undefined)"
        )
    return min(max(number, 0.0), 1.0)


def _costs(observations: Sequence[Observation], width: int) -> FloatArray | None:
    if not any(o.costs for o in observations):
        return None
    rows = []
    for o in observations:
        row = [math.nan if c is None else float(c) for c in o.costs[:width]]
        for tier, cost in enumerate(row):
            if not (cost >= 0 and math.isfinite(cost)) and o.costs[tier] is not None:
                raise AutoMixError(
                    f"{_place(o)}tier {tier}: the answer costs {o.costs[tier]!r}, expected a "
                    "finite number of at least 0 (see the cost model)"
                )
        rows.append(row + [math.nan] * (width - len(row)))
    return np.array(rows)


def _place(observation: Observation) -> str:
    question = observation.question
    return f"task {question.task}, doc_id {question.doc_id}, " if question else ""


def _identity(observation: Observation) -> str:
    question = observation.question
    return f"{question.task}/{question.doc_id}/{question.repeat}" if question else ""
