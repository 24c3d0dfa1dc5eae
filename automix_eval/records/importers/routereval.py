"""RouterEval (arXiv 2503.10657): matrices of scores, one for each part of a data set."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from automix_eval.records.importers.model_outcomes import ModelOutcomes, lacks
from automix_eval.records.tables import TableError

# A header may promise any shape, and an archive hold anything.
_DAMAGE = (
    OSError, EOFError, ValueError, TypeError, MemoryError, OverflowError, KeyError,
    NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_PARTS = ("train", "val", "test")


class RouterEval:
    """An .npz: ``model``, and ``PART_score``, ``PART_prompt`` for the parts train, val and test.

    The published files are pickles, which are not read: convert one that you trust with the line
    of docs/tables.md. Arrays of objects, which would be unpickled, are refused. There are no costs.
    """

    def recognises(self, path: Path) -> bool:
        """By its suffix: no other format has it, and reading it tells what is wrong with it."""
        return path.suffix == ".npz" and path.is_file()

    def read(self, path: Path) -> ModelOutcomes:
        """Read the file; nothing in it is unpickled."""
        if path.is_file() and not zipfile.is_zipfile(path) and path.suffix == ".npz":
            raise TableError(f"the table {path} is damaged: it is no archive of arrays")
        if path.suffix != ".npz":
            raise TableError(
                f"{path} is no .npz: the pickles of RouterEval are not read, since a pickle runs "
                "code. docs/tables.md has the line that converts one"
            )
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: _array(file, path, name) for name in file.files}
        except _DAMAGE as err:
            raise TableError(f"the table {path} is damaged: {err}") from err
        parts = _scores(list(arrays))
        if not parts or "model" not in arrays:
            raise lacks(path, "RouterEval", "arrays model and train_score (or test_score)")
        models = tuple(map(str, arrays["model"].tolist()))
        scores = [np.atleast_2d(arrays[f"{p}_score"].astype(np.float64)) for p in parts]
        for part, table in zip(parts, scores, strict=True):
            if table.shape[1] != len(models) or np.isinf(table).any():
                raise TableError(
                    f"{path}: {part}_score has the shape {table.shape} and {len(models)} models, "
                    "expected finite numbers, (questions, models)"
                )
        prompts = [arrays.get(f"{p}_prompt") for p in parts]
        for part, table, text in zip(parts, scores, prompts, strict=True):
            if text is not None and len(text) != len(table):
                raise TableError(
                    f"{path}: {part}_prompt has {len(text)} entries, {part}_score {len(table)}"
                )
        return ModelOutcomes(
            models=models,
            ids=tuple(
                f"{p}/{i}" for p, t in zip(parts, scores, strict=True) for i in range(len(t))
            ),
            scores=np.concatenate(scores),
            questions=tuple(str(q) for part in prompts if part is not None for q in part.tolist())
            if all(p is not None for p in prompts)
            else None,
            splits=tuple(p for p, t in zip(parts, scores, strict=True) for _ in t),
        )


def _array(file: Any, path: Path, name: str) -> Any:
    try:
        return file[name]
    except ValueError as err:  # an array of objects, or a damaged one
        raise TableError(
            f"{path}: the array {name!r} is not read ({err}). Save it as numbers or as text, as in "
            "numpy.asarray(names, dtype=str)"
        ) from err


def _scores(names: list[str]) -> list[str]:
    return [p for p in _PARTS if f"{p}_score" in names]
