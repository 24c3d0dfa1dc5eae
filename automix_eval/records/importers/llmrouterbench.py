"""LLMRouterBench (arXiv 2601.07206): a tree of JSON files, one a data set, split and model."""

from __future__ import annotations

import re
from pathlib import Path

from automix_eval.records.importers.model_outcomes import (
    Long,
    ModelOutcomes,
    field_of,
    json_of,
    lacks,
    list_of,
    number_of,
)
from automix_eval.records.tables import TableError

_STAMP = re.compile(r"\d{8}_\d{6}")
_NUMBERS = {
    "score": "score",
    "cost": "cost",
    "prompt_tokens": "prompt_tokens",
    "completion_tokens": "generated_tokens",
}


class LLMRouterBench:
    """``DATASET/SPLIT/MODEL/*.json``; of several files of one place the latest, by its name's time.

    Costs are US dollars. Files of demonstrations (``demo: true``) are left out.
    """

    def recognises(self, path: Path) -> bool:
        """By the keys of the first file of the tree that can be read."""
        for file in sorted(path.rglob("*.json")) if path.is_dir() else ():
            try:
                found = json_of(file)
            except TableError:  # reading all of them tells what is wrong with it
                continue
            keys = {"model_name", "dataset_name", "records"}
            return isinstance(found, dict) and keys <= set(found)
        return False

    def read(self, path: Path) -> ModelOutcomes:
        """Read the tree; a damaged file is refused, not passed over."""
        files = sorted(path.rglob("*.json")) if path.is_dir() else []
        if not files:
            raise lacks(path, "LLMRouterBench", "JSON file below it; name the folder of the tree")
        latest: dict[tuple[str, ...], tuple[str, Path]] = {}
        read = {}
        for file in files:
            found = json_of(file)
            if field_of(found, file, "model_name") and found.get("demo"):
                continue
            place = tuple(str(field_of(found, file, k)) for k in
                          ("dataset_name", "split", "model_name"))  # fmt: skip
            stamp = max(_STAMP.findall(file.name), default="")
            if place not in latest or latest[place][0] < stamp:
                latest[place] = (stamp, file)
                read[place] = list_of(found, file, "records")
        long = Long(str(path))
        for (dataset, split, model), records in read.items():
            file = latest[dataset, split, model][1]
            for record in records:
                question = f"{dataset}/{split}/{field_of(record, file, 'index')}"
                field_of(record, file, "score")
                numbers = {
                    name: number_of(record.get(key), file, f"{key} of record {record['index']}")
                    for key, name in _NUMBERS.items()
                }
                answer = record.get("prediction")
                long.add(question, model, numbers, None if answer is None else str(answer))
                text = record.get("origin_query") or record.get("prompt")
                asked = None if text is None else str(text)
                long.tell(question, questions=asked, splits=split, tasks=dataset)
        older = len(files) - len(read)
        notes = [f"{older} files are older runs or demonstrations: left out"] if older else []
        return long.columns(notes=notes)
