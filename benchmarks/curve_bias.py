"""How far the figures of a curve lie from the truth where the verifier is useless.

The SLM answers .45 rightly at a cost of 1, the LLM .75 at a cost of 50, and the confidence tells
nothing: whatever is escalated, the truth is the line from the SLM to the LLM. Its area is .60, it
reaches 95 % of the LLM's quality at a cost of 43.9, and APGR is .5. Each run fits a threshold on n
questions and follows it on n others, as a report does; ``hull`` is the upper hull of the same
policies chosen on the questions that they are scored on.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from automix_eval.analysis.curve_figures import Curve
from automix_eval.analysis.figures import Figure
from automix_eval.analysis.method import MethodScore
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import Outcomes

QUESTIONS = (24, 50, 200, 1000)
SLM, LLM, LLM_COST = 0.45, 0.75, 50.0
TRUTH = {
    "area": (SLM + LLM) / 2,
    "cost at 95%": 1 + (LLM_COST - 1) * (0.95 * LLM - SLM) / (LLM - SLM),
    "APGR": 0.5,
}


@dataclass(slots=True)
class Bias:
    """Estimates of one figure over runs.

    Attributes:
        truth: What it is on all questions there could be.
        values: Of each run.
        hull: The same by the upper hull; empty for APGR.
        held: Whether each interval held the truth.
    """

    truth: float
    values: list[float] = field(default_factory=list)
    hull: list[float] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)

    def add(self, figure: Figure) -> None:
        """Count the figure of a run."""
        if isinstance(figure.value, Undefined):
            return
        self.values.append(figure.value)
        if isinstance(figure.interval, tuple):
            low, high = figure.interval
            self.held.append(low - 1e-9 <= self.truth <= high + 1e-9)

    def row(self) -> tuple[float, float, float, float]:
        """Bias, its standard error, the hull's bias, and coverage."""
        values = np.array(self.values)
        hull = float(np.mean(self.hull)) - self.truth if self.hull else float("nan")
        error = float(values.std(ddof=1) / np.sqrt(len(values)))
        return float(values.mean()) - self.truth, error, hull, float(np.mean(self.held))


def useless(rng: np.random.Generator, number: int) -> Outcomes:
    """Questions whose confidence says nothing."""
    right = rng.random((number, 2)) < (SLM, LLM)
    confidence = np.stack([rng.random(number), np.full(number, np.nan)], axis=1)
    costs = np.tile([1.0, LLM_COST], (number, 1))
    names = tuple(f"q{i}" for i in range(number))
    free = np.zeros((number, 2))
    return Outcomes(right.astype(float), costs, confidence, free, ("slm", "llm"), names)


def curve_bias(number: int, runs: int, seed: int, resamples: int = 300) -> dict[str, Bias]:
    """Figures of a threshold over simulated runs.

    Args:
        number: Questions to fit on, and as many to score on.
        runs: Simulated runs.
        seed: Of all that is drawn.
        resamples: Of each bootstrap.
    """
    rng = np.random.default_rng([seed, number])
    found = {name: Bias(truth) for name, truth in TRUTH.items()}
    for run in range(runs):
        fitting, test = useless(rng, number), useless(rng, number)
        router = Threshold(candidates="observed").fit(fitting)
        score = MethodScore.of_routers([router], test, run, resamples, fitting=[fitting])
        figures = score.figures()
        found["area"].add(figures.area)
        found["cost at 95%"].add(dict(figures.cost_at)[0.95])
        found["APGR"].add(figures.apgr)
        points = [(np.array([p.cost]), np.array([p.quality])) for p in figures.curve]
        ends = [np.asarray(v)[:1] for v in score.ends()]
        hull = Curve.of(points, type(score.ends())(*ends))
        if isinstance(hull, Curve):
            found["area"].hull.append(float(np.asarray(hull.area().vector)[0]))
            cost = hull.cost_of_share(0.95)
            if cost.undefined is None:
                found["cost at 95%"].hull.append(float(np.asarray(cost.vector)[0]))
    return found


def print_curve_bias(runs: int, seed: int) -> int:
    """Print the table; returns how many figures lie out of bounds.

    The bias is to be under a tenth of the hull's or two standard errors, coverage .93 to .97.
    """
    print("\nA useless verifier: figures along policies chosen on the fitting questions")
    print(f"{'figure':12s} {'n':>5s} {'bias':>9s} {'s.e.':>8s} {'hull':>9s} {'coverage':>9s}")
    failed = 0
    for number in QUESTIONS:
        for name, bias in curve_bias(number, runs, seed).items():
            mean, error, hull, held = bias.row()
            least = 2 * error if np.isnan(hull) else max(0.1 * abs(hull), 2 * error)
            bad = abs(mean) > least or not 0.93 <= held <= 0.97
            failed += bad
            print(
                f"{name:12s} {number:5d} {mean:+9.4f} {error:8.4f} {hull:+9.4f} {held:9.3f}"
                + ("  out of bounds" if bad else ""),
                flush=True,
            )
    print(f"Figures out of bounds (bias a tenth of the hull's or 2 s.e., coverage): {failed}")
    return failed
