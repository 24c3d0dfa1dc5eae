"""Routers that read texts by a fine-tuned encoder: what FrugalGPT and HybridLLM share."""

from __future__ import annotations

from typing import Any

from automix_eval.meta_verifiers.base import Router
from automix_eval.meta_verifiers.baselines import common
from automix_eval.meta_verifiers.baselines.scorer import Scorer, Tuning
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError


class TextRouter(Router):
    """A router with a fine-tuned encoder; it needs no verification.

    What the encoder costs is not metered: its price is 0, as in the comparison of AutoMix
    (arXiv 2310.12963). It holds some 20 M parameters and reads a short text once.

    The scorer is cross-fitted: the threshold is chosen on scores of questions (and documents) that
    the scorer had not seen, since a fine-tuned encoder knows its own training data too well. The
    scorer in use is trained on all of them.
    """

    name: str
    needs_fit = True
    needs_texts = True
    chosen_in_sample = False

    max_fit_rows: int
    folds: int
    folder: str | None

    def _store(self, folds: int, max_fit_rows: int, folder: str | None, **values: Any) -> None:
        """Keep the hyper-parameters that both have."""
        common.check_count("folds", folds, 2)
        common.check_count("max_fit_rows", max_fit_rows, 2)
        self.folds = folds
        self.max_fit_rows = max_fit_rows
        self.folder = folder
        for key, value in values.items():
            setattr(self, key, value)
        common.objective_of(self)
        self._tuning()
        self.scorer_: Scorer | None = None

    def _tuning(self) -> Tuning:
        keys = Tuning.__dataclass_fields__
        return Tuning(**{key: getattr(self, key) for key in keys})

    def _rows(self, outcomes: Outcomes) -> Outcomes:
        """The questions to fit on, in canonical order.

        Raises:
            AutoMixError: Too few, or without texts.
        """
        common.require_rows(outcomes, self.name)
        if outcomes.questions is None or outcomes.answers is None:
            raise AutoMixError(
                f"meta_verifier={self.name} reads texts, and these are numbers only: give the "
                "rows their questions and answers"
            )
        return common.thin(outcomes, self.max_fit_rows)

    def _require(self, texts: Any, what: str) -> Any:
        """The texts of a decision, or an AutoMixError that says which are missing."""
        if texts is None:
            raise AutoMixError(
                f"meta_verifier={self.name} reads the {what}, and there is none: give the rows "
                f"a column of {what}s"
            )
        return texts
