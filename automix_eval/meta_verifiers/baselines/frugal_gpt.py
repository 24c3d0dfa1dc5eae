"""FrugalGPT: a fine-tuned encoder judges each answer, and thresholds make a cascade."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from automix_eval.meta_verifiers.base import require_fitted
from automix_eval.meta_verifiers.baselines import common
from automix_eval.meta_verifiers.baselines.scorer import Scorer, cross_fit
from automix_eval.meta_verifiers.baselines.texts import TextRouter
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.metrics.calibration import scale_of
from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes, Seen
from automix_eval.types import Observation

# Thresholds tried for each tier.
CANDIDATES = 101


@dataclass(kw_only=True, eq=False)
class FrugalGPT(TextRouter):
    """Escalate iff g(question, answer) <= t, with g an encoder fine-tuned to predict the score.

    Source: FrugalGPT, arXiv 2305.05176, section 3: a cascade with a scoring function
    g(query, answer) in [0, 1] and one threshold a tier, searched together. There g is a DistilBERT
    that regresses whether the answer is correct; here it is any encoder, and its target the score
    itself (1 or 0 for right or wrong, F1 as a share), by cross-entropy. One g judges all tiers; it
    is trained on the answers of all tiers but the last, whose answer is never judged. As there, the
    thresholds' search also finds which tiers are asked at all; their order is given.

    The thresholds are those of :class:`~automix_eval.meta_verifiers.threshold.Threshold`, with g in
    the place of the confidence.

    Its parameters are those of :class:`.texts.TextRouter`.

    Attributes:
        threshold_: The fitted thresholds; None before fitting.
    """

    name: ClassVar[str] = "frugal_gpt"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.threshold_: Threshold | None = None

    def _fit(self, outcomes: Outcomes) -> FrugalGPT:
        """Fine-tune the scorer, then choose the thresholds on its out-of-fold scores."""
        rows = self._rows(outcomes)
        judged = rows.num_tiers - 1
        answers = [a for tier in self._require(rows.answers, "answer")[:judged] for a in tier]
        low, width = scale_of(rows.scores)
        targets = (rows.scores[:, :judged].T.ravel() - low) / width
        fold = np.tile(common.fold_of(rows, self.folds), judged)
        questions = self._require(rows.questions, "question") * judged
        held, self.scorer_ = cross_fit(self._tuning(), (questions, answers), targets, fold)
        values = np.full(rows.scores.shape, np.nan)
        values[:, :judged] = held.reshape(judged, len(rows)).T
        free = np.zeros_like(rows.verification_costs)
        # quantiles of all tiers' scores; they are nearly all distinct, so "observed" would be many
        tried = np.quantile(held, np.linspace(0, 1, CANDIDATES), method="lower")
        held_out = replace(rows, confidences=values, verification_costs=free, signals={})
        self._hold(self._thresholds(np.unique(tried).tolist()).fit(held_out))
        return self

    def choose(self, seen: Seen) -> IntArray:
        """The next tier, or the same to keep."""
        threshold: Threshold = require_fitted(self.threshold_, self.name)
        values = np.full((len(seen), seen.tier + 1), np.nan)
        if self.only_tier is None and 0 <= seen.tier < seen.num_tiers - 1:
            values[:, -1] = self._judge(seen)
        return threshold.choose(replace(seen, confidences=values))

    def sweep(self) -> list[tuple[float | None, Any]]:
        """One policy for each of the thresholds' sweep; all share the scorer.

        The parameter, by which they are ordered, is the mean cost that out-of-fold scores give: on
        its own training data the scorer in use may lead elsewhere.
        """
        threshold: Threshold = require_fitted(self.threshold_, self.name)
        return [(value, self._with(policy)) for value, policy in threshold.sweep()]

    def only_last(self) -> Any:
        """That of the thresholds."""
        policy = require_fitted(self.threshold_, self.name).only_last()
        return None if policy is None else self._with(policy)

    def notes(self) -> list[str]:
        """Those of the thresholds."""
        return self.threshold_.notes() if self.threshold_ else []

    def describe(self) -> str:
        """The thresholds."""
        threshold: Threshold = require_fitted(self.threshold_, self.name)
        return f"g(question, answer) by {self.encoder} in the place of v. {threshold.describe()}"

    def get_learned(self) -> dict[str, Any]:
        """The thresholds, and where the weights are."""
        threshold: Threshold = require_fitted(self.threshold_, self.name)
        scorer: Scorer = require_fitted(self.scorer_, self.name)
        return {"scorer": scorer.save(self.folder), "threshold": threshold.get_learned()}

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the thresholds and the scorer."""
        with common.reading(self.name):
            common.exactly(learned, "scorer", "threshold")
            threshold = self._thresholds()
            threshold.set_learned(learned["threshold"])
            self.scorer_ = Scorer.restore(self._tuning(), self.folder, learned["scorer"])
            self._hold(threshold)

    def judge_first(self, outcomes: Outcomes) -> FloatArray:
        """(n,) what the encoder makes of the first tier's answers, after ``fit``."""
        scorer: Scorer = require_fitted(self.scorer_, self.name)
        questions = self._require(outcomes.questions, "question")
        return scorer.score(questions, self._require(outcomes.answers, "answer")[0])

    def _judge(self, seen: Seen) -> FloatArray:
        scorer: Scorer = require_fitted(self.scorer_, self.name)
        return scorer.score(
            self._require(seen.questions, "question"), self._require(seen.answers, "answer")
        )

    def _thresholds(self, candidates: Sequence[float] | str = "observed") -> Threshold:
        return Threshold(
            candidates=candidates,
            # what is assured is assured of the whole, encoder included
            objective="target" if self.objective == "assured" else self.objective,
            budget=self.budget,
            target=self.target,
            error_price=self.error_price,
            min_escalation=self.min_escalation,
        )

    def _take(self, chosen: Any, value: float, note: str) -> None:
        threshold: Threshold = require_fitted(self.threshold_, self.name)
        threshold._take(chosen.threshold_, value, note)
        self._hold(threshold)

    def _with(self, threshold: Threshold) -> FrugalGPT:
        other = copy(self)
        other._hold(threshold)
        return other

    def _hold(self, threshold: Threshold) -> None:
        self.threshold_ = threshold
        self.only_tier = threshold.only_tier

    def _reason(self, observation: Observation, to: int) -> str:
        if 0 <= observation.tier < observation.num_tiers - 1:
            return "judged by the encoder"
        return super()._reason(observation, to)
