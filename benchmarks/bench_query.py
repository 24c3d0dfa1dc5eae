"""The router that reads the question alone, on tables of RouterBench.

    python benchmarks/bench_query.py FOLDER

FOLDER holds ``*_train.csv`` and ``*_test.csv`` in RouterBench's form (one column a model, its cost,
the prompt). All are fitted on and scored on together, over the models' own costs: area of single
models mixed at random (the zero router), of ``knn_query`` and of an oracle, and apart from them how
fast questions are embedded (on one thread, from an empty cache).
"""

from __future__ import annotations

import argparse
import re
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from automix_eval.backends import embeddings
from automix_eval.backends.encoder import DEFAULT
from automix_eval.meta_verifiers.baselines.knn_query import KnnQuery
from automix_eval.meta_verifiers.contract import MetaVerifier
from automix_eval.meta_verifiers.follow import follow
from automix_eval.meta_verifiers.pomdp.router import Pomdp
from automix_eval.metrics.curves import Point, area_values
from automix_eval.records.importers.model_outcomes import ModelOutcomes
from automix_eval.records.importers.routerbench import RouterBench
from automix_eval.records.outcomes import Outcomes

# Models whose letters are compared, and length from which on an answer is no letter.
FRIENDS, CHOICE = 3, 40
CHAINS = ((0, -1), (2, -1), (0, 4, -1), (0, 2, 4, -1))


def read(paths: Sequence[Path]) -> Outcomes:
    """Several tables as one; an empty score is one of 0, as its authors count it."""
    held = [RouterBench().read(path) for path in paths]
    names = held[0].models
    order = [[one.models.index(name) for name in names] for one in held]

    def stacked(kind: str) -> np.ndarray:
        tables = [getattr(one, kind)[:, at] for one, at in zip(held, order, strict=True)]
        return np.nan_to_num(np.concatenate(tables))

    scores, costs = stacked("scores"), stacked("costs")
    return Outcomes(
        scores, costs, np.full(scores.shape, np.nan), np.zeros(scores.shape), names,
        tuple(f"{path.stem}/{i}" for path, one in zip(paths, held, strict=True) for i in one.ids),
        questions=tuple(q for one in held for q in one.questions or ()),
        answers=tuple(
            tuple(text for one, at in zip(held, order, strict=True) for text in _texts(one, at[m]))
            for m in range(len(names))
        ),
    )  # fmt: skip


def _texts(held: ModelOutcomes, model: int) -> Sequence[str]:
    return held.answers[model] if held.answers else [""] * len(held.ids)


def with_agreement(chain: Outcomes, tiers: Sequence[int]) -> Outcomes:
    """A chain of some tiers; confidence: agreement of letters with the cheapest models."""
    assert chain.answers is not None
    letters = np.array([[_letter(text) for text in column] for column in chain.answers])
    part = chain.select_tiers(tiers)
    sure = np.full(part.scores.shape, np.nan)
    for place, tier in enumerate(tiers[:-1]):
        others = [t for t in range(FRIENDS + 1) if t != tier][:FRIENDS]
        same = np.mean([letters[tier] == letters[t] for t in others], axis=0)
        sure[:, place] = np.where(letters[tier] == "", np.nan, same)
    return replace(part, confidences=sure)


def _letter(text: str) -> str:
    found = re.search(r"\b([A-E])\b", text) if len(text) < CHOICE else None
    return found.group(1) if found else ""


def under(points: Sequence[Point], chain: Outcomes) -> float:
    """Area from the cheapest to the dearest single model."""
    cost, score = chain.answer_costs.mean(axis=0), chain.scores.mean(axis=0)
    low, high = int(cost.argmin()), int(cost.argmax())
    ordered = [(cost[low], score[low]), *points, (cost[high], score[high])]
    return float(area_values(*np.array(ordered).T[:, None])[0])


def of_sweep(router: MetaVerifier, chain: Outcomes) -> float:
    """Area of a router's range."""
    paths = [follow(policy, chain) for _, policy in router.sweep()]
    return under([(float(p.cost.mean()), float(p.score.mean())) for p in paths], chain)


def oracle(chain: Outcomes) -> float:
    """Area of the best choice of one model a question, at 100 prices."""
    rows, points = np.arange(len(chain)), []
    for price in np.geomspace(1e-2, 1e6, 100) / chain.answer_costs.mean() / 1e3:
        to = (chain.scores - price * chain.answer_costs).argmax(axis=1)
        points.append((chain.answer_costs[rows, to].mean(), chain.scores[rows, to].mean()))
    return under(points, chain)


def main() -> None:
    """Print the areas and the speed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?")
    folder = parser.parse_args().folder
    if folder is None:
        print("query    no folder of RouterBench's tables is given: nothing is measured")
        return
    fit, new = (read(sorted(folder.glob(f"*_{part}.csv"))) for part in ("train", "test"))
    order = np.argsort(fit.answer_costs.mean(axis=0)).tolist()
    fit, new = fit.select_tiers(order), new.select_tiers(order)
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as empty:
        embeddings.cache_dir = lambda: Path(empty)
        embeddings.embed(DEFAULT, (*(fit.questions or ()), *(new.questions or ())), 128)
    speed = (len(fit) + len(new)) / (time.process_time() - begin)
    begin = time.process_time()
    router = KnnQuery().fit(fit)
    knn, spent = of_sweep(router, new), time.process_time() - begin
    zero = under(list(zip(new.answer_costs.mean(0), new.scores.mean(0), strict=True)), new)
    best = oracle(new)
    share = 100 * (knn - zero) / (best - zero)
    print(f"query    {len(fit)} rows to fit, {len(new)} to score, {new.num_tiers} models")
    print(
        f"query    zero router {zero:.4f}, knn_query {knn:.4f} ({router.near_.neighbors} "
        f"neighbours), oracle {best:.4f}: {share:.1f} % of the oracle's gap"
    )
    for chosen in CHAINS:
        tiers = [t % new.num_tiers for t in chosen]
        few, rest = with_agreement(fit, tiers), with_agreement(new, tiers)
        made = {"knn_query": KnnQuery(), "pomdp": Pomdp(), "pomdp,prior=knn": Pomdp(prior="knn")}
        areas = {name: of_sweep(one.fit(few), rest) for name, one in made.items()}
        said = ", ".join(f"{name} {value:.4f}" for name, value in areas.items())
        print(f"prior    {' > '.join(n.split('/')[-1] for n in few.names)}: {said}")
    print(f"query    fit and sweep {spent:.1f} CPU s; {speed:.0f} questions embedded a CPU second")


if __name__ == "__main__":
    main()
