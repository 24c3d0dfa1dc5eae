"""EmbedLLM (arXiv 2410.02223): a row for each question and model."""

from __future__ import annotations

from pathlib import Path

from automix_eval.records.importers.model_outcomes import Long, ModelOutcomes, header, lacks, stack
from automix_eval.records.tables import column_names, read_table

_SUFFIXES = (".csv", ".parquet")


class EmbedLLM:
    """Columns ``prompt_id``, ``model_name`` (or ``model_id``), ``label``, ``prompt``, ``category``.

    There are no answers and no costs. The published parts are one file each.
    """

    def recognises(self, path: Path) -> bool:
        """By its columns."""
        names = header(path, *_SUFFIXES)
        return {"prompt_id", "label"} <= set(names) and _model(names) is not None

    def read(self, path: Path) -> ModelOutcomes:
        """Read the file."""
        names = column_names(path)
        model = _model(names)
        if model is None or not {"prompt_id", "label"} <= set(names):
            raise lacks(path, "EmbedLLM", "columns prompt_id, model_name and label")
        texts = [n for n in ("prompt", "category") if n in names]
        table = read_table(path, ["label"], ["prompt_id", model, *texts])
        long = Long(str(path), table.texts("prompt_id"), table.texts(model))
        long.numbers["score"] = stack(table, ["label"])[:, 0].tolist()
        for name, key in (("prompt", "questions"), ("category", "tasks")):
            if name in texts:
                long.of_question[key] = dict(zip(long.questions, table.texts(name), strict=True))
        return long.columns()


def _model(names: list[str]) -> str | None:
    return next((n for n in ("model_name", "model_id") if n in names), None)
