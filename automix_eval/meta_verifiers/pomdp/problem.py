"""The POMDP's numbers, estimated from outcomes.

A question has a hidden, static type: the cell of confidences that all tiers but the last would
show. With it go E[Perf_j | type] of every tier j and the shares of the three states Simple,
Complex and Unsolvable. Tier i shows its own coordinate of the type and nothing else, so one tier's
confidence bears on the others' correctness through the joint density, instead of being independent
of it given the correctness (AutoMix's appendix, arXiv 2310.12963). Perf itself adds nothing to the
belief: the reward is linear in it, and no observation tells more of it than the type does.

P(type) is a Gaussian kernel density (``density.py``). E[Perf_j | type] is a logistic regression on
the normal scores of all tiers' confidences, its slopes shrunk by a ridge. It has one of three
forms, the simplest that the data do not speak against: monotone in each confidence; unimodal, with
squared normal scores, where the evidence for these is higher; or of whatever form, corrected by the
mean residual of the questions nearby, where that predicts each question by the others better than
the regression alone does, at the one-sided level of 5 %. So a few questions make no sliver of
confidences that is treated otherwise than its neighbours on both sides.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit

from automix_eval.meta_verifiers.objectives import ONE_SIDED
from automix_eval.meta_verifiers.pomdp.costs import Levels, level_of, make_levels
from automix_eval.meta_verifiers.pomdp.density import (
    Axis,
    bandwidth,
    density,
    local_sums,
    make_axis,
)
from automix_eval.records.outcomes import BoolArray, FloatArray, IntArray, Outcomes

# The three hidden states of AutoMix's first version.
STATES = ("Simple", "Complex", "Unsolvable")
SIMPLE, COMPLEX, UNSOLVABLE = range(3)

# Penalties tried: on the slope of a tier's own confidence, and on those of the other tiers'. The
# slopes are per normal score, so 1 expects them about 1, and 100 about 0.1.
OWN, OTHERS = 0, 1
PENALTIES = tuple(itertools.product((0.3, 1.0, 3.0, 10.0, 30.0), (1.0, 3.0, 10.0, 30.0, 100.0)))
# On the squares of normal scores; the first leaves none of them.
SQUARED = 2
SQUARES = (1e6, 3.0, 0.3)
# Fewer questions than this say nothing of the penalties: a chosen one fits their noise, most of all
# a slope of the LLM's score.
FEW, OF_FEW = 10, (1.0, 100.0, SQUARES[0])
# Slope of a tier's own score by its confidence before the data: a verifier is taken to be of some
# use, as nearly all that were measured are, until the questions say otherwise.
USEFUL = 1.0
NEWTON_STEPS = 50
# Of the intercept: next to none, so that the mean is the data's.
FREE = 1e-9
# Cells of the joint density at most: what bounds memory and time of a long chain.
MAX_CELLS = 40_000
Penalties = tuple[float, float, float]
# Share of a density in which the tiers' confidences are independent: every combination of symbols
# has a positive probability, so there is a belief after it.
INDEPENDENT_SHARE = 1e-6


@dataclass(frozen=True, slots=True, eq=False)
class PomdpCells:
    """The fitting questions, one row for each of the m types, with cost levels, that occur.

    Attributes:
        symbols: (m, N - 1) the symbol of each tier but the last.
        levels: (m, N - 1) the cost level at each tier but the last.
        counts: (m,) questions.
        scores: (m, N) sum of scores.
        costs: (m, N) sum of what asking each tier cost, its verification included.
    """

    symbols: IntArray
    levels: IntArray
    counts: FloatArray
    scores: FloatArray
    costs: FloatArray


@dataclass(frozen=True, slots=True, eq=False)
class Problem:
    """The POMDP. A grid has one dimension for each tier but the last.

    Attributes:
        axes: What each tier but the last can show.
        mass: (grid) P(type).
        scores: (N, grid) E[Perf_j | type].
        states: (N - 1, 3, grid) P(state of the pair (tier, last) | type), as in STATES.
        state_counts: (N - 1, 3) fitting questions of each state.
        state_scores: (N - 1, 3, 2) mean score of the tier and of the last one in each state.
        costs: (N,) mean cost of asking a tier, verification included for all but the last.
        levels: What the cost of a first answer tells, for every tier but the last.
    """

    axes: tuple[Axis, ...]
    mass: FloatArray
    scores: FloatArray
    states: FloatArray
    state_counts: IntArray
    state_scores: FloatArray
    costs: FloatArray
    levels: tuple[Levels, ...]

    @property
    def num_tiers(self) -> int:
        """N."""
        return len(self.costs)


def estimate(
    outcomes: Outcomes,
    num_bins: int,
    rule: str | float,
    ridge: float | None,
    neighbours: float,
    cost_levels: int = 1,
) -> tuple[Problem, PomdpCells]:
    """Estimate the POMDP.

    Args:
        outcomes: Fitting data; undefined confidences are symbols.
        num_bins: Most bins of a tier; a long chain has fewer, see :data:`MAX_CELLS`.
        rule: Bandwidth rule of the density.
        ridge: Penalty on squared slopes of the regressions, per normal score; None: chosen by
            the data.
        neighbours: Questions nearby at which regression and local mean weigh the same.
        cost_levels: Levels of a question's cost at most; 1 looks at no cost.
    """
    tiers = outcomes.num_tiers - 1
    bins = max(2, min(num_bins, int(MAX_CELLS ** (1 / tiers)) - 1))
    axes = tuple(make_axis(outcomes.confidences[:, t], bins) for t in range(tiers))
    symbols = np.stack([a.symbols(outcomes.confidences[:, t]) for t, a in enumerate(axes)], axis=1)
    shape = tuple(len(a) for a in axes)
    where = np.ravel_multi_index(tuple(symbols.T), shape)
    labels = [label_states(outcomes.scores[:, t], outcomes.scores[:, tiers]) for t in range(tiers)]
    columns = [
        *outcomes.scores.T,
        *(np.asarray(label == s, dtype=np.float64) for label in labels for s in range(len(STATES))),
    ]
    paid = outcomes.asking_costs
    occupied, inverse = np.unique(where, return_inverse=True)
    answered = outcomes.answer_costs
    levels = tuple(make_levels(answered[:, t], paid, t, cost_levels) for t in range(tiers))
    cells = _cells(levels, answered, (where, shape), outcomes.scores, paid)
    width = bandwidth(rule, len(outcomes), tiers)
    types = np.stack(np.unravel_index(occupied, shape), axis=1)
    grid = _Grid(axes, types, np.bincount(inverse).astype(np.float64), width, neighbours)
    spans = [(float(c.min()), float(c.max())) for c in columns]
    totals = _sums(inverse, columns).T
    # the tier whose own confidence a column's regression leans on
    owners = [*range(tiers + 1), *(t for t in range(tiers) for _ in STATES)]
    scored = list(zip(totals, spans, range(tiers + 1), strict=False))
    penalties = (ridge, ridge, SQUARES[0]) if ridge else grid.choose_penalties(scored)
    # the states of a pair say nothing of which way their shares go
    slopes = [USEFUL] * (tiers + 1) + [0.0] * (len(columns) - tiers - 1)
    tables = [
        grid.mean(total, span, owner, penalties, slope, values, inverse)
        for total, span, owner, slope, values in zip(
            totals, spans, owners, slopes, columns, strict=True
        )
    ]
    states = np.stack(tables[tiers + 1 :]).reshape((tiers, len(STATES), *shape))
    # three regressions of their own do not quite sum to 1
    states = (states + 1e-9) / (states + 1e-9).sum(axis=1, keepdims=True)
    mass = _positive(density(grid.counts, axes, width), axes, len(outcomes))
    scores = np.stack(tables[: tiers + 1])
    # smoothing and shrinkage leave each tier's mean score what it is on the fitting questions
    over = (mass * scores).reshape(tiers + 1, -1).sum(axis=1) - outcomes.scores.mean(axis=0)
    problem = Problem(
        axes,
        mass,
        scores - over.reshape((-1, *np.ones(tiers, dtype=int))),
        states,
        np.stack([np.bincount(label, minlength=len(STATES)) for label in labels]),
        np.stack([_mean_scores(outcomes.scores[:, [t, tiers]], labels[t]) for t in range(tiers)]),
        paid.mean(axis=0),
        levels,
    )
    return problem, cells


def _cells(
    levels: Sequence[Levels],
    answered: FloatArray,
    types: tuple[IntArray, tuple[int, ...]],
    scores: FloatArray,
    paid: FloatArray,
) -> PomdpCells:
    where, grid = types
    seen = [level_of(found.edges, answered[:, t]) for t, found in enumerate(levels)]
    shape = (*grid, *(len(found) for found in levels))
    both = np.ravel_multi_index((*np.unravel_index(where, grid), *seen), shape)
    occupied, inverse = np.unique(both, return_inverse=True)
    index = np.stack(np.unravel_index(occupied, shape)).T  # a tier's side by side
    return PomdpCells(
        index[:, : len(grid)], index[:, len(grid) :], np.bincount(inverse).astype(np.float64),
        _sums(inverse, list(scores.T)), _sums(inverse, list(paid.T)),
    )  # fmt: skip


def _sums(inverse: IntArray, columns: Sequence[FloatArray]) -> FloatArray:
    return np.asarray(np.stack([np.bincount(inverse, weights=c) for c in columns]).T, dtype=float)


class _Grid:
    """Conditional means over the grid of types."""

    def __init__(
        self,
        axes: tuple[Axis, ...],
        types: IntArray,
        counts: FloatArray,
        width: float,
        neighbours: float,
    ) -> None:
        self._axes, self._width, self._neighbours = axes, width, neighbours
        self._shape = tuple(len(a) for a in axes)
        self._at = np.ravel_multi_index(tuple(types.T), self._shape)
        self._counts = counts
        self.counts = self._spread(counts)
        self._nearby = local_sums(self.counts, axes, width)
        every = np.stack([x.ravel() for x in np.indices(self._shape)], axis=1)
        self._features, self._tiers, self._linear, self._square = self._describe(every)
        # a feature's values side by side
        self._held = np.asfortranarray(self._features[self._at])

    def choose_penalties(
        self, columns: Sequence[tuple[FloatArray, tuple[float, float], int]]
    ) -> Penalties:
        """The penalties under which the scores are most probable: own, others' slopes, squares."""
        if self._counts.sum() < FEW:
            return OF_FEW
        varied = [c for c in columns if c[1][1] > c[1][0]]
        # penalties that are tried one after the other are near, and so are the weights
        weights: list[FloatArray | None] = [None] * len(varied)

        def worth(penalties: Penalties) -> float:
            total = 0.0
            for i, column in enumerate(varied):
                weights[i], evidence = self._fit(*column, penalties, USEFUL, weights[i])
                total += evidence
            return total

        own, others, _ = max(((*p, SQUARES[0]) for p in PENALTIES), key=worth)
        return max(((own, others, square) for square in SQUARES), key=worth)

    def mean(
        self,
        total: FloatArray,
        span: tuple[float, float],
        owner: int,
        penalties: Penalties,
        slope: float,
        values: FloatArray,
        inverse: IntArray,
    ) -> FloatArray:
        """E[value | type] from the values (n,) in a span, their cells, and the sum of each cell."""
        low, high = span
        if high <= low:
            return np.full(self._shape, low)
        slopes, _ = self._fit(total, span, owner, penalties, slope)
        fitted = expit(self._features @ slopes)
        share = self._share(total, span)
        residual = self._spread(self._counts * (share - fitted[self._at]))
        nearby = local_sums(residual, self._axes, self._width)
        expected = fitted.reshape(self._shape)
        own = (values - low) / (high - low) - fitted[self._at][inverse]
        if self._tells(own, nearby.ravel()[self._at][inverse], inverse):
            expected = (expected + nearby / (self._nearby + self._neighbours)).clip(0.0, 1.0)
        return np.asarray(low + (high - low) * expected)

    def _tells(self, own: FloatArray, nearby: FloatArray, inverse: IntArray) -> bool:
        """Whether the residuals of the questions nearby predict a question's own, (n,) both."""
        others = (self._nearby.ravel()[self._at][inverse] - 1 + self._neighbours).clip(min=1e-9)
        predicted = (nearby - own) / others
        better = own**2 - (own - predicted) ** 2
        return bool(better.sum() > ONE_SIDED * np.sqrt((better**2).sum()))

    def _fit(
        self,
        total: FloatArray,
        span: tuple[float, float],
        owner: int,
        penalties: Penalties,
        slope: float,
        start: FloatArray | None = None,
    ) -> tuple[FloatArray, float]:
        penalty = np.where(self._tiers == owner, penalties[OWN], penalties[OTHERS])
        penalty = np.where(self._square, penalties[SQUARED], penalty)
        prior = np.where((self._tiers == owner) & self._linear, slope, 0.0)
        return ridge_logistic(
            self._held, self._counts, self._share(total, span), penalty, prior, start
        )

    def _share(self, total: FloatArray, span: tuple[float, float]) -> FloatArray:
        low, high = span
        return np.asarray(((total / self._counts - low) / (high - low)).clip(0.0, 1.0))

    def _spread(self, values: FloatArray) -> FloatArray:
        flat = np.zeros(int(np.prod(self._shape)))
        flat[self._at] = values
        return flat.reshape(self._shape)

    def _describe(self, symbols: IntArray) -> tuple[FloatArray, IntArray, BoolArray, BoolArray]:
        """Features of types, intercept first; whose each is (-1: no tier's); its power: 1 or 2."""
        columns, tiers, power = [np.ones(len(symbols))], [-1], [0]
        for t, axis in enumerate(self._axes):
            centres = axis.centres[symbols[:, t]]
            missing = (symbols[:, t] == len(axis) - 1).astype(np.float64)
            columns += [centres, (centres**2 - 1) * (1 - missing)]
            tiers += [t, t]
            power += [1, 2]
            if axis.shares[-1] > 0:
                columns.append(missing)
                tiers.append(t)
                power.append(0)
        held = np.array(power)
        return np.stack(columns, axis=1), np.array(tiers), held == 1, held == 2


def label_states(keep: FloatArray, after: FloatArray) -> IntArray:
    """The hidden state of each question for a pair of tiers, from the scores of the two.

    The first that holds. Complex: the upper tier scores higher. Unsolvable: both score 0, or both
    are at or below their own 10th percentile and below their own best score (without the last
    condition a tier that is nearly always right would make questions that both get right
    unsolvable). Simple: all others, those where the upper tier scores lower included.
    Source: AutoMix, arXiv 2310.12963, first version; there the last are thrown away.

    Args:
        keep: (n,) scores of the lower tier.
        after: (n,) scores of the upper tier.
    """
    low = np.full(len(keep), True)
    for score in (keep, after):
        # A score that occurs, not one interpolated: repeating all rows leaves it as it is.
        tenth = np.percentile(score, 10, method="inverted_cdf")
        low &= (score <= tenth) & (score < score.max())
    states = np.where(low | ((keep == 0) & (after == 0)), UNSOLVABLE, SIMPLE)
    return np.where(after > keep, COMPLEX, states)


def _mean_scores(scores: FloatArray, label: IntArray) -> FloatArray:
    """Mean scores in each state; a state without a question takes the overall means."""
    rows = [scores[label == s] if (label == s).any() else scores for s in range(len(STATES))]
    return np.stack([row.mean(axis=0) for row in rows])


def _positive(mass: FloatArray, axes: Sequence[Axis], num_questions: int) -> FloatArray:
    independent = np.ones(())
    for axis in axes:
        # half a question has shown whatever none did
        share = axis.shares + np.where(axis.shares > 0, 0.0, 0.5 / num_questions)
        independent = np.multiply.outer(independent, share / share.sum())
    return np.asarray((1 - INDEPENDENT_SHARE) * mass + INDEPENDENT_SHARE * independent)


def ridge_logistic(
    features: FloatArray,
    counts: FloatArray,
    share: FloatArray,
    penalty: FloatArray,
    prior: FloatArray | float = 0.0,
    start: FloatArray | None = None,
) -> tuple[FloatArray, float]:
    """Fit by Newton's method.

    Maximises sum counts (share log p + (1 - share) log(1 - p)) - 1/2 sum penalty (slope - prior)^2;
    shares in [0, 1] need not be 0 or 1.

    Args:
        features: (m, F) of each type; the first column is 1, its weight the intercept.
        counts: (m,) questions of each type.
        share: (m,) mean value of each type's questions.
        penalty: (F,) of each weight; the intercept's is not read.
        prior: (F,) of each weight, what it is drawn to.
        start: (F,) the first weights; None: the mean alone.

    Returns:
        The weights (F,), and Laplace's approximation of the log evidence for the penalty, up to a
        constant: the slopes are normal around the prior, with variances 1 / penalty.
    """
    penalty = np.concatenate([[FREE], penalty[1:]])
    if start is None:
        start = np.zeros(features.shape[1])
        start[0] = logit(np.average(share, weights=counts).clip(1e-9, 1 - 1e-9))
    weights = start

    def at(w: FloatArray) -> tuple[float, FloatArray]:
        """The loss, and the probability of each type."""
        z = features @ w
        small = np.exp(-np.abs(z))
        each = np.log1p(small) + np.maximum(z, 0.0) - share * z
        loss = float(counts @ each + 0.5 * penalty @ (w - prior) ** 2)
        return loss, np.where(z < 0, small, 1.0) / (1.0 + small)

    best, p = at(weights)
    for _ in range(NEWTON_STEPS):
        gradient = features.T @ (counts * (p - share)) + penalty * (weights - prior)
        step = np.linalg.solve(_curvature(features, counts, p, penalty), gradient)
        scale = 1.0
        value, after = at(weights - step)
        while value > best and scale > 1e-4:
            scale /= 2
            value, after = at(weights - scale * step)
        if value >= best:
            break
        gained, best, weights, p = best - value, value, weights - scale * step, after
        if gained <= 1e-12 * abs(best):
            break
    curve = _curvature(features, counts, p, penalty)
    prior = 0.5 * float(np.log(penalty[1:]).sum())
    return weights, prior - best - 0.5 * float(np.linalg.slogdet(curve)[1])


def _curvature(
    features: FloatArray, counts: FloatArray, p: FloatArray, penalty: FloatArray
) -> FloatArray:
    weighed = features * (counts * p * (1 - p))[:, None]
    curve = np.asarray(weighed.T @ features)
    curve.flat[:: len(curve) + 1] += penalty + FREE
    return curve
