"""The POMDP of N tiers against the best two-tier threshold, on tables of real model chains.

    AUTOMIX_DATA_DIR=FOLDER python benchmarks/bench_pomdp_chains.py [--seeds 8] [--resplits 8]

``FOLDER/cascades/*.csv`` hold ``split`` (train, test) and ``<model>:correct``,
``<model>:confidence``, ``<model>:cost_usd`` for every model, cheap to dear.

Everything is fitted on train rows and measured on test rows. The threshold has the best pair of
tiers and the best threshold for each lambda, single tiers included. ``no cost`` is the POMDP that
looks at no question's own cost (``cost_levels=1``), ``pomdp`` the one that does. Areas are those
under the cost-quality envelope, integrated over the range from the least to the largest mean cost
of a single tier on the test rows, and divided by that range. Two envelopes: ``steps``, the best
score among policies of at most that cost; ``hull``, the concave hull, as if every router could be
mixed with itself at two parameters. The POMDP's family contains such mixtures already, the
threshold's does not. ``reference`` are the areas (steps) that thresholds are known to have on these
splits.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.metrics.curves import Point, step_area
from automix_eval.records.outcomes import FloatArray, Outcomes

FEW = 50
RESAMPLES = 300
REFERENCE = {
    "mmlu_llama_chain": 0.7935,
    "mmlu_qwen_oai_chain": 0.8073,
    "triviaqa_llama_chain": 0.9159,
    "triviaqa_qwen_oai_chain": 0.9432,
}


def load(path: Path) -> tuple[Outcomes, np.ndarray]:
    """A table, and which rows are for fitting."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    models = [key.removesuffix(":correct") for key in rows[0] if key.endswith(":correct")]

    def table(what: str) -> FloatArray:
        return np.array([[float(row[f"{m}:{what}"]) for m in models] for row in rows])

    costs = table("cost_usd")
    outcomes = Outcomes(
        table("correct"), costs, table("confidence"), np.zeros_like(costs), tuple(models),
        tuple(f"{row['split']}/{row['doc_id']}" for row in rows),
    )  # fmt: skip
    return outcomes, np.array([row["split"] == "train" for row in rows])


# --------------------------------------------------------------------------- areas


def hull(score: FloatArray, cost: FloatArray, low: float, high: float) -> float:
    """Area under the concave hull."""
    index = corners(score, cost)
    x, y = cost[index], score[index]
    at = np.unique(np.concatenate([[low, high], x[(x > low) & (x < high)]]))
    return float(np.trapezoid(np.interp(at, x, y), at) / (high - low))


def corners(score: FloatArray, cost: FloatArray) -> list[int]:
    """The points that are best for some lambda >= 0, cheapest first."""
    kept: list[int] = []
    for i in np.lexsort((-score, cost)).tolist():
        if kept and score[i] <= score[kept[-1]]:
            continue
        while len(kept) >= 2:
            a, b = kept[-2:]
            left = (score[b] - score[a]) * (cost[i] - cost[a])
            if left > (score[i] - score[a]) * (cost[b] - cost[a]):
                break
            kept.pop()
        kept.append(i)
    return kept


# --------------------------------------------------------------------------- routers


def threshold(train: Outcomes, test: Outcomes) -> tuple[FloatArray, FloatArray]:
    """Scores and costs (n, policies) on the test rows of the best pairs and thresholds."""
    last = train.num_tiers - 1
    tried: list[tuple[int, int, float]] = [(j, j, np.nan) for j in range(last + 1)]
    for i, j in itertools.combinations(range(last + 1), 2):
        tried += [(i, j, float(t)) for t in np.unique(train.confidences[:, i])]
    points = np.array([[x.mean() for x in _pair(train, *rule)] for rule in tried])
    chosen = [tried[i] for i in corners(points[:, 0], points[:, 1])]
    found = [_pair(test, *rule) for rule in chosen]
    return np.stack([s for s, _ in found], axis=1), np.stack([c for _, c in found], axis=1)


def _pair(rows: Outcomes, i: int, j: int, limit: float) -> tuple[FloatArray, FloatArray]:
    up = rows.confidences[:, i] <= limit
    score = np.where(up, rows.scores[:, j], rows.scores[:, i])
    return score, rows.answer_costs[:, i] + up * rows.answer_costs[:, j]


def no_cost(train: Outcomes, test: Outcomes) -> tuple[FloatArray, FloatArray]:
    """Those of the POMDP that looks at no question's own cost."""
    return pomdp(train, test, cost_levels=1)


def pomdp(train: Outcomes, test: Outcomes, **options: Any) -> tuple[FloatArray, FloatArray]:
    """Scores and costs (n, policies) on the test rows of the POMDP's whole family."""
    paths = [follow(router, test) for _, router in Pomdp(**options).fit(train).sweep()]
    return np.stack([p.score for p in paths], axis=1), np.stack([p.cost for p in paths], axis=1)


def compare(train: Outcomes, test: Outcomes) -> FloatArray:
    """(3 routers, 2 envelopes) areas; threshold, no cost, pomdp; steps first."""
    routers, ends = (threshold, no_cost, pomdp), _ends(test.answer_costs, test.scores)
    return np.array([_areas(router(train, test), ends) for router in routers])


def _ends(costs: FloatArray, scores: FloatArray) -> tuple[Point, Point]:
    """Mean cost and score of the cheapest and of the dearest single tier; (n, N) each."""
    tiers = list(zip(costs.mean(axis=0), scores.mean(axis=0), strict=True))
    return min(tiers), max(tiers)


def _areas(curve: tuple[FloatArray, FloatArray], ends: tuple[Point, Point]) -> list[float]:
    score, cost = (table.mean(axis=0) for table in curve)
    (low, start), (high, _) = ends
    area = step_area([*zip(cost.tolist(), score.tolist(), strict=True), (low, start)], low, high)
    assert isinstance(area, float), area
    return [area, hull(score, cost, low, high)]


# --------------------------------------------------------------------------- tables


def row(name: str, found: Iterable[FloatArray]) -> FloatArray:
    """Print one line: mean areas, and the POMDP's gain on the threshold, 95 % interval."""
    table = np.stack(list(found))
    gain = table[:, 2] - table[:, 0]
    cells = [f"{name:<34}{len(table):>4}"]
    for envelope in range(2):
        areas = "".join(f"{area:>9.4f}" for area in table[:, :, envelope].mean(axis=0))
        cells.append(f"{areas}{gain[:, envelope].mean():>+9.4f}")
        if len(table) > 1:
            error = 1.96 * gain[:, envelope].std(ddof=1) / np.sqrt(len(table))
            cells.append(f" +-{error:.4f}")
        else:
            cells.append(" " * 8)
    print("".join(cells), flush=True)
    return gain.mean(axis=0)


def head(title: str) -> None:
    """Print the head of a table."""
    print(f"\n{title}\n{'':<38}{'steps':>9}{'':>35}{'hull':>9}")
    names = f"{'thresh.':>9}{'no cost':>9}{'pomdp':>9}{'gain':>9}{'':>8}"
    print(f"{'table':<34}{'n':>4}{names}{names}")


def against_reference(found: dict[str, FloatArray]) -> None:
    """Print the areas (steps) beside the reference's."""
    known = {name: areas[:, 0] for name, areas in found.items() if name in REFERENCE}
    if not known:
        return
    print(f"\n{'':<34}{'reference':>10}{'no cost':>17}{'pomdp':>17}")
    gains = []
    for name, areas in known.items():
        gains.append([area - REFERENCE[name] for area in areas[1:]])
        cells = "".join(f"{a:>9.4f}{g:>+8.4f}" for a, g in zip(areas[1:], gains[-1], strict=True))
        print(f"{name:<34}{REFERENCE[name]:>10.4f}{cells}")
    print(f"{'mean':<44}" + "".join(f"{g:>+17.4f}" for g in np.mean(gains, axis=0)))


def pairs(path: Path, rng: np.random.Generator) -> list[float]:
    """Print each pair of tiers: difference of areas (steps), with its bootstrap interval."""
    outcomes, fit = load(path)
    gains = []
    for i, j in itertools.combinations(range(outcomes.num_tiers), 2):
        both = outcomes.select_tiers([i, j])
        train, test = both.take(fit), both.take(~fit)
        (low, high), (worse, better) = test.answer_costs.mean(axis=0), test.scores.mean(axis=0)
        if high <= low or better <= worse:
            continue
        curves = [threshold(train, test), pomdp(train, test)]
        ends = _ends(test.answer_costs, test.scores)
        found = np.diff([_areas(curve, ends) for curve in curves], axis=0)[0]
        drawn = []
        for _ in range(RESAMPLES):
            picked = rng.integers(0, len(test), len(test))
            drawn_ends = _ends(test.answer_costs[picked], test.scores[picked])
            again = [_areas((s[picked], c[picked]), drawn_ends) for s, c in curves]
            drawn.append(np.diff(again, axis=0)[0])
        bounds = np.quantile(drawn, [0.025, 0.975], axis=0)
        print(
            f"{path.stem} {i} -> {j}".ljust(38)
            + "".join(
                f"{found[e]:>+9.4f} [{bounds[0, e]:+.4f}, {bounds[1, e]:+.4f}]" for e in range(2)
            ),
            flush=True,
        )
        gains.append(float(found[0]))
    return gains


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=8, help="draws of 50 training rows")
    parser.add_argument("--resplits", type=int, default=8, help="splits of all rows, same sizes")
    arguments = parser.parse_args()
    folder = os.environ.get("AUTOMIX_DATA_DIR")
    files = sorted(Path(folder, "cascades").glob("*.csv")) if folder else []
    if not files:
        print("chains   AUTOMIX_DATA_DIR names no folder with cascades/*.csv: nothing is measured")
        return
    head("the split of the tables, all training rows")
    found = {}
    gains = []
    for path in files:
        outcomes, fit = load(path)
        found[path.stem] = compare(outcomes.take(fit), outcomes.take(~fit))
        gains.append(row(path.stem, [found[path.stem]]))
    print(
        f"mean gain: steps {np.mean(gains, axis=0)[0]:+.4f}, hull {np.mean(gains, axis=0)[1]:+.4f}"
    )
    against_reference(found)
    for title, count, few in (
        (f"{FEW} of the training rows", arguments.seeds, True),
        ("all rows split again, sizes as given", arguments.resplits, False),
    ):
        head(title)
        gains = []
        for path in files:
            outcomes, fit = load(path)
            gains.append(row(path.stem, _again(outcomes, fit, count, few)))
        mean = np.mean(gains, axis=0)
        print(f"mean gain: steps {mean[0]:+.4f}, hull {mean[1]:+.4f}")
    print("\nevery pair, all training rows: gain in area, 95 % bootstrap interval (steps; hull)")
    rng = np.random.default_rng(0)
    differences = [gain for path in files for gain in pairs(path, rng)]
    print(
        f"{len(differences)} pairs, mean gain {np.mean(differences):+.4f}, least "
        f"{min(differences):+.4f}"
    )


def _again(outcomes: Outcomes, fit: np.ndarray, count: int, few: bool) -> list[FloatArray]:
    found = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        if few:
            train, test = rng.permutation(np.flatnonzero(fit))[:FEW], np.flatnonzero(~fit)
        else:
            train, test = np.split(rng.permutation(len(fit)), [int(fit.sum())])
        found.append(compare(outcomes.take(train), outcomes.take(test)))
    return found


if __name__ == "__main__":
    main()
