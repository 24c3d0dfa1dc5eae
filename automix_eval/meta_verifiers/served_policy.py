"""A fitted policy that decides in a service, one answer at a time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.base import as_decision
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.records.outcomes import ROUNDING, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.types import Decision

_ANY = (-math.inf, math.inf)
Values = float | None | Mapping[int, float | None]


@dataclass(frozen=True, eq=False, repr=False)
class ServedPolicy:
    """A fitted router with the facts of its file.

    Attributes:
        router: The meta-verifier.
        held: The file's values.
    """

    router: MetaVerifier
    held: Mapping[str, Any]

    @property
    def tiers(self) -> tuple[str, ...]:
        """Labels of the models, SLM first; decisions are indices into it."""
        found = self.held["fitted_on"].get("tiers")
        if not isinstance(found, list) or len(found) < 2:
            raise AutoMixError("the policy does not name the tiers that it was fitted on")
        return tuple(str(t.get("label") if isinstance(t, Mapping) else t) for t in found)

    @property
    def verifier(self) -> Mapping[str, Any] | None:
        """Whose confidence it decides on, with settings; None for a table's own column."""
        found = self.held["fitted_on"].get("verifier")
        return found if isinstance(found, Mapping) else None

    @property
    def needs_verification(self) -> bool:
        """Whether an answer must be judged before :meth:`decide`."""
        return self.router.needs_verification

    @property
    def first(self) -> int:
        """The tier that is asked first, for routers that do not look at the question."""
        return self.first_for()

    def first_for(self, question: str | None = None, identity: str | None = None) -> int:
        """The tier that is asked first for a question."""
        return self._choose(-1, {}, {}, question, None, identity, {})

    def decide(
        self,
        confidence: Values = None,
        cost: Values = None,
        *,
        question: str | None = None,
        answer: str | None = None,
        identity: str | None = None,
        signals: Mapping[str, Values] | None = None,
    ) -> Decision:
        """What to do with an answer: keep it, or which tier to ask next.

        Args:
            confidence: Of the answer of the first tier, in [0, 1], None where the verifier has
                none. In a chain of more than two tiers a mapping of every tier asked so far to its
                confidence; the last of them is the tier reached.
            cost: What that answer has cost, in the unit of the cost model that the policy was
                fitted with; or a mapping likewise. Only policies that read it need it.
            question: Its text, for routers that read it.
            answer: The text of the answer of the tier reached, for the fixed-answer rule.
            identity: Names the question, for policies that are a mixture of two: the same name is
                always decided alike.
            signals: What several verifiers said, for a calibrator: a number by name, or in a chain
                of more than two tiers a mapping of every tier asked so far to it, by name.

        Returns:
            The decision: ``to`` is the next tier, ``escalates`` whether it is another one,
            ``abstains`` whether the answer should not be given at all.

        Raises:
            AutoMixError: A number is out of range, or something is missing that the router reads.
        """
        seen = _by_tier(confidence, self.first if not isinstance(confidence, Mapping) else 0)
        paid = _by_tier(cost, min(seen)) if cost is not None else {}
        tier = max(seen)
        if not 0 <= min(seen) <= tier < len(self.tiers):
            raise AutoMixError(f"the tiers are 0 to {len(self.tiers) - 1}, not {sorted(seen)}")
        to = self._choose(tier, seen, paid, question, answer, identity, signals or {})
        return as_decision(tier, to)

    def __repr__(self) -> str:
        name = self.held["meta_verifier"].get("name")
        return f"<policy {name}: {' -> '.join(self.tiers)}>"

    def _choose(
        self,
        tier: int,
        confidences: Mapping[int, float | None],
        costs: Mapping[int, float | None],
        question: str | None,
        answer: str | None,
        identity: str | None,
        signals: Mapping[str, Values],
    ) -> int:
        said = {name: _by_tier(v, min(confidences)) for name, v in signals.items()}
        for name, values in said.items():
            if missing := sorted(set(confidences) - set(values)):
                raise AutoMixError(
                    f"the signal {name} of tier {missing[0]} is missing: give {name} of every tier "
                    "asked so far, {TIER: NUMBER, ...}, None where there is none"
                )
        seen = Seen(
            tier,
            len(self.tiers),
            _row(confidences, tier, "confidence", (0.0, 1.0)),
            None if identity is None else (identity,),
            {name: _row(v, tier, f"signal {name}", _ANY) for name, v in said.items()},
            None if question is None else (question,),
            None if answer is None else (answer,),
            costs=_row(costs, tier, "cost", (0.0, math.inf)) if costs else None,
        )
        return int(self.router.choose(seen)[0])


def _by_tier(values: Values, first: int) -> Mapping[int, float | None]:
    if not isinstance(values, Mapping):
        return {first: values}
    if not values:
        raise AutoMixError("a mapping of tiers must name the tier reached")
    return values


def _row(
    values: Mapping[int, float | None], tier: int, what: str, within: tuple[float, float]
) -> Any:
    (least, most), expected = within, "a finite number"
    if least == 0.0:
        expected = (
            "a number in [0, 1], or None where there is none"
            if most == 1.0
            else ("a finite number of 0 or more")
        )
    row = np.full((1, tier + 1), np.nan)
    for t, value in values.items():
        if value is None:
            continue
        number = isinstance(value, (int, float, np.number)) and not isinstance(value, bool)
        if not number or not least - ROUNDING <= value <= most + ROUNDING or math.isinf(value):
            raise AutoMixError(f"tier {t}: the {what} is {value!r}, expected {expected}")
        if 0 <= t <= tier:
            row[0, t] = min(max(float(value), least), most)
    return row
