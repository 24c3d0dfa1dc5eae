"""The figures of a report: frozen values, no files and no arithmetic.

Every figure that has no value for the data says why (:class:`Undefined`); none is infinite or NaN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from automix_eval.analysis.figure import DASHES as DASHES
from automix_eval.analysis.figure import NO_SINGLE_RATE as NO_SINGLE_RATE
from automix_eval.analysis.figure import NO_VERIFIER as NO_VERIFIER
from automix_eval.analysis.figure import ON_A_LINE, WITHOUT_VERIFIER
from automix_eval.analysis.figure import POINT_ON_A_LINE as POINT_ON_A_LINE
from automix_eval.analysis.figure import THE_SLM as THE_SLM
from automix_eval.analysis.figure import Abstention as Abstention
from automix_eval.analysis.figure import Figure as Figure
from automix_eval.analysis.point_figures import OperatingPoints
from automix_eval.metrics.benefit import HELPS_ABOVE
from automix_eval.metrics.bootstrap import RESAMPLES
from automix_eval.metrics.ibc import Undefined

Kind = Literal["live", "replay", "plain"]

# Shares of the LLM's quality of which the cost is given.
QUALITY_SHARES = (0.95, 0.99, 1.0)
# Shares of the gap between SLM and LLM of which the LLM's calls are given (RouteLLM's CPT).
GAP_SHARES = (0.5, 0.8)


@dataclass(frozen=True, slots=True)
class System:
    """One way of answering a task's questions.

    Attributes:
        quality: Mean score.
        cost: Mean cost per question, in the cost model's unit.
        escalation_rate: Share of questions answered by a tier above the first.
        ibc: Gain over the SLM per extra cost; None for the SLM itself.
    """

    quality: Figure
    cost: Figure
    escalation_rate: Figure
    ibc: float | Undefined | None = None


# --------------------------------------------------------------------------- methods


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One operating point of a method on the evaluated questions.

    Attributes:
        cost: Mean cost per question.
        quality: Mean score.
        escalation_rate: Share of questions answered above the first tier; None where unknown.
        parameter: The parameter of the policy; None where it has none.
        chosen: Whether it is the point of the method's own row.
    """

    cost: float
    quality: float
    escalation_rate: float | None
    parameter: float | None = None
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class TierShare:
    """What becomes of the questions at one tier.

    Attributes:
        asked: Share of questions this tier was asked on the routed path.
        final: Share of questions it answered finally.
        escalated: Of the questions it was asked, the share that went on to a later tier;
            undefined for the last tier and for a tier that was never asked.
    """

    tier: int
    asked: Figure
    final: Figure
    escalated: Figure


@dataclass(frozen=True, slots=True)
class Region:
    """Delta IBC in one of five equal parts of the cost range from the SLM to the LLM.

    Source: AutoMix, arXiv 2310.12963 (final version), which averages delta IBC over them.
    """

    low: float
    high: float
    delta_ibc: Figure
    parameter: float | None = None


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over seeds, as the first version of the paper reports it.

    Attributes:
        mean: Mean over seeds.
        std: Standard deviation, ddof 0.
        low: Least value.
        high: Largest value.
        number: Seeds with a value.
        undefined: Reasons of the seeds without one, each with its seed.
    """

    mean: float
    std: float
    low: float
    high: float
    number: int
    undefined: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodFigures:
    """One row of the leaderboard.

    What each figure is stands in ``report/columns.py``, with the way it is shown. A point on a
    line, such as the random router at a method's cost, has no curve, no regions and no verifier:
    these are the defaults.

    Attributes:
        name: Stable key, unique within its board: ``pomdp``, ``replay:threshold``, ...
        kind: ``live``: calls were made by this router; ``replay``: computed from records in which
            every tier was asked; ``plain``: a run of one model by the harness alone.
        label: What a table shows.
        verifier: Name of the verifier whose confidences it reads; empty if none.
        runs: Ids of the runs it rests on.
        seeds: Their seeds, in the order of ``runs``; -1 where a run names none.
        tiers: One entry a tier of the chain; empty for plain runs.
        regions: Delta IBC in five cost regions; empty where SLM or LLM has no figures.
        cost_at: (share, cost) for :data:`QUALITY_SHARES` of the LLM's quality.
        cpt: (share, LLM calls) for :data:`GAP_SHARES` of the gap in quality.
        curve: Operating points, ascending in cost; one for a router without a sweep.
        by_seed: Figure name -> its spread over seeds; empty for fewer than two seeds.
        note: What the reader should know of the row; may be empty.
    """

    name: str
    kind: Kind
    label: str
    verifier: str
    runs: tuple[str, ...]
    seeds: tuple[int, ...]
    quality: Figure
    cost: Figure
    escalation_rate: Figure
    tiers: tuple[TierShare, ...] = ()
    ibc: Figure
    delta_ibc: Figure
    random_quality: Figure
    oracle_quality: Figure
    regions: tuple[Region, ...] = ()
    regions_mean: Figure = ON_A_LINE
    cost_at: tuple[tuple[float, Figure], ...] = tuple(
        (share, ON_A_LINE) for share in QUALITY_SHARES
    )
    area: Figure = ON_A_LINE
    apgr: Figure = ON_A_LINE
    cpt: tuple[tuple[float, Figure], ...] = tuple((share, ON_A_LINE) for share in GAP_SHARES)
    calls_saved: Figure
    auroc: Figure = WITHOUT_VERIFIER
    calibration_error: Figure = WITHOUT_VERIFIER
    brier: Figure = WITHOUT_VERIFIER
    risk_coverage: Figure = WITHOUT_VERIFIER
    benefit_auroc: Figure = WITHOUT_VERIFIER
    benefit_correlation: Figure = WITHOUT_VERIFIER
    curve: tuple[CurvePoint, ...] = ()
    by_seed: Mapping[str, Spread] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two methods of a board on the same questions: first minus second.

    Attributes:
        first: Name of a method.
        second: Name of another.
        quality: Difference of mean scores.
        cost: Difference of mean costs.
        delta_ibc: Difference of delta IBC.
        quality_p: p-value of the paired test on quality.
        quality_holm: The same after Holm's correction over the board's pairs.
        delta_ibc_p: p-value of the bootstrap of delta IBC.
        delta_ibc_holm: The same after Holm's correction.
        words: What to conclude, one sentence.
    """

    first: str
    second: str
    quality: Figure
    cost: Figure
    delta_ibc: Figure
    quality_p: Figure
    quality_holm: Figure
    delta_ibc_p: Figure
    delta_ibc_holm: Figure
    words: str


@dataclass(frozen=True, slots=True)
class Board:
    """The leaderboard of one task: methods that answered the same questions.

    Attributes:
        key: Unique among the report's boards; the task, and a number where it has several.
        methods: Live ones first, then replays, then plain runs.
        oracle_curve: (cost, quality) of the oracle from the SLM's cost upwards; empty where not
            every tier was asked every question.
        why_apart: Why the task has another board, empty if it has none.
    """

    key: str
    task: str
    metric: str
    sample: bool
    num_questions: int
    num_documents: int
    tiers: tuple[str, ...]
    cost: str
    methods: tuple[MethodFigures, ...]
    comparisons: tuple[Comparison, ...]
    oracle_curve: tuple[CurvePoint, ...]
    why_apart: str = ""
    warnings: tuple[str, ...] = ()


# --------------------------------------------------------------------------- what else a run tells


@dataclass(frozen=True, slots=True)
class CallRow:
    """Calls of one tier and role: on the routed path (from records), and as the run made them."""

    tier: int
    role: str
    on_path: int
    made: int
    stored: int
    calibration_made: int
    calibration_stored: int


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Answers whose confidence lies in (low, high] (the first bin holds 0 too).

    Attributes:
        count: How many, all with a score.
        confidence: Their mean confidence; None if there are none.
        accuracy: The share of them that is right; None if there are none.
        right: How many are correct: with ``count`` the histogram of right and wrong answers.
    """

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None
    right: int


@dataclass(frozen=True, slots=True)
class VerifierFigures:
    """What the verifications of one tier look like.

    Attributes:
        auroc: Of the confidence as a predictor of a right answer.
        calibration_error: Mean of |accuracy - confidence| over ``reliability``, by count.
        brier: Mean squared distance of the confidence from 1 (correct) or 0.
        risk_coverage: Mean share of errors among the k surest answers, over all k.
        five_numbers: Minimum, three quartiles, maximum; None if no confidence is defined.
        distinct: Number of different confidences.
        outcomes: Outcome -> number of verifications.
        num_samples: Verification samples drawn, and of them those without a decision.
        reliability: Ten equal bins of the confidence.
        histogram: Twenty equal bins for a picture of right and wrong answers.
        num_saved: Samples not drawn because the routing decision was settled (``stop_early``).
        benefit_auroc: Of low confidence as a predictor that the LLM's score is higher by more than
            ``helps_above``.
        benefit_correlation: Kendall's rank correlation of low confidence and the LLM's benefit.
        right_above: The score above which an answer is right: 0.5, or the middle of the range of
            scores that leave [0, 1].
        helps_above: By how much the LLM's score is higher where it helps: 0.1, or a tenth of it.
    """

    tier: int
    auroc: Figure
    calibration_error: Figure
    brier: Figure
    risk_coverage: Figure
    five_numbers: tuple[float, ...] | None
    distinct: int
    outcomes: Mapping[str, int]
    num_samples: int
    num_unparsable: int
    reliability: tuple[ReliabilityBin, ...]
    histogram: tuple[ReliabilityBin, ...]
    num_saved: int = 0
    benefit_auroc: Figure = WITHOUT_VERIFIER
    benefit_correlation: Figure = WITHOUT_VERIFIER
    right_above: float = 0.5
    helps_above: float = HELPS_ABOVE


@dataclass(frozen=True, slots=True)
class Truncation:
    """Prompts of one tier and role that did not fit, and what was left out of them."""

    tier: int
    role: str
    prompts: int
    shortened: int
    demonstrations: int
    context_tokens: int


@dataclass(frozen=True, slots=True)
class TaskFigures:
    """Everything the main blocks of the report say about one task of one run."""

    num_questions: int
    num_documents: int
    slm: System
    llm: System
    method: System
    delta_ibc: Figure
    final_tiers: tuple[int, ...]
    llm_answers_recorded: int
    calls: tuple[CallRow, ...]
    verifiers: tuple[VerifierFigures, ...]
    truncations: tuple[Truncation, ...]


@dataclass(frozen=True, slots=True)
class Detectable:
    """The least delta IBC, and the least loss against the LLM, found with 80 % power."""

    delta_ibc: Figure
    loss: Figure


NOT_COMPARED = Undefined("it was not compared with the LLM question by question")
UNCOMPARED = Figure(NOT_COMPARED)
NO_NUMBER = Undefined("the objective sets no quality and no cost to reach")
WITHOUT_NUMBER = Figure(NO_NUMBER)


@dataclass(frozen=True, slots=True)
class Aim:
    """What a router was fitted to reach, against what it reached on the evaluated questions.

    Attributes:
        objective: Name of the objective.
        of: What it sets a number for; None where it sets none.
        value: That number: a share of the LLM's quality, or a mean cost.
        aimed: The quality or the mean cost aimed at.
        reached: The quality or the mean cost reached.
        share: Quality reached as a share of the LLM's, or cost reached as a share of the budget.
        missed: Whether the aim was missed; None where there is no number or it cannot be told.
        confidence: With which the fitting data were to show it; None unless that was asked for.
    """

    objective: str
    of: Literal["quality", "cost"] | None = None
    value: float | None = None
    aimed: Figure = WITHOUT_NUMBER
    reached: Figure = WITHOUT_NUMBER
    share: Figure = WITHOUT_NUMBER
    missed: bool | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class TaskReport:
    """One task of one run; every text in it is printable.

    Attributes:
        tiers: Labels of the tiers, SLM first.
        llm_source: Where the LLM-only figures come from; empty if there are none.
        methods: The run's own row (``live``) and the replays from its records.
        policy: The fitted policy as its file holds it; None if there is none.
        aim: What the router was fitted to reach; None for one without an objective.
        kept: Largest share of the LLM's quality, in whole per cents, that is shown to be kept.
        detectable: What the questions could have shown.
        latency: Part of a path (slm, verification, llm, path) -> p50, p95, p99 in seconds.
        waits_for_two: Share of questions whose path has more than one model.
        abstention: Of a router that may abstain; None of any other.
    """

    run_id: str
    label: str
    created: str
    version: str
    task: str
    metric: str
    sample: bool
    meta_verifier: str
    verifier: str
    cost: str
    tiers: tuple[str, ...]
    figures: TaskFigures
    llm_source: str
    warnings: tuple[str, ...]
    methods: tuple[MethodFigures, ...] = ()
    policy: Mapping[str, Any] | None = None
    aim: Aim | None = None
    kept: Figure = UNCOMPARED
    detectable: Detectable = Detectable(UNCOMPARED, UNCOMPARED)
    latency: Mapping[str, Mapping[str, Figure]] = field(default_factory=dict)
    waits_for_two: Figure = UNCOMPARED
    abstention: Abstention | None = None

    @property
    def method(self) -> str:
        """Name of the method's row."""
        return f"AutoMix ({self.meta_verifier})"


@dataclass(frozen=True, slots=True)
class Report:
    """All tasks of all runs, oldest run first, and the leaderboard of each task.

    Attributes:
        tasks: One entry a task of a run.
        warnings: What concerns no single task.
        seed: Seed of the bootstrap.
        boards: One a task, more where its runs cannot be compared.
        resamples: Number of bootstrap resamples.
        operating_points: What one may choose between, one entry a task of a run.
    """

    tasks: tuple[TaskReport, ...]
    warnings: tuple[str, ...]
    seed: int
    boards: tuple[Board, ...] = ()
    resamples: int = RESAMPLES
    operating_points: tuple[OperatingPoints, ...] = ()
