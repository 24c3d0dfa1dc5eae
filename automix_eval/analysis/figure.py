"""One figure: a number with its interval, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass

from automix_eval.metrics.bootstrap import Interval
from automix_eval.metrics.ibc import Undefined

# Reasons that a table shows as a dash: the figure has no meaning for such a row.
NO_VERIFIER = Undefined("the method reads no confidence")
POINT_ON_A_LINE = Undefined("it is a point on a line, not a router with a curve of its own")
NO_SINGLE_RATE = Undefined("a random choice between two oracles: its escalation rate is not unique")
THE_SLM = Undefined("it is the SLM itself, from which gain and extra cost are counted")
THE_LLM = Undefined("it is the LLM itself, which delta IBC compares with")
DASHES = frozenset({NO_VERIFIER, POINT_ON_A_LINE, NO_SINGLE_RATE, THE_SLM, THE_LLM})


@dataclass(frozen=True, slots=True)
class Figure:
    """A number and its 95 % interval; either may be undefined, the interval also absent.

    Attributes:
        value: The figure of the data, or why there is none.
        interval: (low, high) of the paired bootstrap, in the unit of the value.
        stderr: Standard deviation of the bootstrap, where there is an interval.
    """

    value: float | Undefined
    interval: Interval | None = None
    stderr: float | None = None

    @property
    def ends(self) -> tuple[float, float] | None:
        """The interval of a figure that exists; None where it has none."""
        known = isinstance(self.interval, tuple) and not isinstance(self.value, Undefined)
        return self.interval if known else None  # type: ignore[return-value]

    @property
    def undefined(self) -> Undefined | None:
        """Why the figure or else its interval is undefined; None where neither is."""
        return next((p for p in (self.value, self.interval) if isinstance(p, Undefined)), None)


ON_A_LINE = Figure(POINT_ON_A_LINE)
WITHOUT_VERIFIER = Figure(NO_VERIFIER)


@dataclass(frozen=True, slots=True)
class Abstention:
    """What came of questions that the router may leave without an answer that counts.

    Every other figure takes the answer at hand for them, which the harness gets as well.

    Attributes:
        abstained: Questions abstained on.
        coverage: Share of the questions answered.
        quality: Mean score of those.
        loss: Mean cost, the price of an error times what the answered lack to 1, and the price of
            an abstention for the others.
    """

    abstained: int
    coverage: Figure
    quality: Figure
    loss: Figure
