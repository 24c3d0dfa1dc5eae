"""How often the report's 95 % intervals hold the truth, and how often it says "pays" wrongly.

    python benchmarks/bench_coverage.py [--runs 300] [--seed 0]

Runs of two tiers at costs 1 and 50 are simulated, and their figures computed as the report does.
Questions about one document are alike: how hard they are, and what their confidence is, is drawn
partly for the document (a fifth of the variance). The SLM answers .45 rightly, the LLM .75; the
two fifths with the least confidence are escalated. Either the confidence tells nothing and costs
nothing, so that delta IBC is 0, or it costs 1 and correlates .7 with what the SLM's answer is
worth. The truth is computed from the normal distributions that all is drawn from.

Then runs whose LLM is hardly better than the SLM and whose confidence tells nothing: delta IBC has
no interval in most, and the verdict asks the gain over a random choice instead.

Then runs that escalate few questions at random, or keep few, between models that are alike or not:
what the LLM's answers would be worth elsewhere says how much luck there is in those few
(``automix_eval/metrics/luck.py``); ``bare`` is what is said without it.

Then the figures of curves where the verifier is useless (``curve_bias.py``).

``coverage``: of the intervals there are; ``none``: runs without one (the LLM is not better in too
many resamples). ``pays``: runs whose interval of delta IBC lies above 0. ``difference``: coverage
of the quality of the method less that of the LLM.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from curve_bias import print_curve_bias
from scipy import stats

from automix_eval.analysis.bootstrap_table import BootstrapTable, RoutingColumns
from automix_eval.analysis.curve_figures import EndPoints, lift, over_random
from automix_eval.analysis.routed_paths import GivenRouting
from automix_eval.metrics.bootstrap import Interval
from automix_eval.metrics.ibc import Undefined, delta_ibc
from automix_eval.metrics.luck import unseen_of_columns
from automix_eval.metrics.significance import PairedTests

Array = npt.NDArray[np.float64]

QUESTIONS = (50, 200, 1000)
DOCUMENTS = (10, 40, 200)
SIGNALS = (0.0, 0.7)
SLM, LLM, ESCALATED = 0.45, 0.75, 0.4
LLM_COST = 50.0
LEADS = (0.0, 0.02, 0.05)  # of an LLM that is hardly better
ALIKE_QUESTIONS, ALIKE_DOCUMENTS = 200, (20, 40)
# SLM, LLM, share of the questions that is escalated
FEW = ((0.45, 0.75, 0.03), (0.1, 0.9, 0.03), (0.1, 0.9, 0.06), (0.1, 0.9, 0.15), (0.1, 0.9, 0.97),
       (0.8, 0.95, 0.05))  # fmt: skip
FEW_QUESTIONS = 200
ALIKE = 0.2  # correlation of two questions about one document
SHARED = 0.5  # correlation of what the two models' answers are worth


@dataclass(frozen=True, slots=True)
class Run:
    """One simulated run: n questions in the order of their documents.

    Attributes:
        documents: (n,) 0 .. D - 1.
        columns: Quality and cost of the method, the SLM and the LLM, (n,) each.
        escalated: (n,).
    """

    documents: npt.NDArray[np.intp]
    columns: tuple[Array, ...]
    escalated: npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Truth:
    """What the figures of :func:`simulate` would be on all questions there could be."""

    delta_ibc: float
    difference: float


@dataclass(frozen=True, slots=True)
class Cell:
    """Shares of the runs of one cell of the table."""

    coverage: float
    none: float
    pays: float
    difference: float


def simulate(
    rng: np.random.Generator,
    number: int,
    documents: int,
    signal: float,
    shares: tuple[float, float, float] = (SLM, LLM, ESCALATED),
) -> Run:
    """A run; each document has one question at least, the others fall on them by chance."""
    rest = rng.integers(documents, size=number - documents)
    codes = np.sort(np.concatenate([np.arange(documents), rest]))

    def normal() -> Array:
        own, whole = rng.standard_normal(number), rng.standard_normal(documents)[codes]
        return np.asarray(np.sqrt(ALIKE) * whole + np.sqrt(1 - ALIKE) * own)

    common = normal()
    worth = [np.sqrt(SHARED) * common + np.sqrt(1 - SHARED) * normal() for _ in range(2)]
    slm, llm = (
        (w > stats.norm.isf(share)).astype(float) for w, share in zip(worth, shares, strict=False)
    )
    confidence = signal * worth[0] + np.sqrt(1 - signal**2) * normal()
    up = confidence < stats.norm.ppf(shares[2])
    cost = 1.0 + _verification(signal) + up * LLM_COST
    ends = np.ones(number), np.full(number, _llm_cost(signal))
    return Run(codes, (np.where(up, llm, slm), cost, slm, ends[0], llm, ends[1]), up)


def truth(signal: float) -> Truth:
    """The figures of the distributions that :func:`simulate` draws from."""

    def both(correlation: float, share: float) -> float:
        """Chance that a question is escalated and its answer right."""
        ends = [stats.norm.ppf(ESCALATED), stats.norm.isf(share)]
        cov = [[1.0, correlation], [correlation, 1.0]]
        return ESCALATED - float(stats.multivariate_normal.cdf(ends, cov=cov))

    kept = SLM - both(signal, SLM)
    quality = kept + both(signal * SHARED, LLM)
    cost = 1.0 + _verification(signal) + ESCALATED * LLM_COST
    value = delta_ibc(quality, cost, SLM, 1.0, LLM, _llm_cost(signal))
    assert not isinstance(value, Undefined)
    return Truth(value, quality - LLM)


def _verification(signal: float) -> float:
    return 1.0 if signal else 0.0


def _llm_cost(signal: float) -> float:
    # without a verification an escalated question costs both models: a chance router of that price
    return LLM_COST if signal else 1.0 + LLM_COST


def intervals(
    run: Run, seed: int, resamples: int = 2000, bare: bool = False
) -> tuple[Interval | None, ...]:
    """Of delta IBC, of the gain over a random choice, and of the quality less that of the LLM.

    Args:
        run: The run.
        seed: Of the bootstrap.
        resamples: Of the bootstrap.
        bare: Whether to leave out the luck of few escalations.
    """
    table = BootstrapTable(run.documents, resamples, seed)
    pairs = zip(run.columns[::2], run.columns[1::2], strict=True)
    names = ("quality", "cost")
    method, slm, llm = (RoutingColumns.of(table, GivenRouting(*p), names) for p in pairs)
    ends = EndPoints(*(c.mean(n) for c in (slm, llm) for n in names))
    luck = 0.0 if bare else unseen_of_columns(np.column_stack(run.columns), run.escalated)
    own = table.widened(method.mean("quality"), luck), method.mean("cost")
    delta = table.figure(lift(*own, ends)).interval
    gain = table.figure(over_random(*own, ends)).interval
    scores = run.columns[0], run.columns[4]
    sums = np.column_stack([np.bincount(run.documents, s) for s in scores])
    gap = PairedTests(sums, np.bincount(run.documents), seed).difference(0, 1).interval
    return delta, gain, gap


def cell(number: int, documents: int, signal: float, runs: int, seed: int) -> Cell:
    """Simulate the runs of one cell."""
    rng = np.random.default_rng([seed, number, documents, int(10 * signal)])
    true = truth(signal)
    found = np.zeros((runs, 4))
    for i in range(runs):
        delta, _, gap = intervals(simulate(rng, number, documents, signal), i)
        if isinstance(delta, tuple):
            found[i, :3] = (delta[0] <= true.delta_ibc <= delta[1], 1, delta[0] > 0)
        if isinstance(gap, tuple):
            found[i, 3] = gap[0] <= true.difference <= gap[1]
    held, known, pays, gaps = found.mean(axis=0).tolist()
    return Cell(held / known if known else np.nan, 1 - known, pays, gaps)


def alike(lead: float, documents: int, runs: int, seed: int) -> tuple[float, float]:
    """Shares of the runs without an interval of delta IBC, and of those said to pay."""
    rng = np.random.default_rng([seed, documents, int(100 * lead)])
    none = pays = 0
    for i in range(runs):
        run = simulate(rng, ALIKE_QUESTIONS, documents, 0.0, (SLM, SLM + lead, ESCALATED))
        delta, gain, _ = intervals(run, i, 1000)
        told = delta if isinstance(delta, tuple) else gain
        none += not isinstance(delta, tuple)
        pays += isinstance(told, tuple) and told[0] > 0
    return none / runs, pays / runs


def print_alike(runs: int, seed: int) -> int:
    """Print the table of models that are hardly told apart; the cells out of bounds."""
    print(f"\nLLM hardly better, useless confidence, {ALIKE_QUESTIONS} questions, {runs} runs")
    print(f"{'lead':>9} {'documents':>9} {'no delta IBC':>12} {'pays':>6}")
    failed = 0
    for lead in LEADS:
        for documents in ALIKE_DOCUMENTS:
            none, pays = alike(lead, documents, runs, seed)
            bad = pays > 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)
            failed += bad
            said = "  out of bounds" if bad else ""
            print(f"{lead:9.2f} {documents:9d} {none:12.1%} {pays:6.1%}{said}", flush=True)
    return failed


def few(shares: tuple[float, float, float], runs: int, seed: int, bare: bool) -> Array:
    """Shares of the runs said to pay, said to lose, and whose interval holds the truth, 0."""
    rng = np.random.default_rng([seed, *(int(100 * share) for share in shares)])
    said = np.zeros(3)
    for i in range(runs):
        delta, gain, _ = intervals(
            simulate(rng, FEW_QUESTIONS, FEW_QUESTIONS, 0.0, shares), i, 1000, bare
        )
        told = delta if isinstance(delta, tuple) else gain
        assert isinstance(told, tuple)
        said += (told[0] > 0, told[1] < 0, told[0] <= 0 <= told[1])
    return said / runs


def print_few(runs: int, seed: int) -> int:
    """Print the table of few escalations; the cells out of bounds."""
    print(f"\nFew escalated, or few kept, at random, {FEW_QUESTIONS} questions, {runs} runs")
    print(f"{'SLM':>5} {'LLM':>5} {'escalated':>9} {'pays':>6} {'loses':>6} {'coverage':>9} "
          f"{'bare: pays':>11} {'loses':>6}")  # fmt: skip
    failed = 0
    for shares in FEW:
        pays, loses, held = few(shares, runs, seed, bare=False)
        without = few(shares, runs, seed, bare=True)
        bad = max(pays, loses) > 0.05 + 2 * np.sqrt(0.05 * 0.95 / runs)
        failed += bad
        print(
            f"{shares[0]:5.2f} {shares[1]:5.2f} {shares[2]:9.0%} {pays:6.1%} {loses:6.1%} "
            f"{held:9.3f} {without[0]:11.1%} {without[1]:6.1%}"
            + ("  out of bounds" if bad else ""),
            flush=True,
        )
    return failed


def main() -> int:
    """Print the table; returns 1 where a cell is out of bounds."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=300, help="of a cell (default 300)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    error = np.sqrt(0.05 * 0.95 / args.runs)
    print(f"Coverage of 95 % intervals, {args.runs} runs a cell (standard error {error:.3f})")
    print(f"{'delta IBC':>9} {'n':>5} {'documents':>9} {'coverage':>9} {'none':>6} {'pays':>6} "
          f"{'difference':>10}")  # fmt: skip
    failed = 0
    for signal in SIGNALS:
        for number in QUESTIONS:
            for documents in dict.fromkeys(min(d, number) for d in DOCUMENTS):
                one = cell(number, documents, signal, args.runs, args.seed)
                bad = not 0.93 <= one.coverage <= 0.97
                bad |= signal == 0 and one.pays > 0.05 + 2 * error
                failed += bad
                print(
                    f"{truth(signal).delta_ibc:9.3f} {number:5d} {documents:9d} "
                    f"{one.coverage:9.3f} {one.none:6.1%} {one.pays:6.1%} {one.difference:10.3f}"
                    + ("  out of bounds" if bad else ""),
                    flush=True,
                )
    print(f"Cells out of bounds (coverage .93 to .97, false pays 5 % + 2 s.e.): {failed}")
    failed += print_alike(args.runs, args.seed)
    failed += print_few(args.runs, args.seed)
    failed += print_curve_bias(args.runs, args.seed)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
