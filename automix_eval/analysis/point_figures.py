"""The operating points of a chain as frozen values: what one may choose between, and what is shown.

A report, ``whatif`` and ``replay`` begin with them; a gate reads them by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from automix_eval.analysis.figure import Figure
from automix_eval.metrics.ibc import Undefined

PointName = Literal["slm", "live", "gain", "keeps_95", "keeps_99", "llm"]
ConclusionKind = Literal["pays", "costs", "not shown", "nothing to gain", "unknown"]


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One way of answering the questions of a task, and what it saves against the LLM alone.

    Attributes:
        name: ``slm``, ``live`` (the policy of the run, or the one replayed), ``gain`` (largest gain
            over a random choice of single models of the same cost), ``keeps_95`` and ``keeps_99``
            (the cheapest that is shown to keep this share of the LLM's quality), ``llm``.
        quality: Mean score.
        share: Quality as a share of the LLM's.
        cost: Mean cost per question, verification included.
        saved: Share of the LLM's cost that is saved.
        escalation_rate: Share of questions answered by a tier above the first.
        delta_ibc: Lift of quality per cost over always asking the LLM.
        kept: Largest share of the LLM's quality, in whole per cents up to 1, that the questions
            show to be kept, at 95 % one-sided.
        shown: Whether what the point is chosen for is shown: of ``live`` and ``gain`` that delta
            IBC is above 0, of the others that the share is kept; None of the models alone.
        words: The same in words.
        why: Why it is not shown, and what would be needed; empty otherwise.
        same_as: Name of an earlier point that decides the same of every question; may be empty.
        from_calibration: Whether it was scored on the calibration questions, in folds, since not
            every tier was asked the evaluated ones.
    """

    name: PointName
    quality: Figure
    share: Figure
    cost: Figure
    saved: Figure
    escalation_rate: Figure
    delta_ibc: Figure
    kept: Figure
    shown: bool | None = None
    words: str = ""
    why: str = ""
    same_as: str = ""
    from_calibration: bool = False

    @property
    def own_delta_ibc(self) -> Figure | None:
        """Delta IBC, None where it is undefined or the point is one model alone."""
        alone = isinstance(self.delta_ibc.value, Undefined) or self.same_as in ("slm", "llm")
        return None if alone else self.delta_ibc


@dataclass(frozen=True, slots=True)
class Conclusion:
    """What the points come to.

    Attributes:
        kind: Whether a cascade pays, costs more than it is worth, is not shown to do either, has
            nothing to gain (the LLM is not better), or cannot be judged.
        words: A sentence or two.
    """

    kind: ConclusionKind
    words: str


@dataclass(frozen=True, slots=True)
class OperatingPoints:
    """The operating points of one task; all texts are printable.

    Attributes:
        task: The task.
        run_id: The run; empty for a replay and for ``whatif``.
        metric: What the scores are.
        cost: What the costs are.
        sample: Whether the questions are an embedded sample.
        tiers: Names of the models, cheapest first.
        num_questions: Questions that were scored.
        num_documents: Documents that they are about.
        router: The router whose policies the points are, but for ``live``.
        fitted: How its policies were fitted, and on what.
        verdict: What the points come to.
        points: At most six, the SLM first and the LLM last.
        notes: Why a point is missing.
    """

    task: str
    run_id: str
    metric: str
    cost: str
    sample: bool
    tiers: tuple[str, ...]
    num_questions: int
    num_documents: int
    router: str
    fitted: str
    verdict: Conclusion
    points: tuple[OperatingPoint, ...]
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> str:
        """How many questions there are, about how many documents."""
        return size_words(self.num_questions, self.num_documents)


def size_words(questions: int, documents: int) -> str:
    """A number of questions, and of documents where they are fewer."""
    about = f" about {documents} document{'s' * (documents != 1)}"
    return f"{questions} question{'s' * (questions != 1)}" + (
        about if documents < questions else ""
    )
