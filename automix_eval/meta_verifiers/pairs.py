"""The fitting data of one decision between neighbouring tiers, and rules learned one a tier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from automix_eval.meta_verifiers.base import require_fitted, stand_in
from automix_eval.meta_verifiers.selection import Outcomes as PairOutcomes
from automix_eval.outcomes import BoolArray, FloatArray, Outcomes, Seen
from automix_eval.types import AutoMixError

Rule = TypeVar("Rule")


@dataclass(frozen=True, slots=True)
class Pair:
    """The fitting data of one decision: keep the answer of ``tier``, or ask ``tier + 1``.

    Attributes:
        confidences: Confidence at ``tier``; 0 where it is not defined.
        defined: Whether the confidence is defined (or ``undefined`` is a number that stands in).
        outcomes: Scores and costs.
    """

    tier: int
    confidences: FloatArray
    defined: BoolArray
    outcomes: PairOutcomes

    @property
    def uninformed(self) -> str:
        """A note where fewer than two confidences are defined, else empty.

        The rule cannot tell answers by their confidence then; it is fitted all the same, since a
        verifier that fails on one task must not end a run over many.
        """
        number = int(self.defined.sum())
        if number >= 2:
            return ""
        return (
            f"{number} of {len(self.defined)} fitting questions have a confidence at tier "
            f"{self.tier}, so the policy cannot tell answers apart: meta_verifier.undefined "
            "decides for those without one. Look at the verifier's outcomes, or try another"
        )

    def mask(self, escalates: BoolArray, undefined: str | float) -> BoolArray:
        """A candidate's mask, once undefined confidences are decided too."""
        return np.where(self.defined, escalates, undefined == "escalate")


def read_pairs(outcomes: Outcomes, undefined: str | float, name: str) -> list[Pair]:
    """The fitting data of every tier but the last.

    Raises:
        AutoMixError: Fewer than two questions or tiers.
    """
    if len(outcomes) < 2:
        raise AutoMixError(
            f"meta_verifier={name} is fitted on at least 2 records and got {len(outcomes)}: raise "
            "calibration.num_docs, or load a fitted policy"
        )
    if outcomes.num_tiers < 2:
        raise AutoMixError(
            f"meta_verifier={name} is fitted on records of at least 2 tiers, and these have only "
            "the first: record them with every tier asked (record=full)"
        )
    rows = outcomes.canonical()
    pairs = []
    for tier in range(rows.num_tiers - 1):
        value = stand_in(rows.confidences[:, tier], undefined)
        defined = ~np.isnan(value)
        pairs.append(
            Pair(
                tier,
                np.where(defined, value, 0.0),
                defined,
                PairOutcomes(
                    rows.scores[:, tier],
                    rows.scores[:, tier + 1],
                    rows.answer_costs[:, tier],
                    rows.verification_costs[:, tier],
                    rows.answer_costs[:, tier + 1],
                ),
            )
        )
    return pairs


def rule_of(rules: Sequence[Rule] | None, seen: Seen, name: str) -> Rule:
    """The learned rule of the tier reached.

    Raises:
        AutoMixError: Nothing was learned, or for a chain of another length.
    """
    fitted: Sequence[Rule] = require_fitted(rules, name)
    if len(fitted) != seen.num_tiers - 1:
        raise AutoMixError(
            f"meta_verifier={name} was fitted for {len(fitted) + 1} tiers and meets a chain of "
            f"{seen.num_tiers}: fit it on records of this chain"
        )
    return fitted[seen.tier]


def parse_rules(
    learned: Mapping[str, Any], parse: Callable[[Mapping[str, Any]], Rule], name: str
) -> tuple[Rule, ...]:
    """The rules of a stored policy.

    Raises:
        AutoMixError: The policy has another shape; names the field.
    """
    try:
        if set(learned) != {"rules"} or not isinstance(learned["rules"], list):
            raise ValueError(f"expected one list 'rules', got the keys {sorted(learned)}")
        if not learned["rules"]:
            raise ValueError("'rules' is empty")
        return tuple(parse(rule) for rule in learned["rules"])
    except (KeyError, TypeError, ValueError) as err:
        raise AutoMixError(
            f"this is no policy of meta_verifier={name} ({err!r}): fit it again"
        ) from err
