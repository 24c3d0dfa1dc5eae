"""RouterBench (arXiv 2403.12031): for each model columns of scores, costs and answers."""

from __future__ import annotations

from pathlib import Path

from automix_eval.records.importers.model_outcomes import ModelOutcomes, header, lacks, wide_table
from automix_eval.records.tables import column_names
from automix_eval.safety.text import listing

_COST, _ANSWER = "|total_cost", "|model_response"
_SUFFIXES = (".csv", ".parquet")


class RouterBench:
    """Columns ``MODEL``, ``MODEL|total_cost``, ``MODEL|model_response``; CSV or Parquet.

    Costs are US dollars. A question that the table has twice (same ``sample_id``) is one document.
    The published pickle is refused with the line that converts it.
    """

    def recognises(self, path: Path) -> bool:
        """By its columns."""
        return len(_models(header(path, *_SUFFIXES))) > 1

    def read(self, path: Path) -> ModelOutcomes:
        """Read the file."""
        names = column_names(path)
        models = _models(names)
        if not models:
            raise lacks(path, "RouterBench", f"column MODEL beside a column MODEL{_COST}")
        held = wide_table(
            path, names,
            {"scores": models, "costs": [m + _COST for m in models]},
            {"ids": "sample_id", "questions": "prompt", "tasks": "eval_name"},
            [m + _ANSWER for m in models],
        )  # fmt: skip
        ids = held["ids"]
        documents = ids if len(set(ids)) < len(ids) else None
        unpriced = [n for n in names if n + _ANSWER in names and n not in models]
        said = f"left out, since the table has no column MODEL{_COST} of them: {listing(unpriced)}"
        notes = (said,) if unpriced else ()
        return ModelOutcomes(tuple(models), **held, documents=documents, notes=notes)


def _models(names: list[str]) -> list[str]:
    return [n for n in names if n + _COST in names]
