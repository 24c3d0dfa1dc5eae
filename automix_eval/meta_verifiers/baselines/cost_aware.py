"""Greedy routing on predicted scores: shared by the learners, which differ in the prediction only.

At tier i a learner predicts the score of the answer at hand and of each later tier from what was
seen so far, and the question goes to the tier with the best

    predicted score - price * mean cost of asking that tier (its verification included)

where the answer at hand costs nothing more. The price is one number for the whole chain; tiers may
be skipped; every question starts at the first tier, since before it there is nothing to read. This
is the seed of cascade routing (arXiv 2410.10347), with the features of AutoMix (arXiv 2310.12963).

The price is chosen on *out-of-fold* predictions: each question's scores are predicted by a model
that was fitted without it (and without the other questions on its document), and the candidates
are played on these. In-sample predictions of a flexible learner look better than they are, and a
price chosen on them would escalate too little. The models in use are fitted on all questions.

At the highest price the first tier answers all, and is not verified: predictions that say nothing
cost nothing. By ``ibc``, the objective of the papers, it is verified, as there.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Protocol, TypeVar

import msgspec
import numpy as np

from automix_eval.meta_verifiers.assured import ChoosingRouter
from automix_eval.meta_verifiers.base import require_chain, require_fitted, require_rows
from automix_eval.meta_verifiers.baselines import common, features
from automix_eval.meta_verifiers.baselines.features import Scaling
from automix_eval.meta_verifiers.baselines.pricing import asking_costs, best, choose_price
from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes, Seen
from automix_eval.safety.errors import AutoMixError

FOLDS = 5

G = TypeVar("G", bound="GreedyLearner")


class Model(Protocol):
    """A regression of several scores on the same columns."""

    def predict(self, x: FloatArray) -> FloatArray:
        """(n, m) predicted scores of (n, f) columns."""


@dataclass(frozen=True, slots=True, eq=False)
class TierModel:
    """What is learned for the decision at one tier.

    Attributes:
        scaling: From raw columns to those of the model.
        model: Predicts the scores of this tier and of all later ones.
    """

    scaling: Scaling
    model: Model

    def predict(self, raw: FloatArray) -> FloatArray:
        """(n, N - tier) predicted scores."""
        return self.model.predict(self.scaling(raw))


@dataclass(frozen=True, slots=True, eq=False)
class Learned:
    """A fitted policy.

    Attributes:
        tiers: One :class:`TierModel` per tier but the last.
        signals: Signals read beside the confidences.
        costs: (N,) mean cost of asking each tier.
        price: Score that one unit of cost must buy.
        prices: Prices of the sweep, from cheap policies to dear ones.
    """

    tiers: list[TierModel]
    signals: list[str]
    costs: FloatArray
    price: float
    prices: FloatArray


@dataclass(eq=False)
class GreedyLearner(ChoosingRouter):
    """Routes to the tier with the best predicted score at a price; see the module's docstring.

    A subclass gives :meth:`_learn` and :meth:`_read_model`. An undefined confidence is a feature of
    its own: the learner finds out what it means.

    Args:
        signals: Signals to read beside the confidences; None: all there are.
        max_fit_rows: At most so many questions are fitted on; see :func:`.common.thin`.

    The others are those of :class:`~automix_eval.meta_verifiers.objectives.Selection`.

    Attributes:
        learned_: What was learned; None before fitting.
    """

    signals: Sequence[str] | None = field(default=None, kw_only=True)
    max_fit_rows: int = field(default=20_000, kw_only=True)

    name: ClassVar[str]
    needs_verification = True
    needs_fit = True

    def __post_init__(self) -> None:
        super().__post_init__()
        common.check_count("max_fit_rows", self.max_fit_rows, 2)
        names = self.signals if isinstance(self.signals, Iterable) else [self.signals]
        texts = not isinstance(self.signals, str) and all(isinstance(n, str) for n in names)
        if self.signals is not None and not texts:
            raise AutoMixError(
                f"meta_verifier.signals={self.signals!r} must be a list of names or null"
            )
        self.learned_: Learned | None = None

    @property
    def reads(self) -> Sequence[str]:
        """The signals that are configured, then those that were learned on."""
        return (self.signals or ()) if self.learned_ is None else self.learned_.signals

    @abstractmethod
    def _learn(self, x: FloatArray, y: FloatArray) -> Model:
        """A model of (n, m) scores on (n, f) columns; rows come in canonical order."""

    @abstractmethod
    def _read_model(self, value: Any, inputs: int, outputs: int) -> Model:
        """A model of a policy; ValueError for another shape."""

    def _fit(self: G, outcomes: Outcomes) -> G:
        """Learn one model a tier, and the price."""
        require_rows(outcomes, self.name)
        signals = features.signal_names(outcomes, self.signals)
        rows = common.thin(outcomes, self.max_fit_rows)
        raws = [features.raw_columns(rows, t, signals) for t in range(rows.num_tiers - 1)]
        costs = asking_costs(rows)
        prices, index, chosen = choose_price(self._out_of_fold(rows, raws), costs, rows, self)
        tiers = [self._fit_tier(t, raw, rows.scores) for t, raw in enumerate(raws)]
        self._hold(Learned(tiers, signals, costs, float(prices[index]), prices), chosen.note)
        return self

    def choose(self, seen: Seen) -> IntArray:
        """The tier with the best predicted score at the price; the cheaper of equals."""
        learned: Learned = require_fitted(self.learned_, self.name)
        require_chain(f"meta_verifier={self.name}", len(learned.costs), seen.num_tiers)
        alone = self.only_tier is not None or seen.tier < 0 or seen.tier == seen.num_tiers - 1
        if alone or not len(seen):
            return np.full(len(seen), max(seen.tier, 0))
        raw = features.raw_columns(seen, seen.tier, learned.signals)
        predicted = learned.tiers[seen.tier].predict(raw)
        return best(predicted, learned.costs[seen.tier :], learned.price) + seen.tier

    def sweep(self) -> list[tuple[float | None, Any]]:
        """One policy a price, cheap to dear by what they cost on out-of-fold predictions."""
        learned: Learned = require_fitted(self.learned_, self.name)
        return [(price, self._at(learned, price)) for price in learned.prices.tolist()]

    def describe(self) -> str:
        """The price, and what is predicted at tier 0 by its confidence."""
        learned: Learned = require_fitted(self.learned_, self.name)
        note = [f"Note: {self.note_}."] if self.note_ else []
        if self.only_tier is not None:
            return "\n".join(["ask tier 0 alone, and verify nothing", *note])
        grid = np.linspace(0.0, 1.0, 9)
        raw = np.full((9, 1 + len(learned.signals)), np.nan)
        raw[:, 0] = grid
        predicted = learned.tiers[0].predict(raw)
        to = best(predicted, learned.costs, learned.price)
        names = "  ".join(f"tier {t:<5}" for t in range(len(learned.costs)))
        unknown = ", signals unknown" if learned.signals else ""
        lines = [
            f"{self.name}: predicted scores, routed at {learned.price:.6g} a unit of cost.",
            f"At tier 0{unknown}: v, {names.strip()}, goes to",
            *(
                f"{v:.3f}  " + "  ".join(f"{p:<10.4g}" for p in row) + f"  {goes}"
                for v, row, goes in zip(grid, predicted, to, strict=True)
            ),
        ]
        return "\n".join(lines + note)

    def get_learned(self) -> dict[str, Any]:
        """The models, one a tier, and the prices."""
        learned: Learned = require_fitted(self.learned_, self.name)
        values = msgspec.to_builtins(learned, enc_hook=np.ndarray.tolist)
        return {**values, "note": self.note_}

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the models."""
        with common.reading(self.name):
            common.exactly(learned, "tiers", "signals", "costs", "price", "prices", "note")
            signals = [common.text(s) for s in learned["signals"]]
            costs = common.table(learned["costs"], None)
            if len(costs) < 2 or len(learned["tiers"]) != len(costs) - 1 or (costs < 0).any():
                raise ValueError(f"{len(learned['tiers'])} models, costs={costs}")
            tiers = []
            for t, tier in enumerate(learned["tiers"]):
                common.exactly(tier, "scaling", "model")
                scaling = Scaling.from_json(tier["scaling"], (t + 1) * (1 + len(signals)))
                model = self._read_model(tier["model"], scaling.width, len(costs) - t)
                tiers.append(TierModel(scaling, model))
            price, prices = common.number(learned["price"]), common.table(learned["prices"], None)
            note = common.text(learned["note"])
            self._hold(Learned(tiers, signals, costs, price, prices), note)

    def _take(self, chosen: Any, value: float, note: str) -> None:  # noqa: ARG002 - not kept
        self._hold(chosen.learned_, note)

    def _at(self, learned: Learned, price: float) -> GreedyLearner:
        other = copy(self)
        other._hold(replace(learned, price=price), "")
        return other

    def _hold(self, learned: Learned, note: str) -> None:
        self.learned_, self.note_ = learned, note
        alone = self.objective != "ibc" and learned.price == learned.prices.max()
        self.only_tier, self.needs_verification = 0 if alone else None, not alone

    def _fit_tier(self, tier: int, raw: FloatArray, scores: FloatArray) -> TierModel:
        """A model that knows every way to the tier (one way only in chains of up to three)."""
        ways = list(features.visits(tier))
        stacked = np.concatenate([features.on_the_way(raw, way) for way in ways])
        scaling = Scaling.of(stacked)
        y = np.tile(scores[:, tier:], (len(ways), 1))
        return TierModel(scaling, self._learn(scaling(stacked), y))

    def _out_of_fold(self, rows: Outcomes, raws: Sequence[FloatArray]) -> list[FloatArray]:
        """For each tier, (ways, n, N - tier) predictions by models that never saw the row."""
        fold = common.fold_of(rows, FOLDS)
        made = []
        for tier, raw in enumerate(raws):
            ways = list(features.visits(tier))
            predicted = np.empty((len(ways), len(rows), rows.num_tiers - tier))
            for k in np.unique(fold):
                out = fold == k
                model = self._fit_tier(tier, raw[~out], rows.scores[~out])
                for way, visited in enumerate(ways):
                    predicted[way, out] = model.predict(features.on_the_way(raw[out], visited))
            made.append(predicted)
        return made
