"""RouterBench (arXiv 2403.12031): for each model columns of scores, costs and answers."""

from __future__ import annotations

from pathlib import Path

from automix_eval.records.importers.model_outcomes import ModelOutcomes, header, lacks, stack
from automix_eval.records.tables import column_names, read_table

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
        costs = [m + _COST for m in models]
        answers = [m + _ANSWER for m in models if m + _ANSWER in names]
        texts = [n for n in ("sample_id", "prompt", "eval_name") if n in names]
        table = read_table(path, [*models, *costs], [*texts, *answers])

        def column(name: str) -> tuple[str, ...] | None:
            return tuple(table.texts(name)) if name in texts else None

        ids = column("sample_id")
        return ModelOutcomes(
            models=tuple(models),
            ids=ids or tuple(str(i + 1) for i in range(len(table))),
            scores=stack(table, models),
            costs=stack(table, costs, 0.0),
            questions=column("prompt"),
            answers=tuple(tuple(table.texts(a)) for a in answers)
            if len(answers) == len(models)
            else None,
            tasks=column("eval_name"),
            documents=ids if ids and len(set(ids)) < len(ids) else None,
        )


def _models(names: list[str]) -> list[str]:
    return [n for n in names if n + _COST in names]
