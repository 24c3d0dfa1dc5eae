"""Non-inferiority with a margin: which share of the LLM's quality a method is shown to keep.

With q and l the scores of the method and of the LLM on the same question, a share s is shown at a
confidence c where the one-sided lower bound of mean(q - s l) is above 0. Shares are tried from
small to large up to the first that is not shown: in such a fixed order the largest one shown is
wrong with a chance of at most 1 - c, as each single one is.

Questions about one document are not independent: the standard error is that of documents (cluster
robust), and the quantile that of Student's t with G - 1 degrees for G documents. Such a bound
believes that there is nothing but what was seen: 30 questions without a loss would show that there
is none. So one document more is counted, the worst possible one (the method scores least, the LLM
most), as in conformal risk control (A. Angelopoulos et al., arXiv 2208.02814). Where both answer
all of n questions rightly this shows about what the exact binomial bound shows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from automix_eval.metrics.bootstrap import LEVEL, sorted_codes
from automix_eval.metrics.ibc import Undefined

# Of fewer documents neither the spread nor Student's t can be relied on.
MIN_DOCUMENTS = 10

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class PairedScores:
    """Scores of a method and of the LLM on the same questions, as far as a bound needs them.

    Each document is a vector of three: the sum of the method's scores, the sum of the LLM's, and
    the number of questions.

    Attributes:
        documents: Number of documents, G.
        total: (3,) sum of the vectors, the worst possible document's included.
        products: (3, 3) sum of their outer products, likewise.
    """

    documents: int
    total: Array
    products: Array

    @classmethod
    def of(
        cls, method: npt.ArrayLike, llm: npt.ArrayLike, documents: npt.ArrayLike
    ) -> PairedScores | Undefined:
        """Sum scores by document, and add the worst document, of average size.

        Its scores are the least and the largest of [0, 1] and of all that are given.

        Args:
            method: (n,) scores of the method.
            llm: (n,) scores of the LLM alone on the same questions.
            documents: (n,) what each question is about; equal values belong together.

        Returns:
            The sums; undefined for fewer than :data:`MIN_DOCUMENTS` documents, and where the LLM's
            mean score is not above 0: no share of it is a quality to keep.

        Raises:
            ValueError: Lengths differ, or a score is not finite.
        """
        scores = np.column_stack([np.asarray(v, dtype=float) for v in (method, llm)])
        codes = sorted_codes(documents)
        if len(scores) != len(codes) or not np.isfinite(scores).all():
            raise ValueError(f"need finite scores of both on {len(codes)} questions")
        number = int(codes.max(initial=-1)) + 1
        if number < MIN_DOCUMENTS:
            return Undefined(
                f"it takes questions about at least {MIN_DOCUMENTS} documents, there "
                + ("is one" if number == 1 else f"are {number}")
            )
        if not (quality := float(scores[:, 1].mean())) > 0:
            return Undefined(f"the LLM's quality is {quality:.4g}, of which there is no share")
        columns = (scores[:, 0], scores[:, 1], np.ones(len(scores)))
        sums = np.column_stack([np.bincount(codes, c, minlength=number) for c in columns])
        worst = np.array([min(0.0, scores.min()), max(1.0, scores.max()), 1.0])
        sums = np.vstack([sums, worst * (len(scores) / number)])
        return cls(number, sums.sum(axis=0), np.asarray(sums.T @ sums, dtype=float))

    def lower_bound(self, share: float, confidence: float = LEVEL) -> float:
        """One-sided lower confidence bound of mean(method - share x LLM), in units of the score.

        Args:
            share: Share of the LLM's quality, s.
            confidence: Of the bound, in (0, 1).

        Raises:
            ValueError: A number is out of range.
        """
        if not (math.isfinite(share) and share >= 0):
            raise ValueError(f"share={share} must be a number of at least 0")
        if not 0 < confidence < 1:
            raise ValueError(f"confidence={confidence} must lie between 0 and 1")
        from scipy.special import stdtrit  # imported late: it takes a moment

        number = self.total[2]
        mean = (self.total[0] - share * self.total[1]) / number
        direction = np.array([1.0, -share, -mean])
        # rounding may leave less than 0 where all documents are alike
        spread = max(0.0, direction @ self.products @ direction)
        error = math.sqrt(spread * (self.documents + 1) / self.documents) / number
        return float(mean - stdtrit(self.documents - 1, confidence) * error)

    def shows(self, share: float, confidence: float = LEVEL) -> bool:
        """Whether the method is shown to keep a share of the LLM's quality."""
        return self.lower_bound(share, confidence) > 0

    def largest_share(self, confidence: float = LEVEL) -> float | Undefined:
        """The largest share in whole per cents, up to 1, that is shown with all below it.

        Returns:
            The share; undefined where not even 1 % is shown.
        """
        shown = 0
        while shown < 100 and self.shows((shown + 1) / 100, confidence):
            shown += 1
        if shown:
            return shown / 100
        return Undefined(f"{self.documents} documents do not show that even 1% of it is kept")
