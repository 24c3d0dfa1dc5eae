"""What all methods of a run are compared with: the SLM, the LLM, the oracle, and its verifiers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from automix_eval.analysis.bootstrap_table import (
    BootstrapTable,
    ConfidenceColumns,
    RoutingColumns,
    Vector,
    VerifierVectors,
    first_undefined,
)
from automix_eval.analysis.curve_figures import EndPoints
from automix_eval.analysis.figures import Figure
from automix_eval.analysis.point_figures import size_words
from automix_eval.analysis.question_sets import PricedTiers
from automix_eval.analysis.replayed import oracle_routings
from automix_eval.analysis.routed_paths import ChainRouting, Routing
from automix_eval.metrics.benefit import benefit_auroc, benefit_correlation, helps
from automix_eval.metrics.bootstrap import document_codes
from automix_eval.metrics.calibration import ConfidenceCells, are_right, auroc, scale_of
from automix_eval.metrics.ibc import Undefined, exceeds
from automix_eval.metrics.luck import unseen_variance
from automix_eval.records.outcomes import FloatArray, IntArray, Outcomes

NOT_VERIFIED = Undefined("no answer of this tier was verified")
_NO_ANSWER = Undefined("no answer has both a confidence and a score")


class VerifierQuality(NamedTuple):
    """How good a verifier's confidence is; the names are those of the figures of a method."""

    auroc: Figure
    calibration_error: Figure
    brier: Figure
    risk_coverage: Figure

    @classmethod
    def without(cls, reason: Undefined) -> VerifierQuality:
        """A verifier without figures."""
        return cls(*(Figure(reason),) * 4)


@dataclass(frozen=True, slots=True, eq=False)
class ScoredQuestions:
    """The questions that methods are scored on.

    Attributes:
        tiers: What every tier did.
        documents: (n,) what each is about, 0 .. D - 1.
        llm: The LLM alone.
        from_calibration: Whether they are the calibration questions.
    """

    tiers: PricedTiers
    documents: IntArray
    llm: Routing
    from_calibration: bool = False

    @classmethod
    def of(cls, outcomes: Outcomes, from_calibration: bool = False) -> ScoredQuestions:
        """Questions that every tier was asked."""
        tiers = PricedTiers.of(outcomes)
        names = range(len(outcomes)) if outcomes.documents is None else outcomes.documents
        llm = ChainRouting.only(tiers, tiers.last)
        return cls(tiers, document_codes(names), llm, from_calibration)

    @property
    def words(self) -> str:
        """How many there are."""
        return size_words(len(self.tiers), int(self.documents.max()) + 1)


@dataclass(slots=True)
class References:
    """The columns that all methods on the same questions are compared with.

    Attributes:
        tiers: What every tier did.
        slm: The SLM alone.
        llm: The LLM alone.
        oracle: Corners of the best that any router can do, dear to cheap.
        no_oracle: Why there is no oracle; None if there is one.
        cells: By tier, the confidences of its answers, right and not.
        benefits: By tier, (n,) the LLM's score minus the tier's in units of the scores' scale, or
            why there is none.
        benefit_cells: By tier that has benefits, the confidences where the LLM does not help, and
            where it does.
    """

    tiers: PricedTiers
    slm: RoutingColumns
    llm: RoutingColumns
    oracle: tuple[RoutingColumns, ...]
    no_oracle: Undefined | None
    cells: Mapping[int, ConfidenceColumns]
    benefits: Mapping[int, FloatArray | Undefined]
    benefit_cells: Mapping[int, ConfidenceColumns]
    _verifiers: dict[int, VerifierQuality] = field(default_factory=dict)
    _benefits: dict[int, tuple[Figure, Figure]] = field(default_factory=dict)

    @classmethod
    def of(cls, table: BootstrapTable, tiers: PricedTiers, llm: Routing) -> References:
        """Register the SLM, the LLM, the oracle and the verifiers."""
        no_oracle = tiers.why_not_full()
        corners = [] if no_oracle else oracle_routings(tiers)
        names, corner = ("quality", "cost"), ("quality", "cost", "final 0")
        right = are_right(tiers.scores)
        verified = [t for t in range(tiers.last + 1) if tiers.judged[:, t].any()]
        benefits = {tier: _benefit(tiers, tier, llm) for tier in verified}
        return cls(
            tiers,
            RoutingColumns.of(table, ChainRouting.only(tiers, 0), names),
            RoutingColumns.of(table, llm, names),
            tuple(RoutingColumns.of(table, r, corner, ["final 0"]) for r in corners),
            no_oracle,
            {
                tier: ConfidenceColumns.of(table, _cells(tiers, tier), right[:, tier])
                for tier in verified
            },
            benefits,
            {
                tier: ConfidenceColumns.of(table, _cells(tiers, tier), ~helps(value))
                for tier, value in benefits.items()
                if not isinstance(value, Undefined)
            },
        )

    @classmethod
    def of_questions(cls, questions: ScoredQuestions, resamples: int, seed: int) -> References:
        """The same in a table of their own."""
        table = BootstrapTable(questions.documents, resamples, seed)
        return cls.of(table, questions.tiers, questions.llm)

    @property
    def table(self) -> BootstrapTable:
        """The table that holds the columns."""
        return self.slm.table

    def ends(self) -> EndPoints:
        """Quality and cost of the SLM and of the LLM."""
        slm, llm = self.slm, self.llm
        return EndPoints(
            slm.mean("quality"), slm.mean("cost"), llm.mean("quality"), llm.mean("cost")
        )

    def gained(self, method: RoutingColumns) -> Vector:
        """Mean score of a method with the luck of its few escalations, for what it gains.

        What a tier in between would have answered where it was not asked is taken to be the LLM's
        answer.
        """
        quality, ends = method.mean("quality"), self.ends()
        parts = (quality, method.mean("cost"), *ends)
        if first_undefined(*parts):
            return quality
        _, cost, _, slm_cost, _, llm_cost = (float(np.asarray(v)[0]) for v in parts)
        if not exceeds(llm_cost, slm_cost):
            return quality
        every, scores = np.arange(len(self.tiers)), self.tiers.scores
        if np.isnan(scores).any():
            llm = self.llm.routing.values("quality", every)
            scores = np.where(np.isnan(scores), llm[:, None], scores)
        ends_at = [method.routing.values(f"final {t}", every) for t in range(self.tiers.last + 1)]
        leads = scores - scores[:, :1]
        leads = leads - (cost - slm_cost) / (llm_cost - slm_cost) * leads[:, -1:]
        return method.table.widened(quality, unseen_variance(np.argmax(ends_at, axis=0), leads))

    def verifier(self, tier: int) -> VerifierQuality:
        """How good a tier's confidence is: the same for all methods, and computed once."""
        if tier not in self._verifiers:
            self._verifiers[tier] = self._verifier(tier)
        return self._verifiers[tier]

    def benefit(self, tier: int) -> tuple[Figure, Figure]:
        """AUROC and rank correlation of a tier's low confidence and the LLM's benefit, likewise."""
        if tier not in self._benefits:
            self._benefits[tier] = self._benefit(tier)
        return self._benefits[tier]

    def _verifier(self, tier: int) -> VerifierQuality:
        if tier not in self.cells:
            return VerifierQuality.without(NOT_VERIFIED)
        columns = self.cells[tier]
        known = columns.cells.codes >= 0
        if not known.any():
            return VerifierQuality.without(_NO_ANSWER)
        confidence, right = self.tiers.confidences[known, tier], columns.right[known]
        area = auroc(confidence, right.tolist())
        values, codes = np.unique(confidence, return_inverse=True)
        yes, no = (np.bincount(codes[m], minlength=len(values)) for m in (right, ~right))
        exact = VerifierVectors.of(yes.astype(float), no.astype(float), values)
        draws, figure = columns.vectors(), columns.table.figure
        return VerifierQuality(
            Figure(area) if isinstance(area, Undefined) else _around(area, columns),
            figure(draws.calibration_error),
            figure(draws.brier - draws.brier[0] + exact.brier),
            figure(draws.risk_coverage - draws.risk_coverage[0] + exact.risk_coverage),
        )

    def _benefit(self, tier: int) -> tuple[Figure, Figure]:
        if tier not in self.benefits:
            return (Figure(NOT_VERIFIED),) * 2
        benefit = self.benefits[tier]
        if isinstance(benefit, Undefined):
            return (Figure(benefit),) * 2
        columns = self.benefit_cells[tier]
        known = columns.cells.codes >= 0
        confidence = self.tiers.confidences[known, tier]
        exact = benefit_auroc(confidence, benefit[known])
        area = Figure(exact) if isinstance(exact, Undefined) else _around(exact, columns)
        return area, Figure(benefit_correlation(confidence, benefit[known]))


def _around(exact: float, columns: ConfidenceColumns) -> Figure:
    """An AUROC; neighbouring confidences may share a cell of the draws, the point stays exact."""
    draws = columns.vectors()[0]
    return columns.table.figure(np.clip(draws - draws[0] + exact, 0, 1))


def _cells(tiers: PricedTiers, tier: int) -> ConfidenceCells:
    confidences = tiers.confidences[:, tier]
    return ConfidenceCells.of(
        confidences, np.isfinite(confidences) & np.isfinite(tiers.scores[:, tier])
    )


def _benefit(tiers: PricedTiers, tier: int, llm: Routing) -> FloatArray | Undefined:
    """(n,) how much better the LLM's answer is, in units of the scores' scale.

    Undefined where the LLM was not asked every question: those that a router has escalated are no
    sample of all, since it chose them by the confidence.
    """
    if tier == tiers.last:
        return Undefined("the last tier has no LLM after it")
    if (missing := llm.missing().get("quality")) is not None:
        return missing
    lead = llm.values("quality", np.arange(len(tiers))) - tiers.scores[:, tier]
    return np.asarray(lead / scale_of(tiers.scores)[1])
