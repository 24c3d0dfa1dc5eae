"""Routers that read texts by a fine-tuned encoder: what FrugalGPT and HybridLLM share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from automix_eval.backends.encoder import DEFAULT
from automix_eval.meta_verifiers.assured import ChoosingRouter
from automix_eval.meta_verifiers.base import require_rows
from automix_eval.meta_verifiers.baselines import common
from automix_eval.meta_verifiers.baselines.scorer import Scorer, Tuning
from automix_eval.records.outcomes import Outcomes
from automix_eval.safety.errors import AutoMixError

_TABLE_SETTING = {"question": "question=COL", "answer": "answer: COL of each tier"}


@dataclass(kw_only=True, eq=False)
class TextRouter(ChoosingRouter):
    """A router with a fine-tuned encoder; it needs no verification.

    What the encoder costs is not metered: its price is 0, as in the comparison of AutoMix
    (arXiv 2310.12963). It holds some 20 M parameters and reads a short text once.

    The scorer is cross-fitted: the threshold is chosen on scores of questions (and documents) that
    the scorer had not seen, since a fine-tuned encoder knows its own training data too well. The
    scorer in use is trained on all of them.

    Args:
        encoder: ``all-minilm-l6-v2`` (packaged), or a name or folder that transformers loads.
        train_layers: Last layers to fine-tune; those below are frozen.
        epochs: Passes over the fitting data.
        learning_rate: Of AdamW; falls linearly to 0.
        batch_size: Texts, or pairs of texts, a step.
        max_length: Tokens of a text, or pair, at most; the longer text is cut at its end.
        folds: Parts for the scores that the thresholds are chosen on.
        max_fit_rows: At most so many questions are fitted on.
        seed: Seed of the order of the batches.
        folder: Where the trained weights are kept; None: ``encoders`` in the cache folder.

    The others are those of :class:`~automix_eval.meta_verifiers.objectives.Selection`.

    Attributes:
        scorer_: The fine-tuned encoder; None before fitting.
    """

    encoder: str = DEFAULT
    train_layers: int = 1
    epochs: int = 3
    learning_rate: float = 3e-4
    batch_size: int = 16
    max_length: int = 128
    folds: int = 3
    max_fit_rows: int = 2000
    seed: int = 0
    folder: str | None = None

    name: ClassVar[str]
    needs_fit = True
    needs_texts = True

    def __post_init__(self) -> None:
        super().__post_init__()
        common.check_count("folds", self.folds, 2)
        common.check_count("max_fit_rows", self.max_fit_rows, 2)
        self._tuning()
        self.scorer_: Scorer | None = None

    def _tuning(self) -> Tuning:
        keys = Tuning.__dataclass_fields__
        return Tuning(**{key: getattr(self, key) for key in keys})

    def _rows(self, outcomes: Outcomes) -> Outcomes:
        """The questions to fit on, in canonical order.

        Raises:
            AutoMixError: Too few.
        """
        require_rows(outcomes, self.name)
        return common.thin(outcomes, self.max_fit_rows)

    def _require(self, texts: Any, what: str) -> Any:
        """The texts of a decision, or an AutoMixError that says which are missing."""
        return require_texts(texts, self.name, what)


def require_texts(texts: Any, name: str, what: str = "question") -> Any:
    """The texts, or an AutoMixError that says how to give them."""
    blank = what == "question" and texts is not None and len(texts) and not any(texts)
    if texts is None or blank:
        raise AutoMixError(
            f"meta_verifier={name} reads the {what}, and there is none: give the rows a column of "
            f"{what}s (of a table: {_TABLE_SETTING[what]})"
        )
    return texts
