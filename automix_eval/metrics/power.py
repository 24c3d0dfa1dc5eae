"""How many questions find a difference, and which difference a number of questions finds.

Found: the 95 % interval does not hold 0. Delta IBC is A / B - 1, with
A = (P_M - P_SLM)(C_LLM - C_SLM) and B = (P_LLM - P_SLM)(C_M - C_SLM). Where B is above 0, A / B - 1
and A - B have the same sign in each resample, so that the percentile intervals of both hold 0 or
neither does: what counts is how A - B varies, whose mean is d B where delta IBC is d. A pilot gives
B and, by the delta method, how A - B and B vary from document to document; its own delta IBC does
not enter. The rest is the power of Student's t-test on documents, the mean over what the pilot
leaves open of that variance (S. Julious and R. Owen, "Sample size calculations for clinical studies
allowing for uncertainty about the variance", 2006): as rare losses have long tails, its degrees of
freedom are counted by their kurtosis.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from automix_eval.metrics.bootstrap import DELTA_IBC_COLUMNS, LEVEL, MIN_DOCUMENTS, sorted_codes
from automix_eval.metrics.ibc import Undefined, delta_ibc

POWER = 0.8

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Size:
    """Questions that are needed, and the documents they are about."""

    questions: int
    documents: int


@dataclass(frozen=True, slots=True, eq=False)
class Pilot:
    """What some questions tell about how figures vary.

    Attributes:
        questions: Number of questions, n.
        documents: Number of documents, G.
        base: B of these questions.
        base_spread: Standard deviation of B from document to document.
        gain_spread: That of A - B.
        loss_spread: That of the LLM's quality less the method's.
        degrees: How many degrees of freedom the variances of A - B and of the loss are known by.
    """

    questions: int
    documents: int
    base: float
    base_spread: float
    gain_spread: float
    loss_spread: float
    degrees: tuple[float, float]

    @classmethod
    def of(cls, columns: Array, documents: npt.ArrayLike) -> Pilot | Undefined:
        """Learn from questions that the method, the SLM and the LLM were asked.

        Args:
            columns: (n, 6) figures of each question, in the order of ``DELTA_IBC_COLUMNS``.
            documents: (n,) what each question is about; equal values belong together.

        Returns:
            The pilot; undefined for fewer than :data:`MIN_DOCUMENTS` documents, where delta IBC is,
            and where the method answers everywhere as the SLM does: nothing was escalated.

        Raises:
            ValueError: Shapes differ.
        """
        values = np.asarray(columns, dtype=float)
        codes = sorted_codes(documents)
        if values.shape != (len(codes), len(DELTA_IBC_COLUMNS)):
            raise ValueError(f"need six figures of {len(codes)} questions, got {values.shape}")
        number = int(codes.max(initial=-1)) + 1
        if number < MIN_DOCUMENTS:
            return Undefined(f"{number} documents do not tell how documents vary: it takes "
                             f"{MIN_DOCUMENTS} at least")  # fmt: skip
        mean = values.mean(axis=0)
        if isinstance(now := delta_ibc(*mean.tolist()), Undefined):
            return now
        if (values[:, 0] == values[:, 2]).all():
            return Undefined(
                "no question's score differs from the SLM's: nothing was escalated, or to no "
                "effect, so nothing tells what an escalation brings: take a run whose router "
                "escalates, or a table of both models' outcomes"
            )
        rest = values - mean
        by_document = np.column_stack([np.bincount(codes, c, minlength=number) for c in rest.T])
        q, c, slm, slm_cost, llm, llm_cost = (by_document * (number / len(codes))).T
        p, spent, p_slm, c_slm, p_llm, c_llm = mean.tolist()
        a = (q - slm) * (c_llm - c_slm) + (p - p_slm) * (llm_cost - slm_cost)
        b = (llm - slm) * (spent - c_slm) + (p_llm - p_slm) * (c - slm_cost)
        base_spread, gain_spread, loss_spread = np.std([b, a - b, llm - q], axis=1, ddof=1).tolist()
        return cls(
            len(codes),
            number,
            (p_llm - p_slm) * (spent - c_slm),
            base_spread,
            gain_spread,
            loss_spread,
            (_degrees(a - b), _degrees(llm - q)),
        )

    def size_for_delta_ibc(self, least: float) -> Size | Undefined:
        """Questions that find a delta IBC of ``least`` > 0, a ratio, with :data:`POWER`."""
        # the first for A - B, the second so that the LLM's own gain is shown, and B above 0
        spread = max(self.gain_spread, least * self.base_spread)
        return self._size(least * self.base, spread, self.degrees[0])

    def size_for_loss(self, least: float) -> Size | Undefined:
        """Questions that find a loss of quality against the LLM of ``least`` > 0."""
        return self._size(least, self.loss_spread, self.degrees[1])

    def detectable_delta_ibc(self) -> float | Undefined:
        """The least delta IBC that as many questions find with :data:`POWER`."""
        effect = _quantile(self.documents, self.degrees[0]) / math.sqrt(self.documents)
        if effect * self.base_spread > self.base:
            return Undefined(
                "these questions hardly show that the LLM itself gains anything, so no delta IBC "
                "is large enough to be found"
            )
        return effect * self.gain_spread / self.base

    def detectable_loss(self) -> float | Undefined:
        """The least loss of quality against the LLM that as many questions find."""
        if self.loss_spread == 0:
            return _NO_SPREAD
        effect = _quantile(self.documents, self.degrees[1]) / math.sqrt(self.documents)
        return effect * self.loss_spread

    def _size(self, gap: float, spread: float, degrees: float) -> Size | Undefined:
        if spread == 0:
            return _NO_SPREAD
        number = float(MIN_DOCUMENTS)
        for _ in range(20):  # the quantile hardly depends on the number: it settles at once
            number = max(MIN_DOCUMENTS, (_quantile(number, degrees) * spread / gap) ** 2)
        documents = math.ceil(number - 1e-6)
        return Size(math.ceil(documents * self.questions / self.documents), documents)


def _quantile(documents: float, degrees: float) -> float:
    """Standard errors that a difference must have: about 2.8 of many documents."""
    from scipy.special import nctdtrit, stdtrit  # imported late: it takes a moment

    critical = stdtrit(documents - 1, (1 + LEVEL) / 2)
    return float(nctdtrit(degrees, critical, POWER))


def _degrees(values: Array) -> float:
    """Degrees of freedom by which the variance of n values is known: n - 1 of normal ones."""
    if np.ptp(values) == 0:
        return float(len(values) - 1)
    n, square = len(values), (values - values.mean()) ** 2
    # of the sample, corrected for its size (G2 of D. Joanes and C. Gill, 1998)
    biased = float(np.mean(square**2) / square.mean() ** 2)
    kurtosis = ((n**2 - 1) * biased - 3 * (n - 1) ** 2) / ((n - 2) * (n - 3)) + 3
    return min(max(2 * len(values) / max(kurtosis - 1, 1e-9), 2.0), _MANY)


_MANY = 10_000.0  # degrees: no different from knowing the variance
_NO_SPREAD = Undefined("no document differs from another in it, so nothing tells how it varies")
