"""From what an importer read to a chain of tiers, cheapest first."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from automix_eval.records.from_table import Source, refuse_same
from automix_eval.records.importers.answer_costs import answer_costs
from automix_eval.records.importers.model_outcomes import Importer, ModelOutcomes, Texts
from automix_eval.records.outcomes import ROUNDING, BoolArray, FloatArray, IntArray, Outcomes, pick
from automix_eval.records.table_columns import MISSING
from automix_eval.records.tables import TableError
from automix_eval.safety.text import did_you_mean, listing


@dataclass(frozen=True, slots=True)
class Choice:
    """What of a table becomes a chain.

    Attributes:
        models: The chain, cheapest first; None: every model, ordered by mean cost.
        task: The data set; None: all of them.
        prices: See :func:`~automix_eval.records.importers.answer_costs.answer_costs`.
        missing: See :class:`~automix_eval.records.table_columns.Columns`.
    """

    models: tuple[str, ...] | None = None
    task: str | None = None
    prices: Any = None
    missing: str = "refuse"

    def __post_init__(self) -> None:
        if self.missing not in MISSING:
            raise TableError(f"missing={self.missing!r} is unknown: {', '.join(MISSING)}")


def from_imported(
    importer: Importer,
    name: str,
    path: Path,
    test_path: Path | None,
    choice: Choice,
    splits: tuple[str, str],
) -> Source:
    """Training and test rows of a public table, or of two.

    A table with parts of its own gives the rows of ``splits``; one without gives test rows only,
    unless there is a ``test_path``.

    Args:
        importer: Of the format.
        name: Of the format, for the reader.
        path: File or folder.
        test_path: Another one to score on.
        choice: Models, data set, prices, missing cells.
        splits: Names of the table's own parts to fit on and to score on.

    Raises:
        AutoMixError: The table cannot be read, or is not as ``choice`` says.
    """
    if test_path is not None:
        refuse_same(path, test_path)
    held = importer.read(path)
    other = held if test_path is None else importer.read(test_path)
    chain, notes = chain_of(held, choice)
    chosen = replace(choice, models=chain.names)
    tested, more = (chain, ()) if test_path is None else chain_of(other, chosen)
    said = f"read as {name} (format={name}): {listing(list(chain.names), 20)}"
    about = {"table": str(path), "format": name, "models": list(chain.names), "task": choice.task}
    about |= {"test_table": str(test_path)} if test_path is not None else {}
    train: Outcomes | None
    if test_path is not None:
        train, test = chain.outcomes, tested.outcomes
    elif chain.splits is None:
        train, test = None, chain.outcomes
    else:
        about |= {"train_split": splits[0], "test_split": splits[1]}
        parts = [np.flatnonzero([s == part for s in chain.splits]) for part in splits]
        if not len(parts[1]):
            raise TableError(
                f"the split {splits[1]!r} (test_split) is empty: {path} has "
                + listing(sorted(set(chain.splits)))
            )
        train = chain.outcomes.take(parts[0]) if len(parts[0]) else None
        test = chain.outcomes.take(parts[1])
    fitted_on = {"table": path.name, "format": name, "task": choice.task, "verifier": None,
                 "split": None if chain.splits is None else splits[0],
                 "cost": chain.cost_note}  # fmt: skip
    grouped = test.documents is not None
    return Source(
        train, test, about, fitted_on, grouped, tuple(dict.fromkeys([said, *notes, *more]))
    )


@dataclass(frozen=True, slots=True, eq=False)
class ModelChain:
    """A chain of models over the questions of a table.

    Attributes:
        outcomes: Its columns.
        splits: (n,) the table's own part of each question; None where it has none.
        tasks: (n,) its data set, likewise.
        cost_note: What the costs are.
    """

    outcomes: Outcomes
    splits: Texts | None
    tasks: Texts | None
    cost_note: str

    @property
    def names(self) -> Texts:
        """Names of the models, cheapest first."""
        return self.outcomes.names


def chain_of(held: ModelOutcomes, choice: Choice) -> tuple[ModelChain, Texts]:
    """The chain that a choice makes of a table, and notes for the reader.

    Raises:
        AutoMixError: A model or data set is not there, cells are missing (``missing=refuse``), or
            nothing tells the costs.
    """
    index = chosen_models(held.models, choice.models)
    rows = _of_task(held, choice.task)
    models = [held.models[i] for i in index]

    def table(values: FloatArray | None) -> FloatArray | None:
        return None if values is None else values[rows][:, index]

    into, made = table(held.prompt_tokens), table(held.generated_tokens)
    tokens = None if into is None or made is None else (into, made)
    scores = table(held.scores)
    assert scores is not None
    costs, cost_note = answer_costs(
        models, len(rows), table(held.costs), tokens, choice.prices,
        [None if held.parameters is None else held.parameters[i] for i in index],
    )  # fmt: skip
    kept, note = _complete(scores, costs, choice.missing)
    scores, costs = np.nan_to_num(scores[kept]), np.nan_to_num(costs[kept])
    rows = rows[kept]
    order = list(range(len(index)))
    notes = [*held.notes, f"costs: {cost_note}", *([note] if note else [])]
    if choice.models is None:
        order, said = _cheapest_first(models, costs)
        notes.append(said)
    picked = rows.tolist()
    sure = np.full(held.scores.shape, np.nan) if held.confidences is None else held.confidences
    confidences = sure[rows][:, index]
    confidences[:, order[-1]] = np.nan  # the last tier is never verified
    bad = (confidences < -ROUNDING) | (confidences > 1 + ROUNDING)
    if bad.any():
        raise TableError(f"{int(bad.sum())} confidences are outside [0, 1]")
    free = np.zeros(scores.shape)
    made_of = Outcomes(
        scores, costs, confidences, free, tuple(models), pick(held.ids, picked) or (),
        questions=pick(held.questions, picked),
        answers=None
        if held.answers is None
        else tuple(pick(held.answers[i], picked) or () for i in index),
        documents=pick(held.documents, picked),
    ).select_tiers(order)  # fmt: skip
    parts = (pick(held.splits, picked), pick(held.tasks, picked))
    return ModelChain(made_of, *parts, cost_note), tuple(notes)


def chosen_models(known: Sequence[str], wanted: Sequence[str] | None) -> list[int]:
    """The places of a chain's models among those of a table; None: of all.

    Raises:
        TableError: One is not there, or they are fewer than two different ones.
    """
    if wanted is None:
        return list(range(len(known)))
    for name in wanted:
        if name not in known:
            raise TableError(
                f"models: {name} is not in the table{did_you_mean(name, known)} It has "
                f"{listing(list(known), 40)}"
            )
    if len(set(wanted)) < max(2, len(wanted)):
        raise TableError(f"models={list(wanted)} must name at least two different models")
    return [known.index(name) for name in wanted]


def _of_task(held: ModelOutcomes, task: str | None) -> IntArray:
    if task is None:
        return np.arange(len(held.ids))
    present = sorted(set(held.tasks or ()))
    rows = np.flatnonzero([t == task for t in held.tasks or ()])
    if not len(rows):
        raise TableError(
            f"task={task} is not in the table{did_you_mean(task, present)} It has "
            f"{listing(present, 40) or 'no data sets by name'}"
        )
    return rows


def _complete(scores: FloatArray, costs: FloatArray, missing: str) -> tuple[BoolArray, str]:
    empty = np.asarray(np.isnan(scores).any(axis=1) | np.isnan(costs).any(axis=1))
    count, everything = int(empty.sum()), np.ones(len(empty), dtype=np.bool_)
    if not count:
        return everything, ""
    said = f"{count} of {len(empty)} questions lack a score or a cost of some model"
    if missing == "refuse":
        raise TableError(
            f"{said}: missing=drop leaves these questions out, missing=zero counts what lacks as "
            "0. Fewer models (models=[...]) may lack less"
        )
    if missing == "zero":
        return everything, f"{said}: counted as 0 (missing=zero)"
    if count == len(empty):
        raise TableError(f"{said}: missing=drop leaves none. Choose fewer models (models=[...])")
    return ~empty, f"{said}: left out (missing=drop)"


def _cheapest_first(models: Sequence[str], costs: FloatArray) -> tuple[list[int], str]:
    mean = costs.mean(axis=0)
    order = np.argsort(mean, kind="stable").tolist()
    said = "the chain is ordered by mean cost"
    same = [
        f"{models[a]} and {models[b]}" for a, b in itertools.pairwise(order) if mean[a] == mean[b]
    ]
    return order, said + (f"; equal in cost, in the order given: {listing(same)}" if same else "")
