"""Abstention at a price: leaving a question without an answer that counts, where all may be wrong.

By ``objective=loss`` a question costs its calls + E (1 - score), where E is the price of an error.
One that is abstained on costs its calls + A. So an abstention is worth an answer of the score
1 - A / E, whichever tiers were asked before, and whoever maximises score - cost / E may treat it as
an answer of that score. Any tier but the last may abstain: what is known before the last answer is
all that is known after it, and before it that answer is not paid. Sources: prices of errors and
abstentions, arXiv 2507.03834; abstention before the last tier, arXiv 2502.09054.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from automix_eval.meta_verifiers.assured import ChoosingRouter
from automix_eval.meta_verifiers.objectives import ONE_SIDED
from automix_eval.records.outcomes import FloatArray, Outcomes
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number


@dataclass(kw_only=True, eq=False)
class AbstainingRouter(ChoosingRouter):
    """A router that may abstain.

    Args:
        abstain_price: What an abstention costs beside its calls, in the units of the cost model,
            below ``error_price``; None: no question is abstained on.

    Raises:
        AutoMixError: The objective is another than ``loss``, or the price is out of range.
    """

    abstain_price: float | None = field(default=None)

    def __post_init__(self) -> None:
        super().__post_init__()
        price, most = self.abstain_price, self.error_price
        if price is None:
            return
        if self.objective != "loss" or most is None:
            raise AutoMixError(
                f"meta_verifier.abstain_price={price!r} needs the price of an error to be compared "
                "with: set objective=loss error_price=NUMBER, or leave abstain_price null"
            )
        if not is_number(price, 0.0, most) or not 0 < price < most:
            raise AutoMixError(
                f"meta_verifier.abstain_price={price!r} must be a number above 0 and below "
                f"error_price={most!r}: whoever abstains for nothing never answers, and for the "
                "price of an error nobody abstains"
            )

    @property
    def abstention_score(self) -> float | None:
        """The score of an answer that is worth an abstention; None where none is made."""
        if self.abstain_price is None or self.error_price is None:
            return None
        return 1.0 - self.abstain_price / self.error_price

    def abstention_note(self, share: float) -> str:
        """What the reader of the fitted policy must know; empty where none is made.

        Args:
            share: Of the fitting questions that are abstained on.
        """
        if self.abstention_score is None:
            return ""
        return (
            f"abstains on {share:.1%} of the fitting questions; in the policy's score each counts "
            f"{self.abstention_score:.4g}, which is 1 - abstain_price / error_price"
        )


def abstention_bounds(
    outcomes: Outcomes, confidences: FloatArray, worth: float
) -> tuple[float | None, ...]:
    """For every tier but the last the confidence up to which its answers are not to be given.

    The bound under which the total score of the fitting questions is highest, if all of them end at
    that tier and those at or below the bound count ``worth``, less what chance may have added to it
    at the one-sided level of 5 %; None: no answer. An undefined confidence is never at a bound.

    Args:
        outcomes: The fitting data.
        confidences: (n, N) theirs, with what stands in for undefined ones.
        worth: The score that is worth an abstention.
    """
    found: list[float | None] = []
    for tier in range(outcomes.num_tiers - 1):
        order = np.argsort(confidences[:, tier], kind="stable")
        order = order[~np.isnan(confidences[order, tier])]
        if not len(order):
            found.append(None)
            continue
        held, score = confidences[order, tier], outcomes.scores[order, tier]
        chance = ONE_SIDED * score.std() * np.sqrt(np.arange(1, len(order) + 1))
        gained = np.cumsum(worth - score) - chance
        # equal confidences go together
        ends = np.flatnonzero(np.diff(held, append=np.inf) > 0)
        best = int(ends[gained[ends].argmax()])
        found.append(float(held[best]) if gained[best] > 0 else None)
    return tuple(found)


def as_answered(
    outcomes: Outcomes, confidences: FloatArray, bounds: Sequence[float | None], worth: float
) -> Outcomes:
    """The outcomes with the score of each answer that is not given replaced by ``worth``."""
    scores = outcomes.scores.copy()
    for tier, bound in enumerate(bounds):
        if bound is not None:
            scores[confidences[:, tier] <= bound, tier] = worth
    return replace(outcomes, scores=scores)
