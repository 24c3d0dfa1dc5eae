"""Questions that a router left without an answer that counts, and what the others are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from automix_eval.analysis.bootstrap_table import BootstrapTable
from automix_eval.analysis.figures import Abstention, Figure
from automix_eval.analysis.question_sets import QuestionSet
from automix_eval.analysis.routed_paths import ChainRouting
from automix_eval.metrics.ibc import Undefined
from automix_eval.safety.numbers import is_number

Array = npt.NDArray[np.float64]

NONE_ANSWERED = Undefined("no question is answered")
NO_PRICES = Undefined("the prices of an error and of an abstention are not known")


def abstention(
    abstained: npt.NDArray[np.bool_],
    scores: Array,
    costs: Array | Undefined,
    documents: npt.ArrayLike,
    settings: Mapping[str, Any],
    resamples: int,
    seed: int,
) -> Abstention | None:
    """The figures; None where the router was not to abstain, and has not.

    Args:
        abstained: (n,) whether each question was abstained on.
        scores: (n,) of the answer that is kept.
        costs: (n,) of all calls, or why they are unknown.
        documents: (n,) document of each question, 0 .. D - 1.
        settings: Those of the router, with ``error_price`` and ``abstain_price``.
        resamples: Bootstrap resamples.
        seed: Of the bootstrap.
    """
    prices = settings.get("error_price"), settings.get("abstain_price")
    if not abstained.any() and prices[1] is None:
        return None
    answered = (~abstained).astype(np.float64)
    table = BootstrapTable(documents, resamples, seed)
    paid = np.zeros(len(scores)) if isinstance(costs, Undefined) else costs
    values = answered, answered * scores, paid
    columns = [table.add(lambda rows, v=v: v[rows]) for v in values]  # type: ignore[misc]
    coverage, right, cost = (table.mean(column) for column in columns)
    with np.errstate(invalid="ignore", divide="ignore"):
        quality = right / coverage
    loss = Figure(costs if isinstance(costs, Undefined) else NO_PRICES)
    if all(is_number(p, 0.0, np.inf) for p in prices) and not isinstance(costs, Undefined):
        error, price = map(float, prices)  # type: ignore[arg-type]
        loss = table.figure(cost + error * (coverage - right) + price * (1.0 - coverage))
    answers = table.figure(quality if answered.any() else NONE_ANSWERED)
    return Abstention(int(abstained.sum()), table.figure(coverage), answers, loss)


def of_run(questions: QuestionSet, resamples: int, seed: int) -> Abstention | None:
    """The figures of what a run did, at the report's prices."""
    rows, every = questions.rows, np.arange(len(questions.rows))
    routing, held = ChainRouting.live(questions), questions.run.config.get("meta_verifier")
    missing = routing.missing().get("cost")
    return abstention(
        rows.abstained,
        rows.scores[every, rows.final],
        missing or routing.values("cost", every),
        rows.documents,
        held if isinstance(held, Mapping) else {},
        resamples,
        seed,
    )
