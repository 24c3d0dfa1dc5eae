"""RouteLLM's outcomes (arXiv 2406.18665): a prompt, and whether each of two models is right."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from automix_eval.records.importers.model_outcomes import ModelOutcomes, header, lacks, wide_table
from automix_eval.records.tables import TableError, column_names

_ANSWER = "_response"


class RouteLLM:
    """CSV: ``prompt``, and for each of two models ``MODEL`` (true or false), ``MODEL_response``.

    One file, or a folder whose files are data sets of the same models. There are no answers in
    some of them, and no costs.
    """

    def recognises(self, path: Path) -> bool:
        """By its columns: a prompt, and two models."""
        return len(_models(header(_first(path), ".csv"))) == 2

    def read(self, path: Path) -> ModelOutcomes:
        """Read a file, or every CSV file of a folder."""
        files = sorted(path.glob("*.csv")) if path.is_dir() else [path]
        if not files:
            raise lacks(path, "RouteLLM", "CSV file")
        parts = [_read(file) for file in files]
        if other := [p for p in parts if p.models != parts[0].models]:
            raise TableError(
                f"the files of {path} are of different models: {', '.join(parts[0].models)}, and "
                f"{', '.join(other[0].models)} in the data set {other[0].ids[0].split('/')[0]}"
            )
        with_answers = all(p.answers for p in parts)
        return ModelOutcomes(
            models=parts[0].models,
            ids=tuple(i for p in parts for i in p.ids),
            scores=np.concatenate([p.scores for p in parts]),
            questions=tuple(q for p in parts for q in p.questions or ()),
            answers=tuple(
                tuple(a for p in parts for a in (p.answers or ())[m])
                for m in range(len(parts[0].models))
            )
            if with_answers
            else None,
            tasks=tuple(file.stem for file, p in zip(files, parts, strict=True) for _ in p.ids),
        )


def _read(path: Path) -> ModelOutcomes:
    names = column_names(path)
    models = _models(names)
    if len(models) < 2:
        raise lacks(path, "RouteLLM", "column prompt beside a column for each of two models")
    answers = [m + _ANSWER for m in models]
    held = wide_table(path, names, {"scores": models}, {"questions": "prompt"}, answers)
    held["ids"] = tuple(f"{path.stem}/{i}" for i in held["ids"])
    return ModelOutcomes(tuple(models), **held)


def _models(names: list[str]) -> list[str]:
    if "prompt" not in names:
        return []
    rest = [n for n in names if n != "prompt"]
    return [n for n in rest if not (n.endswith(_ANSWER) and n.removesuffix(_ANSWER) in rest)]


def _first(path: Path) -> Path:
    return next(iter(sorted(path.glob("*.csv"))), path) if path.is_dir() else path
