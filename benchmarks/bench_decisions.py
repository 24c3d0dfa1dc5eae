"""What routers decide, measured on real and on simulated tables: one row a claim, seeds fixed.

    python benchmarks/bench_decisions.py [FOLDER [PART ...]] [--splits 100] [--seed 0]

FOLDER holds tables of chains as CSV: ``split`` (train or test), and for each model
``NAME:correct``, ``NAME:confidence`` and ``NAME:cost_usd``. Parts: gain, assured, area, loss,
abstain, few, budget, slices (all).
``gain``, ``assured``, ``loss`` and ``abstain`` take the first and the last model at 1:50 without a
price of verification, as many random splits as --splits (gain at most 40), and score on the rows
that were not fitted on. ``area`` takes the whole chain at its own prices, fitted on train and
scored on test.
``few`` and ``budget`` simulate as many fits: v uniform (a count of 8 in ``eighths``), the SLM and
the LLM right with given probabilities, costs 1 and 50, verification 1, scored on 20,000 rows by
expected scores. ``slices`` simulates 20 slices of 60 questions, without a loss and with one of
.2 to .5 in the first.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from automix_eval.analysis.slices import by_slice
from automix_eval.meta_verifiers.double_threshold import DoubleThreshold
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.objectives import Ends
from automix_eval.meta_verifiers.pairs import Pairs
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.meta_verifiers.threshold import Threshold
from automix_eval.metrics.curves import area_values
from automix_eval.records.doc_fields import FieldValues
from automix_eval.records.outcomes import FloatArray, Outcomes

ROUTERS: dict[str, Callable[..., Any]] = {"threshold": Threshold, "pomdp": Pomdp}
RESAMPLES = 200
WORLDS: dict[str, tuple[Callable[[FloatArray], FloatArray], ...]] = {
    "monotone": (lambda v: 0.1 + 0.8 * v, lambda v: 0.8 + 0 * v),
    "hump": (lambda v: 0.4 + 0 * v, lambda v: 0.4 + 0.5 * np.exp(-(((v - 0.6) / 0.12) ** 2))),
    "reverse": (lambda v: 0.9 - 0.8 * v, lambda v: 0.85 + 0 * v),
    "useless": (lambda v: 0.45 + 0 * v, lambda v: 0.75 + 0 * v),
    "eighths": (lambda v: 0.1 + 0.75 * v, lambda v: 0.8 + 0 * v),
}


def read(path: Path) -> tuple[Outcomes, FloatArray]:
    """The chain of a table, and which rows are for training."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    names = [key.removesuffix(":correct") for key in rows[0] if key.endswith(":correct")]
    score, sure, cost = (
        np.array([[float(row[f"{name}:{kind}"]) for name in names] for row in rows])
        for kind in ("correct", "confidence", "cost_usd")
    )
    ids = tuple(str(i) for i in range(len(rows)))
    chain = Outcomes(score, cost, sure, np.zeros_like(cost), tuple(names), ids)
    return chain, np.array([row["split"] == "train" for row in rows])


def ends_of(chain: Outcomes) -> Outcomes:
    """The first and the last model at 1:50."""
    two = chain.select_tiers([0, chain.num_tiers - 1])
    return replace(two, answer_costs=np.tile([1.0, 50.0], (len(two), 1)))


def split(data: Outcomes, n: int, seed: int) -> tuple[Outcomes, Outcomes]:
    """N random rows, and the others."""
    order = np.random.default_rng(seed).permutation(len(data))
    return data.take(order[:n]), data.take(order[n:])


def lift(score: float, cost: float, ends: Ends) -> float:
    """Delta IBC; NaN where nothing is spent."""
    base = (ends.llm_score - ends.slm_score) / (ends.llm_cost - ends.slm_cost)
    if cost <= ends.slm_cost + 1e-9:
        return float("nan")
    return (score - ends.slm_score) / (cost - ends.slm_cost) / base - 1


def gain(tables: dict[str, tuple[Outcomes, FloatArray]], splits: range) -> None:
    """Splits with negative delta IBC and the share of the gap closed, by objective."""
    for name, (chain, _) in tables.items():
        for kind, make in ROUTERS.items():
            for n in (50, 200):
                said = []
                for objective in ("ibc", "gain"):
                    found = []
                    for seed in splits[:40]:
                        fit, new = split(ends_of(chain), n, seed)
                        path, ends = follow(make(objective=objective).fit(fit), new), Ends.of(new)
                        score, cost = path.score.mean(), path.cost.mean()
                        closed = (score - ends.slm_score) / (ends.llm_score - ends.slm_score)
                        found.append((lift(score, cost, ends) < 0, closed))
                    bad, closed = np.mean(found, axis=0)
                    said.append(f"{objective}: negative {bad:.3f}, gap closed {closed:.3f}")
                print(f"gain     {name:24} {kind:10} n={n:<4} " + "   ".join(said), flush=True)


def assure(tables: dict[str, tuple[Outcomes, FloatArray]], splits: range) -> None:
    """How often the aim is missed on new rows, and the mean cost, beside plain target's."""
    for name, (chain, _) in tables.items():
        for kind, make in ROUTERS.items():
            for n in (200, 300):
                for aim in (0.95, 0.99):
                    found = []
                    for seed in splits:
                        fit, new = split(ends_of(chain), n, seed)
                        row: list[float] = []
                        for objective in ("target", "assured"):
                            router = make(objective=objective, target=aim).fit(fit)
                            path = follow(router, new)
                            least = aim * new.scores[:, -1].mean() - 1e-12
                            row += [path.score.mean() < least, path.cost.mean()]
                        row.append(any("not shown" in note for note in router.notes()))
                        silent = not router.notes()
                        found.append((*row, silent))
                    plain, cost, missed, dear, unshown, silent = np.mean(found, axis=0)
                    print(
                        f"assured  {name:24} {kind:10} n={n} aim={aim}: target misses {plain:.2f}, "
                        f"assured {missed:.2f}; cost {cost:.1f} -> {dear:.1f} (x {dear / cost:.2f})"
                        f"; not shown {unshown:.2f}, silent {silent:.0f}",
                        flush=True,
                    )


def areas(tables: dict[str, tuple[Outcomes, FloatArray]], splits: range) -> None:  # noqa: ARG001
    """Area on test of single models mixed and of sweeps; bootstrap intervals of differences."""
    for name, (chain, train) in tables.items():
        fit, new = chain.take(train.astype(bool)), chain.take(~train.astype(bool))
        rng = np.random.default_rng(0)
        weights = rng.multinomial(len(new), np.ones(len(new)) / len(new), RESAMPLES) / len(new)
        weights = np.concatenate([np.full((1, len(new)), 1 / len(new)), weights])
        drawn: dict[str, FloatArray] = {}
        alone = weights @ new.scores, weights @ new.answer_costs
        zero = area_values(*(table[:1] for table in reversed(alone)))[0]
        for kind, make in (("threshold", Threshold), ("pairs", Pairs), ("pomdp", Pomdp)):
            paths = [follow(policy, new) for _, policy in make().fit(fit).sweep()]
            costs, scores = (
                weights @ np.stack([getattr(p, what) for p in paths], axis=1)
                for what in ("cost", "score")
            )
            drawn[kind] = area_values(
                *(
                    np.concatenate([end[:, :1], found, end[:, -1:]], axis=1)
                    for end, found in zip(reversed(alone), (costs, scores), strict=True)
                )
            )
        said = [f"{kind} {values[0]:.4f}" for kind, values in drawn.items()]
        for one, other in (("pomdp", "pairs"), ("pairs", "threshold")):
            apart = drawn[one] - drawn[other]
            low, high = np.quantile(apart[1:], [0.025, 0.975])
            said.append(f"{one} - {other} {apart[0]:+.4f} [{low:+.4f}, {high:+.4f}]")
        print(f"area     {name:24} zero {zero:.4f}, {', '.join(said)}", flush=True)


def loss(tables: dict[str, tuple[Outcomes, FloatArray]], splits: range) -> None:
    """Mean loss at six prices of an error, and pomdp's beside the best other, with s.e."""
    names = ("always_slm", "always_llm", *ROUTERS)
    for name, (chain, _) in tables.items():
        for price in (20.0, 50.0, 100.0, 200.0, 500.0, 1000.0):
            found = []
            for seed in splits[:20]:
                fit, new = split(ends_of(chain), 200, seed)
                alone = new.answer_costs.mean(axis=0) + price * (1 - new.scores.mean(axis=0))
                row = list(alone)
                for make in ROUTERS.values():
                    path = follow(make(objective="loss", error_price=price).fit(fit), new)
                    row.append(path.cost.mean() + price * (1 - path.score.mean()))
                found.append(row)
            values = np.array(found)
            mean = values.mean(axis=0)
            apart = values[:, -1] - values[:, int(mean[:-1].argmin())]
            error = apart.std(ddof=1) / np.sqrt(len(apart))
            said = ", ".join(f"{k} {v:.2f}" for k, v in zip(names, mean, strict=True))
            print(
                f"loss     {name:24} E={price:<6g} {said}; pomdp - the best other "
                f"{apart.mean():+.2f} (se {error:.2f})"
                + ("  above" if apart.mean() > 2 * error + 1e-9 else ""),
                flush=True,
            )


def abstain(tables: dict[str, tuple[Outcomes, FloatArray]], splits: range) -> None:
    """Mean loss with and without an abstention at a quarter of an error's price, in pairs."""
    for name, (chain, _) in tables.items():
        for price in (50.0, 100.0, 200.0, 500.0):
            said = []
            for make in (Threshold, DoubleThreshold, Pomdp):
                found = []
                for seed in splits[:20]:
                    fit, new = split(ends_of(chain), 200, seed)
                    row = []
                    for left in (None, price / 4):
                        router = make(objective="loss", error_price=price, abstain_price=left)
                        path = follow(router.fit(fit), new)
                        wrong = np.where(path.abstained, price / 4, price * (1 - path.score))
                        row += [(path.cost + wrong).mean(), path.abstained.mean()]
                    found.append((row[0], row[2], row[3]))
                without, loss, share = np.mean(found, axis=0)
                said.append(
                    f"{make.__name__} {without:.2f} -> {loss:.2f} ({loss / without - 1:+.1%}), "
                    f"abstains {share:.2f}"
                )
            print(f"abstain  {name:24} E={price:<6g} " + "; ".join(said), flush=True)


def slices(tables: dict[str, tuple[Outcomes, FloatArray]], splits: range) -> None:  # noqa: ARG001
    """How often a loss is said of 20 null slices, and how often one in 60 rows is found."""
    number, rows = 20, 60
    label = [f"slice {i:02}" for i in range(number) for _ in range(rows)]
    held = FieldValues.of("slice", label, [str(i) for i in range(len(label))])
    for lost in (0.0, 0.2, 0.3, 0.4, 0.5):
        said = []
        for seed in range(splits.start, splits.stop + len(splits)):
            rng = np.random.default_rng([seed, int(10 * lost)])
            slm, llm = (rng.random((2, len(label))) < 0.75).astype(float)
            up = rng.random(len(label)) < 0.5
            score = np.where(up, llm, slm)
            first = np.arange(len(label)) < rows
            score = np.where(first & (rng.random(len(label)) < lost / 0.75), 0.0, score)
            one, many = np.ones(len(label)), np.full(len(label), 50.0)
            columns = np.column_stack([score, 1 + 50 * up, slm, one, llm, many])
            made = by_slice("", "slice", held, columns, up, np.arange(len(label)), 200, seed)
            said.append([s.label for s in made.slices if s.loses is not None])
        found = np.mean(["slice 00" in s for s in said])
        false = np.mean([any(x != "slice 00" or not lost for x in s) for s in said])
        print(f"slices   loss {lost:.2f}: found {found:.3f}, false {false:.3f}, {len(said)} runs")


def simulate(world: str, n: int, seed: int) -> Outcomes:
    """N rows of a world; without a seed each score is the expected one."""
    rng = np.random.default_rng(seed)
    v = rng.random(n)
    if world == "eighths":
        v = rng.binomial(8, v) / 8
    chance = np.stack([right(v) for right in WORLDS[world]], axis=1)
    drawn = np.random.default_rng([seed, 1]).random((n, 2)) < chance
    return Outcomes(
        chance if n > 10_000 else drawn.astype(float),
        np.tile([1.0, 50.0], (n, 1)),
        np.stack([v, np.full(n, np.nan)], axis=1),
        np.tile([1.0, 0.0], (n, 1)),
        ("slm", "llm"),
        tuple(str(i) for i in range(n)),
    )


def few(tables: dict[str, tuple[Outcomes, FloatArray]], splits: range) -> None:  # noqa: ARG001
    """Delta IBC from few rows and quality gained above the chord; pomdp's less the others'."""
    for world in WORLDS:
        new = simulate(world, 20_000, 999)
        ends = Ends.of(new)
        for n in (5, 10, 50):
            found = np.empty((len(splits), 3, 2))
            for row, seed in zip(found, splits, strict=True):
                fit = simulate(world, n, seed)
                for i, make in enumerate((Threshold, DoubleThreshold, Pomdp)):
                    path = follow(make().fit(fit), new)
                    score, cost = path.score.mean(), path.cost.mean()
                    height = score - ends.coin_toss(np.array([cost]))[0]
                    # nothing spent is the coin toss that never asks: no lift
                    row[i] = np.nan_to_num(lift(score, cost, ends)), height
            apart = np.concatenate([found, found[:, 2:] - found[:, :2]], axis=1)
            mean, error = apart.mean(axis=0), apart.std(axis=0, ddof=1) / len(splits) ** 0.5
            names = ("threshold", "double", "pomdp", "pomdp - threshold", "pomdp - double")
            said = [
                f"{name} {m[0]:+.3f} (se {e[0]:.3f}), gain {m[1]:+.4f} (se {e[1]:.4f})"
                for name, m, e in zip(names, mean, error, strict=True)
            ]
            print(f"few      {world:10} n={n:<3} delta IBC " + "; ".join(said), flush=True)


def budget(tables: dict[str, tuple[Outcomes, FloatArray]], splits: range) -> None:  # noqa: ARG001
    """How often a budget of 20, fitted on 50 rows, is overrun by more than 5 % on new rows."""
    for world in WORLDS:
        new = simulate(world, 20_000, 999)
        for kind, make in ROUTERS.items():
            router = make(objective="budget", budget=20.0)
            fits = (router.fit(simulate(world, 50, seed)) for seed in splits)
            costs = np.array([follow(fit, new).cost.mean() for fit in fits])
            over = binomtest(int((costs > 21).sum()), len(splits))
            low, high = over.proportion_ci(method="wilson")
            print(
                f"budget   {world:10} {kind:10} overrun {over.statistic:.3f} [{low:.3f}, "
                f"{high:.3f}], mean cost {costs.mean():.1f}",
                flush=True,
            )


PARTS = {
    "gain": gain, "assured": assure, "area": areas, "loss": loss, "abstain": abstain, "few": few,
    "budget": budget, "slices": slices,
}  # fmt: skip


def main() -> None:
    """Run the parts that are asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", help="without: what is simulated alone")
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--splits", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0, help="of the first split")
    given = parser.parse_args()
    files = sorted(given.folder.glob("*.csv")) if given.folder else []
    tables = {path.stem: read(path) for path in files}
    for part in given.parts or PARTS:
        PARTS[part](tables, range(given.seed, given.seed + given.splits))


if __name__ == "__main__":
    main()
