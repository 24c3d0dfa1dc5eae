"""Oracle: what no router can beat at a price."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.assured import ChoosingRouter
from automix_eval.meta_verifiers.base import require_fitted, require_rows
from automix_eval.meta_verifiers.baselines.common import (
    SWEEP,
    exactly,
    number,
    reading,
    table,
    text,
    thinned,
)
from automix_eval.meta_verifiers.baselines.pricing import single_points
from automix_eval.meta_verifiers.objectives import Ends, select
from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number


@dataclass(eq=False)
class Oracle(ChoosingRouter):
    """Ask the one tier with the best score - price * cost of this very question.

    It knows the scores, so it exists in replays only; it verifies nothing, and it asks one tier, so
    it is also above every cascade. The upper bound of AutoMix (arXiv 2310.12963) and of cascade
    routing (arXiv 2410.10347). Ties go to the cheaper tier.

    Scores of 0 and 1 at equal costs have few distinct prices, hence few policies; a cost between
    two of them is reached by tossing a coin between both, so the line between them is attained too.

    Args:
        price: Score that one unit of cost must buy; None: chosen by the objective.

    The others are those of :class:`~automix_eval.meta_verifiers.objectives.Selection`.

    Attributes:
        price_: The price in use; None before fitting.
        prices_: The prices of the sweep, cheap policies (high prices) first.
    """

    needs_hindsight = True

    price: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.price is not None and not is_number(self.price, 0.0, np.inf):
            raise AutoMixError(f"meta_verifier.price={self.price!r} of oracle must be at least 0")
        self.needs_fit = self.price is None
        self.price_: float | None = self.price
        self.prices_: FloatArray = np.array([] if self.price is None else [self.price])

    def _fit(self, outcomes: Outcomes) -> Oracle:
        """Learn the price; the sweep's prices are quantiles of those at which a choice changes."""
        require_rows(outcomes, "oracle")
        rows = outcomes.canonical()
        self.prices_ = _prices(rows)
        if self.price is not None:
            return self
        played = [_best(rows, p) for p in self.prices_.tolist()]
        score, cost, above = single_points(played, rows)
        chosen = select(score, cost, above, Ends.of(rows), self)
        self.price_ = float(self.prices_[chosen.index or 0])
        self.note_ = chosen.note
        return self

    def _take(self, chosen: Any, value: float, note: str) -> None:  # noqa: ARG002 - not kept
        self.price_, self.note_ = chosen.price_, note

    def choose(self, seen: Seen) -> IntArray:
        """The best tier of each question.

        Raises:
            AutoMixError: The scores are not known: a live run.
        """
        price = require_fitted(self.price_, "oracle")
        if seen.hindsight is None:
            raise AutoMixError(
                "meta_verifier=oracle decides by scores that a live run does not know: replay it "
                "on records of every tier (record=full)"
            )
        if seen.tier >= 0:
            return np.full(len(seen), seen.tier)
        return _best(seen.hindsight, price)

    def sweep(self) -> list[tuple[float | None, Any]]:
        """Prices of the fitting data, the dearest first."""
        require_fitted(self.price_, "oracle")
        return [(price, Oracle(price)) for price in self.prices_.tolist()]

    def describe(self) -> str:
        """The price."""
        price = require_fitted(self.price_, "oracle")
        note = f" Note: {self.note_}." if self.note_ else ""
        return f"Ask the tier with the best score - {price:.6g} * cost, known beforehand.{note}"

    def get_learned(self) -> dict[str, Any]:
        """The price, and those of the sweep."""
        price = require_fitted(self.price_, "oracle")
        return {"price": price, "prices": self.prices_.tolist(), "note": self.note_}

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the price."""
        with reading("oracle"):
            exactly(learned, "price", "prices", "note")
            self.price_ = number(learned["price"], 0)
            self.prices_, self.note_ = table(learned["prices"], None), text(learned["note"])


def _best(rows: Outcomes, price: float) -> IntArray:
    """(n,) the tier with the best score at a price, the cheapest of those within rounding."""
    value = rows.scores - price * rows.answer_costs
    best = value.max(axis=1, keepdims=True)
    level = value >= best - 1e-12 * np.maximum(1.0, np.abs(best))
    return np.asarray(np.where(level, rows.answer_costs, np.inf).argmin(axis=1))


def _prices(rows: Outcomes) -> FloatArray:
    """Prices at which some choice changes, at most :data:`SWEEP`, falling to 0."""
    score, cost = rows.scores, rows.answer_costs
    gains = []
    for low in range(rows.num_tiers):
        for high in range(rows.num_tiers):
            more = cost[:, high] - cost[:, low]
            worth = (score[:, high] - score[:, low])[more > 0] / more[more > 0]
            gains.append(worth[worth > 0])
    prices = thinned(np.unique(np.concatenate(gains)), SWEEP - 1)
    return np.concatenate([prices[::-1], [0.0]])
