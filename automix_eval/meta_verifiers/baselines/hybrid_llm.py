"""HybridLLM: a fine-tuned encoder reads the question alone and picks the model to ask."""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from automix_eval.meta_verifiers.base import require_fitted
from automix_eval.meta_verifiers.baselines import common
from automix_eval.meta_verifiers.baselines.scorer import Scorer, cross_fit
from automix_eval.meta_verifiers.baselines.texts import TextRouter
from automix_eval.meta_verifiers.objectives import Chosen, Ends, Selection, select
from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes, Seen
from automix_eval.safety.errors import AutoMixError
from automix_eval.safety.numbers import is_number
from automix_eval.types import Observation

LABELS = ("deterministic", "probabilistic", "transformed")
# Gaps tried by the transformed labels.
GAPS = 101
# Scores lie in [0, 1], so these thresholds escalate nothing and everything.
NEVER, ALWAYS = -1.0, 1.0


@dataclass(eq=False)
class HybridLLM(TextRouter):
    """Ask the last tier at once iff r(question) <= t, else the first; nothing else is asked.

    Source: HybridLLM, arXiv 2404.14618: r is an encoder fine-tuned to predict whether the small
    model's answer is about as good as the large model's, and t moves between quality and cost.
    With q_S and q_L the scores of the first and of the last tier, the labels y are

    * ``deterministic``: y = 1 iff q_S >= q_L - margin;
    * ``probabilistic``: y = P(q_S + e >= q_L - margin). The paper takes the probability over some
      ten sampled answers of each model; here every question has one answer a model, which would
      give the deterministic label again, so e is logistic noise with the scale ``temperature`` and
      y = 1 / (1 + exp(-(q_S - q_L + margin) / temperature)). Without a margin, a tie counts half;
    * ``transformed``: the same with the margin t* in [0, largest gap] that spreads the labels most,
      the mean of |y_i - y_j| over all pairs (the paper's equation for t*), which keeps the labels
      apart where the small model is rarely as good. ``margin`` is not used.

    The two models are the first and the last tier; the paper knows no others, and in a longer chain
    the tiers between are never asked.

    Args:
        labels: ``deterministic``, ``probabilistic`` or ``transformed``.
        margin: How much worse the first tier's score may be.
        temperature: Scale of the noise of the soft labels, in units of the score.

    The others are those of :class:`.texts.TextRouter`.

    Attributes:
        threshold_: t; None before fitting.
        thresholds_: Those of the sweep, ascending.
        margin_: The margin of the labels, learned where they are transformed.
    """

    name: ClassVar[str] = "hybrid_llm"
    labels: str = "transformed"
    margin: float = 0.0
    temperature: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.labels not in LABELS:
            raise AutoMixError(
                f"meta_verifier.labels={self.labels!r} of hybrid_llm is unknown: choose one of "
                f"{', '.join(LABELS)}"
            )
        if not is_number(self.margin, -np.inf, np.inf):
            raise AutoMixError(f"meta_verifier.margin={self.margin!r} must be a number")
        common.check_positive("temperature", self.temperature)
        self.threshold_: float | None = None
        self.thresholds_: FloatArray = np.array([])
        self.margin_ = float(self.margin)

    def _fit(self, outcomes: Outcomes) -> HybridLLM:
        """Fine-tune the encoder on the labels, then choose t on its out-of-fold scores."""
        rows = self._rows(outcomes)
        lead = rows.scores[:, 0] - rows.scores[:, -1]
        self.margin_ = float(self.margin)
        if self.labels == "transformed":
            self.margin_ = spreading_margin(lead, self.temperature)
        soft = None if self.labels == "deterministic" else self.temperature
        targets = make_labels(lead, self.margin_, soft)
        questions = self._require(rows.questions, "question")
        fold = common.fold_of(rows, self.folds)
        held, self.scorer_ = cross_fit(self._tuning(), (questions,), targets, fold)
        self.threshold_, self.thresholds_, chosen = _choose(held, rows, self)
        self.note_ = chosen.note
        return self

    def choose(self, seen: Seen) -> IntArray:
        """The first or the last tier."""
        threshold = require_fitted(self.threshold_, self.name)
        if seen.tier >= 0 or not len(seen):
            return np.full(len(seen), max(seen.tier, 0))
        scorer: Scorer = require_fitted(self.scorer_, self.name)
        easy = scorer.score(self._require(seen.questions, "question"))
        return np.where(easy <= threshold, seen.num_tiers - 1, 0)

    def sweep(self) -> list[tuple[float | None, Any]]:
        """One policy a threshold; all share the encoder."""
        require_fitted(self.threshold_, self.name)
        return [(t, self._at(t)) for t in self.thresholds_.tolist()]

    def describe(self) -> str:
        """The threshold."""
        threshold = require_fitted(self.threshold_, self.name)
        note = f" Note: {self.note_}." if self.note_ else ""
        return (
            f"Ask the last tier at once iff r(question) <= {threshold:.6g}, else the first; r is "
            f"{self.encoder} fine-tuned on {self.labels} labels with margin "
            f"{self.margin_:.6g}.{note}"
        )

    def get_learned(self) -> dict[str, Any]:
        """The threshold, and where the weights are."""
        threshold = require_fitted(self.threshold_, self.name)
        scorer: Scorer = require_fitted(self.scorer_, self.name)
        return {
            "scorer": scorer.save(self.folder),
            "threshold": threshold,
            "thresholds": self.thresholds_.tolist(),
            "margin": self.margin_,
            "note": self.note_,
        }

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the threshold and the encoder."""
        with common.reading(self.name):
            common.exactly(learned, "scorer", "threshold", "thresholds", "margin", "note")
            threshold = common.number(learned["threshold"], NEVER, ALWAYS)
            thresholds = common.table(learned["thresholds"], None)
            margin, note = common.number(learned["margin"]), common.text(learned["note"])
            self.scorer_ = Scorer.restore(self._tuning(), self.folder, learned["scorer"])
            self.threshold_, self.thresholds_ = threshold, thresholds
            self.margin_, self.note_ = margin, note

    def _take(self, chosen: Any, value: float, note: str) -> None:  # noqa: ARG002 - not kept
        self.threshold_, self.note_ = chosen.threshold_, note

    def _at(self, threshold: float) -> HybridLLM:
        other = copy(self)
        other.threshold_, other.thresholds_, other.note_ = threshold, np.array([threshold]), ""
        return other

    def _reason(self, observation: Observation, to: int) -> str:
        if observation.tier < 0:
            return f"the question, read by the encoder, goes to tier {to}"
        return super()._reason(observation, to)


def make_labels(lead: FloatArray, margin: float, temperature: float | None) -> FloatArray:
    """(n,) labels of the first tier's lead in score; None: hard ones."""
    if temperature is None:
        # scores such as 0.3 - 0.1 and 0.2 differ by rounding only
        return (lead + margin >= -1e-9).astype(np.float64)
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip((lead + margin) / temperature, -500, 500))))


def spreading_margin(lead: FloatArray, temperature: float) -> float:
    """The margin with the largest mean |y_i - y_j|, of :data:`GAPS` from 0 to the largest gap.

    The least of equals. Source: HybridLLM, arXiv 2404.14618, the transformation of the labels.
    """
    margins = np.linspace(0.0, max(float(-lead.min()), 0.0), GAPS)
    rank = 2.0 * np.arange(len(lead)) - len(lead) + 1  # sum over pairs of a sorted list
    spread = [rank @ np.sort(make_labels(lead, m, temperature)) for m in margins.tolist()]
    return float(margins[int(np.argmax(np.round(spread, 9)))])


def _choose(easy: FloatArray, rows: Outcomes, asked: Selection) -> tuple[float, FloatArray, Chosen]:
    """The threshold the objective takes, and those of the sweep."""
    order = np.argsort(easy, kind="stable")
    # the thresholds' policies are nested: each sends the first so many of this order
    sent = np.concatenate([[0], np.flatnonzero(np.diff(easy[order])) + 1, [len(easy)]])
    values = np.concatenate([[NEVER], easy[order][sent[1:-1] - 1], [ALWAYS]])

    def means(table: FloatArray) -> FloatArray:
        more = np.concatenate([[0.0], np.cumsum((table[:, -1] - table[:, 0])[order])])
        return np.asarray((table[:, 0].sum() + more[sent]) / len(easy))

    share = sent / len(easy)
    ends = Ends.of(rows)
    chosen = select(means(rows.scores), means(rows.answer_costs), share, ends, asked)
    index = chosen.index or 0  # none: the objective exists for no threshold
    return float(values[index]), common.thinned(values), chosen
