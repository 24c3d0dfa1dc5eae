"""Methods of automix-llm: candidate policies, and what each of them decides on a frame."""

from __future__ import annotations

import itertools
import string
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.automix_llm.frame import Frame
from automix_eval.meta_verifiers.greedy import greediest
from automix_eval.meta_verifiers.pomdp_v1 import COMPLEX, SIMPLE, UNSOLVABLE, label_states, policies
from automix_eval.meta_verifiers.rules import bins as grid
from automix_eval.meta_verifiers.rules.rule_router import check_bins
from automix_eval.meta_verifiers.self_consistency import MAJORITY
from automix_eval.records.outcomes import BoolArray, FloatArray, IntArray
from automix_eval.safety.errors import AutoMixError

SIGMA = 2.0  # width of the smoothing of GreedyPOMDP, in bins
CATEGORY = "category"
# An SLM that is better is evidence against asking the LLM, as much as one that is as good.
_STATES = {"NEEDY": COMPLEX, "GOOD": SIMPLE, "UNDEFINED": SIMPLE, "HOPELESS": UNSOLVABLE}


class DropInMethod(ABC):
    """Candidate policies; a parameter is what one of them is known by."""

    @abstractmethod
    def generate_points(self, frame: Frame) -> list[Any]:
        """The parameters to try, in the order in which equals are preferred."""

    @abstractmethod
    def run(self, frame: Frame, param: Any) -> BoolArray:
        """(n,) whether to ask the LLM."""


class _Binned(DropInMethod):
    """A method that reads the confidence alone, on a grid of num_bins steps.

    Args:
        num_bins: Steps of the grid from 0 to 1.
    """

    def __init__(self, num_bins: int) -> None:
        check_bins(type(self).__name__, num_bins, grid.MAX_BINS)
        self.num_bins = num_bins

    def run(self, frame: Frame, param: Any) -> BoolArray:
        """(n,) whether to ask the LLM."""
        return frame.decide(self._rule(frame.confidence, param))

    @abstractmethod
    def _rule(self, confidence: FloatArray, param: Any) -> BoolArray:
        """(n,) what the parameter says of confidences that are none missing."""


class Threshold(_Binned):
    """Asks the LLM iff v <= t; t runs over the grid."""

    def generate_points(self, frame: Frame) -> list[Any]:  # noqa: ARG002 - the same for all data
        """Each t."""
        return list(grid.points(self.num_bins).tolist())

    def _rule(self, confidence: FloatArray, param: Any) -> BoolArray:
        return np.asarray(confidence <= param)


class SelfConsistency(Threshold):
    """Asks the LLM iff v <= 0.5."""

    def generate_points(self, frame: Frame) -> list[Any]:  # noqa: ARG002 - the same for all data
        """0.5."""
        return [MAJORITY]


class DoubleThreshold(_Binned):
    """Asks the LLM iff a <= v <= b, for points 0 <= a < b < 1 of the grid."""

    def generate_points(self, frame: Frame) -> list[Any]:  # noqa: ARG002 - the same for all data
        """Each (a, b)."""
        return list(itertools.combinations(grid.points(self.num_bins)[:-1].tolist(), 2))

    def _rule(self, confidence: FloatArray, param: Any) -> BoolArray:
        return np.asarray((confidence >= param[0]) & (confidence <= param[1]))


class TripleThreshold(_Binned):
    """Asks the LLM iff v <= a or b <= v <= c, for points 0 <= a < b < c < 1 of the grid."""

    def generate_points(self, frame: Frame) -> list[Any]:  # noqa: ARG002 - the same for all data
        """Each (a, b, c)."""
        return list(itertools.combinations(grid.points(self.num_bins)[:-1].tolist(), 3))

    def _rule(self, confidence: FloatArray, param: Any) -> BoolArray:
        between = (confidence >= param[1]) & (confidence <= param[2])
        return np.asarray((confidence <= param[0]) | between)


class POMDPSimple(_Binned):
    """The one-step POMDP of AutoMix's first version: one action for each point of the grid.

    The states are those of the column ``category`` (NEEDY, GOOD, HOPELESS, UNDEFINED) where the
    frame has one, else they are labelled from the scores of the frame itself; see
    :class:`~automix_eval.meta_verifiers.pomdp_v1.PomdpV1`.

    Args:
        num_bins: Steps of the grid from 0 to 1.
        init_belief: Without effect, as in automix-llm.
    """

    def __init__(self, num_bins: int, init_belief: bool = False) -> None:
        super().__init__(num_bins)
        self.init_belief = init_belief

    def generate_points(self, frame: Frame) -> list[Any]:
        """Each distinct policy, as zeros and ones."""
        known = frame.defined
        states = _states(frame)[known]
        bins = grid.nearest(frame.confidence[known], self.num_bins)
        return [tuple(p) for p in policies(bins, states, self.num_bins)]

    def _rule(self, confidence: FloatArray, param: Any) -> BoolArray:
        return np.asarray(param, dtype=np.bool_)[grid.nearest(confidence, self.num_bins)]


class GreedyPOMDP(POMDPSimple):
    """Asks the LLM in the m bins with the largest smoothed mean gain.

    Args:
        num_bins: Steps of the grid from 0 to 1.
        init_belief: Without effect, as in automix-llm.
        slm_column: Column of the SLM's scores; None: that of AutoMix.
        llm_column: Column of the LLM's scores; None: that of AutoMix.
    """

    def __init__(
        self,
        num_bins: int,
        init_belief: bool = False,
        slm_column: str | None = None,
        llm_column: str | None = None,
    ) -> None:
        super().__init__(num_bins, init_belief)
        self.slm_column = slm_column
        self.llm_column = llm_column

    def generate_points(self, frame: Frame) -> list[Any]:
        """The best bin, the two best, ... all, as zeros and ones."""
        known = frame.defined
        llm, slm = (frame.score(c) for c in (self.llm_column or "llm", self.slm_column or "slm"))
        bins = grid.nearest(frame.confidence[known], self.num_bins)
        return list(greediest(bins, (llm - slm)[known], self.num_bins, SIGMA))


class AutomixUnion(DropInMethod):
    """The best parameter of several methods.

    Args:
        methods: The methods; equals fall to the first.
    """

    def __init__(self, *methods: DropInMethod) -> None:
        if not methods:
            raise AutoMixError("AutomixUnion needs at least one method")
        self.methods = list(methods)

    def generate_points(self, frame: Frame) -> list[Any]:
        """(parameter, index of its method)."""
        return [(p, i) for i, m in enumerate(self.methods) for p in m.generate_points(frame)]

    def run(self, frame: Frame, param: Any) -> BoolArray:
        """(n,) whether to ask the LLM."""
        route: BoolArray = self.methods[param[1]].run(frame, param[0])
        return route


class FixedAnswerRouting(DropInMethod):
    """Asks the LLM for certain answers of the SLM whatever the confidence, else as a method says.

    Args:
        method: Decides for all other answers.
        fixed_routing_elems: The answers, compared whole, without case, outer punctuation and extra
            white space.
        ans_column: Column of the SLM's answers.
    """

    def __init__(
        self,
        method: DropInMethod,
        fixed_routing_elems: str | Sequence[str] = (),
        ans_column: str = "llama13b_pred_ans",
    ) -> None:
        self.method = method
        self.fixed_routing_elems = fixed_routing_elems
        self.ans_column = ans_column

    def generate_points(self, frame: Frame) -> list[Any]:
        """Those of the method, on all rows."""
        return self.method.generate_points(frame)

    def run(self, frame: Frame, param: Any) -> BoolArray:
        """(n,) whether to ask the LLM."""
        given = self.fixed_routing_elems
        fixed = {_normalise(text) for text in ([given] if isinstance(given, str) else given)}
        answers = frame.values(self.ans_column)
        forced = np.array([isinstance(a, str) and _normalise(a) in fixed for a in answers])
        return np.asarray(forced | self.method.run(frame, param))


def POMDP(  # noqa: N802 - the name in automix-llm
    num_bins: int,
    init_belief: bool = False,
    slm_column: str | None = None,
    llm_column: str | None = None,
) -> AutomixUnion:
    """The union of :class:`POMDPSimple`, :class:`GreedyPOMDP` and the two thresholds."""
    return AutomixUnion(
        POMDPSimple(num_bins, init_belief),
        GreedyPOMDP(num_bins, init_belief, slm_column, llm_column),
        DoubleThreshold(num_bins),
        Threshold(num_bins),
    )


def _states(frame: Frame) -> IntArray:
    if CATEGORY not in frame:
        return label_states(frame.score("slm"), frame.score("llm"))
    labels = frame.values(CATEGORY)
    unknown = sorted({str(label) for label in labels} - set(_STATES))
    if unknown:
        raise AutoMixError(
            f"column {CATEGORY!r} holds {', '.join(unknown)}; the labels are {', '.join(_STATES)} "
            "(leave the column out to have them made from the scores)"
        )
    return np.array([_STATES[str(label)] for label in labels], dtype=np.intp)


def _normalise(text: str) -> str:
    return " ".join(text.casefold().split()).strip(string.punctuation + " ")
