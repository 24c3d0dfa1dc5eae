"""SPROUT (arXiv 2502.03261): a nested column for each model, with score, answer and tokens."""

from __future__ import annotations

from pathlib import Path

from automix_eval.records.importers.model_outcomes import ModelOutcomes, header, lacks, stack
from automix_eval.records.tables import column_names, read_table

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
        scores, into, made = ([f"{m}.{f}" for m in models] for f in ("score", _IN, _OUT))
        answers = [f"{m}.response" for m in models if f"{m}.response" in names]
        texts = [n for n in ("key", "prompt", "dataset") if n in names]
        table = read_table(path, [*scores, *into, *made], [*texts, *answers])

        def column(name: str) -> tuple[str, ...] | None:
            return tuple(table.texts(name)) if name in texts else None

        return ModelOutcomes(
            models=tuple(models),
            ids=column("key") or tuple(str(i + 1) for i in range(len(table))),
            scores=stack(table, scores),
            prompt_tokens=stack(table, into, 0.0),
            generated_tokens=stack(table, made, 0.0),
            questions=column("prompt"),
            answers=tuple(tuple(table.texts(a)) for a in answers)
            if len(answers) == len(models)
            else None,
            tasks=column("dataset"),
        )


def _models(names: list[str]) -> list[str]:
    found = [n.removesuffix(".score") for n in names if n.endswith(".score")]
    return [m for m in found if f"{m}.{_IN}" in names and f"{m}.{_OUT}" in names]
