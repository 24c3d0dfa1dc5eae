"""Operating points: what one may choose between on a chain, scored on questions not fitted on.

The models alone, the live policy, and three that a router could take instead: the one of the
largest gain, and the cheapest that are shown to keep 95 and 99 % of the last tier's quality
(learn-then-test on the fitting questions, :mod:`automix_eval.meta_verifiers.assured`). Policies are
fitted on the fitting questions; where there are none, in folds of the scored ones by whole
documents, so that no question is decided by a policy that saw its score.

There the gain is that of several policies a question (:attr:`.CrossFitted.ways`), and the
point their mean. Which fold is left out beside its own is as good as drawn, so they are drawn again
in resamples as seeds are. What is to be proven of a share needs the more questions that one fold
leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from automix_eval.analysis.beside_llm import paired_scores
from automix_eval.analysis.bootstrap_table import Vector, figure, first_undefined
from automix_eval.analysis.curve_figures import over_random
from automix_eval.analysis.figure import THE_LLM, THE_SLM, Figure
from automix_eval.analysis.method import MethodScore
from automix_eval.analysis.point_figures import OperatingPoint, PointName
from automix_eval.analysis.references import References, ScoredQuestions
from automix_eval.analysis.replayed import replayed
from automix_eval.analysis.routed_paths import ChainRouting, Method, MethodOnRun, Routing
from automix_eval.meta_verifiers.assured import HeldOutSweep, Placed, Promise
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.meta_verifiers.cross_fitted import CrossFitted
from automix_eval.metrics.ibc import TOLERANCE, Undefined
from automix_eval.metrics.noninferiority import MIN_DOCUMENTS
from automix_eval.records.outcomes import Outcomes

TARGETS: tuple[tuple[PointName, float], ...] = (("keeps_95", 0.95), ("keeps_99", 0.99))
# With which the fitting questions show that a share is kept.
CONFIDENCE = 0.9
FOLDS = 5

Make = Callable[[], MetaVerifier]


class PolicyChoice(NamedTuple):
    """A fitted policy that is an operating point.

    Attributes:
        name: Of the point.
        policy: Fitted.
        proven: Whether the fitting questions show that it keeps its share; None for ``gain``.
        why: Why not; empty otherwise.
    """

    name: PointName
    policy: MetaVerifier
    proven: bool | None = None
    why: str = ""

    @property
    def words(self) -> str:
        """How many policies a question has, for behind how they were fitted; empty for one."""
        number = len(self.policy.ways) if isinstance(self.policy, CrossFitted) else 1
        if number == 1:
            return ""
        return f"; the largest gain: mean of {number} policies a question, fitted without two folds"


class RoutedPoint(NamedTuple):
    """Where a point leads, on which questions, and what of it the fitting questions showed.

    Attributes:
        ways: Where it leads; the mean of several where policies were fitted in folds.
    """

    name: PointName
    ways: tuple[Routing, ...]
    questions: ScoredQuestions
    proven: bool | None = None
    why: str = ""


def chosen_policies(
    make: Make, fitting: Outcomes | None, scored: Outcomes, fitted: MetaVerifier | None = None
) -> list[PolicyChoice]:
    """The policy of the largest gain, and those that are shown to keep a share.

    Args:
        make: Makes one unfitted router whose objective is ``gain``.
        fitting: Questions to fit on; None: in folds of the scored ones.
        scored: The questions that will be decided.
        fitted: What ``make`` gives, fitted already, in folds that the user chose where there are no
            fitting questions; None: it is fitted here.

    Raises:
        AutoMixError: The router cannot be fitted on these questions.
    """
    if fitting is None:
        crossed = fitted if isinstance(fitted, CrossFitted) else None
        crossed = crossed or CrossFitted(make, FOLDS).fit(scored)
        return [PolicyChoice("gain", crossed), *_kept_in_folds(crossed)]
    rows = fitting.canonical()
    router = fitted or make().fit(rows)
    sweep = HeldOutSweep.of(lambda some: Placed.of(make().fit(some), some), router, rows)
    found = [PolicyChoice("gain", router)]
    for name, target in TARGETS:
        promise = sweep.choose(target, CONFIDENCE)
        found.append(
            PolicyChoice(name, promise.policy, promise.shown, _why_not(promise, len(rows)))
        )
    return found


def _why_not(promise: Promise, number: int) -> str:
    if promise.shown:
        return ""
    return (
        f"{number} fitting questions show it of no policy cheaper than the LLM, which is asked "
        f"always; {promise.more}"
    )


def _kept_in_folds(crossed: CrossFitted) -> Iterator[PolicyChoice]:
    """Each fold by the policy that the other folds show to keep the share."""
    placed: dict[frozenset[int], Placed] = {}  # what leaves out two folds is needed for both

    def fit(rows: Outcomes) -> Placed:
        folds = frozenset(range(crossed.folds)) - {crossed.fold_of_[name] for name in rows.ids}
        if folds not in placed:
            placed[folds] = Placed.of(crossed.without(*folds), rows)
        return placed[folds]

    sweeps = []
    for number, policy in enumerate(crossed.policies_ or ()):
        rest = crossed.rest(number)
        folds = np.array([crossed.fold_of_[name] for name in rest.ids], dtype=np.intp)
        # of two folds one is left, which holds nothing out of itself
        inner = folds if len(np.unique(folds)) > 1 else None
        sweeps.append(HeldOutSweep.of(fit, policy, rest, inner))
    for name, target in TARGETS:
        promises = [sweep.choose(target, CONFIDENCE) for sweep in sweeps]
        failed = [(p, len(s.rows)) for p, s in zip(promises, sweeps, strict=True) if not p.shown]
        why = ""
        if failed:
            why = f"in {len(failed)} of {len(sweeps)} folds {_why_not(*failed[0])}"
        policies = crossed.with_policies([p.policy for p in promises])
        yield PolicyChoice(name, policies, not failed, why)


def routed(choice: PolicyChoice, test: Outcomes, questions: ScoredQuestions) -> RoutedPoint:
    """Where a policy leads.

    Raises:
        AutoMixError: It cannot decide on these questions.
    """
    found = replayed(choice.policy, test, questions.tiers, whole_range=False)
    return RoutedPoint(choice.name, found.ways, questions, choice.proven, choice.why)


# --------------------------------------------------------------------------- figures


@dataclass(slots=True)
class PointColumns:
    """Points with their columns registered, between the two models alone: figures are read later.

    What else is registered in the same table is drawn with them, once.
    """

    _every: list[RoutedPoint]
    _rows: list[MethodScore]

    @classmethod
    def of(
        cls, questions: ScoredQuestions, points: Sequence[RoutedPoint], references: References
    ) -> PointColumns:
        """Register the columns of points.

        Args:
            questions: Those on which the two models are scored.
            points: In the order in which they are shown; those on other questions have a bootstrap
                of their own, of as many resamples.
            references: Of these questions, in a table that is not yet drawn.
        """
        every = [
            RoutedPoint("slm", (ChainRouting.only(questions.tiers, 0),), questions),
            *points,
            RoutedPoint("llm", (questions.llm,), questions),
        ]
        rows, of = [], {id(questions): references}
        for point in every:
            key, table = id(point.questions), references.table
            if key not in of:
                of[key] = References.of_questions(point.questions, table.resamples, table.seed)
            parts = tuple(MethodOnRun(way, None, "") for way in point.ways)
            method = Method(point.name, "replay", point.name, "", parts)
            rows.append(MethodScore.of(of[key].table, method, [of[key]] * len(parts)))
        return cls(every, rows)

    def figures(self) -> tuple[OperatingPoint, ...]:
        """The figures, in order, the two models first and last."""
        every, found = self._every, []
        for i, (point, row) in enumerate(zip(every, self._rows, strict=True)):
            one = _scored(point, row)
            if point.name not in ("slm", "llm"):
                # of a share that is kept the models come first, of a gain the live policy
                others = [every[0], every[-1], *every[1:i]] if point.proven is not None else (
                    [*every[1:i], every[0], every[-1]]
                )  # fmt: skip
                one = replace(one, same_as=next((p.name for p in others if _alike(p, point)), ""))
            found.append(one)
        return tuple(found)


def _alike(first: RoutedPoint, second: RoutedPoint) -> bool:
    """Whether two points decide the same of the same questions, and verify the same."""
    if first.questions is not second.questions or len(first.ways) != len(second.ways):
        return False
    rows = np.arange(len(first.questions.documents))
    last = first.questions.tiers.last
    names = ["quality", "cost", *(f"final {tier}" for tier in range(last + 1))]
    pairs = list(zip(first.ways, second.ways, strict=True))
    absent = {name for pair in pairs for way in pair for name in way.missing()}
    return all(
        np.array_equal(a.values(n, rows), b.values(n, rows))
        for a, b in pairs
        for n in names
        if n not in absent
    )


def _scored(point: RoutedPoint, row: MethodScore) -> OperatingPoint:
    ends, quality, cost = row.ends(), row.mean("quality"), row.mean("cost")
    first = row.mean("final 0")
    documents = int(point.questions.documents.max()) + 1
    delta = figure(row.delta_ibc(), documents)
    if point.name in ("slm", "llm"):
        delta = Figure(THE_SLM if point.name == "slm" else THE_LLM)
    saved = _ratio(cost, ends.llm_cost, "the LLM costs nothing, so there is nothing to save")
    share = _ratio(quality, ends.llm_quality, "the LLM's quality is not above 0")
    one = OperatingPoint(
        name=point.name,
        quality=figure(quality, documents),
        share=figure(share, documents),
        cost=figure(cost, documents),
        saved=figure(saved if isinstance(saved, Undefined) else 1 - saved, documents),
        escalation_rate=figure(first if isinstance(first, Undefined) else 1 - first, documents),
        delta_ibc=delta,
        kept=Figure(_kept(point)),
        from_calibration=point.questions.from_calibration,
    )
    if point.name in ("slm", "llm"):
        return one
    gain = figure(over_random(row.gained(), cost, ends), documents)
    shown, words, why = (
        _shown_gain(one, gain, point) if point.proven is None else _shown_share(one, point)
    )
    return replace(one, shown=shown, words=words, why=why)


def _ratio(part: Vector, whole: Vector, why_not: str) -> Vector:
    if reason := first_undefined(part, whole):
        return reason
    above, below = np.asarray(part), np.asarray(whole)
    if not below[0] > 0:
        return Undefined(why_not)
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)


def _kept(point: RoutedPoint) -> float | Undefined:
    paired = paired_scores(point.ways, [point.questions.llm], point.questions.documents)
    return paired if isinstance(paired, Undefined) else paired.largest_share()


def _shown_gain(one: OperatingPoint, gain: Figure, point: RoutedPoint) -> tuple[bool, str, str]:
    """Whether delta IBC is above 0; without an interval of it, whether the gain is.

    Where the questions hardly tell the LLM from the SLM, delta IBC has no interval, since it
    divides by what the LLM gains; the gain over a random choice of the same cost does not.
    """
    size = point.questions.words
    missing = f"not shown by {size}"
    if int(point.questions.documents.max()) + 1 < MIN_DOCUMENTS:
        return False, missing, f"at least {MIN_DOCUMENTS} documents are needed"
    if isinstance(one.delta_ibc.value, Undefined):
        return False, missing, one.delta_ibc.value.reason
    ends = one.delta_ibc.interval
    if isinstance(ends, Undefined):
        if isinstance(gain.interval, tuple) and gain.interval[0] > 0:
            return True, f"shown by {size}: its gain, not its delta IBC", ""
        return False, missing, ends.reason
    if isinstance(ends, tuple) and ends[0] > 0:
        return True, f"shown by {size}", ""
    if isinstance(ends, tuple) and ends[1] < 0:
        why = "it buys less quality than a random choice of the models at the same cost"
        return False, f"a loss, shown by {size}", why
    return False, missing, f"{size} do not tell its delta IBC from 0"


def _shown_share(one: OperatingPoint, point: RoutedPoint) -> tuple[bool, str, str]:
    """Whether the fitting questions prove that the share is kept, and the scored ones agree."""
    target = dict(TARGETS)[point.name]
    if not point.proven:
        return False, "not shown by the fitting questions", point.why
    reached = one.share.value
    if isinstance(reached, Undefined):
        return False, "not shown", reached.reason
    if reached < target * (1 - TOLERANCE):
        why = (
            f"shown by the fitting questions, but {point.questions.words} reach "
            f"{reached:.1%} of the LLM's quality only"
        )
        return False, f"not shown by {point.questions.words}", why
    return True, f"shown with {CONFIDENCE:.0%} confidence", ""
