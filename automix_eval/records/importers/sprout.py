"""SPROUT (arXiv 2502.03261): a nested column for each model, with score, answer and tokens."""

from __future__ import annotations

from pathlib import Path

from automix_eval.records.importers.model_outcomes import ModelOutcomes, header, lacks, wide_table
from automix_eval.records.tables import column_names

_IN, _OUT = "num_input_tokens", "num_output_tokens"


class Sprout:
    """Parquet: ``key``, ``prompt``, ``dataset``, and for each model a struct with its ``score``.

    There are tokens, and no costs. The published parts are one file each.
    """

    def recognises(self, path: Path) -> bool:
        """By the fields of its nested columns."""
        return len(_models(header(path, ".parquet"))) > 1

    def read(self, path: Path) -> ModelOutcomes:
        """Read the file."""
        names = column_names(path)
        models = _models(names)
        if not models:
            raise lacks(path, "SPROUT", f"nested column MODEL with the fields score and {_IN}")
        fields = {"scores": "score", "prompt_tokens": _IN, "generated_tokens": _OUT}
        numbers = {name: [f"{m}.{field}" for m in models] for name, field in fields.items()}
        texts = {"ids": "key", "questions": "prompt", "tasks": "dataset"}
        answers = [f"{m}.response" for m in models]
        return ModelOutcomes(tuple(models), **wide_table(path, names, numbers, texts, answers))


def _models(names: list[str]) -> list[str]:
    found = [n.removesuffix(".score") for n in names if n.endswith(".score")]
    return [m for m in found if f"{m}.{_IN}" in names and f"{m}.{_OUT}" in names]
