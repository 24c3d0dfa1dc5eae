"""How far the figures of a curve lie from the truth where the verifier is useless.

The SLM answers .45 rightly at a cost of 1, the LLM .75 at a cost of 50, and the confidence tells
nothing. Each run fits a threshold on n questions and follows it on n others, as a report does. The
truth of a run is the figure of its own policies on all questions there could be: policies fitted
on few questions are worse than the best ones, and are not to be said to be as good. ``bias`` is the
mean distance to it, and ``coverage`` that of it.

``above the line`` compares with a random choice between the two models: area .60, 95 % of the LLM's
quality at 43.9, APGR .5. No policy of a useless verifier is above it, and each is below by what the
SLM costs on escalated questions. ``hull`` is how far the upper hull of the same policies, chosen on
the questions that they are scored on, lies above it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from automix_eval.analysis.curve_figures import Curve, EndPoints, FittedCurve
from automix_eval.analysis.figures import Figure
from automix_eval.analysis.fitted_path import PathStep, fitted_path
from automix_eval.analysis.method import MethodScore
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.metrics.ibc import Undefined
from automix_eval.records.outcomes import Outcomes

QUESTIONS = (24, 50, 200, 1000)
SLM, LLM, LLM_COST = 0.45, 0.75, 50.0
LINE = {
    "area": (SLM + LLM) / 2,
    "cost at 95%": 1 + (LLM_COST - 1) * (0.95 * LLM - SLM) / (LLM - SLM),
    "APGR": 0.5,
}
EVERYONE = 2000  # questions with evenly spaced confidences that stand for all there could be


@dataclass(slots=True)
class Bias:
    """Estimates of one figure over runs.

    Attributes:
        line: What it is for a random choice between the models.
        truths: Of each run.
        values: Of each run.
        hull: The same by the upper hull; empty for APGR.
        held: Whether each interval held the truth.
    """

    line: float
    truths: list[float] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    hull: list[float] = field(default_factory=list)
    held: list[bool] = field(default_factory=list)

    def add(self, figure: Figure, true: float) -> None:
        """Count the figure of a run."""
        if isinstance(figure.value, Undefined):
            return
        self.values.append(figure.value)
        self.truths.append(true)
        if isinstance(figure.interval, tuple):
            low, high = figure.interval
            self.held.append(low - 1e-9 <= true <= high + 1e-9)

    def row(self) -> tuple[float, float, float, float, float]:
        """Bias, its standard error, distance to the line, the hull's, and coverage."""
        values = np.array(self.values)
        apart = values - self.truths
        hull = float(np.mean(self.hull)) - self.line if self.hull else float("nan")
        error = float(apart.std(ddof=1) / np.sqrt(len(apart)))
        above = float(values.mean()) - self.line
        return float(apart.mean()), error, above, hull, float(np.mean(self.held))


def useless(rng: np.random.Generator, number: int) -> Outcomes:
    """Questions whose confidence says nothing."""
    right = rng.random((number, 2)) < (SLM, LLM)
    confidence = np.stack([rng.random(number), np.full(number, np.nan)], axis=1)
    costs = np.tile([1.0, LLM_COST], (number, 1))
    names = tuple(f"q{i}" for i in range(number))
    free = np.zeros((number, 2))
    return Outcomes(right.astype(float), costs, confidence, free, ("slm", "llm"), names)


def everyone() -> Outcomes:
    """All questions there could be, each with the score that is expected of it."""
    rng = np.random.default_rng(0)
    drawn = useless(rng, EVERYONE)
    confidence = np.stack(
        [(np.arange(EVERYONE) + 0.5) / EVERYONE, np.full(EVERYONE, np.nan)], axis=1
    )
    scores = np.tile([SLM, LLM], (EVERYONE, 1))
    return replace(drawn, scores=scores, confidences=confidence)


def truth(steps: Sequence[PathStep]) -> dict[str, float]:
    """The figures of a way that was followed on everyone."""
    ends = EndPoints(*(np.array([v]) for v in (SLM, 1.0, LLM, LLM_COST)))
    names = ("cost", "quality", "calls")
    points = [tuple(np.array([s.columns[k].mean()]) for k in names) for s in steps]
    way = FittedCurve.of([(c, q, u) for c, q, u in points], ends)
    assert isinstance(way, FittedCurve)
    found = way.area(), way.cost_of_share(0.95), way.recovered()
    return dict(zip(LINE, (float(np.asarray(v)[0]) for v in found), strict=True))


def curve_bias(number: int, runs: int, seed: int, resamples: int = 300) -> dict[str, Bias]:
    """Figures of a threshold over simulated runs.

    Args:
        number: Questions to fit on, and as many to score on.
        runs: Simulated runs.
        seed: Of all that is drawn.
        resamples: Of each bootstrap.
    """
    rng, whole = np.random.default_rng([seed, number]), everyone()
    found = {name: Bias(line) for name, line in LINE.items()}
    for run in range(runs):
        fitting, test = useless(rng, number), useless(rng, number)
        router = Threshold(candidates="observed").fit(fitting)
        score = MethodScore.of_routers([router], test, run, resamples, fitting=[fitting])
        figures = score.figures()
        true = truth(fitted_path(router, whole, fitting))
        shown = figures.area, dict(figures.cost_at)[0.95], figures.apgr
        for (name, bias), figure in zip(found.items(), shown, strict=True):
            bias.add(figure, true[name])
        points = [(np.array([p.cost]), np.array([p.quality])) for p in figures.curve]
        ends = [np.asarray(v)[:1] for v in score.ends()]
        hull = Curve.of(points, type(score.ends())(*ends))
        if isinstance(hull, Curve):
            by_hull = {"area": hull.area(), "cost at 95%": hull.cost_of_share(0.95)}
            for name, vector in by_hull.items():
                if not isinstance(vector, Undefined):
                    found[name].hull.append(float(vector[0]))
    return found


def print_curve_bias(runs: int, seed: int) -> int:
    """Print the table; returns how many figures lie out of bounds.

    The bias is to be under a tenth of the hull's or two standard errors, and so is the distance
    above the line; coverage .93 to .97.
    """
    print("\nA useless verifier: figures along policies chosen on the fitting questions")
    print(f"{'figure':12s} {'n':>5s} {'bias':>9s} {'s.e.':>8s} {'coverage':>9s} "
          f"{'above the line':>14s} {'hull':>9s}")  # fmt: skip
    failed = 0
    for number in QUESTIONS:
        for name, bias in curve_bias(number, runs, seed).items():
            mean, error, above, hull, held = bias.row()
            least = 2 * error if np.isnan(hull) else max(0.1 * abs(hull), 2 * error)
            bad = abs(mean) > least or not 0.93 <= held <= 0.97
            bad |= (-above if name.startswith("cost") else above) > least
            failed += bad
            print(
                f"{name:12s} {number:5d} {mean:+9.4f} {error:8.4f} {held:9.3f} {above:+14.4f} "
                f"{hull:+9.4f}" + ("  out of bounds" if bad else ""),
                flush=True,
            )
    print(f"Figures out of bounds (bias a tenth of the hull's or 2 s.e., coverage): {failed}")
    return failed
