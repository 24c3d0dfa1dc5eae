"""The tier's own token margin in the place of a verification."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from automix_eval.meta_verifiers.base import require_signals, stand_in
from automix_eval.meta_verifiers.baselines import common
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.records.outcomes import FloatArray, Outcomes, Seen

SIGNAL, CONFIDENCE = "signal", "confidence"


@dataclass(eq=False)
class TokenMargin(Threshold):
    """Escalate iff the margin of the answer's own token probabilities is <= t.

    Source: arXiv 2405.02134, where the margin of the first token beats verification in most
    set-ups. The verifier ``margin`` measures it for no further call, and the threshold is learned
    like that of :class:`~automix_eval.meta_verifiers.threshold.Threshold`.

    The margin is the signal of this name, where verifiers left signals; then verification is paid
    for as it was recorded, whatever else it measured. Where there are no signals at all, the one
    thing the verifier said is read, the confidence: use it with ``verifier=margin``. Records with
    other signals only are refused. A policy reads later what it was fitted on.

    Args:
        signal: Name of the signal, in [0, 1].
        candidates: Values of t to try, or ``observed``, as for the threshold.

    Attributes:
        source_: ``signal`` or ``confidence``; empty before fitting.
    """

    name: ClassVar[str] = "token_margin"
    candidates: Sequence[float] | str = "observed"
    signal: str = "margin"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.source_ = ""

    @property
    def reads(self) -> Sequence[str]:
        """The signal, but for a policy that reads the confidence."""
        return () if self.source_ == CONFIDENCE else (self.signal,)

    def check_signals(self, given: Collection[str]) -> None:
        """Where a verifier gives no signals at all, its confidence is read."""
        if given or self.source_ == SIGNAL:
            super().check_signals(given)

    def _fit(self, outcomes: Outcomes) -> TokenMargin:
        """Learn one threshold per tier but the last."""
        source = SIGNAL if outcomes.signals else CONFIDENCE
        margins = self._margins(outcomes, source)
        self.source_ = source
        super()._fit(replace(outcomes, confidences=margins))
        return self

    def describe(self) -> str:
        """What is read, and the thresholds."""
        read = f"the signal {self.signal}" if self.source_ == SIGNAL else "what the verifier says"
        return f"The token margin is {read}.\n{super().describe()}"

    def get_learned(self) -> dict[str, Any]:
        """The policy, its family and what it reads."""
        return {**super().get_learned(), "source": self.source_}

    def set_learned(self, learned: Mapping[str, Any]) -> None:
        """Restore the policy and its family."""
        with common.reading(self.name):
            source = learned["source"]
            if source not in (SIGNAL, CONFIDENCE):
                raise ValueError(f"source={source!r:.60}")
        super().set_learned({k: v for k, v in learned.items() if k != "source"})
        self.source_ = source

    def _shown(self, rows: Outcomes | Seen, tier: int) -> FloatArray:
        return stand_in(self._margins(rows, self.source_)[:, tier], self.undefined)

    def _margins(self, rows: Outcomes | Seen, source: str) -> FloatArray:
        if source == CONFIDENCE:
            return rows.confidences
        require_signals((self.signal,), rows.signals)
        return rows.signals[self.signal]
